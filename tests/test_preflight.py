"""What is refused before vLLM is started, on folders of a few hundred bytes."""

import json
import os
import re
import shutil
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from kit.errors import DataError, ServerError
from kit.serving import catalogue, local, preflight
from kit.trust.check import Card


def test_a_plain_model_passes(plain_model):
    preflight.check_model(plain_model)


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "original/consolidated.00.pth", "x.pkl", "x.pickle", "x.npy", "x.gguf", "model.ckpt",
     "modeling_plain.py", "sub/x.PY", "lib.so", "run.sh", "weights", "x.SAFETENSORS", "x.json.pyc"],
)  # fmt: skip
def test_other_kinds_of_files_are_refused(plain_model, name):
    (plain_model / name).parent.mkdir(exist_ok=True)
    (plain_model / name).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match=name):
        preflight.check_model(plain_model)


def test_papers_and_hidden_files_do_not_matter(plain_model):
    for name in ("README.md", "NOTICE", "図.png", ".gitattributes", ".cache/huggingface/x.lock"):
        (plain_model / name).parent.mkdir(parents=True, exist_ok=True)
        (plain_model / name).write_text("?", encoding="utf-8")
    preflight.check_model(plain_model)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"architectures": ["X"], "auto_map": {"AutoModel": "modeling_x.X"}}),
        ("config.json", {"text_config": [{"vision": {"auto_map": {}}}]}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}}),
        ("processor_config.json", {"auto_map": "x.X"}),
    ],
)
def test_a_call_for_code_is_refused_at_any_depth(plain_model, name, content, encoding):
    (plain_model / name).write_text(json.dumps(content), encoding=encoding)
    with pytest.raises(DataError, match="auto_map"):
        preflight.check_model(plain_model)


def test_links_may_not_lead_outside(plain_model, tmp_path):
    (plain_model / "inside.json").symlink_to("config.json")
    preflight.check_model(plain_model)
    (tmp_path / "elsewhere.txt").write_text("?")
    for target in (tmp_path / "elsewhere.txt", tmp_path, "../../elsewhere.txt", tmp_path / "nothing.txt", "/dev/null"):
        link = plain_model / "link.txt"
        link.symlink_to(target)
        with pytest.raises(DataError, match=r"link\.txt"):
            preflight.check_model(plain_model)
        link.unlink()
    (plain_model / "loop.txt").symlink_to("loop.txt")
    with pytest.raises(DataError, match=r"loop\.txt"):
        preflight.check_model(plain_model)


def test_the_folder_itself_may_be_a_link(plain_model, tmp_path):
    (tmp_path / "current").symlink_to(plain_model)
    preflight.check_model(tmp_path / "current")


def test_a_pipe_is_refused_and_not_waited_for(plain_model):
    os.mkfifo(plain_model / "pipe.json")
    with pytest.raises(DataError, match=r"pipe\.json"):
        preflight.check_model(plain_model)


def header(content, length=None):
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95pickle.",
        header({"a": TENSOR}),  # the data are missing
        header({"a": TENSOR}, length=2**63) + bytes(8),
        header({"a": TENSOR, "b": TENSOR}) + bytes(8),  # overlapping
        header({"a": TENSOR}) + bytes(9),
        header({"a": {**TENSOR, "dtype": "object"}}) + bytes(8),
    ],
)
def test_damaged_weights_are_refused(plain_model, content):
    (plain_model / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors"):
        preflight.check_model(plain_model)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_damaged_json_is_refused(plain_model, content):
    (plain_model / "config.json").write_bytes(content)
    with pytest.raises(DataError, match=r"config\.json"):
        preflight.check_model(plain_model)


def test_missing_files_are_named(plain_model, tmp_path):
    with pytest.raises(DataError, match=r"config\.json") as caught:
        preflight.check_model(tmp_path / "llm-jp" / "llm-jp-4")
    assert "kit models fetch" in caught.value.remedy
    weights = plain_model / "model.safetensors"
    first = weights.rename(plain_model / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": first.name, "b": "model-00002-of-00002.safetensors"}}
    (plain_model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="model-00002-of-00002"):
        preflight.check_model(plain_model)
    shutil.copy(first, plain_model / "model-00002-of-00002.safetensors")
    preflight.check_model(plain_model)
    for path in plain_model.glob("*safetensors*"):
        path.unlink()
    with pytest.raises(DataError, match="safetensors"):
        preflight.check_model(plain_model)


SETTINGS = {"max_position_embeddings": 64}
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *[("config.json", content) for content in ([], "x", 3, None)],
        *[("config.json", {"max_position_embeddings": value}) for value in ("4096", [1], -1, True, float("nan"), 10**400)],
        *[("config.json", SETTINGS | {name: "x"}) for name in ("rope_scaling", "rope_parameters", "text_config")],
        *[("config.json", SETTINGS | {"rope_scaling": {"type": "linear", "factor": f}}) for f in (None, "2", float("inf"))],
        *[("config.json", {"text_config": value}) for value in (3, [1], [])],
        *[("tokenizer_config.json", content) for content in ([], {"model_max_length": "512"})],
        *[(INDEX, content) for content in ({}, [], {"weight_map": []}, {"weight_map": {}})],
        *[(INDEX, {"weight_map": {"a": name}}) for name in ("/etc/passwd", "/a.safetensors", "../x.safetensors", "..", 3, "", None)],
    ],
)
def test_odd_settings_are_told_as_a_damaged_file(plain_model, name, content):
    (plain_model / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=re.escape(f"{name} を読めません")) as caught:
        preflight.check_model(plain_model)
    assert len(str(caught.value).splitlines()) == 3
    (item,) = local.inspect_model(plain_model).items
    assert item.ok is False and name in item.found


def test_an_unhashable_kind_of_scaling_stretches_nothing(plain_model):
    (plain_model / "config.json").write_text(json.dumps(SETTINGS | {"rope_scaling": {"type": ["linear"], "factor": 2.0}}))
    assert preflight.own_context(plain_model) == 64


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
ROPE = ANY | st.fixed_dictionaries({"type": st.just("linear") | ANY, "factor": ANY})
PARTS = {
    "max_position_embeddings": ANY, "n_positions": ANY, "rope_scaling": ROPE, "rope_parameters": ROPE, "dtype": ANY,
    "text_config": ANY | st.fixed_dictionaries({"max_position_embeddings": ANY}),
}  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    config=ANY | st.fixed_dictionaries({}, optional=PARTS),
    tokenizer=ANY | st.fixed_dictionaries({"model_max_length": ANY}),
    index=ANY | st.fixed_dictionaries({"weight_map": ANY | st.dictionaries(st.text(), ANY | st.just("model.safetensors"))}),
)
def test_any_json_is_taken_or_refused(plain_model, config, tokenizer, index):
    for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer), (INDEX, index)):
        (plain_model / name).write_text(json.dumps(content))
    for read in (preflight.check_model, preflight.own_context, preflight.own_precision):
        refused = None
        try:
            found = read(plain_model)
        except DataError as error:
            refused = error
        assert refused or found is None or isinstance(found, (int, str))


# --- the manifest


def flip(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path.name


def add(folder):
    (folder / "added.json").write_text("{}")
    return "added.json"


def remove(folder):
    (folder / "LICENSE").unlink()
    return "LICENSE"


@pytest.mark.parametrize("change", [flip, add, remove])
def test_a_change_since_the_first_use_is_refused(plain_model, tmp_path, change):
    manifests = tmp_path / "manifests"
    first = preflight.check_unchanged(plain_model, manifests)
    assert preflight.check_unchanged(plain_model, manifests) == first
    moved = shutil.copytree(plain_model, tmp_path / "moved")
    assert preflight.check_unchanged(moved, tmp_path / "others") == first
    name = change(plain_model)
    with pytest.raises(DataError, match=name) as caught:
        preflight.check_unchanged(plain_model, manifests)
    (manifest,) = manifests.iterdir()
    assert f"rm '{manifest}'" in caught.value.remedy
    manifest.unlink()
    assert preflight.check_unchanged(plain_model, manifests) != first


def test_a_damaged_manifest_vouches_for_nothing(plain_model, tmp_path):
    preflight.check_unchanged(plain_model, tmp_path / "manifests")
    (manifest,) = (tmp_path / "manifests").iterdir()
    for content in ("", "[]", '{"files": 1}'):
        manifest.write_text(content)
        with pytest.raises(DataError, match=r"計 4 件"):
            preflight.check_unchanged(plain_model, tmp_path / "manifests")


def test_nothing_is_written_into_the_model(plain_model, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (plain_model, *plain_model.iterdir())}
    preflight.check_model(plain_model)
    preflight.check_unchanged(plain_model, tmp_path / "manifests")
    assert before == {path: path.stat().st_mtime_ns for path in (plain_model, *plain_model.iterdir())}


# --- context, memory, card, port


@pytest.mark.parametrize(
    ("config", "tokenizer", "context"),
    [
        ({"max_position_embeddings": 4096}, {}, 4096),
        ({"max_position_embeddings": 4096}, {"model_max_length": 2048}, 2048),
        ({"max_position_embeddings": 4096}, {"model_max_length": 1e30}, 4096),
        ({"n_positions": 1024}, None, 1024),
        ({"text_config": {"max_position_embeddings": 131_072}}, None, 131_072),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2.0}}, None, 8192),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "yarn", "factor": 8.0}}, None, 4096),
        ({"max_position_embeddings": 8192, "rope_parameters": {"rope_type": "default"}}, None, 8192),
        ({}, None, 0),
    ],
)
def test_the_models_own_context(tmp_path, config, tokenizer, context):
    (tmp_path / "config.json").write_text(json.dumps(config))
    if tokenizer is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert preflight.own_context(tmp_path) == context


@pytest.fixture
def needs(monkeypatch):
    """A model of 10 GiB whose cache takes 2 GiB a user, 1 GiB reserve."""
    shape = catalogue.Shape(1, 1, 1, 1, 1.0)
    monkeypatch.setattr(catalogue, "read_shape", lambda folder: shape)
    monkeypatch.setattr(catalogue, "memory", lambda shape, *, context, users: catalogue.Memory(10.0, 2.0 * users, 1.0))


@pytest.mark.parametrize(
    ("total", "users", "cache", "note"),
    [(24, 4, 8, ""), (18, 4, 7, "約 3 人分"), (17, 3, 6, ""), (15, 4, 4, "約 2 人分")],
)
def test_memory_on_a_card(plain_model, needs, total, users, cache, note):
    card = Card("H100", total)
    found, said = preflight.check_memory(plain_model, 8192, users, 1.0, card)
    assert found == cache and note in said and bool(said) == bool(note)


def test_a_model_too_large_is_refused_with_its_parts(plain_model, needs):
    with pytest.raises(ServerError, match=r"13\.0 GiB.*12\.0 GiB") as caught:
        preflight.check_memory(plain_model, 8192, 1, 0.5, Card("L4", 24))
    assert "10.0 GiB" in caught.value.cause and "2.0 GiB" in caught.value.cause


def test_memory_without_a_card(plain_model):
    # 2 layers × 2 × 1 head × 64 × 4 bytes × 8,192 tokens × 4 users = 32 MiB; vLLM takes whole GiB
    assert preflight.check_memory(plain_model, 8192, 4, 0.9, None) == (1, "")
    # 1 GiB is 2**30 / 1,024 bytes = 1,048,576 tokens: 3 users of 600,000 need 1.72 GiB
    assert preflight.check_memory(plain_model, 600_000, 3, 0.9, None) == (2, "")


def test_a_taken_port_is_refused():
    assert 1024 < preflight.free_port(0) < 65536
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=str(port)):
            preflight.free_port(port)
    assert preflight.free_port(port) == port
