"""Running the questions: order, what becomes of a fault, and that no kill costs or repeats a finished sample."""

import dataclasses
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kit.answering.extractive import ExtractiveReader
from kit.answering.rag import KeywordSearch, Rag
from kit.errors import DataError, RunError, SealError, ServerError, StoreError, UnreachableError
from kit.evaluation import evaluate as evaluating
from kit.evaluation.decide import decide
from kit.evaluation.evaluate import JOURNAL, ask, evaluate, rehearse, rows_sha256
from kit.records import Answer, Case, Chunk, Citation, Hit, Kpi, Place, Row
from kit.trust import ledger
from kit.trust.durable import JsonLines, read, to_json
from kit.trust.seal import seal
from tests.evaluations import (
    ABSTAINED,
    RIGHT,
    SECONDS,
    Oracle,
    make_answer,
    make_cases,
    make_criteria,
    sealed_run,
    wrong_arm,
)

RUN = "20260101-090000-p"
CASES = make_cases(3, 1)
_TURNS = (("baseline", "candidate"), ("candidate", "baseline"))  # the arms take turns to go first
PLAN = [(case.id, arm) for number, case in enumerate(CASES) for arm in _TURNS[number % 2]]


@pytest.fixture
def sealed(tmp_path):
    return seal(make_criteria(CASES), tmp_path / ledger.NAME)


@pytest.fixture
def go(tmp_path, sealed):
    """Start or resume the one run of a test."""

    def run(arms=None, cases=CASES, seal=sealed, **how):
        return evaluate(arms or make_arms(), cases, seal=seal, run=tmp_path / RUN, **how)

    return run


def make_arms(cases=CASES, **replies):
    return {"baseline": wrong_arm(cases), "candidate": Oracle(cases, replies)}


def unbroken(folder):
    return rows_sha256(sealed_run(folder, CASES, make_arms()).rows)


def finished(folder):
    return [(row["case"], row["arm"]) for row in read(folder / RUN / JOURNAL)]


def kinds(folder):
    return [entry.kind for entry in ledger.entries(folder / ledger.NAME)]


# --- a run ----------------------------------------------------------------------------------------------


def test_arms_take_turns_and_every_sample_is_on_disk(tmp_path, go, sealed):
    evaluation = go()
    assert [(row.case, row.arm) for row in evaluation.rows] == PLAN == finished(tmp_path)
    assert (evaluation.arms, evaluation.cases, evaluation.seal) == (("baseline", "candidate"), CASES, sealed)
    assert [Row.from_json(record) for record in read(tmp_path / RUN / JOURNAL)] == list(evaluation.rows)
    assert kinds(tmp_path) == ["seal", "run", "rows"]
    row = evaluation.of("candidate")["a1"]
    assert (row.text, row.shown, row.state, row.seconds) == ("1日", "1日\n規程（規程.docx）", "answered", SECONDS)


def test_what_is_judged_is_written_down_before_the_first_sample(tmp_path, sealed):
    folder = tmp_path / RUN

    def look(question, *, user=""):
        assert kinds(tmp_path) == ["seal", "run"]
        assert (folder / "criteria.yaml").read_text() == sealed.criteria.text
        assert json.loads((folder / "seal.json").read_text())["sha256"] == sealed.sha256
        assert ledger.entries(tmp_path / ledger.NAME)[-1].content["about"] == {"documents": 3, "mode": "latency"}
        assert len((folder / "cases.jsonl").read_text().splitlines()) == 4
        return "はい"

    evaluation = evaluate({"a": look}, CASES, seal=sealed, run=folder, about={"documents": 3})
    assert {row.state for row in evaluation.rows} == {"answered"}


def test_progress_counts_finished_samples(go):
    seen = []
    go(progress=lambda *counts: seen.append(counts))
    assert seen == [(i, 8) for i in range(1, 9)]


def test_the_asker_is_handed_on(tmp_path):
    cases = (Case("1", "Q", (("はい",),), user="hr"),)
    asked = []

    def arm(question, *, user=""):
        asked.append((question, user))
        return "はい"

    row = sealed_run(tmp_path, cases, {"a": arm}).rows[0]
    assert asked == [("Q", "hr")]
    assert (row.text, row.cited, row.state) == ("はい", (), "answered")
    assert row.seconds > 0


def test_a_rehearsal_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = rehearse(Oracle(CASES), CASES)
    assert list(rows) == [case.id for case in CASES]
    assert list(tmp_path.iterdir()) == []


# --- faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "state", "error"),
    [
        (RuntimeError("壊れた"), "model_error", "RuntimeError: 壊れた"),
        (AssertionError(), "model_error", "AssertionError: "),
        (StoreError("開けない", "?", "?"), "infrastructure_error", "StoreError: 開けない"),
        (ServerError("届かない", "?", "?"), "infrastructure_error", "ServerError: 届かない"),
        (make_answer("", state="timeout", error="60秒"), "timeout", "60秒"),
        (None, "wrong_format", "NoneType instead of"),
        ({"text": "はい"}, "wrong_format", "dict instead of"),
    ],
)
def test_a_fault_of_an_arm_is_a_finished_sample(go, reply, state, error):
    evaluation = go(make_arms(Q2=reply))
    assert len(evaluation.rows) == 8
    row = evaluation.of("candidate")["a2"]
    assert (row.state, row.case) == (state, "a2")
    assert row.error.startswith(error)
    assert row.seconds > 0
    assert evaluation.of("baseline")["a2"].state == "answered"


def test_a_row_keeps_the_quotes_and_counts_those_that_do_not_stand():
    place = Place(page=1)
    chunk = Chunk("c1", "0" * 64, "規程.pdf", "規程", "締め日は毎月20日とする。", place, 0, ("everyone",))
    citations = [Citation.of(chunk, quote) for quote in ("毎月20日", "毎月25日", "毎月20日")]
    unknown = Citation("別.pdf", "別", place, "何でも", "c9")  # of a chunk that the answer does not tell
    row = ask(lambda question, user: Answer("20日", (*citations, unknown), hits=(Hit(chunk, 1.0, 1),), misquoted=2), CASES[0], "a")
    assert (row.quotes, row.misquoted) == (("毎月20日", "毎月25日", "何でも"), 3)
    assert Row.from_json(json.loads(json.dumps(to_json(row)))) == row
    older = {key: value for key, value in to_json(row).items() if key not in ("quotes", "misquoted")}
    assert (Row.from_json(older).quotes, Row.from_json(older).misquoted) == ((), 0)


def test_long_errors_are_cut():
    assert len(ask(Oracle(CASES, {"Q1": ValueError("あ" * 9999)}), CASES[0], "a").error) == 500


GONE = UnreachableError("届きません。", "止まっています。", "?")


def test_a_lost_server_stops_the_run_until_it_is_back(tmp_path, go):
    with pytest.raises(UnreachableError) as caught:
        go(make_arms(Q3=GONE))
    first, cause, remedy = lines(caught)
    assert first == "届きません。評価を途中で止めました。測定済みの 5 / 8 件は残っています。"
    assert "止まっています" in cause and "もう一度実行" in remedy
    assert finished(tmp_path) == PLAN[:5] and kinds(tmp_path) == ["seal", "run", "stopped"]
    arms = make_arms()
    assert rows_sha256(go(arms).rows) == unbroken(tmp_path / "other")
    assert arms["candidate"].asked == ["Q3", "U1"] and kinds(tmp_path) == ["seal", "run", "stopped", "rows"]


class Losing(Oracle):
    """Its server is gone from the third call on, while the two before are still being answered."""

    def __init__(self, cases):
        super().__init__(cases)
        self.lost, self.lock = threading.Event(), threading.Lock()

    def __call__(self, question, *, user=""):
        with self.lock:
            answer = super().__call__(question, user=user)
            number = len(self.asked)
        if number > 2:
            self.lost.set()
            raise GONE
        assert self.lost.wait(20)
        time.sleep(0.1)
        return answer


def test_what_a_crowd_finished_after_the_server_was_lost_is_kept(tmp_path):
    cases, criteria = make_cases(12, 4), make_criteria(make_cases(12, 4))
    sealed, losing = seal(criteria, tmp_path / ledger.NAME), Losing(cases)
    with pytest.raises(UnreachableError, match="測定済みの 2 / 16 件"):
        evaluate({"a": losing}, cases, seal=sealed, run=tmp_path / RUN, workers=4)
    assert {row["state"] for row in read(tmp_path / RUN / JOURNAL)} == {"answered"} and len(losing.asked) <= 5
    arm = Oracle(cases)
    arm.identity, arm.name = losing.identity, losing.name
    evaluation = evaluate({"a": arm}, cases, seal=sealed, run=tmp_path / RUN, workers=4)
    assert (len(evaluation.rows), len(arm.asked)) == (16, 14)


def test_a_rehearsal_needs_its_server_too():
    with pytest.raises(UnreachableError):
        rehearse(Oracle(CASES, {"Q2": GONE}), CASES)


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), -1.0, "1", None])
@pytest.mark.parametrize("name", ["confidence", "seconds", "yen", "prompt_tokens", "completion_tokens", "misquoted"])
def test_figures_that_are_none_are_a_fault_of_the_arm(tmp_path, go, name, figure):
    first = go(make_arms(Q1=make_answer("1日", **{name: figure})))
    row = first.of("candidate")["a1"]
    assert (row.state, row.error) == ("wrong_format", f"no finite numbers of 0 or more: {name}")
    assert 0 < row.seconds < 5 and all(value == 0 or name != other for other, value in told(row).items() if other != "seconds")
    journal = (tmp_path / RUN / JOURNAL).read_text().lower()
    assert "nan" not in journal and '"inf' not in journal
    assert decide(first).states["candidate"]["wrong_format"] == 1
    assert rows_sha256(go(make_arms()).rows) == rows_sha256(first.rows)


def told(row):
    """All that an arm says of itself in numbers."""
    names = ("confidence", "seconds", "yen", "prompt_tokens", "completion_tokens", "misquoted")
    return {name: getattr(row, name) for name in names}


@pytest.mark.parametrize(("reported", "workers", "least", "most"), [(1e-9, 1, 0.02, 5), (30.0, 1, 30, 30), (1e-3, 2, 1e-3, 1e-3)])
def test_one_at_a_time_a_sample_takes_no_less_than_the_clock_says(go, reported, workers, least, most):
    def slow(question, *, user=""):
        time.sleep(0.02)
        return Answer("はい", seconds=reported)

    evaluation = go({"a": slow}, workers=workers)
    assert all(least <= row.seconds <= most for row in evaluation.rows)


def test_unstorable_characters_do_not_stop_a_run(go):
    first = go(make_arms(Q1=make_answer("1日\ud800\u2028🏽")))
    assert rows_sha256(go().rows) == rows_sha256(first.rows)


# --- going on -------------------------------------------------------------------------------------------


class Stopping:
    """Two arms in one count: after ``at`` samples Ctrl-C is pressed while the next one is under way."""

    def __init__(self, at):
        self.left = itertools.count(-at)
        self.arms = {name: _Stopped(arm, self.left) for name, arm in make_arms().items()}


class _Stopped:
    def __init__(self, arm, left):
        self.arm, self.left, self.name, self.identity = arm, left, arm.name, arm.identity

    def __call__(self, question, *, user=""):
        if next(self.left) == 0:
            raise KeyboardInterrupt
        return self.arm(question, user=user)


@pytest.mark.parametrize("at", range(len(PLAN)))
def test_a_run_stopped_at_any_sample_goes_on(tmp_path, go, at):
    with pytest.raises(KeyboardInterrupt):
        go(Stopping(at).arms)
    assert finished(tmp_path) == PLAN[:at]
    assert kinds(tmp_path) == ["seal", "run", "stopped"]  # nothing says that it is finished
    arms, seen = make_arms(), []
    evaluation = go(arms, progress=lambda *counts: seen.append(counts))
    assert sum(len(arm.asked) for arm in arms.values()) == len(PLAN) - at
    assert finished(tmp_path) == PLAN
    assert seen[0] == (at + 1, 8)
    assert rows_sha256(evaluation.rows) == unbroken(tmp_path / "other")
    assert kinds(tmp_path) == ["seal", "run", "stopped", "rows"]


def test_a_run_stopped_twice_and_once_more(tmp_path, go):
    for at in (2, 0, 3):
        with pytest.raises(KeyboardInterrupt):
            go(Stopping(at).arms)
    assert finished(tmp_path) == PLAN[:5]
    assert rows_sha256(go().rows) == unbroken(tmp_path / "other")


def test_a_finished_run_asks_nothing_again(tmp_path, go):
    first, arms = go(), make_arms()
    again = go(arms, progress=lambda *counts: pytest.fail("nothing to do"))
    assert [arm.asked for arm in arms.values()] == [[], []]
    assert again == first
    assert kinds(tmp_path) == ["seal", "run", "rows"]


def test_a_torn_line_is_asked_again(tmp_path, go, monkeypatch):
    monkeypatch.setattr(evaluating, "_stop", lambda *told: None)  # it was killed
    with pytest.raises(KeyboardInterrupt):
        go(Stopping(4).arms)
    journal = tmp_path / RUN / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])
    arms = make_arms()
    assert rows_sha256(go(arms).rows) == unbroken(tmp_path / "other")
    assert arms["baseline"].asked == ["Q2", "Q3", "U1"]


def test_a_finished_sample_without_its_line_end_is_not_asked_again(tmp_path, go):
    with pytest.raises(KeyboardInterrupt):
        go(Stopping(4).arms)
    journal = tmp_path / RUN / JOURNAL
    for asked in (4, 0):  # of the rest of a stopped run, then of a finished one
        journal.write_bytes(journal.read_bytes()[:-1])
        arms = make_arms()
        assert rows_sha256(go(arms).rows) == unbroken(tmp_path / f"other{asked}")
        assert sum(len(arm.asked) for arm in arms.values()) == asked


def test_a_ledger_that_lost_a_torn_line_does_not_stop_a_run(tmp_path, go):
    book = tmp_path / ledger.NAME
    for _ in range(2):  # before the run is entered, and before its rows are
        book.write_bytes(book.read_bytes() + b'{"sequence": 2, "at"')
        with pytest.raises(KeyboardInterrupt):
            go(Stopping(1).arms)
    book.write_bytes(book.read_bytes() + b"{")
    go()
    go()
    assert kinds(tmp_path) == ["seal", "run", "stopped", "stopped", "rows"]


@pytest.mark.parametrize("fewest", [1, 5])
def test_kill_9_loses_and_repeats_no_finished_sample(tmp_path, fewest):
    cases, log = make_cases(60), tmp_path / "asked.log"
    script = """
import sys, time
from pathlib import Path
from tests.evaluations import Oracle, make_cases, sealed_run

class Slow(Oracle):
    def __call__(self, question, *, user=""):
        with Path(sys.argv[2]).open("a") as file:
            file.write(question + "\\n")
        time.sleep(0.02)
        return super().__call__(question, user=user)

cases = make_cases(60)
evaluation = sealed_run(Path(sys.argv[1]), cases, {"slow": Slow(cases)})
"""
    command = [sys.executable, "-c", script, str(tmp_path / "runs"), str(log)]
    root = Path(__file__).parents[1]
    journal = tmp_path / "runs" / "20261121-090000-p" / JOURNAL
    process = subprocess.Popen(command, cwd=root)
    try:
        limit = time.monotonic() + 60
        while len(read(journal)) < fewest and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.002)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it had finished before it was killed"
    before = [row["case"] for row in read(journal)]
    assert fewest <= len(before) < 60
    begun = log.read_text().split()
    subprocess.run(command, cwd=root, check=True)
    asked = log.read_text().split()[len(begun) :]
    names = [case.question for case in cases]
    assert asked == names[len(before) :]
    assert len(begun) - len(before) in (0, 1)  # at most the one that was under way
    whole = sealed_run(tmp_path / "other", cases, {"slow": Oracle(cases)})
    assert rows_sha256([Row.from_json(row) for row in read(journal)]) == rows_sha256(whole.rows)


# --- refusals -------------------------------------------------------------------------------------------


def lines(error):
    return str(error.value).split("\n")


class Reading(Oracle):
    """An arm that shows sentences of documents."""

    reader = ExtractiveReader()


EXACT = Kpi("exact_match", "完全一致", 0.7, "理由")
F1_GUARD = Kpi("character_f1", "文字F1", 0.1, "理由", "guardrail")


@pytest.mark.parametrize(
    ("kpi", "baseline", "candidate"),
    [
        (EXACT, Oracle, Reading), (dataclasses.replace(EXACT, metric="character_f1"), Oracle, Reading),
        (EXACT, Oracle, lambda cases: KeywordSearch(None)), (EXACT, Oracle, lambda cases: Rag(None)),
        (F1_GUARD, Reading, Oracle), (F1_GUARD, Oracle, Reading), (F1_GUARD, lambda cases: KeywordSearch(None), Oracle),
    ],
)  # fmt: skip
def test_short_answers_are_not_asked_of_arms_that_show_sentences(tmp_path, kpi, baseline, candidate):
    arms = {"baseline": baseline(CASES), "candidate": candidate(CASES)}
    with pytest.raises(DataError, match=rf"「{kpi.label}」（{kpi.metric}）は.+測れません") as caught:
        sealed_run(tmp_path, CASES, arms, RIGHT, kpi)
    assert len(lines(caught)) == 3 and "criteria.yaml" in caught.value.remedy
    assert kinds(tmp_path) == ["seal"]
    assert [path.name for path in tmp_path.iterdir()] == [ledger.NAME], "not one question was asked"


@pytest.mark.parametrize(
    ("kpi", "baseline", "candidate"),
    [(EXACT, Reading, Oracle), (F1_GUARD, Oracle, Oracle), (dataclasses.replace(EXACT, role="info"), Reading, Reading)],
)
def test_short_answers_may_be_asked_of_others(tmp_path, kpi, baseline, candidate):
    arms = {"baseline": baseline(CASES), "candidate": candidate(CASES)}
    assert len(sealed_run(tmp_path, CASES, arms, RIGHT, kpi).rows) == 8


def test_another_process_in_the_run_is_refused(tmp_path, go):
    with JsonLines(tmp_path / RUN / JOURNAL), pytest.raises(RunError, match="書き込み中") as caught:
        go()
    assert len(lines(caught)) == 3
    assert len(go().rows) == 8


@pytest.mark.parametrize(
    "cases",
    [
        CASES[:-1],
        CASES[::-1],
        (dataclasses.replace(CASES[0], answers=(("2日",),)), *CASES[1:]),
        (dataclasses.replace(CASES[0], question="Q1 "), *CASES[1:]),
    ],
)
def test_other_questions_than_the_sealed_are_refused(tmp_path, go, cases):
    with pytest.raises(SealError, match="封印した質問と一致しません") as caught:
        go(make_arms(), cases)
    assert len(lines(caught)) == 3
    assert kinds(tmp_path) == ["seal"]


@pytest.mark.parametrize(
    "change",
    [
        lambda arms: arms | {"candidate": Oracle(CASES, identity="2")},
        lambda arms: {"candidate": arms["candidate"], "baseline": arms["baseline"]},
        lambda arms: {"baseline": arms["baseline"]},
        lambda arms: arms | {"third": Oracle(CASES)},
        lambda arms: arms | {"candidate": lambda question, *, user="": "はい"},
    ],
)
def test_a_run_is_not_continued_with_other_systems(tmp_path, go, change):
    with pytest.raises(KeyboardInterrupt):
        go(Stopping(3).arms)
    with pytest.raises(SealError, match="続きから再開できません") as caught:
        go(change(make_arms()))
    assert len(lines(caught)) == 3
    assert "--new" in caught.value.remedy
    assert finished(tmp_path) == PLAN[:3]


def test_a_run_is_not_continued_under_another_seal(tmp_path, go):
    with pytest.raises(KeyboardInterrupt):
        go(Stopping(3).arms)
    softer = seal(make_criteria(CASES, Kpi("right", "正しさ", 0.1, "理由")), tmp_path / ledger.NAME)
    with pytest.raises(SealError, match="再開できません"):
        go(seal=softer)


@pytest.mark.parametrize("edit", [lambda text: text.replace("99年", "1日"), lambda text: text[: text.rfind("{")]])
def test_a_finished_run_that_was_edited_is_not_entered_again(tmp_path, go, edit):
    go()
    journal = tmp_path / RUN / JOURNAL
    journal.write_text(edit(journal.read_text()))
    with pytest.raises(SealError, match="台帳と一致しません") as caught:
        go()
    assert len(lines(caught)) == 3
    assert kinds(tmp_path) == ["seal", "run", "rows"]


def copy_in(runs, other):
    (runs / RUN).mkdir(parents=True)
    shutil.copy(other / RUN / JOURNAL, runs / RUN)


def link_in(runs, other):
    (runs / RUN).symlink_to(other / RUN)


def link_journal_in(runs, other):
    (runs / RUN).mkdir(parents=True)
    (runs / RUN / JOURNAL).symlink_to(other / RUN / JOURNAL)


@pytest.mark.parametrize("bring", [copy_in, link_in, link_journal_in])
def test_a_journal_that_another_run_wrote_is_refused(tmp_path, bring):
    sealed_run(tmp_path / "other", CASES, make_arms(), run=RUN)
    (tmp_path / "runs").mkdir()
    bring(tmp_path / "runs", tmp_path / "other")
    arms = make_arms()
    with pytest.raises(SealError, match=r"TAMPERED.+台帳と一致しません") as caught:
        sealed_run(tmp_path / "runs", CASES, arms, run=RUN)
    assert len(lines(caught)) == 3 and not arms["candidate"].asked
    assert kinds(tmp_path / "runs") == ["seal"]


def ask_other(rows):
    return [*rows[:2], {**rows[2], "asked": "0" * 12}, *rows[3:]]


@pytest.mark.parametrize(
    "edit",
    [
        lambda rows: rows[:-1], lambda rows: rows[1:], lambda rows: [], lambda rows: [*rows[:-1], {**rows[-1], "text": "3日"}],
    ],
)  # fmt: skip
def test_a_journal_that_was_changed_while_a_run_stood_still_is_refused(tmp_path, go, edit):
    with pytest.raises(UnreachableError):
        go(make_arms(Q3=GONE))
    journal, arms = tmp_path / RUN / JOURNAL, make_arms()
    rewrite(journal, edit(read(journal)))
    with pytest.raises(SealError, match="台帳と一致しません"):
        go(arms)
    assert not arms["candidate"].asked and kinds(tmp_path) == ["seal", "run", "stopped"]


def test_what_a_kill_left_behind_the_last_stop_is_kept(tmp_path, go, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        go(Stopping(2).arms)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(evaluating, "_stop", lambda *told: None)
        go(Stopping(3).arms)
    assert rows_sha256(go().rows) == unbroken(tmp_path / "other")
    assert kinds(tmp_path) == ["seal", "run", "stopped", "rows"]


@pytest.mark.parametrize(
    "edit", [ask_other, lambda rows: [*rows, rows[0]], lambda rows: [*rows, {**rows[0], "case": "a9"}], lambda rows: [*rows, {**rows[0], "arm": "x"}]]
)
def test_rows_of_other_questions_do_not_count(tmp_path, go, monkeypatch, edit):
    monkeypatch.setattr(evaluating, "_stop", lambda *told: None)  # killed: the ledger does not know its rows
    with pytest.raises(KeyboardInterrupt):
        go(Stopping(5).arms)
    journal = tmp_path / RUN / JOURNAL
    rewrite(journal, edit(read(journal)))
    with pytest.raises(SealError, match="台帳と一致しません"):
        go()


def test_a_full_disk_or_a_progress_bar_that_fails_is_a_stop_too(tmp_path, go):
    def fails(finished, planned):
        raise ValueError("棒")

    with pytest.raises(ValueError, match="棒"):
        go(progress=fails)
    entry = ledger.entries(tmp_path / ledger.NAME)[-1]
    assert (entry.kind, entry.content["count"], entry.content["run"]) == ("stopped", 1, RUN)
    assert entry.content["sha256"] == rows_sha256(read(tmp_path / RUN / JOURNAL))


def rewrite(journal, rows):
    journal.unlink()
    with JsonLines(journal) as file:
        file.append(*rows)


def test_one_question_with_many_endings_is_not_many(tmp_path):
    cases = tuple(dataclasses.replace(case, id=f"{case.id}{i}", question=case.question + end) for case in CASES for i, end in enumerate("？!・…"))
    arms = make_arms(cases)
    with pytest.raises(DataError, match="16 問のうち 12 問") as caught:
        sealed_run(tmp_path, cases, arms)
    assert len(lines(caught)) == 3 and not arms["candidate"].asked and kinds(tmp_path) == ["seal"]


def identities(folder):
    return [identity for _, _, identity in ledger.find(folder / ledger.NAME, "run")[0].content["arms"]]


@pytest.mark.parametrize(
    ("identity", "met"),
    [
        ("model=gpt-oss-20b context=8192", True), ("/models/gpt-oss-20b", True), ("LLM（gpt-oss-20b）", True),
        ("model=not-gpt-oss-20b", False), ("gpt-oss-20b-q1", False), ("gpt-oss-20b.1", False), ("gpt-oss-20", False),
    ],
)  # fmt: skip
def test_the_agreed_model_is_met_by_its_whole_name_only(tmp_path, identity, met):
    arm = Oracle(CASES, identity=identity)
    if met:
        assert len(sealed_run(tmp_path, CASES, {"a": arm}, model="gpt-oss-20b").rows) == 4
    else:
        with pytest.raises(SealError, match="「gpt-oss-20b」ではありません"):
            sealed_run(tmp_path, CASES, {"a": arm}, model="gpt-oss-20b")
    assert bool(arm.asked) == met


def plain(text):
    """A function whose code holds a constant, a set and a function of its own, as a notebook would define it."""
    body = f"def arm(question, *, user=''):\n    return (lambda: '{text}' if question not in {{'x', 'y', 'z'}} else '')()\n"
    scope = {}
    exec(body, scope)
    return scope["arm"]


def test_a_plain_function_is_known_by_its_code(tmp_path, go):
    go({"a": plain("はい"), "b": Oracle(CASES), "c": functools.partial(plain("はい"))})
    first, oracle, unknown = identities(tmp_path)
    assert first.startswith("code=") and (oracle, unknown) == ("1", "")
    assert go({"a": plain("はい"), "b": Oracle(CASES), "c": functools.partial(plain("はい"))})
    with pytest.raises(SealError, match="再開できません"):
        go({"a": plain("いいえ"), "b": Oracle(CASES), "c": functools.partial(plain("はい"))})


def test_the_hash_of_a_function_is_the_same_in_every_process(tmp_path):
    code = "from tests.test_evaluate import plain; from kit.evaluation.evaluate import _code; print(_code(plain('a')))"
    seeds = [{**os.environ, "PYTHONHASHSEED": str(seed)} for seed in (1, 2)]
    told = {subprocess.run([sys.executable, "-c", code], env=env, cwd=Path(__file__).parents[1], capture_output=True, check=True).stdout for env in seeds}
    assert len(told) == 1 and told != {b"\n"}


@pytest.mark.parametrize("name", ["prompts_sha256", "prices_sha256"])
def test_prompts_and_prices_other_than_the_sealed_are_refused(tmp_path, monkeypatch, name):
    arms = make_arms()
    with pytest.raises(SealError, match="TAMPERED: プロンプトか価格表") as caught:
        sealed_run(tmp_path / "begin", CASES, arms, **{name: "f" * 64})
    assert len(lines(caught)) == 3 and not arms["candidate"].asked and kinds(tmp_path / "begin") == ["seal"]
    agreed = {name: getattr(evaluating, name)()}
    with pytest.raises(KeyboardInterrupt):
        sealed_run(tmp_path / "resume", CASES, Stopping(3).arms, **agreed)
    monkeypatch.setattr(evaluating, name, lambda: "0" * 64)
    with pytest.raises(SealError, match="TAMPERED: プロンプトか価格表"):
        sealed_run(tmp_path / "resume", CASES, arms, **agreed)
    assert not arms["candidate"].asked


# --- several at once ------------------------------------------------------------------------------------


class Counting(Oracle):
    """Counts how many of its calls were under way at once; the first four wait for each other."""

    def __init__(self, cases):
        super().__init__(cases)
        self.gate, self.lock, self.now, self.most = threading.Barrier(4, timeout=20), threading.Lock(), 0, 0

    def __call__(self, question, *, user=""):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if question in ("Q1", "Q2", "Q3", "Q4"):
            self.gate.wait()
        answer = super().__call__(question, user=user)
        with self.lock:
            self.now -= 1
        return answer


def test_workers_give_the_same_rows(tmp_path):
    cases = make_cases(12, 4)
    criteria = make_criteria(cases)
    found = []
    for workers, arm in ((1, Oracle(cases)), (4, Counting(cases))):
        runs = tmp_path / str(workers)
        sealed = seal(criteria, runs / ledger.NAME)
        evaluation = evaluate({"a": arm}, cases, seal=sealed, run=runs / RUN, workers=workers)
        found.append((rows_sha256(evaluation.rows), len(evaluation.rows)))
    assert found[0] == found[1] == (found[0][0], 16)
    assert arm.most == 4


def test_an_interrupted_crowd_goes_on(tmp_path, go):
    with pytest.raises(KeyboardInterrupt):
        go(Stopping(5).arms, workers=3)
    before = finished(tmp_path)
    arms = make_arms()
    assert rows_sha256(go(arms, workers=3).rows) == unbroken(tmp_path / "other")
    assert sum(len(arm.asked) for arm in arms.values()) == len(PLAN) - len(before)
    assert sorted(finished(tmp_path)) == sorted(PLAN)


def test_more_workers_than_questions(go):
    assert len(go(workers=64).rows) == 8


def test_abstentions_are_kept(go):
    row = go().of("candidate")["u1"]
    assert (row.abstained, row.text, row.cited) == (True, ABSTAINED.text, ())


def test_answers_without_a_time_are_timed():
    def slow(question, *, user=""):
        time.sleep(0.02)
        return Answer("はい")

    assert 0.02 <= ask(slow, CASES[0], "a").seconds < 5
