"""The catalogue is whole, the memory formula agrees with hand-computed cases, and a verdict says why."""

import json
import struct
import tomllib
from pathlib import Path

import pytest

from kit.errors import DataError, ParameterError
from kit.serving import catalogue
from kit.serving.catalogue import Model, Shape, memory, models, read_shape, recommend

EMBEDDERS = Path(catalogue.__file__).parents[1] / "knowledge" / "embedders.toml"
NUMBERS = catalogue._NUMBERS
LLAMA_8B = Shape(layers=32, kv_heads=8, head_dim=128, parameters=8_030_261_248, bytes_per_weight=2.0)


def fit(found, name):
    (one,) = [row for row in found.fits if row.id == name]
    return one


# --- the files


def test_every_model_says_where_its_facts_come_from_and_what_is_not_known():
    catalogued = tomllib.loads(catalogue._FILE.read_text(encoding="utf-8"))["model"]
    assert len({model["id"] for model in catalogued}) == len(catalogued) == len(models()) >= 12
    known = {*Model.__slots__, "maker", "license", "chat_template", "source", "date"}
    for model in catalogued:
        assert "/" in model["id"] and model["maker"] and model["license"] and model["commercial"] and model["chat_template"]
        assert model["source"].startswith("https://") and len(model["date"]) == 10
        assert {*model} <= known and {*model["unchecked"]} <= known
        missing = {*NUMBERS} - {*model}
        assert missing <= {*model["unchecked"]}, model["id"]  # what is left out is marked
        for text in ("license", "commercial", "chat_template"):
            assert not model[text].startswith("未確認") or text in model["unchecked"]


def test_the_makers_a_team_would_choose_from_are_there():
    names = {model.id.split("/")[0] for model in models()}
    assert names >= {"llm-jp", "sbintuitions", "tokyotech-llm", "pfnet", "elyza", "cyberagent", "stockmark", "abeja"}


def test_weights_of_quantised_editions_follow_the_formula_in_the_file():
    """0.52 bytes per weight, 2 for embeddings and output layer; Qwen3-8B: 151,936 × 4,096 twice of 8,190,735,360."""
    embedded = 2 * 151_936 * 4_096
    expected = (0.52 * (8_190_735_360 - embedded) + 2 * embedded) / 8_190_735_360
    (variant,) = next(m for m in models() if m.id == "tokyotech-llm/Qwen3-Swallow-8B-RL-v0.2").quantised
    assert variant.bytes_per_weight == pytest.approx(expected, abs=0.001)


def test_embedders_name_prefixes_pooling_and_licence_or_mark_them():
    file = tomllib.loads(EMBEDDERS.read_text(encoding="utf-8"))
    assert len(file["embedder"]) >= 8 and len(file["reranker"]) >= 3
    for entry in file["embedder"] + file["reranker"]:
        wanted = {"parameters", "context", "license", "commercial"}
        if entry in file["embedder"]:
            wanted |= {"dimensions", "query_prefix", "passage_prefix", "pooling"}
        assert wanted - {*entry} <= {*entry["unchecked"]}, entry["id"]
        assert entry.get("pooling", "mean") in ("mean", "cls", "last") and entry["source"].startswith("https://")


# --- the formula


def test_llama_8b_in_16_bit_by_hand():
    """8,030,261,248 × 2 bytes; 2 × 32 × 8 × 128 × 2 = 131,072 bytes a token, × 8,192 × 4 = 4 GiB exactly."""
    need = memory(LLAMA_8B, context=8_192, users=4)
    assert need.weights_gib == pytest.approx(14.9575, abs=1e-4)
    assert need.cache_gib == 4.0
    assert need.total_gib == pytest.approx(14.9575 + 4.0 + 2.0, abs=1e-4)


def test_a_model_without_shared_heads_needs_a_large_cache():
    """CALM3 22B: 2 × 48 × 48 × 128 × 2 = 1,179,648 bytes a token, × 16,384 = 18 GiB for one user."""
    shape = Shape(layers=48, kv_heads=48, head_dim=128, parameters=22_542_882_816, bytes_per_weight=2.0)
    assert memory(shape, context=16_384, users=1).cache_gib == 18.0


def test_an_8_bit_cache_is_half_as_large():
    half = Shape(32, 8, 128, 8_030_261_248, 2.0, cache_bytes_per_value=1.0)
    assert memory(half, context=8_192, users=4).cache_gib == 2.0


# --- the shape of a folder


def write_weights(path, tensors):
    """A safetensors file by hand: length of the header, header, zeros."""
    header, offset = {}, 0
    for name, (kind, shape, size) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))


def folder_of(tmp_path, config, **files):
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, tensors in files.items():
        write_weights(tmp_path / f"{name}.safetensors", tensors)
    return tmp_path


CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 256}


def test_a_shape_is_read_from_config_and_weights(tmp_path):
    folder = folder_of(tmp_path, CONFIG, a={"x": ("BF16", [1000, 100], 200_000)}, b={"y": ("BF16", [500, 100], 100_000)})
    shape = read_shape(folder)
    assert (shape.layers, shape.kv_heads, shape.head_dim, shape.parameters) == (2, 2, 64, 150_000)
    assert shape.bytes_per_weight == pytest.approx(2.0, abs=0.01)  # the headers count a little


def test_packed_weights_are_as_large_as_their_files(tmp_path):
    folder = folder_of(tmp_path, CONFIG, a={"q": ("I32", [1000, 100], 400_000)})
    shape = read_shape(folder)
    size = (folder / "a.safetensors").stat().st_size
    assert memory(shape, context=1, users=1).weights_gib * 2**30 == pytest.approx(size)


def test_head_dim_and_shared_heads_may_be_told_or_follow(tmp_path):
    config = {"text_config": {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 256, "head_dim": 160}}
    shape = read_shape(folder_of(tmp_path, config, a={"x": ("F32", [10], 40)}))
    assert (shape.layers, shape.kv_heads, shape.head_dim) == (3, 4, 160)


@pytest.mark.parametrize(
    "config",
    [{}, [], {**CONFIG, "num_attention_heads": 0}, {**CONFIG, "num_hidden_layers": "2"}, {**CONFIG, "hidden_size": 1},
     {**CONFIG, "num_hidden_layers": float("inf")}],
)  # fmt: skip
def test_a_config_without_the_numbers_is_refused(tmp_path, config):
    with pytest.raises(DataError, match="モデルの大きさを読めません"):
        read_shape(folder_of(tmp_path, config, a={"x": ("F32", [10], 40)}))


def test_missing_and_broken_weights_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"config\.json"):
        read_shape(tmp_path)
    folder_of(tmp_path, CONFIG)
    with pytest.raises(DataError, match="重み 0"):
        read_shape(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(DataError, match="SafetensorError"):
        read_shape(tmp_path)


# --- the recommendation


def test_what_fits_a_24_gb_card():
    """Llama-3-ELYZA-JP-8B: 14.96 + 4 + 2 = 20.96 of 21.6 GiB; one user more (1 GiB) would not fit."""
    found = recommend(gpu_gb=24, context=8_192, users=4)
    elyza = fit(found, "elyza/Llama-3-ELYZA-JP-8B")
    assert elyza.fits is True and elyza.reason == "同時 4 人まで。"
    assert elyza.memory.total_gib == pytest.approx(20.9575, abs=1e-4)
    assert fit(recommend(gpu_gb=24, context=8_192, users=5), "elyza/Llama-3-ELYZA-JP-8B").reason == "同時 4 人までなら載ります。"
    assert fit(found, "cyberagent/calm3-22b-chat").fits is False
    assert "収まりません" in fit(found, "cyberagent/calm3-22b-chat").reason


def test_a_quantised_edition_fits_where_the_original_does_not():
    found = recommend(gpu_gb=48)
    name = "tokyotech-llm/Qwen3-Swallow-32B-RL-v0.2"
    assert fit(found, name).fits is False
    assert "収まりません" in fit(recommend(gpu_gb=24), f"{name}-AWQ-INT4").reason  # one user: 18 + 2 + 2 GiB
    quantised = fit(found, f"{name}-AWQ-INT4")
    assert quantised.fits is True and quantised.reason.endswith("※")  # numbers of the parent model


def test_reasons_other_than_memory_come_first():
    found = recommend(gpu_gb=80)
    assert "Python コード" in fit(found, "pfnet/plamo-3-nict-8b-base").reason
    assert fit(found, "llm-jp/llm-jp-3.1-13b-instruct4").reason == "文脈長の上限は 4,096 トークンです。※"
    unknown = fit(found, "llm-jp/llm-jp-4.1-8b-thinking")
    assert unknown.fits is None and unknown.memory is None and "未確認" in unknown.reason


def test_those_that_fit_come_first_the_largest_first():
    verdicts = [row.fits for row in recommend(gpu_gb=80).fits]
    assert verdicts == sorted(verdicts, key=[True, None, False].index)
    sizes = [row.memory.weights_gib for row in recommend(gpu_gb=80).fits if row.fits]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) >= 8


def test_the_table_says_what_cannot_be_promised():
    page = recommend(gpu_gb=24)._repr_html_()
    assert all(text in page for text in ("○ 載る", "× 載らない", "－ 不明", "保証できません", "質は分かりません", "ライセンス"))


@pytest.mark.parametrize("wrong", [{"gpu_gb": 0}, {"gpu_gb": float("nan")}, {"gpu_gb": 24, "users": 0}, {"gpu_gb": 24, "context": -1}])
def test_numbers_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ParameterError, match="見積もれません"):
        recommend(**wrong)
