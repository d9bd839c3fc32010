"""The models at hand, and the inspection before a start."""

import json
import shutil
from pathlib import Path

import pytest

from kit.errors import ServerError
from kit.serving import launch, local
from kit.serving.local import inspect_model, local_models
from kit.trust.check import Card


@pytest.fixture(autouse=True)
def programs(monkeypatch, tmp_path):
    """A CPU build is installed; nothing is written anywhere."""
    monkeypatch.setattr(launch, "installed", lambda here: (Path("bin"), None))
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs"))
    yield
    assert not (tmp_path / "runs").exists()


def test_models_at_hand(plain_model, tmp_path, monkeypatch):
    root = tmp_path / "project"
    for name in ("b", "a"):
        shutil.copytree(plain_model, root / "models" / name)
    (root / "models" / ".org--half.part").mkdir()
    (root / "models" / "empty").mkdir()
    (root / "kit.toml").touch()
    (root / "notebooks").mkdir()
    monkeypatch.chdir(root / "notebooks")
    assert local_models() == ["models/a", "models/b"]
    assert inspect_model(local_models()[0]).ok, "a name from the list is found from any folder of the project"
    shutil.rmtree(root / "models")
    assert local_models() == []


def test_a_model_that_can_be_started(plain_model):
    found = inspect_model(plain_model, context=4096, users=2)
    assert [(item.name, item.ok) for item in found.items] == [
        ("モデルのファイル", True), ("文脈長", True), ("メモリーの見積もり", True), ("サーバー用の環境", True)
    ]  # fmt: skip
    assert "4,096 トークン（モデルの上限: 8,192）" in found.items[1].found
    assert "2.0 GiB（重み 0.0＋キャッシュ 0.0＋余裕 2.0）" in found.items[2].found and "主記憶" in found.items[2].found


def test_a_context_that_the_model_cannot_do_is_told(plain_model):
    item = inspect_model(plain_model, context=9000).items[1]
    assert item.ok is None and "9,000" in item.found and "8,192" in item.found


def test_too_little_room_for_all_is_told(plain_model, monkeypatch):
    card = Card("L4", 24.0)
    monkeypatch.setattr(launch, "installed", lambda here: (Path("bin"), card))
    # 2 layers × 2 × 1 head × 64 × 2 bytes = 512 bytes a token: 8,192 tokens × 8,000 users = 31.25 GiB
    item = inspect_model(plain_model, users=8000).items[2]
    assert item.ok is None and "33.3 GiB" in item.found and "GPU（L4）" in item.found and "21.6 GiB" in item.found
    assert "人分" in item.found


def test_the_inspection_ends_with_the_first_fault(plain_model):
    (plain_model / "modeling.py").touch()
    found = inspect_model(plain_model)
    assert [(item.name, item.ok) for item in found.items] == [("モデルのファイル", False)]
    assert "modeling.py" in found.items[0].found and found.items[0].remedy
    assert not inspect_model("models/gone").ok


def test_the_memory_is_estimated_before_vllm_is_installed(plain_model, monkeypatch):
    def missing(here):
        raise ServerError("サーバー用の環境がありません。", "まだ導入されていません。", "make server")

    monkeypatch.setattr(launch, "installed", missing)
    monkeypatch.setattr(local, "cards", lambda: (Card("H100", 80.0),))
    found = inspect_model(plain_model)
    assert [item.ok for item in found.items] == [True, True, True, False]
    assert "GPU（H100）" in found.items[2].found and found.items[3].remedy == "make server"


def test_damaged_papers_are_a_fault_not_a_crash(plain_model):
    config = plain_model / "config.json"
    config.write_text(json.dumps({"num_hidden_layers": 0}), encoding="utf-8")
    assert [item.ok for item in inspect_model(plain_model).items] == [True, True, False]
