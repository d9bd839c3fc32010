"""Decisions: nothing unsealed or edited is judged, and ``decision.json`` alone is enough to judge again."""

import dataclasses
import hashlib
import json
import math
import shutil

import pytest

from kit.errors import LedgerError, RunError, SealError
from kit.evaluation.decide import decide, decide_again, read_decision
from kit.evaluation.evaluate import JOURNAL, evaluate, rows_sha256
from kit.evaluation.runs import read_evaluation
from kit.records import Kpi
from kit.trust import ledger
from kit.trust.durable import canonical, to_json
from kit.trust.seal import fingerprint, seal
from tests.evaluations import RIGHT, Oracle, make_answer, make_cases, make_criteria, sealed_run, wrong_arm

CASES = make_cases(30, 10)
KPIS = (
    RIGHT,
    Kpi("wrong_answer", "誤答", 0.15, "理由"),
    Kpi("right", "今より悪くしない", 0.1, "", "guardrail"),
    Kpi("refusal", "控えた割合", 0.8, "", "info"),
    Kpi("latency_p95", "応答時間", 3.0, "", "info"),
    Kpi("mrr_at_10", "MRR", 0.5, "", "info"),
    Kpi("yen_per_right", "費用", 10, "", "info"),
)
FAILURES = {
    "Q3": make_answer("", state="timeout", error="60秒"),
    "Q7": RuntimeError("壊れた"),
    "Q9": make_answer("別の答え", confidence=0.9),
    "U4": make_answer("作り話", confidence=0.8),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of 40 questions with four faults, not yet decided."""
    arms = {"baseline": wrong_arm(CASES), "candidate": Oracle(CASES, FAILURES)}
    return sealed_run(tmp_path_factory.mktemp("made") / "runs", CASES, arms, *KPIS)


@pytest.fixture
def run(made, tmp_path):
    """The same in a place of its own, for a test to do with as it likes."""
    runs = shutil.copytree(made.folder.parent, tmp_path / "runs")
    return dataclasses.replace(made, folder=runs / made.folder.name)


def entries(run):
    return ledger.entries(run.folder.parent / ledger.NAME)


def assert_refused(use, match):
    with pytest.raises(SealError, match=match) as caught:
        use()
    assert len(str(caught.value).split("\n")) == 3
    return caught.value


# --- a decision -----------------------------------------------------------------------------------------


def test_a_decision_counts_every_planned_question(run):
    decision = decide(run)
    right, wrong, guard, refusal, latency, mrr, yen = decision.kpis
    assert (right.n, right.point) == (40, 36 / 40)
    assert (wrong.n, wrong.point) == (40, 4 / 40)  # two wrong answers and two failures
    assert (guard.point, guard.baseline, guard.outcome) == (36 / 40, 0.0, "GO")
    assert (refusal.n, refusal.point, refusal.outcome) == (10, 0.9, None)
    assert (latency.high, latency.point) == (math.inf, pytest.approx(0.25))
    assert (mrr.n, yen.point) == (30, 0.0)
    assert decision.outcome == "EXTEND"  # 4 of 40 wrong answers are not surely under .15
    assert decision.states == {
        "baseline": {"answered": 40}, "candidate": {"answered": 38, "timeout": 1, "model_error": 1}
    }  # fmt: skip


def test_the_facts_beside_it(run):
    facts = decide(run).facts
    assert (facts["planned"], facts["answerable"], facts["unanswerable"]) == (40, 30, 10)
    assert facts["arm_labels"] == {"baseline": "全問正解", "candidate": "全問正解"}
    assert facts["points"]["candidate"]["right"] == 0.9
    assert facts["points"]["candidate"]["latency_p95"] == 0.25  # the two failures are the slowest 5 %
    assert facts["ledger_head"] == entries(run)[-1].hash
    good, bad = facts["examples"]["good"], facts["examples"]["bad"]
    assert [example["shown"] for example in bad] == ["別の答え", "作り話", "60秒"]
    assert bad[1]["gold"] == "（文書に答えなし）"
    assert len(good) == 3
    assert good[0] == {"question": "Q1", "gold": "1日", "shown": "1日", "citation": "規程.docx"}


def test_what_evaluate_was_told_about_the_run_is_in_the_facts(tmp_path):
    sealed = seal(make_criteria(CASES), tmp_path / ledger.NAME)
    arms = {"a": Oracle(CASES)}
    decision = decide(evaluate(arms, CASES, seal=sealed, run=tmp_path / "r", about={"documents": 3, "notes": ["注"]}))
    assert (decision.facts["documents"], decision.facts["notes"]) == (3, ["注"])
    assert (decision.outcome, decision.kpis[0].baseline) == ("GO", None)


def test_deciding_twice_adds_nothing(run):
    first = decide(run)
    kept = (run.folder / "decision.json").read_bytes()
    assert [e.kind for e in entries(run)] == ["seal", "run", "rows", "decision", "checkpoint"]
    assert decide(run) == first
    assert decide_again(run.folder) == first
    assert (run.folder / "decision.json").read_bytes() == kept
    assert [e.kind for e in entries(run)] == ["seal", "run", "rows", "decision", "checkpoint"]
    assert entries(run)[-2].content["decision"] == json.loads(kept)["sha256"]


def test_a_repeated_run_of_one_seal_is_counted(tmp_path):
    runs, arms = tmp_path / "runs", {"a": Oracle(CASES)}
    names = [f"2026112{i}-090000-p" for i in (1, 2)]
    assert [decide(sealed_run(runs, CASES, arms, run=name)).facts["repeat"] for name in names] == [1, 2]
    assert decide_again(runs / names[0]).facts["repeat"] == 1


def test_questions_judged_by_before_give_no_go_whatever_is_changed_around_them(tmp_path):
    runs = tmp_path / "runs"
    decide(sealed_run(runs, CASES, {"a": wrong_arm(CASES)}))
    # A lower bar under another title, full stops behind the questions, and all but one of them exchanged.
    stopped = tuple(dataclasses.replace(case, id=f"new-{case.id}", question=f"{case.question}。") for case in CASES)
    fresh = tuple(dataclasses.replace(case, question=f"別の{case.question}") for case in CASES)
    easy = {"title": "別の題", "text": "title: 別の題\n"}
    outcomes = []
    for day, cases in enumerate((stopped, (*fresh[1:], CASES[0]), fresh[1:]), 22):
        again = decide(sealed_run(runs, cases, {"a": Oracle(cases)}, run=f"202611{day}-090000-p", **easy))
        outcomes.append((again.outcome, "別の判定基準による判定" in again.reason, bool(again.seal.parent)))
    assert outcomes == [("EXTEND", True, True), ("EXTEND", True, True), ("EXTEND", True, True)]
    other = tuple(dataclasses.replace(case, question=f"まったく{case.question}") for case in CASES)
    first = decide(sealed_run(runs, other, {"a": Oracle(other)}, run="20261130-090000-p", title="三つ目の題"))
    assert (first.outcome, first.seal.parent) == ("GO", "")


@pytest.mark.parametrize(("ended", "outcome"), [("2026-11-21", "GO"), ("2026-11-22", "NO-GO")])
def test_the_deadline_is_compared_with_the_day_on_which_the_run_ended(tmp_path, monkeypatch, ended, outcome):
    monkeypatch.setattr("kit.trust.seal.today", lambda: "2026-11-20")
    monkeypatch.setattr("kit.evaluation.evaluate.today", lambda: ended)
    made = sealed_run(tmp_path, CASES, {"a": Oracle(CASES)}, deadline="2026-11-21")
    assert entries(made)[-1].content["day"] == ended
    monkeypatch.undo()  # whenever, and wherever, it is judged again
    for decision in (decide(made), decide_again(made.folder), read_decision(made.folder)):
        assert (decision.outcome, decision.facts["day"]) == (outcome, ended)


def test_a_run_is_judged_from_within_its_folder(run, monkeypatch):
    monkeypatch.chdir(run.folder)
    assert decide_again(".") == decide(run)


# --- what is not judged ---------------------------------------------------------------------------------


def test_no_seal(tmp_path, run):
    other = dataclasses.replace(run.seal.criteria, text="title: 別\n")
    assert_refused(lambda: decide(dataclasses.replace(run, seal=dataclasses.replace(run.seal, criteria=other))), "封印したあとに")
    assert not (run.folder / "decision.json").exists()


def test_a_seal_written_after_the_run_began(tmp_path):
    criteria = make_criteria(CASES)
    early = sealed_run(tmp_path / "runs", CASES, {"a": Oracle(CASES)}, Kpi("right", "", 0.99, ""))
    late = seal(criteria, tmp_path / "runs" / ledger.NAME)
    assert_refused(lambda: decide(dataclasses.replace(early, seal=late)), "判定できません")


def test_a_run_in_a_folder_of_its_own_was_never_sealed(run, tmp_path):
    copy = shutil.copytree(run.folder, tmp_path / "elsewhere" / run.folder.name)
    assert_refused(lambda: decide_again(copy), "記録がありません")


def test_a_run_that_was_stopped(tmp_path):
    arms = {"a": Oracle(CASES, {"Q5": KeyboardInterrupt()})}
    with pytest.raises(KeyboardInterrupt):
        sealed_run(tmp_path, CASES, arms)
    with pytest.raises(RunError, match=r"まだ終わっていません（\d+ / 40 件）"):
        decide_again(tmp_path / "20261121-090000-p")


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [line.replace("別の答え", "9日") for line in lines],
        lambda lines: [line.replace('"timeout"', '"infrastructure_error"') for line in lines],
        lambda lines: [line.replace('"seconds":0.25', '"seconds":0.1') for line in lines],
        lambda lines: lines[:-1],
        lambda lines: [*lines, lines[-1]],
    ],
)
def test_edited_rows(run, edit):
    journal = run.folder / JOURNAL
    lines = journal.read_text().splitlines()
    assert edit(lines) != lines
    journal.write_text("".join(line + "\n" for line in edit(lines)))
    assert_refused(lambda: decide_again(run.folder), f"の {JOURNAL} が、封印や台帳と一致しません")


def test_reordered_rows_are_the_same_rows(run):
    journal = run.folder / JOURNAL
    journal.write_text("".join(line + "\n" for line in journal.read_text().splitlines()[::-1]))
    assert decide_again(run.folder).kpis == decide(run).kpis


@pytest.mark.parametrize(
    "edit",
    [
        lambda agreed: agreed["kpis"][0].update(bar=0.1),
        lambda agreed: agreed["kpis"][1].update(role="info"),
        lambda agreed: agreed["kpis"].pop(),
        lambda agreed: agreed.update(alpha=0.2),
        lambda agreed: agreed.update(error_budget=0.5),
        lambda agreed: agreed.update(deadline="2099-01-01"),
        lambda agreed: agreed.update(text="title: 別\n"),
        lambda agreed: agreed.update(monthly_questions=999999),
        lambda agreed: agreed.update(metrics_sha256="0" * 64),
    ],
)
def test_an_edited_seal(run, edit):
    path = run.folder / "seal.json"
    kept = json.loads(path.read_text())
    edit(kept["criteria"])
    path.write_text(json.dumps(kept))
    assert_refused(lambda: decide_again(run.folder), "封印したあとに")


def test_softer_criteria_sealed_afterwards(run):
    softer = make_criteria(CASES, Kpi("right", "正しさ", 0.1, "理由"))
    seal(softer, run.folder.parent / ledger.NAME)
    path = run.folder / "seal.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"criteria": to_json(softer), "sha256": fingerprint(softer)}))
    assert_refused(lambda: decide_again(run.folder), "封印したあとに")


def test_edited_gold_answers(run):
    path = run.folder / "cases.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"answers":[["9日"]]', '"answers":[["別の答え"]]'))
    assert path.read_text() != text
    assert_refused(lambda: decide_again(run.folder), "封印や台帳と一致しません")


def test_other_metric_code_than_the_sealed(tmp_path):
    evaluation = sealed_run(tmp_path, CASES, {"a": Oracle(CASES)}, metrics_sha256="0" * 64)
    assert_refused(lambda: decide(evaluation), "指標の計算方法が、封印したときと違います")


def test_a_broken_ledger(run):
    book = run.folder.parent / ledger.NAME
    book.write_bytes(book.read_bytes().replace(b'"count":80', b'"count":79'))
    with pytest.raises(LedgerError):
        decide(run)


# --- decision.json --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decided(made, tmp_path_factory):
    runs = shutil.copytree(made.folder.parent, tmp_path_factory.mktemp("decided") / "runs")
    return decide(dataclasses.replace(made, folder=runs / made.folder.name))


@pytest.fixture
def copied(decided, tmp_path):
    """``decision.json`` alone, in another folder."""
    folder = tmp_path / "another machine" / "somewhere"
    folder.mkdir(parents=True)
    shutil.copy(decided.folder / "decision.json", folder)
    return folder


def test_the_decision_follows_from_its_file_alone(decided, copied):
    again = read_decision(copied)
    (note,) = again.facts["notes"]
    assert "台帳との照合はしていません" in note
    rows = json.loads((copied / "decision.json").read_text())["facts"]["ledger_head"]  # no later head is known here
    assert again == dataclasses.replace(decided, folder=copied, facts=decided.facts | {"notes": [note], "ledger_head": rows})
    assert again.kpis[4].high == math.inf
    nan = [to_json(result) for result in (*decided.kpis, *again.kpis)]
    assert json.loads(json.dumps(nan, allow_nan=False)) == nan


def rehash(kept):
    body = {key: value for key, value in kept.items() if key != "sha256"}
    kept["sha256"] = hashlib.sha256(canonical(body).encode()).hexdigest()


def forge(run):
    """Embellish what no figure follows from, with the file's own hash made to fit."""
    path = run.folder / "decision.json"
    kept = json.loads(path.read_text())
    kept["facts"]["examples"]["bad"] = []
    rehash(kept)
    path.write_text(json.dumps(kept))


def cut_ledger(run):
    book = run.folder.parent / ledger.NAME
    book.write_text("".join(book.read_text().splitlines(keepends=True)[:-2]))


def edit_rows(run):
    journal = run.folder / JOURNAL
    journal.write_text(journal.read_text().replace("別の答え", "9日"))


def move_in(run):
    """Put the decision of another run of the same questions in its place."""
    other = sealed_run(run.folder.parent, CASES, {"a": Oracle(CASES)}, RIGHT, run="20261122-090000-p")
    decide(other)
    shutil.copy(other.folder / "decision.json", run.folder)


def edit_copy(run, name, old, new):
    path = run.folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def edit_criteria(run):
    edit_copy(run, "criteria.yaml", "題", "甘い題")


def edit_cases(run):
    edit_copy(run, "cases.jsonl", "9日", "8日")


def lose(name):
    return lambda run: (run.folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "wrong"),
    [
        (forge, "decision.json"), (cut_ledger, "decision.json"), (move_in, "decision.json"), (edit_rows, JOURNAL),
        (edit_criteria, "criteria.yaml"), (edit_cases, "cases.jsonl"),
        *((lose(name), f"{name}（ファイルがありません）") for name in (JOURNAL, "criteria.yaml", "cases.jsonl")),
    ],
)  # fmt: skip
def test_a_decision_that_rows_or_ledger_beside_it_contradict_is_refused(run, tmp_path, spoil, wrong):
    decision = decide(run)
    assert read_decision(run.folder) == decision
    assert "notes" not in decision.facts
    spoil(run)
    found = assert_refused(lambda: read_decision(run.folder), f"の {wrong} が、台帳 ledger.jsonl と一致しません")
    assert ("kit decide" in found.remedy) == (wrong == "decision.json"), "judging again mends nothing else"
    alone = tmp_path / "alone" / run.folder.name
    alone.mkdir(parents=True)
    shutil.copy(run.folder / "decision.json", alone)
    assert "照合はしていません" in read_decision(alone).facts["notes"][-1]


@pytest.mark.parametrize("name", [JOURNAL, "criteria.yaml"])
def test_a_file_that_is_gone_is_not_called_edited(run, name):
    lose(name)(run)
    with pytest.raises(RunError, match=f"に {name} がありません") as caught:
        decide_again(run.folder)
    assert "書き換え" not in str(caught.value) and "バックアップから戻す" in caught.value.remedy


@pytest.mark.parametrize("spoil", [forge, cut_ledger, move_in])
def test_judging_again_mends_what_is_only_the_decisions(run, spoil):
    decision = decide(run)
    spoil(run)
    assert decide_again(run.folder).kpis == decision.kpis
    assert read_decision(run.folder).facts["examples"] == decision.facts["examples"]


def test_the_last_decision_in_the_ledger_is_in_force(run):
    """Another version of the kit judged in between: what this one says is entered once more."""
    decide(run)
    last = [entry for entry in entries(run) if entry.kind == "decision"][-1]
    ledger.append(run.folder.parent / ledger.NAME, "decision", last.content | {"decision": "0" * 64})
    assert_refused(lambda: read_decision(run.folder), "一致しません")
    again = decide(run)
    assert [e.kind for e in entries(run)][-4:] == ["checkpoint", "decision", "decision", "checkpoint"]
    assert read_decision(run.folder) == again


def test_the_head_to_print_is_the_one_that_was_signed_after_the_decision(run):
    head = decide(run).facts["ledger_head"]
    ledger.append(run.folder.parent / ledger.NAME, "seal", {"sha256": "0" * 64, "parent": "", "questions": []})
    assert entries(run)[-2].hash == head == read_decision(run.folder).facts["ledger_head"]


def test_rows_entered_twice_are_not_judged(run):
    """A second entry cannot make edited rows the ones that were run."""
    edited = [dataclasses.replace(row, text="9日", shown="9日") if row.text == "別の答え" else row for row in run.rows]
    ledger.append(
        run.folder.parent / ledger.NAME, "rows", {"run": run.folder.name, "sha256": rows_sha256(edited), "count": 80}
    )
    assert_refused(lambda: decide(dataclasses.replace(run, rows=tuple(edited))), "封印や台帳と一致しません")


def test_no_decision_yet(run):
    with pytest.raises(RunError, match=r"decision\.json がありません"):
        read_decision(run.folder)


def set_at(*keys, value):
    def edit(kept):
        for key in keys[:-1]:
            kept = kept[key]
        assert kept[keys[-1]] != value
        kept[keys[-1]] = value

    return edit


EDITS = {
    "outcome": set_at("outcome", value="GO"),
    "reason": set_at("reason", value="合格です。"),
    "point": set_at("kpis", 0, "point", value=0.99),
    "low": set_at("kpis", 0, "low", value=0.99),
    "n": set_at("kpis", 0, "n", value=400),
    "baseline": set_at("kpis", 0, "baseline", value=0.5),
    "kpi outcome": set_at("kpis", 1, "outcome", value="GO"),
    "infinite bound": set_at("kpis", 4, "high", value=1.0),
    "bar": set_at("kpis", 0, "kpi", "bar", value=0.1),
    "sealed bar": set_at("seal", "criteria", "kpis", 0, "bar", value=0.1),
    "sealed alpha": set_at("seal", "criteria", "alpha", value=0.2),
    "sealed text": set_at("seal", "criteria", "text", value="title: 別\n"),
    "seal": set_at("seal", "sha256", value="0" * 64),
    "sealed at": set_at("seal", "at", value="2020-01-01T00:00:00+00:00"),
    "states": set_at("states", "candidate", "answered", value=40),
    "fact": set_at("facts", "planned", value=400),
    "point among the facts": set_at("facts", "points", "baseline", "right", value=0.5),
    "yen": set_at("facts", "yen", "candidate", value=9.0),
    "finished": set_at("facts", "finished", value="2020-01-01T00:00:00+00:00"),
    "example": set_at("facts", "examples", "bad", 0, "gold", value="惜しい"),
    "version": set_at("facts", "versions", "scipy", value="0.0"),
    "score": set_at("samples", "candidate", 8, "scores", "right", value=1.0),
    "score of no KPI": set_at("samples", "candidate", 8, "scores", "citation", value=0.5),
    "score of the baseline": set_at("samples", "baseline", 0, "scores", "right", value=1.0),
    "state": set_at("samples", "candidate", 2, "state", value="infrastructure_error"),
    "seconds": set_at("samples", "candidate", 0, "seconds", value=0.1),
    "sample gone": lambda kept: kept["samples"]["candidate"].pop(2),
    "sample doubled": lambda kept: kept["samples"]["candidate"].append(kept["samples"]["candidate"][0]),
    "arm gone": lambda kept: kept["arms"].remove("baseline"),
    "arms swapped": lambda kept: kept["arms"].reverse(),
    "no seal": lambda kept: kept.pop("seal"),
    "no samples": lambda kept: kept.pop("samples"),
    "no hash": lambda kept: kept.pop("sha256"),
    "added": lambda kept: kept.update(note="確認済み"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_file_is_refused(copied, name):
    path = copied / "decision.json"
    kept = json.loads(path.read_text())
    EDITS[name](kept)
    path.write_text(json.dumps(kept, ensure_ascii=False, indent=1))
    assert_refused(lambda: read_decision(copied), "導けません")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"seal": 1}'])
def test_a_broken_file_is_refused(copied, content):
    (copied / "decision.json").write_text(content)
    assert_refused(lambda: read_decision(copied), "導けません")


def test_layout_is_no_content(copied):
    path = copied / "decision.json"
    before = read_decision(copied)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4, sort_keys=True))
    assert read_decision(copied).kpis == before.kpis


def test_a_forged_hash_does_not_make_other_figures_follow(copied):
    path = copied / "decision.json"
    for name in ("outcome", "point", "states", "point among the facts", "sealed bar", "arm gone"):
        kept = json.loads(path.read_text())
        EDITS[name](kept)
        rehash(kept)
        forged = copied.parent / name
        forged.mkdir()
        (forged / "decision.json").write_text(json.dumps(kept))
        assert_refused(lambda folder=forged: read_decision(folder), "導けません")


def test_read_back_and_judged_again(run):
    evaluation = read_evaluation(run.folder)
    assert (evaluation.cases, evaluation.seal, evaluation.arms) == (CASES, run.seal, run.arms)
    assert sorted(evaluation.rows, key=lambda row: (row.case, row.arm)) == sorted(
        run.rows, key=lambda row: (row.case, row.arm)
    )
    assert decide(evaluation) == decide(run)
