"""What the harness itself costs: samples per second against a server that answers at once, beside other clients.

    PYTHONPATH=. .venv/bin/python -m tests.bench.harness [--number 4000] [--rounds 5] [--concurrency 64] [--json]
    PYTHONPATH=. .venv/bin/python -m tests.bench.harness --cases 100000      # with the peak memory of so many questions
    PYTHONPATH=. .venv/bin/python -m tests.bench.harness --real [URL]        # against a vLLM server and its own benchmark

Ours is ``kit.evaluate`` as it stands: one arm, journal with fsync, ledger. The others ask the same and keep nothing, but
for inspect_ai, which writes its log: a bare aiohttp loop, the openai client, inspect_ai without display and without
realtime log, all with the same number in flight and from an environment of their own that is made here (``--peers``).
Each side is a process of its own that is timed from its first request to its last (ours to the ledger's entry), one
after the other in rounds that begin with another side each time. ``ratio`` = the median over the rounds of ours by theirs,
``cpu_ratio`` the same of the processor's time for a sample, which other people's load on the machine disturbs least.

The server is a process of its own and parses next to nothing, so that on two cores the client is what is measured.
With --real both sides write the same number of tokens for the same kind of prompts; --real without a URL serves the
tiny random-weight model here.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from tests.bench.instant import instant

PINS = ("aiohttp==3.14.5", "openai==3.54.0", "inspect_ai==0.3.285")
PEERS = ("aiohttp", "openai", "inspect_ai")
SLOW = {"openai": 4, "inspect_ai": 16}
"""A slow side asks only this part of the questions."""
QUESTION = "出張の日当はいくらですか（{}）"

_AIOHTTP = """
async def run(url, questions, at_once):
    import aiohttp
    todo = iter(questions)
    async def lane(session):
        for question in todo:
            body = {"model": "tiny", "messages": [{"role": "user", "content": question}], "max_tokens": 512}
            async with session.post(url + "/chat/completions", json=body) as response:
                (await response.json())["choices"][0]["message"]["content"]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(lane(session) for _ in range(at_once)))
"""
_OPENAI = """
async def run(url, questions, at_once):
    import openai
    todo = iter(questions)
    async def lane(client):
        for question in todo:
            messages = [{"role": "user", "content": question}]
            reply = await client.chat.completions.create(model="tiny", messages=messages, max_tokens=512)
            reply.choices[0].message.content
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        await asyncio.gather(*(lane(client) for _ in range(at_once)))
"""
_INSPECT = """
def prepare(url, questions, at_once):
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import get_model
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate
    import tempfile
    model = get_model("openai-api/kit/tiny", base_url=url, api_key="none")
    task = Task(dataset=[Sample(input=q, target="yes") for q in questions], solver=generate(), scorer=includes())
    folder = tempfile.mkdtemp()
    def run():
        (log,) = eval(
            task, model=model, display="none", log_realtime=False, log_dir=folder, max_connections=at_once,
            max_samples=at_once, max_tokens=512, log_level="error",
        )
        assert log.status == "success" and log.results.completed_samples == len(questions), log.error
    return run
"""
_PEER = """
import asyncio, json, sys, time
{code}
url, number, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
questions = [{question!r}.format(n) for n in range(number)]
if "prepare" in globals():
    work = prepare(url, questions, at_once)
else:
    import {name}  # outside the clock
    work = lambda: asyncio.run(run(url, questions, at_once))
begun, cpu = time.perf_counter(), time.process_time()
work()
cpu = (time.process_time() - cpu) / number * 1000
print(json.dumps({{"samples_per_s": number / (time.perf_counter() - begun), "cpu_ms": cpu}}))
"""
CODE = {"aiohttp": _AIOHTTP, "openai": _OPENAI, "inspect_ai": _INSPECT}


def environment(folder: str) -> Path:
    """Return the Python of an environment that holds the peers; it is made where it is not there."""
    name = f"kit-bench-harness-{hashlib.sha256(' '.join((sys.version, *PINS)).encode()).hexdigest()[:12]}"
    place = Path(folder or Path(tempfile.gettempdir()) / name)
    python = place / "bin" / "python"
    if not (place / "ready").exists() and not (folder and python.exists()):
        venv.create(place, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PINS], check=True)
        (place / "ready").touch()
    return python


def evaluated(chat, questions: list[str], workers: int, folder: Path, **options) -> tuple[float, float]:
    """Seconds by the clock and of the processor that ``kit.evaluate`` takes for these questions."""
    from kit.answering.llm import ClosedBook
    from kit.evaluation.evaluate import evaluate
    from kit.records import Case
    from kit.trust import ledger
    from kit.trust.seal import seal
    from tests.evaluations import make_criteria

    cases = tuple(Case(f"q{n}", question, (("yes",),)) for n, question in enumerate(questions))
    sealed = seal(make_criteria(cases), folder / ledger.NAME)
    begun, cpu = time.perf_counter(), time.process_time()
    evaluation = evaluate({"candidate": ClosedBook(chat, **options)}, cases, seal=sealed, run=folder / "run", workers=workers)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    wrong = [row for row in evaluation.rows if not row.completion_tokens]  # cut at so many tokens is what --real asks for
    assert len(evaluation.rows) == len(questions) and not wrong, wrong[:1]
    return seconds, cpu


def ours(url: str, number: int, at_once: int) -> dict:
    from kit.serving.chat import connect

    with connect(url) as chat, tempfile.TemporaryDirectory() as folder:
        seconds, cpu = evaluated(chat, [QUESTION.format(n) for n in range(number)], at_once, Path(folder))
    peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    return {"samples_per_s": number / seconds, "cpu_ms": cpu / number * 1000, "peak_mb": int(peak) // 1024}


def side(name: str, python: Path, url: str, number: int, at_once: int) -> dict:
    if name in CODE:
        code = _PEER.format(code=CODE[name], question=QUESTION, name=name)
        command = [python, "-c", code, url, str(max(1, number // SLOW.get(name, 1))), str(at_once)]
    else:
        command = [sys.executable, "-m", "tests.bench.harness", "--side", url, str(number), "0" if name == "adaptive" else str(at_once)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def side_by_side(options: argparse.Namespace) -> dict:
    python = environment(options.peers)
    sides = ("kit", "adaptive", *PEERS)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    with instant() as url:
        for turn in range(options.rounds):
            for name in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
                found = side(name, python, url, options.number, options.concurrency)
                rates[name].append(found["samples_per_s"])
                cpu[name].append(found["cpu_ms"])
                print(f"{name:<12} {rates[name][-1]:7.0f}/s {cpu[name][-1]:7.2f} ms CPU", file=sys.stderr, flush=True)

    def ratio(of: dict[str, list[float]], name: str) -> float:
        return round(statistics.median(a / b for a, b in zip(of["kit"], of[name], strict=True)), 3)

    def peer(name: str) -> dict:
        rate = round(statistics.median(rates[name]))
        return {"samples_per_s": rate, "ratio": ratio(rates, name), "cpu_ratio": ratio(cpu, name)}

    return {
        "samples_per_s": round(statistics.median(rates["kit"])),
        "adaptive_samples_per_s": round(statistics.median(rates["adaptive"])),
        "cpu_ms": round(statistics.median(cpu["kit"]), 3),
        "peers": {name: peer(name) for name in PEERS},
        "rates": {name: [round(rate) for rate in values] for name, values in rates.items()},
        "number": options.number, "concurrency": options.concurrency, "rounds": options.rounds, "pins": PINS,
        "load": os.getloadavg()[0],
    }  # fmt: skip


def memory(number: int) -> dict:
    """Peak memory of a run of so many questions through one arm and a server."""
    with instant() as url:
        found = side("kit", Path(), url, number, 64)
    return {"cases": number, "peak_mb": found["peak_mb"], "cases_samples_per_s": round(found["samples_per_s"])}


def real(options: argparse.Namespace) -> dict:
    """Requests per second of ``kit.evaluate`` by those of vLLM's own benchmark, in interleaved pairs."""
    from kit.serving.chat import connect
    from tests.bench.serving import Theirs, tiny_server, work

    rows = []
    with contextlib.ExitStack() as stack:
        url = options.real if options.real != "tiny" else stack.enter_context(tiny_server())
        chat = stack.enter_context(connect(url, model=options.model, timeout_s=600))
        theirs = stack.enter_context(contextlib.closing(Theirs(chat.url, chat.model)))
        count = itertools.count()

        def one(name: str, todo: list[tuple[str, int]], at_once: int) -> float:
            if name == "vllm":
                return theirs.measure(todo, at_once)["requests_per_s"]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            told = {"max_tokens": options.tokens, "extra": {"ignore_eos": True}}
            seconds, _ = evaluated(chat, [prompt for prompt, _ in todo], 0 if name == "adaptive" else at_once, folder, **told)
            return len(todo) / seconds

        for at_once in map(int, options.levels.split(",")):
            rates: dict[str, list[float]] = {"kit": [], "vllm": [], "adaptive": []}
            number = max(32, options.per_lane * at_once)
            for turn in range(options.rounds + 1):  # the first only warms up
                for name in list(rates)[:: 1 if turn % 2 else -1]:
                    todo = work("fixed", number, options.tokens, f"{at_once} {turn}", f"{name}{next(count)}")
                    rates[name].append(one(name, todo if turn else todo[:at_once], at_once))
            pairs = list(zip(rates["kit"][1:], rates["vllm"][1:], strict=True))
            row = {"concurrency": at_once, "requests": number, "ratio": round(statistics.median(a / b for a, b in pairs), 3)}
            row |= {f"{name}_per_s": round(statistics.median(values[1:]), 2) for name, values in rates.items()}
            rows.append(row | {"ratios": [round(a / b, 3) for a, b in pairs]})
            print(rows[-1], file=sys.stderr, flush=True)
        return {"url": url, "model": chat.model, "tokens": options.tokens, "rows": rows, "load": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one line")
    parser.add_argument("--number", type=int, default=4000, help="samples of each side in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--peers", default="", help="folder of the peers' environment; made where it is not there")
    parser.add_argument("--cases", type=int, default=0, help="also the peak memory of a run of so many questions")
    parser.add_argument("--real", nargs="?", const="tiny", default="", metavar="URL")
    parser.add_argument("--model", default="")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--levels", default="8,32,128", help="numbers in flight for --real")
    parser.add_argument("--per-lane", type=int, default=6, help="requests of --real for each one in flight")
    parser.add_argument("--side", nargs=3, metavar=("URL", "NUMBER", "AT_ONCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers that were started here are stopped
    if options.side:
        result = ours(options.side[0], *map(int, options.side[1:]))
    elif options.real:
        result = real(options)
    else:
        result = side_by_side(options) | (memory(options.cases) if options.cases else {})
    print(json.dumps(result, ensure_ascii=False, indent=None if options.json or options.side else 1))


if __name__ == "__main__":
    main()
