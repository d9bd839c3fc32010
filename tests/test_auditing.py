"""``kit audit`` as a user meets it."""

import json
import shutil

import pytest

from kit.evaluation.criteria import read_criteria
from kit.evaluation.decide import decide
from kit.interface import cli
from kit.trust import ledger, seal
from tests.evaluations import Oracle, make_cases, sealed_run, wrong_arm
from tests.projects import small_project


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One decided run and its ledger."""
    runs, cases = tmp_path_factory.mktemp("made") / "runs", make_cases(12, 2)
    decide(sealed_run(runs, cases, {"baseline": wrong_arm(cases), "candidate": Oracle(cases)}))
    ledger.checkpoint(runs / ledger.NAME)
    return runs


@pytest.fixture(autouse=True)
def runs(made, tmp_path, monkeypatch):
    """The same as the runs of a working folder without kit.toml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KIT_RUNS", raising=False)
    return shutil.copytree(made, tmp_path / "runs")


@pytest.fixture
def kit(capfd):
    """Call the command line; return (exit code, stdout, stderr)."""

    def call(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return call


def test_the_head_is_noted_and_verified_later(kit, runs):
    code, out, _ = kit("audit", "head", "--json")
    head = json.loads(out)
    assert (code, head["sequence"], head["hash"]) == (0, 5, ledger.entries(runs / ledger.NAME)[-1].hash)
    code, out, err = kit("audit", "head")
    assert (code, err) == (0, "") and head["hash"] in out and "台帳 5 行目" in out
    code, out, err = kit(*out.rpartition("kit ")[2].split())  # the command that it prints
    assert (code, err) == (0, "") and {line[0] for line in out.splitlines()} == {"○"}


def test_what_was_changed_is_told_with_exit_code_1(kit, runs):
    rows = runs / "20261121-090000-p" / "rows.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"99", b"11"))
    code, out, err = kit("audit", "verify")
    assert (code, err) == (1, "")
    (line,) = (line for line in out.splitlines() if line.startswith("×"))
    assert "rows.jsonl" in line and "考えられる原因" in line and "\n   → " in out
    for given in (rows.parent, rows.parent.name):
        assert kit("audit", "verify", "--run", given)[0] == 1
    code, out, _ = kit("audit", "verify", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


def test_a_broken_chain_is_one_line_and_not_a_traceback(kit, runs):
    book = runs / ledger.NAME
    book.write_bytes(book.read_bytes().replace(b'"kind":"run"', b'"kind":"ran"'))
    code, out, err = kit("audit", "verify", "--anchor", "0" * 64)
    assert (code, err) == (1, "") and out.startswith("× 台帳の連鎖: ") and "2 行目" in out and "→" in out


def test_an_approver_makes_a_key_and_signs_what_is_sealed(kit, runs, tmp_path):
    project = small_project(tmp_path / "総務 PoC")
    code, out, err = kit("audit", "key", "総務部長.pem", "--json")
    key = json.loads(out)
    assert (code, err, (tmp_path / "総務部長.pem").stat().st_mode & 0o777) == (0, "", 0o600)
    words = ("audit", "sign", project, "--as", "総務部長", "--key", "総務部長.pem")
    assert kit(*words)[0] == 1  # not sealed yet
    assert kit("seal", project)[0] == 0
    code, out, err = kit(*words)
    assert (code, err) == (0, "") and "総務部長" in out and key["key"][:16] in out
    (given,) = seal.approvals(runs / ledger.NAME, seal.fingerprint(read_criteria(project / "criteria.yaml")))
    assert (given.name, given.key) == ("総務部長", key["key"])
    code, out, _ = kit("audit", "verify")
    assert code == 0 and f"総務部長 7 行目（鍵の指紋 {key['key'][:16]}）" in out


@pytest.mark.parametrize(
    "words", [["key"], ["sign"], ["sign", "."], ["key", "runs/ledger.jsonl"], ["verify", "--anchor", "xyz"], ["verify", "--run", "無"]]
)
def test_wrong_use_is_explained(kit, words):
    code, out, err = kit("audit", *words)
    assert code == 1
    assert len(err.splitlines()) == 3 or out.count("×") == 1


def test_a_ledger_without_entries_has_no_head(kit, runs):
    (runs / ledger.NAME).unlink()
    code, _, err = kit("audit", "head")
    assert code == 1 and "まだ記録がありません" in err and len(err.splitlines()) == 3
