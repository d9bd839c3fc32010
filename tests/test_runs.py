"""Run folders: which one goes on, which one is the last, and reading one back."""

import json
import re

import pytest

from kit.errors import RunError, SealError
from kit.evaluation.evaluate import JOURNAL
from kit.evaluation.runs import decided_runs, latest_run, new_run, open_run, read_evaluation
from kit.records import Kpi
from kit.trust import ledger
from kit.trust.seal import seal
from tests.evaluations import Oracle, make_cases, make_criteria, sealed_run

CASES = make_cases(4, 1)
STRANGE = ("p", "a+b", "見本.v2", "C++ (試行)", "x[1]", "p-2")


@pytest.fixture
def sealed(tmp_path):
    return seal(make_criteria(CASES), tmp_path / ledger.NAME)


def make_run(runs, name, *files, under=None):
    folder = runs / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_text("{}")
    if under:
        (folder / "seal.json").write_text(json.dumps({"sha256": under.sha256}))
    return folder


@pytest.mark.parametrize("name", STRANGE)
def test_a_run_is_named_by_time_and_project(tmp_path, name):
    runs = tmp_path / "not" / "yet"
    made = [new_run(runs, name) for _ in range(2 if name == "p" else 1)]
    assert all(folder.is_dir() and folder.parent == runs for folder in made)
    assert all(re.fullmatch(rf"\d{{8}}-\d{{6}}-{re.escape(name)}", folder.name) for folder in made)
    for folder in made:
        (folder / "decision.json").write_text("{}")
        assert latest_run(runs, name) == folder  # the next one waits for the next second


@pytest.mark.parametrize("name", STRANGE)
def test_projects_are_told_apart(tmp_path, sealed, name):
    own = [make_run(tmp_path, f"20260101-090000-{name}", "decision.json")]
    for other in ("20260102-090000-another", f"20260103-090000-{name}-2", f"20260104-090000-{name}x", "20260105-0900-p"):
        make_run(tmp_path, other, "decision.json")
    assert latest_run(tmp_path, name) == own[0]
    assert open_run(tmp_path, name, sealed) not in tmp_path.glob("2026010*")


def test_there_is_no_run_yet(tmp_path):
    make_run(tmp_path, "20260101-090000-p")
    with pytest.raises(RunError, match="判定済みの実行がありません") as caught:
        latest_run(tmp_path, "p")
    assert len(str(caught.value).split("\n")) == 3


def test_a_stopped_run_goes_on_under_the_same_seal_only(tmp_path, sealed):
    stopped = make_run(tmp_path, "20260101-090000-p", under=sealed)
    assert open_run(tmp_path, "p", sealed) == stopped
    other = seal(make_criteria(CASES, Kpi("right", "", 0.5, "")), tmp_path / ledger.NAME)
    fresh = open_run(tmp_path, "p", other)
    assert fresh != stopped
    assert list(fresh.iterdir()) == []
    assert open_run(tmp_path, "p", sealed) == fresh  # the last one, which holds nothing yet
    assert open_run(tmp_path, "another", sealed) not in (stopped, fresh)


def test_a_run_without_seal_file_had_not_begun(tmp_path, sealed):
    empty = make_run(tmp_path, "20260101-090000-p")
    assert open_run(tmp_path, "p", sealed) == empty


def test_a_decided_run_is_finished_and_so_is_all_before_it(tmp_path, sealed):
    make_run(tmp_path, "20260101-090000-p", under=sealed)  # given up in favour of the next
    decided = make_run(tmp_path, "20260102-090000-p", "decision.json", under=sealed)
    assert open_run(tmp_path, "p", sealed) not in tmp_path.glob("2026010*")
    assert latest_run(tmp_path, "p") == decided
    other = make_run(tmp_path, "20260101-080000-q", "decision.json", under=sealed)
    (tmp_path / "jobs").mkdir()
    assert decided_runs(tmp_path) == [other, decided]


def test_what_finishes_a_run_is_up_to_the_caller(tmp_path, sealed):
    decided = make_run(tmp_path, "20260101-090000-p", "decision.json", under=sealed)
    assert open_run(tmp_path, "p", sealed, last="summary.html") == decided


def test_a_run_read_back_is_the_run(tmp_path):
    made = sealed_run(tmp_path, CASES, {"baseline": Oracle(CASES), "candidate": Oracle(CASES)})
    assert read_evaluation(made.folder) == made


def test_a_stopped_run_can_be_read(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sealed_run(tmp_path, CASES, {"a": Oracle(CASES, {"Q3": KeyboardInterrupt()})}, run="r")
    evaluation = read_evaluation(tmp_path / "r")
    assert [row.case for row in evaluation.rows] == ["a1", "a2"]
    assert (evaluation.cases, evaluation.arms) == (CASES, ("a",))


@pytest.mark.parametrize("missing", ["seal.json", "cases.jsonl"])
def test_a_folder_that_is_no_run(tmp_path, missing):
    made = sealed_run(tmp_path, CASES, {"a": Oracle(CASES)})
    (made.folder / missing).unlink()
    with pytest.raises(RunError, match=re.escape(f"{missing} がありません")) as caught:
        read_evaluation(made.folder)
    assert len(str(caught.value).split("\n")) == 3


def test_a_run_without_its_ledger_proves_nothing(tmp_path):
    made = sealed_run(tmp_path, CASES, {"a": Oracle(CASES)})
    (tmp_path / ledger.NAME).unlink()
    with pytest.raises(SealError):
        read_evaluation(made.folder)
    assert (made.folder / JOURNAL).exists()
