import hashlib

import pytest

import kit
from kit.answering.extractive import NOT_FOUND, ExtractiveReader
from kit.answering.rag import KeywordSearch, Rag
from kit.errors import DataError, SettingsError
from kit.improving.synonyms import Synonym
from kit.knowledge.store import Store
from kit.records import EVERYONE, Answer, Block, Document, Place, Step

ALLOWANCE = "課長職の日当は2,800円とする。"
TRAVEL = f"この規程は出張の旅費を定める。{ALLOWANCE}"
PRICES = """
[machine]
yen_per_hour = 3600
[staff]
yen_per_hour = 1
[tokens]
yen_per_million_prompt = 1_000_000
yen_per_million_completion = 2_000_000
[fixed]
yen_per_month = 1
"""


class Echo:
    """A reader that says what it was given."""

    name, top, identity = "復唱", 2, "echo"

    def read(self, question, hits, idf, *, also=""):
        text = f"{question}|{also}|{len(hits)}|{idf('never seen') > 0}"
        return Answer(text, reader=self.name, prompt_tokens=3, completion_tokens=5, trace=(Step("復唱", "", 0.0),))


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A project where a second costs one yen, a token sent one yen, a token received two."""
    (tmp_path / "kit.toml").write_text('prices = "prices.toml"')
    (tmp_path / "prices.toml").write_text(PRICES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KIT_PRICES", raising=False)
    return tmp_path


@pytest.fixture
def store(project):
    store = Store(project / "store")
    texts = {
        "旅費.txt": (TRAVEL, (EVERYONE,)),
        "休暇.txt": ("半日休暇は年12回まで取れる。", (EVERYONE,)),
        "報酬.txt": ("役員報酬の改定案は三月に審議する。", ("hr",)),
        "別.txt": ("旅費の精算は経理課で行う。", (EVERYONE,)),
    }
    store.add(
        Document(hashlib.sha256(text.encode()).hexdigest(), name, name[:2], (Block(text, Place(page=1)),), readers)
        for name, (text, readers) in texts.items()
    )
    return store


def test_an_answer_comes_with_citation_hits_trace_time_and_cost(store):
    answer = Rag(store)("課長職の日当はいくらですか")
    assert ALLOWANCE in answer.text
    assert answer.citations[0].document == "旅費.txt"
    assert answer.citations[0].place == Place(page=1)
    assert all(citation.quote in TRAVEL for citation in answer.citations)
    assert (answer.hint, answer.reader, answer.state) == ("2,800円", "抽出型", "answered")
    assert answer.hits[0].chunk.document == "旅費.txt"
    assert [step.name for step in answer.trace] == ["検索", "抽出"]
    assert 0 < sum(step.seconds for step in answer.trace) <= answer.seconds < 10
    assert answer.yen == pytest.approx(answer.seconds)
    assert (answer.prompt_tokens, answer.completion_tokens) == (0, 0)


def test_a_question_without_an_answer_is_an_abstention_that_costs_time_too(store):
    for question in ("火星探査船の燃料は", "", "。"):
        answer = Rag(store)(question)
        assert (answer.text, answer.abstained, answer.citations) == (NOT_FOUND, True, ())
        assert answer.yen == pytest.approx(answer.seconds) and answer.seconds > 0


def test_any_reader_can_be_put_in(store):
    rag = Rag(store, Echo())
    answer = rag("旅費の規程と経理課と休暇")
    assert answer.text == "旅費の規程と経理課と休暇||2|True"  # no more hits than the reader wants
    assert (rag.name, answer.reader, len(answer.hits)) == ("復唱", "復唱", 2)
    assert [step.name for step in answer.trace] == ["検索", "復唱"]
    assert answer.yen == pytest.approx(answer.seconds + 3 + 10)


def test_the_public_name_is_this_one(store):
    assert kit.Rag is Rag and kit.KeywordSearch is KeywordSearch
    assert kit.Rag(store, "extractive").name == ExtractiveReader.name


@pytest.mark.parametrize("reader", ["x", "", "LLM", "Extractive"])
def test_an_unknown_reader_is_refused(store, reader):
    with pytest.raises(ValueError, match="extractive"):
        Rag(store, reader)


def test_added_words_are_searched_for_and_told_but_the_question_stays(store):
    rag = Rag(store, Echo(), expand=lambda question: "休暇" if "ヤスミン" in question else "")
    answer = rag("ヤスミン")
    assert answer.text.startswith("ヤスミン|休暇|")
    assert [hit.chunk.document for hit in answer.hits] == ["休暇.txt"]
    assert "休暇" in answer.trace[0].detail
    assert rag("日当").text.startswith("日当||")
    assert Rag(store, Echo())("ヤスミン").hits == ()


def test_a_user_gets_answers_from_what_he_may_read(store):
    rag = Rag(store)
    secret = "役員報酬の改定案はいつ審議しますか"
    assert "三月" in rag(secret, user="hr").text
    for user in ("", "keiri"):
        answer = rag(secret, user=user)
        assert all("報酬" not in hit.chunk.text for hit in answer.hits)
        assert "三月" not in answer.shown
    for system in (rag, KeywordSearch(store)):
        with pytest.raises(DataError):
            system(secret, user="hr' OR '1'='1")


def test_identity_changes_with_documents_readers_and_reader(store):
    before = Rag(store).identity
    assert Rag(Store(store.path)).identity == before
    assert Rag(store, Echo()).identity != before
    assert Rag(store, expand=Synonym("休み", "休暇").expand).identity != before
    assert Rag(store, ExtractiveReader(top=3)).identity != before
    keyword = KeywordSearch(store).identity
    store.remove(["休暇.txt"])
    assert Rag(store).identity != before
    assert KeywordSearch(store).identity != keyword


@pytest.mark.parametrize("question", ["課長職の日当はいくらですか", "旅費規程の火星探査船について", "役員や休暇や経理課"])
def test_keyword_search_never_abstains_when_there_is_a_hit(store, question):
    answer = KeywordSearch(store)(question)
    assert answer.hits
    assert (answer.abstained, answer.confidence, answer.reader) == (False, 1.0, "キーワード検索")
    first = answer.hits[0].chunk
    assert first.text.startswith(answer.text) and answer.text
    assert [(c.document, c.quote, c.chunk_id) for c in answer.citations] == [(first.document, answer.text, first.id)]
    assert answer.yen == pytest.approx(answer.seconds) and answer.seconds > 0


def test_keyword_search_shows_the_first_sentence_alone(store):
    assert KeywordSearch(store)("課長職の日当").text == "この規程は出張の旅費を定める。"


@pytest.mark.parametrize("question", ["", "火星探査船", "。"])
def test_keyword_search_without_a_hit_finds_nothing(store, question):
    answer = KeywordSearch(store)(question)
    assert (answer.text, answer.abstained, answer.hits, answer.citations) == (NOT_FOUND, True, (), ())
    assert answer.yen == pytest.approx(answer.seconds)


@pytest.mark.parametrize("system", [Rag, KeywordSearch])
def test_without_prices_nothing_starts(store, project, system):
    (project / "prices.toml").unlink()
    with pytest.raises(SettingsError):
        system(store)
