"""The simulations of the gate in their short form; `python -m tests.bench.gate` is the long one."""

import json

import pytest

from tests.bench import gate as bench


@pytest.mark.slow
def test_no_false_go_beyond_alpha_and_the_power_that_was_planned(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gate", "--short", "--json"])
    code = bench.main()
    found = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in found if not check["ok"]] == []
    assert code == 0
    assert {check["name"].split("_")[0] for check in found} == {"false", "power"}
    assert len({check["name"] for check in found}) == len(found) > 30
    assert all(check["value"] <= check["limit"] for check in found)


def test_a_check_past_its_limit_fails_the_run(monkeypatch, capsys):
    monkeypatch.setattr(bench, "CHECKS", (lambda short: iter([("false_go_x", 0.06, 0.05)]),))
    monkeypatch.setattr("sys.argv", ["gate"])
    assert bench.main() == 1
    assert "NOT false_go_x" in capsys.readouterr().err
