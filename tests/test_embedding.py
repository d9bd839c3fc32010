"""Embedding models from local folders: what is refused, what is written before texts, and the store's vectors."""

import hashlib
import json
import shutil
import warnings

import numpy as np
import pytest

from kit.errors import DataError, StoreError
from kit.knowledge import embedding
from kit.knowledge.embedding import Embedder
from kit.knowledge.store import Store
from kit.records import EVERYONE, Block, Document, Place

TRAVEL = "出張の日当は一般職が2,200円、課長職が2,800円とする。"
LEAVE = "半日単位の休暇は、1年度につき12回を限度として取得できる。"
SALARY = "役員報酬の改定案は三月に審議する。"


def document(name, text, readers=(EVERYONE,), title="題"):
    return Document(hashlib.sha256(text.encode()).hexdigest(), name, title, (Block(text, Place()),), readers)


def names(hits):
    return [hit.chunk.document for hit in hits]


def made(folder, **directions):
    """A fitted model of three dimensions in which each of some words points somewhere."""
    vectors = np.array(list(directions.values()), np.float32)
    embedding.save([f"w:{word}" for word in directions], vectors, folder)
    return folder


@pytest.fixture
def model(tmp_path):
    # 「休み」 and 「休暇」 point the same way although no letter-pair index would know.
    return made(tmp_path / "models" / "own", 休み=[1, 0, 0], 休暇=[1, 0, 0], 出張=[0, 1, 0], 報酬=[0, 0, 1])


@pytest.fixture
def other(tmp_path):
    return made(tmp_path / "models" / "other", 休み=[1, 0], 休暇=[0, 1])


@pytest.fixture(scope="session")
def transformer(tmp_path_factory):
    """A sentence-transformers folder with a transformer of random weights."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models")
    letters = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *"abcdefgh検索クエリ文書:"])}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(letters), max_position_embeddings=64, **size)).save_pretrained(folder / "bare")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder / "bare")
    with warnings.catch_warnings(action="ignore"):
        body = Transformer(str(folder / "bare"))
    whole = SentenceTransformer(modules=[body, Pooling(8, "mean")], device="cpu")
    whole.save_pretrained(str(folder / "whole"), create_model_card=False)
    return folder


def copied(folder, to):
    shutil.copytree(folder, to)
    return to


# --- folders


def test_vectors_are_float32_of_length_one_and_zero_for_the_unknown(model):
    embedder = Embedder(model)
    found = embedder.passages(["半日の休暇を取る", "出張と休暇", "桜"])
    assert found.dtype == np.float32
    half = 2**-0.5
    assert np.allclose(found, [[1, 0, 0], [half, half, 0], [0, 0, 0]])
    assert embedder.query("休みはいつ").tolist() == [1, 0, 0]
    assert (embedder.dimensions, embedder.name) == (3, "own")


def test_sentence_transformers_itself_loads_a_fitted_folder(model):
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(str(model), device="cpu", local_files_only=True)
    ours = Embedder(model).passages(["出張と休暇"])
    theirs = loaded.encode([" ".join(embedding.tokens("出張と休暇"))], normalize_embeddings=True)
    assert np.allclose(ours, theirs)
    assert sorted(path.suffix for path in model.rglob("*") if path.is_file()) == [".json"] * 4 + [".safetensors"]


def test_identity_is_that_of_the_files_and_not_of_the_place(model, tmp_path):
    identity = Embedder(model).identity
    again = copied(model, tmp_path / "elsewhere" / "own")
    assert Embedder(again).identity == identity
    config = again / "config_sentence_transformers.json"
    config.write_text(config.read_text() + " ")
    assert Embedder(again).identity != identity


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling_x.py", "x.pkl"])
def test_a_folder_with_code_or_pickles_is_refused(model, name):
    (model / name).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match=name):
        Embedder(model)


@pytest.mark.parametrize(
    "kind", ["own_code.Model", "os.system", "sentence_transformers.models.BoW", "sentence_transformersx.Pooling", "torch.nn.Linear"]
)
def test_parts_of_unknown_kind_are_refused(model, kind):
    listed = json.loads((model / "modules.json").read_bytes())
    (model / "modules.json").write_text(json.dumps([*listed, {"idx": 1, "name": "1", "path": "1_x", "type": kind}]))
    with pytest.raises(DataError, match=kind):
        Embedder(model)


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"name": "0"}]', "3"])
def test_a_list_of_parts_that_is_none_is_refused(model, content):
    (model / "modules.json").write_text(content)
    with pytest.raises(DataError):
        Embedder(model)


def test_what_is_no_model_is_explained(tmp_path, model):
    for folder in (tmp_path / "absent", tmp_path, "cl-nagoya/ruri-v3-30m"):
        with pytest.raises(DataError, match="埋め込みモデルのフォルダ"):
            Embedder(folder)
    (model / "model.safetensors").unlink()
    with pytest.raises(DataError, match="読み込めません"):
        Embedder(model)


def test_a_bare_model_is_refused(transformer):
    with pytest.raises(DataError, match=r"modules\.json"):
        Embedder(transformer / "bare")


def test_prefixes_come_from_the_folder_or_by_its_name(transformer, tmp_path):
    plain = Embedder(copied(transformer / "whole", tmp_path / "unknown"))
    ruri = Embedder(copied(transformer / "whole", tmp_path / "ruri-v3-30m"))
    assert np.allclose(plain.query("abc"), plain.passages(["abc"])[0], atol=1e-6)
    assert np.allclose(ruri.query("abc"), plain.query("検索クエリ: abc"), atol=1e-6)
    assert np.allclose(ruri.passages(["abc"])[0], plain.query("検索文書: abc"), atol=1e-6)
    assert ruri.identity != plain.identity
    own = copied(transformer / "whole", tmp_path / "own" / "ruri-v3-30m")
    config = json.loads((own / "config_sentence_transformers.json").read_bytes())
    (own / "config_sentence_transformers.json").write_text(json.dumps(config | {"prompts": {"query": "b", "document": ""}}))
    assert np.allclose(Embedder(own).query("abc"), plain.query("babc"), atol=1e-6)


# --- the store's vectors


@pytest.fixture
def store(tmp_path, model):
    store = Store(tmp_path / "store", embedder=model)
    store.add([document("travel.txt", TRAVEL), document("leave.txt", LEAVE), document("salary.txt", SALARY, ("hr",))])
    return store


def test_vectors_find_what_words_do_not_and_count_only_with_a_weight(store):
    query = "出張と休み"  # of both words only the first stands in a text
    assert names(store.search(query)) == ["travel.txt"]
    store.weigh(1.0)
    hits = store.search(query)
    assert set(names(hits)) == {"travel.txt", "leave.txt"}
    parts = {hit.chunk.document: hit.parts for hit in hits}
    assert parts["leave.txt"].likeness == pytest.approx(2**-0.5)
    assert store.keyword_search(query, k=5)[0].parts is None


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_question_whose_words_no_text_holds_finds_nothing_or_what_is_near(store, weight):
    store.weigh(weight)
    assert names(store.search("休み"))[:1] == ["leave.txt"] * (weight > 0)
    assert store.search("桜") == store.keyword_search("休み") == []


def test_vectors_open_no_text_to_those_who_may_not_read_it(store):
    store.weigh(5.0)
    assert "salary.txt" not in names(store.search("出張の報酬", k=50))
    assert "salary.txt" in names(store.search("出張の報酬", k=50, as_user="hr"))
    assert names(store.search("出張と休み", documents="t*")) == ["travel.txt"]


def test_a_weight_stays_with_the_store_and_its_model(store, model, other):
    store.weigh(0.3)
    assert Store(store.path, embedder=model).weight == 0.3
    assert Store(store.path).weight == 0.0
    store.embed(other)
    assert store.weight == 0.0
    for content in ("", "{", '{"embedder": 1}', json.dumps({"embedder": Embedder(other).identity, "weight": "x"})):
        (store.path / "likeness.json").write_text(content)
        assert store.weight == 0.0


def test_a_store_opens_with_its_own_model_or_none(store, model, other, tmp_path):
    assert names(Store(store.path).search("出張の日当")) == ["travel.txt"]
    with pytest.raises(StoreError, match="own") as caught:
        Store(store.path, embedder=other)
    assert f"kit.Store('{store.path}').embed('{other}')" in caught.value.remedy
    plain = Store(tmp_path / "plain")
    plain.add([document("a.txt", TRAVEL)])
    with pytest.raises(StoreError, match="ベクトルがありません"):
        Store(plain.path, embedder=model)
    with pytest.raises(StoreError):
        plain.weigh(0.1)


def test_a_text_enters_only_with_its_vector(store):
    plain = Store(store.path)
    with pytest.raises(StoreError, match="own"):
        plain.add([document("new.txt", LEAVE + TRAVEL)])
    plain.remove(["leave.txt"])
    assert store.add([document("travel.txt", TRAVEL + SALARY), document("b.txt", LEAVE)]).replaced == 1
    store.weigh(1.0)
    assert set(names(store.search("出張と休み"))) == {"travel.txt", "b.txt"}


def test_new_vectors_take_the_place_of_the_old_and_can_be_taken_back(store, other, model):
    before = store.fingerprint()
    store.embed(other)
    assert (store.fingerprint(), len(store)) == (before, 3)
    store.weigh(1.0)
    assert sorted(hit.parts.likeness for hit in store.search("出張と休暇")) == [0.0, pytest.approx(1.0)]
    again = Store(store.path, embedder=other)
    assert again.add([document("new.txt", LEAVE)]).new == 1
    assert store.rollback(store.tags()[-2]).endswith("embed")
    with pytest.raises(StoreError, match="other"):
        store.weigh(1.0)
    assert names(store.search("出張の日当")) == ["travel.txt"]  # by words alone, for these vectors are the first model's
    assert Store(store.path, embedder=model).add([document("new.txt", LEAVE)]).new == 1
    assert store.verify().ok


def test_vectors_are_taken_away_and_those_that_are_right_stay(store, model):
    tags = store.tags()
    store.embed(model)
    store.embed(Embedder(model))
    assert store.tags() == tags
    store.embed(None)
    assert (store.weight, len(store), store.tags()[-1][-5:]) == (0.0, 3, "embed")
    assert Store(store.path).add([document("new.txt", LEAVE + TRAVEL)]).new == 1
    store.embed(None)
    assert len(store.tags()) == len(tags) + 2
    assert store.verify().ok


def test_going_back_keeps_todays_readers_and_the_vectors(tmp_path, model):
    store = Store(tmp_path / "store", embedder=model)
    store.weigh(1.0)
    store.add([document("travel.txt", TRAVEL), document("leave.txt", LEAVE)])
    found = [(hit.chunk.document, hit.score) for hit in store.search("出張と休み")]
    store.sync([document("travel.txt", TRAVEL + TRAVEL, ("hr",)), document("leave.txt", LEAVE)])
    store.rollback()
    assert [(hit.chunk.document, hit.score) for hit in store.search("出張と休み", as_user="hr")] == found
    assert names(store.search("出張と休み")) == ["leave.txt"] and store.verify().ok


def test_a_plain_store_gets_vectors_and_forgets_with_them(tmp_path, model):
    store = Store(tmp_path / "store")
    store.add([document("travel.txt", TRAVEL), document("leave.txt", LEAVE)])
    store.embed(model)
    store.weigh(1.0)
    assert set(names(store.search("出張と休み"))) == {"travel.txt", "leave.txt"}
    store.forget("leave.txt")
    assert names(Store(store.path, embedder=model).search("出張と休み")) == ["travel.txt"]
    empty = Store(tmp_path / "empty")
    empty.embed(model)
    assert empty.add([document("a.txt", LEAVE)]).new == 1
