"""Faults of a model server during an evaluation, against an oracle that knows nothing of the kit's code."""

import asyncio
import json
import socket
import struct
from collections import Counter
from itertools import count, product
from weakref import WeakKeyDictionary

import pytest
from aiohttp import web
from scipy.stats import beta

import kit
from kit.errors import RunError, SealError
from kit.records import Kpi
from kit.serving import wire
from kit.trust import ledger
from kit.trust.seal import seal
from tests.evaluations import MACHINES, STRANGERS, machine_cases, make_criteria, make_store, wrong_arm

RUN = "20261121-090000-p"
CASES = machine_cases()
KPIS = (Kpi("right", "正しさ", 0.86, "理由"), Kpi("error_rate", "失敗", 0.1, "理由", "info"))
TIMEOUT_S, SLOW_S = 1.0, 0.25

# --- the server -----------------------------------------------------------------------------------------


def reply_text(number):
    """What a right model says to question ``number``."""
    if number >= len(MACHINES):
        return json.dumps({"found": False, "answer": "", "sources": []})
    quote = f"{MACHINES[number]}の点検は{number + 1}日ごとに行う"
    return json.dumps({"found": True, "answer": f"{number + 1}日", "sources": [{"number": 1, "quote": quote}]})


_IDS = count()
LATE = WeakKeyDictionary()
"""Connection → what will be sent on it unasked."""


def body(text, finish="stop", model="tiny"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    return {"id": f"chatcmpl-{next(_IDS)}", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def http(content):
    return web.Response(body=content, content_type="application/json")


def sends(made):
    """A fault that sends what ``made`` makes of the right text."""

    async def act(request, text):
        content = made(text)
        return http(content if isinstance(content, bytes) else json.dumps(content).encode())

    return act


def refuses(status):
    async def act(request, text):
        return web.json_response({"error": {"message": "scripted"}}, status=status)

    return act


async def answers_late(request, text, after=SLOW_S):
    await asyncio.sleep(after)
    return http(json.dumps(body(text)).encode())


async def never_answers(request, text):
    return await answers_late(request, text, 60)


async def resets(request, text):
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


async def answers_twice(request, text):
    """The same answer once more, late: on the same connection, when the next question is under way on it."""
    content = json.dumps(body(text)).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    LATE[request.transport] = head.encode() + content
    return http(content)


async def streams(request, text, *, cut=False):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for piece, finish in ((text[:5], None), (text[5:], "stop")):
        event = {"model": "tiny", "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": finish}]}
        await response.write(f"data: {json.dumps(event)}\n\n".encode())
        if cut:
            request.transport.close()
            return response
    await response.write(b"data: [DONE]\n\n")
    return response


async def cuts_the_stream(request, text):
    return await streams(request, text, cut=True)


FAULTS = {
    "429": refuses(429), "500": refuses(500), "503": refuses(503), "timeout": never_answers, "slow": answers_late,
    "reset": resets, "partial JSON": sends(lambda text: json.dumps(body(text)).encode()[:-40]),
    "bad UTF-8": sends(lambda text: json.dumps(body("@")).encode().replace(b"@", b"\xff\xfe\xc3(")),
    "empty choices": sends(lambda text: {**body(text), "choices": []}), "null content": sends(lambda text: body(None)),
    "length": sends(lambda text: body(text[:20], "length")), "cut stream": cuts_the_stream,
    "duplicate": answers_twice, "wrong model": sends(lambda text: body(text, model="別のモデル")),
}  # fmt: skip
PLACES = {"first": {0}, "middle": {15}, "last": {29}, "every 7th": {6, 13, 20, 27}}
POLICIES = ("no retry", "retried", "lasting and resumed")


class Faulty:
    """Answers rightly, but for some questions: there the first try, or every one, meets a fault.

    Attributes:
        tries: How often each question was asked, by number.
        mistaken: Questions that another one's answer came to, late and for the second time.
    """

    def __init__(self, fault, hit, lasting):
        self.fault, self.hit, self.lasting, self.tries, self.mistaken = fault, hit, lasting, Counter(), set()

    async def __call__(self, request):
        asked = await request.json()
        names = (*MACHINES, *STRANGERS)
        # The passages that search found name machines, too; only the question asks.
        number = next(n for n, name in enumerate(names) if f"{name}の点検は何日ごとですか" in asked["messages"][0]["content"])
        self.tries[number] += 1
        if late := LATE.pop(request.transport, b""):
            self.mistaken.add(number)
            request.transport.write(late)
            await asyncio.sleep(0.2)
        if number in self.hit and (self.lasting or self.tries[number] == 1):
            return await self.fault(request, reply_text(number))
        if asked.get("stream"):
            return await streams(request, reply_text(number))
        return http(json.dumps(body(reply_text(number))).encode())


class Streamed:
    """A connection that asks for streams."""

    def __init__(self, chat):
        self._chat, self.model, self.url, self.identity = chat, chat.model, chat.url, chat.identity

    def run(self, work):
        return self._chat.run(work)

    async def ask_async(self, prompt, **options):
        return await self._chat.ask_async(prompt, show=len, **options)


# --- the oracle -----------------------------------------------------------------------------------------

PASSING = {"429", "500", "503", "reset", "partial JSON", "bad UTF-8", "empty choices"}
ENDS = {"timeout": "timeout", "null content": "wrong_format", "length": "model_error", "cut stream": "infrastructure_error"}
"""What no further try is made of; all else that does not pass is an answer like any other."""


def expected_sample(fault, policy):
    """Return (end state, attempts, first state) of a question that a fault was met at."""
    if fault not in PASSING:
        return ENDS.get(fault, "answered"), 1, ""
    return {
        "no retry": ("infrastructure_error", 1, ""),
        "retried": ("answered", 2, "infrastructure_error"),
        "lasting and resumed": ("infrastructure_error", 3, "infrastructure_error"),
    }[policy]


def expected_decision(states, firsts):
    """Return (outcome, right, its lower bound, error rate) by the states of 30 questions, all else being right."""
    right = states.count("answered")
    low = beta.ppf(0.05, right, 30 - right + 1)  # Clopper-Pearson
    unrun = states.count("infrastructure_error") / 30
    outcome = "GO" if low >= 0.86 and unrun <= 0.05 else "EXTEND"
    return outcome, right / 30, low, sum(first != "answered" for first in firsts) / 30


# --- 168 runs -------------------------------------------------------------------------------------------


def every_run():
    """All runs; in short form two of each fault, which together meet every place and every policy."""
    for number, fault in enumerate(FAULTS):
        for combination, (place, policy) in enumerate(product(PLACES, POLICIES)):
            marks = () if combination % 6 == number % 6 else pytest.mark.slow
            yield pytest.param(fault, place, policy, id=f"{fault}-{place}-{policy}", marks=marks)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(wire, "_BACKOFF_S", 0.01)


class Pressed:
    """Ctrl-C, once so many samples are on disk."""

    def __init__(self, at):
        self.at = at

    def __call__(self, finished, planned):
        if finished == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("fault", "place", "policy"), [*every_run()])
def test_a_run_with_faults_ends_as_the_oracle_says(tmp_path, scripted, store, monkeypatch, fault, place, policy):
    hit, lasting = PLACES[place], policy == "lasting and resumed"
    server = Faulty(FAULTS[fault], hit, lasting)
    scripted.actions = [server]
    if policy == "no retry":
        monkeypatch.setattr(wire, "RETRIES", 0)
    sealed = seal(make_criteria(CASES, *KPIS), tmp_path / ledger.NAME)

    def go(**how):
        workers = 0 if policy == "retried" else 1  # on the loop; one after another
        with kit.connect(scripted.url, timeout_s=TIMEOUT_S) as chat:
            reader = kit.LLMReader(Streamed(chat) if fault == "cut stream" else chat)
            arms = {"baseline": wrong_arm(CASES), "candidate": kit.Rag(store, reader)}
            return kit.evaluate(arms, CASES, seal=sealed, run=tmp_path / RUN, workers=workers, **how)

    if fault == "wrong model":
        with pytest.raises(RunError, match="無効です"):
            go()
        with pytest.raises(SealError, match="無効です"):
            go()
        assert [entry.kind for entry in ledger.entries(tmp_path / ledger.NAME)] == ["seal", "run", "void"]
        assert not (tmp_path / RUN / "decision.json").exists() and max(server.tries.values()) == 1
        return
    if lasting:
        with pytest.raises(KeyboardInterrupt):
            go(progress=Pressed(2 * min(hit) + 2))  # both arms' samples of the first question that was hit are on disk
    evaluation = go()
    decision = kit.decide(evaluation)

    at_hit = expected_sample(fault, policy)
    samples = [at_hit if number in hit else ("answered", 1, "") for number in range(30)]
    if fault == "duplicate":  # the next question on the connection is asked again, where that is allowed
        after = {number + 1 for number in hit if number < 29 and not (lasting and number == min(hit))}
        assert len(server.mistaken) == len(after) if policy == "retried" else server.mistaken == after
        for number in server.mistaken:
            samples[number] = expected_sample("reset", "no retry" if policy == "no retry" else "retried")
    rows = evaluation.of("candidate")
    assert len(evaluation.rows) == 60
    assert [(rows[c.id].state, rows[c.id].attempts, rows[c.id].first_state) for c in CASES] == samples
    assert [server.tries[number] for number in range(30)] == [attempts for _, attempts, _ in samples]
    outcome, right, low, errors = expected_decision([s for s, _, _ in samples], [first or s for s, _, first in samples])
    judged, failed = decision.kpis
    assert (decision.outcome, judged.n, judged.point, failed.point) == (outcome, 30, right, errors)
    assert judged.low == pytest.approx(low)
    assert decision.states["candidate"] == Counter(state for state, _, _ in samples)
    assert kit.read_decision(evaluation.folder) == decision
    assert all(row.seconds >= SLOW_S for number in hit if fault == "slow" for row in [rows[CASES[number].id]])
