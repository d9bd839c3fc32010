import dataclasses
import time
from datetime import UTC, datetime, timedelta

import pytest

from kit.errors import DataError, LedgerError, SealError
from kit.records import Criteria, Kpi
from kit.trust import ledger, signing
from kit.trust.seal import APPROVAL, Approval, approvals, approve, fingerprint, lineage, require, seal, today

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
    moved = dataclasses.replace(AGREED, title=" 題　", questions=("78ab",), text="title: ' 題　'\n")
    assert seal(moved, path).parent == third.sha256  # new questions under the old title continue it
    assert seal(AGREED, path) == first


def test_the_parent_is_known_by_its_questions_under_any_title(path):
    first = seal(AGREED, path)
    renamed = dataclasses.replace(AGREED, title="別の題", text="title: 別の題\n")
    assert seal(dataclasses.replace(renamed, questions=("34cd", "56ef")), path).parent == first.sha256
    assert seal(dataclasses.replace(renamed, title="ほかの題", questions=("78ab",)), path).parent == ""


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
    """The earliest and the latest clock of the world: at no time do both show the date of Japan."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_today_is_the_date_in_japan_whatever_this_machine_is_set_to(zone):
    assert today() == (datetime.now(UTC) + timedelta(hours=9)).date().isoformat()


def test_a_deadline_that_is_past_in_japan_is_past(zone, path):
    yesterday = (datetime.now(UTC) + timedelta(hours=9 - 24)).date().isoformat()
    with pytest.raises(SealError, match="もう過ぎている"):
        seal(dataclasses.replace(AGREED, deadline=yesterday), path)


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


# --- lineage


def asking(*questions):
    return dataclasses.replace(AGREED, title=f"{questions}", questions=questions, text=f"title: {questions}\n")


def test_a_lineage_is_all_that_was_amended_step_by_step(path):
    first, other, second = seal(asking("a", "b"), path), seal(asking("x"), path), seal(asking("b", "c"), path)
    third = seal(asking("c", "d"), path)  # shares no question with the first, but with what came of it
    assert (second.parent, third.parent, other.parent) == (first.sha256, second.sha256, "")
    family = [first.sha256, second.sha256, third.sha256]
    for criteria in (first.criteria, second.criteria, third.criteria, asking("a", "not sealed")):
        assert [entry.content["sha256"] for entry in lineage(criteria, path)] == family
    assert [entry.content["sha256"] for entry in lineage(other.criteria, path)] == [other.sha256]
    assert lineage(asking("new"), path) == []


def test_a_lineage_follows_what_is_cited_where_no_question_is_shared(path):
    first, last = seal(asking("a"), path), asking("z")
    facts = {"title": "題", "parent": first.sha256, "cases_sha256": "", "metrics_sha256": ""}
    ledger.append(path, "seal", facts | {"sha256": fingerprint(last), "questions": ["z"]})
    for criteria in (first.criteria, last):
        assert [entry.content["sha256"] for entry in lineage(criteria, path)] == [first.sha256, fingerprint(last)]


def test_new_questions_under_one_title_are_of_one_lineage(path):
    plain, other, spaced = (
        dataclasses.replace(asking(question), title=title) for question, title in (("a", "規程 PoC"), ("x", "規程PoC"), ("b", " 規程　ＰｏＣ\n"))
    )  # fmt: skip
    first, _, last = seal(plain, path), seal(other, path), seal(spaced, path)
    for criteria in (plain, spaced, dataclasses.replace(asking("not sealed"), title="規程 PoC")):
        assert [entry.content["sha256"] for entry in lineage(criteria, path)] == [first.sha256, last.sha256]
    assert last.parent == first.sha256 and len(lineage(other, path)) == 1
    for question in "cd":
        assert seal(dataclasses.replace(asking(question), title=""), path).parent == ""  # no title is none in common


# --- approvals


@pytest.fixture
def key(tmp_path):
    signing.make_key(tmp_path / "部長.pem")
    return tmp_path / "部長.pem"


def test_an_approver_signs_the_seal_once(path, key):
    sealed = seal(AGREED, path)
    assert approvals(path, sealed.sha256) == ()
    given = approve(AGREED, "部長", key, path)
    (entry,) = ledger.find(path, APPROVAL, seal=sealed.sha256)
    assert given == Approval("部長", entry.content["key"], entry.at)
    assert approve(AGREED, "部長", key, path) == given
    assert approvals(path, sealed.sha256) == (given,)
    assert approvals(path, "0" * 64) == ()


def test_an_approval_of_one_seal_is_none_of_another(path, key):
    sealed, other = seal(AGREED, path), seal(CHANGED, path)
    approve(AGREED, "部長", key, path)
    moved = ledger.find(path, APPROVAL)[0].content | {"seal": other.sha256}
    with pytest.raises(DataError, match="署名が内容と合わない"):
        ledger.append(path, APPROVAL, moved)
    assert (len(approvals(path, sealed.sha256)), approvals(path, other.sha256)) == (1, ())


def test_only_approvers_sign_and_only_what_is_sealed(path, key):
    with pytest.raises(SealError, match="まだ封印されていません"):
        approve(AGREED, "部長", key, path)
    seal(AGREED, path)
    with pytest.raises(SealError, match="「社長」は、この判定基準の承認者ではない") as caught:
        approve(AGREED, "社長", key, path)
    assert len(str(caught.value).split("\n")) == 3 and "部長" in caught.value.cause
    with pytest.raises(SealError, match="まだ封印されていません"):
        approve(CHANGED, "部長", key, path)
    assert ledger.find(path, APPROVAL) == []
