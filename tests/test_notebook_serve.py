"""Notebook 01 from end to end, with the tiny model and without one."""

import json
import re
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from kit.interface.notebooks import run
from kit.serving.server import running

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
SKIPPED = "使うモデルがないので、省きました。"


def shown(path):
    """All that an executed notebook shows, and its text streams alone."""
    outputs = [o for c in json.loads(path.read_text(encoding="utf-8"))["cells"] for o in c.get("outputs", [])]
    pages = ["".join(o["data"].get("text/html", "")) for o in outputs if "data" in o]
    return "\n".join(pages), ["".join(o["text"]) for o in outputs if o["output_type"] == "stream"]


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs"))
    return tmp_path / "01.ipynb"


@pytest.mark.server
def test_a_model_is_started_asked_measured_and_stopped(out, tiny_model, vllm_python):
    run("01", out, {"project": str(SAMPLE), "model": str(tiny_model), "context": 2048, "keep_running": False})
    page, (phases, written) = shown(out)
    assert phases.splitlines()[0] == "モデルのファイルを検査しています" and phases.endswith("起動しました\n")
    assert "メモリーの見積もり" in page and "CPU版" in page
    assert len(written) > 20
    assert int(re.search(r"最初の文字まで [\d.]+ 秒、(\d+) 回に分けて届きました", page)[1]) > 10
    assert re.search(r"<td[^>]*>窓口</td><td[^>]*>(経理|人事|総務|情報システム)</td>", page)
    assert re.search(r"<td[^>]*>至急</td><td[^>]*>(True|False)</td>", page)
    assert "負荷をかけた測定（tiny）" in page and "失敗の内容" not in page
    assert 'aria-label="同時の件数と速さ' in page and "<svg" in page
    assert SKIPPED not in page and "出典: " in page
    assert "キットが起動したモデルサーバーは、動いていません。" in page
    port = int(re.search(r"http://127\.0\.0\.1:(\d+)/v1", page)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    assert running() is None and not (out.parent / "runs" / "servers" / "server.json").exists()


@pytest.mark.server
def test_a_server_that_runs_already_is_used_and_left_alone(out, vllm_server, monkeypatch):
    monkeypatch.setenv("KIT_RUNS", str(vllm_server.log.parents[1]))
    monkeypatch.setenv("KIT_LLM_URL", "http://127.0.0.1:9/v1")  # the model that was asked for goes before what is set
    monkeypatch.setenv("KIT_LLM_MODEL", "other")
    given = {"project": str(SAMPLE), "model": str(vllm_server.folder), "context": vllm_server.context}
    run("01", out, {**given, "keep_running": False})
    page, _ = shown(out)
    assert page.count(vllm_server.url) >= 3 and "起動しました\n" not in page
    assert running().pid == vllm_server.pid


@pytest.mark.parametrize(
    ("model", "own", "url", "asked"),
    [
        ("models/m", False, "http://set/v1", {"url": "http://own/v1", "model": "m"}),
        ("", True, "http://set/v1", {"url": "http://own/v1", "model": "m"}),  # by the button
        ("", False, "http://set/v1", {}),  # connect() takes what is set
        ("", False, "", {}),
        ("", None, "http://set/v1", {}),
        ("", None, "", None),
    ],
)
def test_a_server_of_this_notebook_goes_before_one_that_is_set(model, own, url, asked):
    """Own: whether the running server was started by the notebook's kernel; None where none runs."""
    cells = json.loads((SAMPLE.parents[1] / "notebooks" / "01_serve.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = [text for text in ("".join(cell["source"]) for cell in cells) if "kit.connect(" in text and "chat =" in text]
    server = SimpleNamespace(url="http://own/v1", model="m", own=own) if own is not None else None
    kit = SimpleNamespace(
        running=lambda: server, connect=lambda **given: given, show=str, settings=SimpleNamespace(load=lambda: SimpleNamespace(llm_url=url))
    )
    names = {"kit": kit, "model": model, "reader": "llm"}
    exec(source, names)
    assert names["chat"] == asked


@pytest.mark.server
def test_a_server_named_by_its_address_is_used(out, vllm_url, monkeypatch):
    """As ``kit poc --url`` and ``--model`` do."""
    monkeypatch.setenv("KIT_LLM_URL", vllm_url)
    run("01", out, {"project": str(SAMPLE), "reader": "llm"})
    page, (written,) = shown(out)
    assert f"接続しました: tiny（{vllm_url}）" in page and written
    assert "model が空なので、起動を省きました。" in page and "<svg" in page


@pytest.mark.notebooks
def test_without_a_model_each_step_says_so(out, scripted, monkeypatch):
    monkeypatch.setenv("KIT_LLM_URL", scripted.url)
    run("01", out, {"project": str(SAMPLE), "reader": "extractive"})
    page, streams = shown(out)
    assert (page.count(SKIPPED), streams, scripted.seen) == (7, [], []), "the extractive reader's poc asks no server"
    assert "model が空なので、検査を省きました。" in page and "○ 載る" in page
    assert "出典: " in page
