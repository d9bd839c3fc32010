import json
import re
import socket
from pathlib import Path

import pytest

from kit import settings
from kit.trust import ledger
from kit.trust.check import Card, Checkup, Item, cards, check


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """An empty project and no GPU tool."""
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("RUNS", "PRICES"):
        monkeypatch.delenv(f"KIT_{name}", raising=False)
    return tmp_path


def item(name):
    (found,) = [item for item in check().items if item.name.startswith(name)]
    return found


def test_a_prepared_machine_passes_and_nothing_is_written(project):
    checkup = check()
    assert checkup.ok, str(checkup)
    assert [path.name for path in project.rglob("*")] == ["bin"]


def test_every_failure_shows_its_remedy():
    checkup = Checkup((Item("甲", True, "あり"), Item("乙", False, "なし<b>", "入れる"), Item("丙", None, "参考")))
    assert not checkup.ok
    assert str(checkup) == "○ 甲: あり\n× 乙: なし<b>\n   → 入れる\n－ 丙: 参考"
    html = checkup._repr_html_()
    assert "入れる" in html and "なし&lt;b&gt;" in html


def test_a_wrong_setting_is_the_only_line(project):
    (project / "kit.toml").write_text('llm_ulr = ""')
    (found,) = check().items
    assert (found.name, found.ok) == ("設定", False)
    assert "llm_ulr" in found.found


def test_a_missing_switch_is_named(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    found = item("外部送信")
    assert (found.ok, found.found) == (False, "外れている: HF_HUB_OFFLINE")
    settings.go_offline()
    assert item("外部送信").ok


def test_allowed_hosts_are_told_and_are_no_failure(monkeypatch):
    assert item("社外ホスト").ok
    monkeypatch.setenv("KIT_ALLOWED_HOSTS", "api.example.com")
    assert (item("社外ホスト").ok, item("社外ホスト").found) == (None, "許可あり: api.example.com")


def test_a_server_is_for_information_until_it_is_named(monkeypatch):
    assert item("モデルサーバー").ok is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("KIT_LLM_URL", f"http://127.0.0.1:{server.getsockname()[1]}/v1")
        assert item("モデルサーバー").ok
    assert item("モデルサーバー").ok is False


@pytest.mark.parametrize("url", ["http://8.8.8.8/v1", "not a url", "http://127.0.0.1:99999/v1", "http://0.0.0.0:8000/v1"])
def test_an_address_outside_is_not_even_called(monkeypatch, url):
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("called"))
    monkeypatch.setenv("KIT_LLM_URL", url)
    found = item("モデルサーバー")
    assert found.ok is False and found.remedy


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559'", [("NVIDIA H100 80GB HBM3", 81559 / 1024)]),
        ("#!/bin/sh\necho 'A, B, 1024'\necho 'C, 2048'", [("A, B", 1.0), ("C", 2.0)]),
        ("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver.'\nexit 9", []),
        ("#!/bin/sh\nexit 9", []),
        ("#!/no/such/shell", []),
        ("", []),
    ],
)
def test_cards_are_for_information(project, script, expected):
    tool = project / "bin" / "nvidia-smi"
    tool.write_text(script)
    tool.chmod(0o755)
    assert list(cards()) == expected
    found = item("GPU")
    assert found.ok is None
    shown = "、".join(f"{name}（{gib:.1f} GiB）" for name, gib in expected)
    assert found.found == (shown or "見つかりません（CPUだけで動きます）")


def test_a_card_without_memory_of_its_own_has_that_of_the_machine(project):
    tool = project / "bin" / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA GB10, [N/A]'")
    tool.chmod(0o755)
    installed = int(re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())[1]) / 2**20
    assert cards() == (Card("NVIDIA GB10", pytest.approx(installed, rel=0.01)),)


def test_a_server_that_the_kit_started_is_known(project):
    state = project / "runs" / "servers" / "server.json"
    state.parent.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        facts = {"url": f"http://127.0.0.1:{server.getsockname()[1]}/v1", "ready": False}
        state.write_text(json.dumps(facts))
        assert item("モデルサーバー").ok is None and "起動の途中" in item("モデルサーバー").found
        state.write_text(json.dumps(facts | {"ready": True}))
        assert item("モデルサーバー").ok
    assert item("モデルサーバー").ok is False and "kit stop" in item("モデルサーバー").remedy
    state.write_text("torn")
    assert item("モデルサーバー").ok is None


def test_no_gpu_is_no_failure():
    assert (item("GPU").ok, item("GPU").found) == (None, "見つかりません（CPUだけで動きます）")


def test_a_bad_price_table_is_a_failure(project, monkeypatch):
    (project / "prices.toml").write_text("[machine]\nyen_per_hour = -1\n")
    monkeypatch.setenv("KIT_PRICES", "prices.toml")
    found = item("単価表")
    assert found.ok is False
    assert "yen_per_hour" in found.found
    (project / "kit.toml").write_text("runs = [")
    found = item("設定")
    assert found.ok is False and "TOML の書き方に誤りがあります" in found.found and "該当行" in found.remedy


def test_the_ledger_is_checked(project):
    assert item("台帳").found == "まだ記録なし"
    path = project / "runs" / ledger.NAME
    ledger.append(path, "run", {"run": "a"})
    ledger.append(path, "run", {"run": "b"})
    assert (item("台帳").ok, item("台帳").found) == (True, "2 件、切れ目なし")
    path.write_bytes(path.read_bytes().replace(b'"run":"a"', b'"run":"c"'))
    found = item("台帳")
    assert found.ok is False and "1 行目" in found.found and found.remedy


def test_too_little_disk_is_a_failure(monkeypatch):
    monkeypatch.setattr("kit.trust.check._FREE_GIB", 10.0**9)
    found = item("ディスク")
    assert found.ok is False and "空きを作って" in found.remedy
