"""Many samples in flight: pace, batches on disk, what a stop, a kill or a swapped model leaves behind."""

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from kit.answering.llm import ClosedBook, LLMReader
from kit.answering.rag import Rag
from kit.errors import DataError, RunError, SealError, StoreError, UnreachableError
from kit.evaluation import flow
from kit.evaluation.evaluate import JOURNAL, evaluate, require_not_void, rows_sha256
from kit.evaluation.flow import Pace
from kit.records import Kpi, Row
from kit.serving import wire
from kit.serving.chat import connect
from kit.trust import ledger
from kit.trust.durable import JsonLines, read
from kit.trust.seal import seal
from tests.evaluations import (
    MACHINES,
    RIGHT,
    Oracle,
    machine_cases,
    make_answer,
    make_cases,
    make_criteria,
    make_store,
    sealed_run,
    wrong_arm,
)

RUN = "20261121-090000-p"
CASES = make_cases(30, 10)


class Waiting(Oracle):
    """An oracle that is asked on a loop; it answers after a while and notes how many were under way at once."""

    def __init__(self, cases, replies=None, wait=0.005, count=None):
        super().__init__(cases, replies)
        self.wait, self.count = wait, Counter() if count is None else count

    async def ask(self, question, *, user=""):
        self.count["now"] += 1
        self.count["most"] = max(self.count["most"], self.count["now"])
        try:
            await asyncio.sleep(self.wait)
            return self(question, user=user)
        finally:
            self.count["now"] -= 1


def make_arms(cases=CASES, count=None, wait=0.005, **replies):
    return {"baseline": Waiting(cases, None, wait, count), "candidate": Waiting(cases, replies, wait, count)}


@pytest.fixture
def sealed(tmp_path):
    return seal(make_criteria(CASES), tmp_path / ledger.NAME)


@pytest.fixture
def go(tmp_path, sealed):
    """Start or resume the one run of a test."""

    def run(arms=None, **how):
        return evaluate(arms or make_arms(), CASES, seal=sealed, run=tmp_path / RUN, **how)

    return run


def journaled(folder):
    return [(row["case"], row["arm"]) for row in read(folder / RUN / JOURNAL)]


def kinds(folder):
    return [entry.kind for entry in ledger.entries(folder / ledger.NAME)]


def lines(error):
    return str(error.value).split("\n")


# --- a run ----------------------------------------------------------------------------------------------


def test_many_in_flight_give_the_rows_that_one_after_the_other_gives(tmp_path, go):
    count = Counter()
    evaluation = go(make_arms(count=count))
    assert rows_sha256(evaluation.rows) == rows_sha256(sealed_run(tmp_path / "other", CASES, one_by_one()).rows)
    assert [Row.from_json(record) for record in read(tmp_path / RUN / JOURNAL)] == list(evaluation.rows)
    assert kinds(tmp_path) == ["seal", "run", "rows"]
    assert 2 <= count["most"] <= flow.FIRST * 2


def one_by_one():
    return {"baseline": Oracle(CASES), "candidate": Oracle(CASES)}


def test_never_more_than_asked_for_and_both_arms_of_a_question_together(go):
    count = Counter()
    rows = go(make_arms(count=count), workers=6).rows
    assert count["most"] == 6
    places = {(row.case, row.arm): number for number, row in enumerate(rows)}
    assert max(abs(places[case.id, "baseline"] - places[case.id, "candidate"]) for case in CASES) <= 12


def test_an_arm_that_cannot_wait_is_called_beside_the_loop_one_call_at_a_time(go):
    threads = set()

    class Plain(Oracle):
        def __call__(self, question, *, user=""):
            threads.add(threading.current_thread().name)
            return super().__call__(question, user=user)

    arms = {"baseline": Plain(CASES), "candidate": Waiting(CASES)}
    rows = go(arms).rows
    assert len(rows) == 80 and len(threads) == 1 and "search" in threads.pop()
    assert Counter(row.state for row in rows) == {"answered": 80}


def test_a_loop_that_runs_already_does_not_matter(go):
    async def cell():
        return go()

    assert len(asyncio.run(cell()).rows) == 80


def test_the_same_system_twice_gives_the_noise_floor(tmp_path, go):
    """A/A: two arms with one system differ by nothing but chance."""
    arm = Waiting(CASES)
    rows = go({"baseline": arm, "again": arm})
    assert {row.text for row in rows.of("again").values()} == {row.text for row in rows.of("baseline").values()}
    assert Counter(arm.asked) == {case.question: 2 for case in CASES}


def test_a_row_counts_only_when_it_is_on_disk_and_they_are_written_together(tmp_path, go, monkeypatch):
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (real(fd), synced.append(len(read(tmp_path / RUN / JOURNAL)))))
    seen = []
    go(make_arms(wait=0), progress=lambda *counts: seen.append((counts[0], synced[-1])))
    assert [finished for finished, _ in seen] == list(range(1, 81))
    assert all(finished <= on_disk for finished, on_disk in seen)
    writes = len(set(synced)) - 1
    assert 2 <= writes <= 8, "at most 50 rows at once, and few single ones"


def test_a_lone_row_does_not_wait_for_others_for_long(tmp_path, go):
    slow = make_arms(Q1=make_answer("1日"), wait=0.7)
    at = []
    go(slow, workers=40, progress=lambda *_: at.append(time.monotonic()))
    assert at[-1] - at[0] < 1.6


def test_a_slow_disk_holds_up_the_questions(tmp_path, monkeypatch):
    cases = make_cases(3000)
    arm, ahead = Waiting(cases, wait=0), []
    append = JsonLines.append

    def slow(self, *records):
        append(self, *records)
        if len(records) > 1:
            time.sleep(0.02)
            ahead.append(len(arm.asked))

    monkeypatch.setattr(JsonLines, "append", slow)
    assert len(sealed_run(tmp_path, cases, {"a": arm}).rows) == 3000
    assert ahead[0] <= flow._UNWRITTEN + flow.MOST + flow.BATCH


# --- modes ----------------------------------------------------------------------------------------------

P95 = Kpi("latency_p95", "応答時間", 3.0, "理由")


@pytest.mark.parametrize("kpi", [P95, Kpi("latency_p95", "応答時間", 1.0, "理由", "guardrail"), Kpi("yen_per_right", "費用", 3.0, "理由")])
def test_times_do_not_decide_where_samples_wait_for_one_another(tmp_path, kpi):
    with pytest.raises(DataError, match=rf"「{kpi.label}」.*同時に実行") as caught:
        sealed_run(tmp_path, CASES, make_arms(), RIGHT, kpi)
    assert len(lines(caught)) == 3 and "workers=1" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == [ledger.NAME], "not one question was asked"


@pytest.mark.parametrize(("arms", "workers", "mode"), [
    (make_arms, 1, "latency"), (one_by_one, 0, "latency"), (make_arms, 0, "throughput"), (one_by_one, 2, "throughput"),
])  # fmt: skip
def test_the_ledger_tells_the_mode(tmp_path, arms, workers, mode):
    info = Kpi("latency_p95", "応答時間", 3.0, "理由", "info" if mode == "throughput" else "gate")
    sealed = seal(make_criteria(CASES, RIGHT, info), tmp_path / ledger.NAME)
    evaluate(arms(), CASES, seal=sealed, run=tmp_path / RUN, workers=workers, about={"documents": 3})
    assert ledger.entries(tmp_path / ledger.NAME)[1].content["about"] == {"documents": 3, "mode": mode}


def test_one_after_the_other_by_a_loop_where_an_arm_knows_no_other_way(go):
    class OnlyWaiting:
        name, identity, most, now = "待つだけ", "", 0, 0

        async def ask(self, question, *, user=""):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            return "はい"

    arm = OnlyWaiting()
    assert len(go({"a": arm}, workers=1).rows) == 40 and arm.most == 1


def test_a_run_does_not_go_on_in_another_mode(tmp_path, go):
    with pytest.raises(UnreachableError):
        go(make_arms(Q9=GONE))
    before = journaled(tmp_path)
    with pytest.raises(SealError, match="続きから再開できません") as caught:
        go(workers=1)
    assert len(lines(caught)) == 3 and journaled(tmp_path) == before


# --- faults ---------------------------------------------------------------------------------------------

GONE = UnreachableError("届きません。", "止まっています。", "?")


@pytest.mark.parametrize(
    ("reply", "state"),
    [(RuntimeError("壊れた"), "model_error"), (StoreError("開けない", "?", "?"), "infrastructure_error"), (None, "wrong_format")],
)
def test_a_fault_of_an_arm_is_a_finished_sample(go, reply, state):
    evaluation = go(make_arms(Q2=reply))
    assert len(evaluation.rows) == 80 and evaluation.of("candidate")["a2"].state == state
    assert Counter(row.state for row in evaluation.rows) == {"answered": 79, state: 1}


def test_a_lost_server_stops_the_run_until_it_is_back(tmp_path, go):
    arms = make_arms(Q9=GONE)
    with pytest.raises(UnreachableError, match="評価を途中で止めました") as caught:
        go(arms)
    assert len(lines(caught)) == 3
    done = journaled(tmp_path)
    begun = sum(len(arm.asked) for arm in arms.values())
    assert begun == len(done) + 1, "what was under way was finished, nothing more was begun"
    again = make_arms()
    assert rows_sha256(go(again).rows) == rows_sha256(sealed_run(tmp_path / "other", CASES, one_by_one()).rows)
    assert sum(len(arm.asked) for arm in again.values()) == 80 - len(done)


def test_ctrl_c_leaves_what_is_finished_and_a_run_that_goes_on(tmp_path, go):
    arms = make_arms(wait=0.01)

    def press(finished, planned):
        if finished == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(arms, progress=press)
    done = journaled(tmp_path)
    assert 20 <= len(done) < 80 and kinds(tmp_path) == ["seal", "run", "stopped"]
    assert not [thread for thread in threading.enumerate() if thread.name == "kit-flow"]
    again = make_arms()
    assert rows_sha256(go(again).rows) == rows_sha256(sealed_run(tmp_path / "other", CASES, one_by_one()).rows)
    assert sum(len(arm.asked) for arm in again.values()) == 80 - len(done)


def test_ctrl_c_while_nothing_comes_does_not_wait_for_the_model(tmp_path, go):
    arms = make_arms(wait=30)
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
    begun = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        go(arms)
    assert time.monotonic() - begun < 10 and journaled(tmp_path) == []


def test_a_full_disk_stops_the_run(tmp_path, go, monkeypatch):
    append = JsonLines.append

    def full(self, *records):
        if self._path.name == JOURNAL and self._end:
            raise RunError("書けません。", "?", "?")
        append(self, *records)

    monkeypatch.setattr(JsonLines, "append", full)
    with pytest.raises(RunError, match="書けません"):
        go(make_arms(wait=0.02))
    monkeypatch.undo()
    done, again = journaled(tmp_path), make_arms()
    go(again)
    assert done and sum(len(arm.asked) for arm in again.values()) == 80 - len(done)


# --- with a server --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(wire, "_BACKOFF_S", 0.01)


def replying(server, text="はい", model="tiny", after=0.0):
    async def act(request):
        await asyncio.sleep(after)
        return server.completion(text, model=model)

    return act


def test_a_chat_without_documents_is_an_arm(tmp_path, scripted):
    scripted.actions = [replying(scripted, "1日", after=0.01)]
    with connect(scripted.url) as chat:
        rows = sealed_run(tmp_path, CASES, {"a": ClosedBook(chat, max_tokens=7)}).rows
        assert {(row.text, row.state, row.prompt_tokens) for row in rows} == {("1日", "answered", 12)}
        assert scripted.most_at_once > 2 and {seen["max_tokens"] for seen in scripted.seen} == {7}
        one = sealed_run(tmp_path / "one", CASES, {"a": ClosedBook(chat)}, RIGHT, P95, workers=1)
        assert len(one.rows) == 40


def sealed_one(tmp_path, arms, **how):
    sealed = seal(make_criteria(CASES), tmp_path / ledger.NAME)
    return evaluate(arms, CASES, seal=sealed, run=tmp_path / RUN, **how)


def test_tries_are_counted_and_the_first_is_remembered(tmp_path, scripted):
    scripted.actions = [503, 429, *["はい"] * 5, 503, 503, 503, "はい"]
    with connect(scripted.url) as chat:
        rows = sealed_one(tmp_path, {"a": ClosedBook(chat)}, workers=1).rows
    told = [(row.attempts, row.first_state, row.state, row.first) for row in rows]
    assert told[0] == (3, "infrastructure_error", "answered", "infrastructure_error")
    assert told[5] == (3, "infrastructure_error", "infrastructure_error", "infrastructure_error")
    assert {t for n, t in enumerate(told) if n not in (0, 5)} == {(1, "", "answered", "answered")}
    assert len(scripted.seen) == sum(row.attempts for row in rows)


def test_a_refusal_after_a_trouble_is_told_apart(tmp_path, scripted):
    scripted.actions = [503, 400, "はい"]
    with connect(scripted.url) as chat:
        row = sealed_one(tmp_path, {"a": ClosedBook(chat)}, workers=1).rows[0]
    assert (row.attempts, row.first, row.state) == (2, "infrastructure_error", "model_error")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_swapped_model_voids_the_run(tmp_path, scripted, workers):
    scripted.actions = [*[replying(scripted, after=0.01)] * 20, replying(scripted, model="other")]
    with connect(scripted.url) as chat:
        with pytest.raises(RunError, match=r"「other」が回答しました。この実行.*は無効です") as caught:
            sealed_one(tmp_path, {"a": ClosedBook(chat)}, workers=workers)
        assert len(lines(caught)) == 3 and len(journaled(tmp_path)) == 20
        assert {row["state"] for row in read(tmp_path / RUN / JOURNAL)} == {"answered"}, "no sample was lost to it"
        assert kinds(tmp_path) == ["seal", "run", "void"]
        scripted.actions = ["はい"]
        with pytest.raises(SealError, match="無効です。続けることも、判定することも") as caught:
            sealed_one(tmp_path, {"a": ClosedBook(chat)}, workers=workers)
    assert len(lines(caught)) == 3 and "other" in caught.value.cause
    with pytest.raises(SealError):
        require_not_void(tmp_path / RUN)
    require_not_void(tmp_path / "another")


def test_an_llm_reader_waits_on_the_loop_and_answers_as_when_called(tmp_path, scripted):
    async def answer(request):
        asked = (await request.json())["messages"][0]["content"]
        await asyncio.sleep(0.2)
        number, quote = next((n, m) for n, m in enumerate(MACHINES, 1) if f"{m}の点検は何日" in asked)
        sources = [{"number": 1, "quote": f"{quote}の点検は{number}日ごとに行う"}]
        return scripted.completion(json.dumps({"found": True, "answer": f"{number}日", "sources": sources}))

    scripted.actions = [answer]
    cases, store = machine_cases(0), make_store(tmp_path / "store")
    with connect(scripted.url) as chat:
        rag = Rag(store, LLMReader(chat))
        many = sealed_run(tmp_path / "many", cases, {"a": rag})
        assert scripted.most_at_once > 1
        one = sealed_run(tmp_path / "one", cases, {"a": rag}, RIGHT, P95, workers=1)
    assert ledger.entries(tmp_path / "many" / ledger.NAME)[1].content["about"]["mode"] == "throughput"

    def said(evaluation):
        return {row.case: (row.shown, row.cited, row.retrieved, row.confidence, row.state) for row in evaluation.rows}

    assert said(many) == said(one) and {row.state for row in many.rows} == {"answered"}
    assert all(row.cited for row in many.rows)


def test_rag_with_a_reader_that_takes_sentences_is_called(tmp_path):
    assert not flow.asynchronous(Rag(None)) and flow.asynchronous(Waiting(CASES))


# --- pace -----------------------------------------------------------------------------------------------


def test_doubled_until_requests_wait_then_a_fifth_less_an_episode():
    pace = Pace()
    for queue in ((8, 0), (16, 0), (32, 0)):
        pace.turn(50, 100.0, 0.1, False, queue)
    assert pace.limit == 64
    pace.turn(50, 100.0, 0.1, False, (40, 24))
    assert pace.limit == 51
    pace.turn(10, 100.0, 0.1, False, (40, 11))
    assert pace.limit == 51, "what was in flight at the last cut has not come back"
    pace.turn(60, 100.0, 0.1, False, (48, 3))
    assert pace.limit == 48, "never fewer than the server works on"
    pace.turn(60, 100.0, 0.1, False, (48, 1))
    assert pace.limit == 51, "5 % more: one that waits for an instant is no queue"


def test_never_more_than_the_most_nor_less_than_one():
    pace = Pace()
    for _ in range(20):
        pace.turn(300, 100.0, 0.1, False, (256, 0))
    assert pace.limit == flow.MOST
    for _ in range(40):
        pace.turn(300, 100.0, 0.1, True, (256, 0))
    assert pace.limit == 1


def test_without_a_queue_to_look_at_the_gain_decides():
    pace = Pace()
    for rate in (100, 190, 350):
        pace.turn(50, rate, 0.1, False)
    assert pace.limit == 64
    pace.turn(64, 351, 0.2, False)
    assert pace.limit == 68, "doubling gained nothing"
    pace.turn(68, 351, 0.5, False)
    assert pace.limit == 54, "samples take more than twice as long"


@pytest.mark.parametrize("queue", [None, (8, 0)])
def test_a_refusal_slows_down(queue):
    pace = Pace()
    pace.turn(8, 100, 0.1, True, queue)
    assert pace.limit == 6
    pace.turn(8, 200, 0.1, False, queue)
    assert pace.limit == 7, "no more doubling"


def test_the_queue_is_read_where_the_server_tells_it(scripted):
    told = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 7.0
vllm:num_requests_running{engine="1",model_name="tiny"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
"""

    async def look():
        async with chat.here():
            return await chat.queue()

    with connect(scripted.url) as chat:
        assert asyncio.run(look()) is None
        scripted.metrics = told
        assert asyncio.run(look()) == (8, 3)


class Crowded:
    """A server of eight places: who finds none waits, as ``/metrics`` tells."""

    def __init__(self, server):
        self.places, self.now, self.server, self.most = asyncio.Semaphore(8), 0, server, 0

    async def __call__(self, request):
        self.now += 1
        self.most = max(self.most, self.now)
        self.server.metrics = (
            f'vllm:num_requests_running{{e="0"}} {min(8, self.now)}\nvllm:num_requests_waiting{{e="0"}} {max(0, self.now - 8)}\n'
        )
        async with self.places:
            await asyncio.sleep(0.02)
        self.now -= 1
        return self.server.completion("はい")


def test_a_full_server_is_not_drowned(tmp_path, scripted, monkeypatch):
    monkeypatch.setattr(flow, "_QUEUE_S", 0.05)
    crowd, cases = Crowded(scripted), make_cases(600)
    scripted.actions, scripted.metrics = [crowd], "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
    with connect(scripted.url) as chat:
        begun = time.monotonic()
        sealed_run(tmp_path, cases, {"a": ClosedBook(chat)})
        seconds = time.monotonic() - begun
    assert crowd.most <= 32
    assert seconds < 3 * 600 / 8 * 0.02 + 2, "nor left idle"


# --- progress -------------------------------------------------------------------------------------------


PEOPLE = Kpi("right_by_people", "人の採点", 0.7, "理由")


class Board:
    """A progress bar that takes notes."""

    def __init__(self):
        self.told = []

    def __call__(self, finished, planned):
        self.told.append((finished, planned))

    def note(self, text):
        self.told.append(text)


def test_the_interval_so_far_is_shown_and_says_what_it_is_not(tmp_path, go, monkeypatch):
    monkeypatch.setattr("kit.evaluation.evaluate._NOTED_S", 0.0)
    board = Board()
    sealed_run(tmp_path / "o", CASES, {"baseline": wrong_arm(CASES), "candidate": Oracle(CASES, {"Q1": None})}, progress=board)
    notes = [text for text in board.told if isinstance(text, str)]
    assert len(notes) == 80 and notes[0] == "途中経過（判定には使いません） 正しさ －［0.0%～100.0%］"
    assert notes[-1] == "途中経過（判定には使いません） 正しさ 97.5%［88.7%～99.9%］"  # 39 of 40, Clopper-Pearson
    assert [told for told in board.told if told == (80, 80)] == [(80, 80)] == board.told[-1:]


@pytest.mark.parametrize(("kpis", "told"), [((PEOPLE, RIGHT), "正しさ 100.0%"), ((PEOPLE,), "")])
def test_what_people_score_later_is_not_told_of(tmp_path, monkeypatch, kpis, told):
    monkeypatch.setattr("kit.evaluation.evaluate._NOTED_S", 0.0)
    board = Board()
    sealed_run(tmp_path, CASES, {"candidate": Oracle(CASES)}, *kpis, progress=board)
    assert told in str(board.told[-2]) and any(isinstance(text, str) for text in board.told) == bool(told)


def test_the_interval_is_told_once_a_second_and_goes_on_where_the_run_stopped(tmp_path, go):
    with pytest.raises(UnreachableError):
        go(make_arms(Q9=GONE))
    board = Board()
    go(progress=board)
    assert [text for text in board.told if isinstance(text, str)] == ["途中経過（判定には使いません） 正しさ 100.0%［92.8%～100.0%］"]


# --- kill -9, and memory --------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from pathlib import Path
from kit.answering.llm import ClosedBook
from kit.serving.chat import connect
from kit.evaluation.evaluate import evaluate
from kit.evaluation.gate import score
from kit.trust import ledger
from kit.trust.seal import seal
from tests.evaluations import make_cases, make_criteria

def run(folder, url, at):
    cases = make_cases(100)
    def progress(finished, planned):
        if finished == at:
            os.kill(os.getpid(), signal.SIGKILL)
    with connect(url) as chat:
        sealed = seal(make_criteria(cases), folder / ledger.NAME)
        arms = {"baseline": ClosedBook(chat), "candidate": ClosedBook(chat, max_tokens=9)}
        evaluate(arms, cases, seal=sealed, run=folder / "r", progress=progress)

for line in sys.stdin:  # a process of its own for each run, forked before there is any thread
    folder, url, at, key = line.split()
    if not (child := os.fork()):
        os.environ["KIT_LLM_API_KEY"] = key
        run(Path(folder), url, int(at))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.parametrize(
    "points", [pytest.param(range(7, 201, 19), id="short"), pytest.param(range(1, 201), id="all", marks=pytest.mark.long)]
)
def test_kill_9_after_any_sample_repeats_none_and_changes_no_score(tmp_path, scripted, points):
    random.seed(1)

    async def echo(request):
        await asyncio.sleep(random.uniform(0, 0.03))
        question = (await request.json())["messages"][0]["content"]
        return scripted.completion(f"{question[1:]}日" if int(question[1:]) % 3 else "99年")

    scripted.actions = [echo]
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_KILLED)], cwd=Path(__file__).parents[1], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip

    keys = itertools.count()

    def run(folder, at):
        key = f"p{next(keys)}"
        child.stdin.write(f"{folder} {scripted.url} {at} {key}\n")
        return int(child.stdout.readline()), key, read(folder / "r" / JOURNAL)

    def asked(key):
        """What a process asked, by its key: the server may read the last words of a killed one after the next has begun."""
        mine = [seen for seen in scripted.seen if seen["headers"]["Authorization"] == f"Bearer {key}"]
        return Counter((seen["messages"][0]["content"], seen["max_tokens"]) for seen in mine)

    def scores(rows):
        return sorted((row["case"], row["arm"], row["text"], row["state"]) for row in rows)

    with child:
        status, key, unbroken = run(tmp_path / "unbroken", 0)
        assert status == 0 and len(unbroken) == 200 and set(asked(key).values()) == {1}
        for at in points:
            status, killed, before = run(tmp_path / str(at), at)
            assert status == -signal.SIGKILL and len(before) >= at
            status, key, after = run(tmp_path / str(at), 0)
            assert status == 0 and scores(after) == scores(unbroken), at
            first, second = asked(killed), asked(key)
            assert after[: len(before)] == before and second.total() == 200 - len(before), at
            finished = {(row["case"].replace("a", "Q"), 9 if row["arm"] == "candidate" else 512) for row in before}
            assert finished.isdisjoint(second), at
            assert len(before) <= first.total() <= len(before) + flow.MOST + flow._UNWRITTEN, at
            assert max(first.values()) == max(second.values(), default=1) == 1, "each asked once, and once more if unfinished"
        child.stdin.close()


_MANY = """
import sys, tempfile
from pathlib import Path
from tests.evaluations import make_cases, sealed_run

class Instant:
    name, identity = "即答", "1"
    async def ask(self, question, *, user=""):
        return question + "です。"

number = int(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    evaluation = sealed_run(Path(folder), make_cases(number), {"a": Instant(), "b": Instant()})
    assert len(evaluation.rows) == 2 * number
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.parametrize(
    ("number", "most_mb"), [(4_000, 200), pytest.param(100_000, 1000, marks=pytest.mark.long)]
)
def test_memory_stays_bounded(number, most_mb):
    command = [sys.executable, "-c", _MANY, str(number)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True)
    assert int(done.stdout) < most_mb
