import dataclasses
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from kit.errors import LedgerError, SealError
from kit.records import Criteria, Kpi
from kit.trust import ledger
from kit.trust.seal import fingerprint, require, seal, today

AGREED = Criteria(
    "題", "仮説", "責任者", ("部長",), (Kpi("right", "正しさ", 0.7, "理由"),), 0.05, 0.05, "", 420, 10, "title: 題\n", "質問表.xlsx",
    "ab" * 32, 200, ("12ab", "34cd"), "cd" * 32,
)  # fmt: skip
CHANGED = dataclasses.replace(AGREED, text="title: 題 \n")


@pytest.fixture
def path(tmp_path):
    return tmp_path / ledger.NAME


def start(path, sealed, run="run-1"):
    ledger.append(path, "run", {"run": run, "seal": sealed.sha256, "arms": []})


@pytest.mark.parametrize(
    "change",
    [
        {"text": "title: 題 \n"},
        {"cases_sha256": "00" * 32},
        {"cases_count": 201},
        {"metrics_sha256": "00" * 32},
        {"kpis": (Kpi("right", "正しさ", 0.1, "理由"),)},  # the values judge a run, whatever the text says
        {"alpha": 0.2},
    ],
)
def test_the_fingerprint_covers_criteria_questions_and_metric_code(change):
    assert fingerprint(dataclasses.replace(AGREED, **change)) != fingerprint(AGREED)


def test_the_fingerprint_does_not_depend_on_where_the_questions_lie():
    assert fingerprint(dataclasses.replace(AGREED, cases_name="../質問表.xlsx")) == fingerprint(AGREED)
    assert len(fingerprint(AGREED)) == 64


def test_a_seal_is_an_entry_of_the_ledger(path):
    sealed = seal(AGREED, path)
    (entry,) = ledger.entries(path)
    assert (entry.kind, entry.sequence, entry.at) == ("seal", sealed.sequence, sealed.at)
    assert entry.content == {
        "title": "題", "sha256": fingerprint(AGREED), "parent": "", "cases_sha256": "ab" * 32, "metrics_sha256": "cd" * 32,
        "questions": ["12ab", "34cd"],
    }  # fmt: skip
    assert (sealed.criteria, sealed.sha256, sealed.parent) == (AGREED, fingerprint(AGREED), "")


def test_sealing_again_changes_nothing(path):
    first = seal(AGREED, path)
    start(path, first)
    assert seal(AGREED, path) == first
    assert len(ledger.entries(path)) == 2


def test_changed_criteria_of_one_title_name_their_parent(path):
    first = seal(AGREED, path)
    second = seal(CHANGED, path)
    third = seal(dataclasses.replace(AGREED, cases_count=201), path)
    assert (second.parent, third.parent) == (first.sha256, second.sha256)
    assert seal(AGREED, path) == first


def test_the_parent_is_known_by_its_questions_not_by_its_title(path):
    first = seal(AGREED, path)
    renamed = dataclasses.replace(AGREED, title="別の題", text="title: 別の題\n")
    assert seal(dataclasses.replace(renamed, questions=("34cd", "56ef")), path).parent == first.sha256
    assert seal(dataclasses.replace(AGREED, questions=("78ab",)), path).parent == ""  # another team's, from one template


def on(monkeypatch, day):
    monkeypatch.setattr("kit.trust.seal.today", lambda: day)


def test_criteria_whose_deadline_has_passed_are_not_sealed(path, monkeypatch):
    due = dataclasses.replace(AGREED, deadline="2026-11-21")
    on(monkeypatch, "2026-11-22")
    with pytest.raises(SealError, match="期限（2026-11-21）をもう過ぎているため、封印できません") as caught:
        seal(due, path)
    assert len(str(caught.value).split("\n")) == 3 and "deadline" in caught.value.remedy
    assert ledger.entries(path) == []
    on(monkeypatch, "2026-11-21")  # the last day counts
    sealed = seal(due, path)
    start(path, sealed)
    on(monkeypatch, "2027-01-01")  # what was agreed in time stays agreed
    assert seal(due, path) == require(due, "run-1", path) == sealed


@pytest.fixture(params=["Pacific/Kiritimati", "Etc/GMT+12"])
def zone(request, monkeypatch):
    """The earliest and the latest clock of the world: at no time do both show the date of UTC."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield ZoneInfo(request.param)
    monkeypatch.undo()
    time.tzset()


def test_today_is_the_date_of_this_machine(zone):
    assert today() == f"{datetime.now(zone):%Y-%m-%d}"


def test_the_ledger_of_the_settings_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_RUNS", "results")
    seal(AGREED)
    assert len(ledger.entries(tmp_path / "results" / ledger.NAME)) == 1


def test_a_run_after_its_seal_may_be_judged(path):
    sealed = seal(AGREED, path)
    start(path, sealed)
    assert require(AGREED, "run-1", path) == sealed


def test_what_was_never_sealed_is_refused(path):
    start(path, seal(AGREED, path))
    with pytest.raises(SealError, match="封印したあとに"):
        require(CHANGED, "run-1", path)


def test_a_seal_after_the_first_sample_is_refused(path):
    ledger.append(path, "run", {"run": "run-1", "seal": fingerprint(AGREED), "arms": []})
    seal(AGREED, path)
    with pytest.raises(SealError, match="封印したあとに"):
        require(AGREED, "run-1", path)


def test_a_run_that_never_started_is_refused(path):
    start(path, seal(AGREED, path))
    with pytest.raises(SealError):
        require(AGREED, "run-2", path)


def test_criteria_cannot_be_chosen_after_the_run_from_several_seals(path):
    lenient, strict = seal(AGREED, path), seal(CHANGED, path)
    start(path, strict)
    assert require(CHANGED, "run-1", path) == strict
    with pytest.raises(SealError, match="差し替え"):
        require(lenient.criteria, "run-1", path)


def test_a_broken_ledger_proves_nothing(path):
    start(path, seal(AGREED, path))
    path.write_bytes(path.read_bytes().replace(b'"parent":""', b'"parent":"x"'))
    for use in (lambda: require(AGREED, "run-1", path), lambda: seal(CHANGED, path)):
        with pytest.raises(LedgerError):
            use()
