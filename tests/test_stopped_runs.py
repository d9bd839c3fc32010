"""Runs in processes of their own: Ctrl-C at any moment, no room on the disk, clocks that jump, eight beside one ledger."""

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from datetime import datetime, timedelta

import pytest

from kit.evaluation.decide import decide, read_decision
from kit.evaluation.evaluate import JOURNAL
from kit.trust import ledger
from kit.trust.durable import read
from tests.evaluations import Oracle, make_cases, sealed_run
from tests.stopped_runs import CASES, RUN, forking

SAMPLES = 2 * len(CASES)
NUMBERS = itertools.count()


@pytest.fixture
def scripted_echo(scripted):
    """A server that is right about two questions of three, after a moment."""
    choose = random.Random(1)

    async def echo(request):
        await asyncio.sleep(choose.uniform(0, 0.02))
        number = (await request.json())["messages"][0]["content"][1:]
        return scripted.completion(f"{number}日" if int(number) % 3 else "99年")

    scripted.actions = [echo]
    return scripted


@pytest.fixture
def run(scripted_echo):
    """Run jobs at once, each in a process with a key of its own; returns their results, each with ``key`` and ``asked``."""
    with forking() as fork:

        def start(*jobs):
            keyed = [{"url": scripted_echo.url, "key": f"p{next(NUMBERS)}", **job, "folder": str(job["folder"])} for job in jobs]
            return [result | {"key": job["key"]} for job, result in zip(keyed, fork(*keyed), strict=True)]

        yield start


def asked(server, result):
    """What a process asked, as often as it did."""
    mine = [seen for seen in server.seen if seen["headers"]["Authorization"] == f"Bearer {result['key']}"]
    return Counter((seen["messages"][0]["content"], "candidate" if seen["max_tokens"] == 9 else "baseline") for seen in mine)


def on_disk(folder, name=RUN):
    return [(row["case"].replace("a", "Q"), row["arm"]) for row in read(folder / name / JOURNAL)]


def scores(folder, name=RUN):
    """All that a decision says, but for times and what follows from them."""
    decision = read_decision(folder / name)
    rows = sorted((row["case"], row["arm"], row["text"], row["state"], row["attempts"]) for row in read(folder / name / JOURNAL))
    return rows, decision.outcome, decision.reason, [(k.n, k.point, k.low, k.high) for k in decision.kpis], decision.states


def kinds(folder):
    """What the ledger tells, but for stops."""
    return [entry.kind for entry in ledger.entries(folder / ledger.NAME) if entry.kind != "stopped"]


# --- Ctrl-C ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [pytest.param(5, id="short"), pytest.param(100, id="long", marks=pytest.mark.long)])
def test_ctrl_c_at_any_moment_leaves_a_run_that_goes_on(tmp_path, scripted_echo, run, count):
    choose = random.Random(7)
    begun = time.monotonic()
    assert [result["ended"] for result in run({"folder": tmp_path / "unbroken"})] == ["decided"]
    longest, pressed = time.monotonic() - begun, Counter()
    for number in range(count):
        folder = tmp_path / str(number)
        done = []
        while True:  # pressed at most twice; then it may finish
            before = set(done)
            job = {"folder": folder, "workers": number % 3}  # adaptive, one after another, two
            (result,) = run(job | ({"press": choose.uniform(0, longest)} if pressed[number] < 2 else {}))
            done = on_disk(folder)
            assert before.isdisjoint(asked(scripted_echo, result)), "a finished sample was asked again"
            assert len(done) == len(set(done)) >= result["told"], "what was told is on disk, once"
            if result["ended"] == "decided":
                break
            assert result["ended"] == "interrupted", result
            pressed[number] += 1
        assert scores(folder) == scores(tmp_path / "unbroken"), number
    assert sum(pressed.values()) > count / 2, "it was pressed while something ran"


# --- no room on the disk --------------------------------------------------------------------------------


def filler(folder):
    """Make the ledger the longest file, so that a limit can stop it and nothing else."""
    ledger.append(folder / ledger.NAME, "note", {"text": "あ" * 60_000})


def middle_of(folder, kind):
    """Return the byte in the middle of the ledger's first line of a kind."""
    start = 0
    for line in (folder / ledger.NAME).read_bytes().splitlines(keepends=True):
        if json.loads(line)["kind"] == kind:
            return start + len(line) // 2
        start += len(line)
    raise LookupError(kind)


@pytest.mark.parametrize("full", ["journal", "seal", "run", "rows", "decision", "decision.json"])
def test_a_full_disk_is_told_in_three_lines_and_loses_nothing(tmp_path, scripted_echo, run, full):
    in_ledger, unbroken, folder = full in ("seal", "run", "rows", "decision"), tmp_path / "unbroken", tmp_path / "full"
    for one in (unbroken, folder):
        if in_ledger:
            filler(one)
    assert run({"folder": unbroken, "workers": 1})[0]["ended"] == "decided"
    sizes = {name: (unbroken / RUN / name).stat().st_size for name in (JOURNAL, "decision.json")}
    largest = middle_of(unbroken, full) if in_ledger else {"journal": sizes[JOURNAL] // 2}.get(full, sizes[JOURNAL] + 2000)
    assert in_ledger or sizes["decision.json"] > sizes[JOURNAL] + 4000, "else the limit stops another file"
    (result,) = run({"folder": folder, "workers": 1, "largest": largest})
    assert result["ended"] == "RunError" and len(result["error"].split("\n")) == 3, result
    assert "に書き込めません" in result["error"] and "続きから再開します" in result["error"]
    done = on_disk(folder)
    assert len(done) == len(set(done)) >= result["told"]
    assert (0 < len(done) < SAMPLES) if full == "journal" else len(done) == (0 if full in ("seal", "run") else SAMPLES)
    before = kinds(folder)
    (again,) = run({"folder": folder, "workers": 1})
    assert again["ended"] == "decided"
    assert set(done).isdisjoint(asked(scripted_echo, again)) and asked(scripted_echo, again).total() == SAMPLES - len(done)
    assert kinds(folder)[: len(before)] == before and kinds(folder) == kinds(unbroken)
    assert scores(folder) == scores(unbroken)
    assert not list(folder.rglob("*.tmp"))


# --- clocks ---------------------------------------------------------------------------------------------


class Jumping(datetime):
    """A wall clock that people set forth and back."""

    off = timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.off


@pytest.mark.parametrize("seed", range(3))
def test_a_clock_that_jumps_changes_neither_order_nor_decision_and_the_ledger_says_so(tmp_path, monkeypatch, seed):
    cases, choose = make_cases(40, 10), random.Random(seed)

    class Setting(Oracle):
        """Somebody sets the clock while a question is answered."""

        def __call__(self, question, *, user=""):
            Jumping.off = timedelta(days=choose.choice((-400, 400)), seconds=choose.uniform(0, 9))
            return super().__call__(question, user=user)

    arms = {"baseline": Oracle(cases), "candidate": Oracle(cases, {"Q3": RuntimeError("壊れた")})}
    steady = decide(sealed_run(tmp_path / "steady", cases, arms))
    book = tmp_path / "jumping" / ledger.NAME
    assert not list(ledger.drifts(ledger.entries(tmp_path / "steady" / ledger.NAME)))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + Jumping.off.total_seconds())
    for module in ("kit.trust.ledger.datetime", "kit.trust.seal.datetime"):
        monkeypatch.setattr(module, Jumping)
    setting = Setting(cases, {"Q3": RuntimeError("壊れた")})
    evaluation = sealed_run(tmp_path / "jumping", cases, {"baseline": arms["baseline"], "candidate": setting})
    Jumping.off = -2 * Jumping.off
    decision = decide(evaluation)
    assert [row.case for row in evaluation.rows if row.arm == "candidate"] == [case.id for case in cases]
    assert (decision.outcome, decision.reason, decision.kpis) == (steady.outcome, steady.reason, steady.kpis)
    assert read_decision(evaluation.folder) == decision and decide(evaluation) == decision
    known = ledger.entries(book)
    assert [entry.kind for entry in known] == ["seal", "run", "rows", "decision", "checkpoint"]
    jumped = {entry.kind: jump for entry, jump in ledger.drifts(known)}
    assert set(jumped) == {"rows", "decision"} and all(abs(jump) > 399 * 86_400 for jump in jumped.values())
    assert all(0 <= row.seconds < 60 for row in evaluation.rows)
    monkeypatch.setattr(Jumping, "off", timedelta())


# --- several processes ----------------------------------------------------------------------------------


def test_eight_runs_beside_one_ledger_are_all_decided(tmp_path, scripted_echo, run):
    names = [f"2026112{number}-090000-p" for number in range(8)]
    results = run(*({"folder": tmp_path, "run": name} for name in names))
    assert [result["ended"] for result in results] == ["decided"] * 8
    known = ledger.entries(tmp_path / ledger.NAME)
    assert Counter(entry.kind for entry in known if entry.kind != "checkpoint") == {"seal": 1, "run": 8, "rows": 8, "decision": 8}
    assert known[-1].kind == "checkpoint"
    for kind in ("run", "rows", "decision"):
        assert {entry.content["run"] for entry in known if entry.kind == kind} == set(names)
    told = [scores(tmp_path, name) for name in names]
    assert all(one == told[0] for one in told)
    assert all(asked(scripted_echo, result).total() == SAMPLES for result in results)


def test_the_second_of_two_processes_in_one_run_is_refused_at_once(tmp_path, scripted_echo, run):
    results = run(*({"folder": tmp_path, "workers": 1} for _ in range(2)))
    first, second = sorted(results, key=lambda result: result["ended"] != "decided")
    assert (first["ended"], second["ended"], second["told"]) == ("decided", "RunError", 0)
    assert "書き込み中" in second["error"] and len(second["error"].split("\n")) == 3
    assert asked(scripted_echo, second).total() == 0 and asked(scripted_echo, first).total() == SAMPLES
    assert second["seconds"] < first["seconds"] / 2
    assert kinds(tmp_path) == ["seal", "run", "rows", "decision", "checkpoint"]
