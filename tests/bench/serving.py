"""How fast the chat client drives a server, side by side with vLLM's own benchmark; and what the client itself costs.

    PYTHONPATH=. .venv/bin/python tests/bench/serving.py [--url http://127.0.0.1:8000/v1] [--json]
    PYTHONPATH=. .venv/bin/python tests/bench/serving.py --client    # requests/s against a server that answers at once

Without --url the tiny random-weight model is made and served here. Both sides send the same number of chat requests of
the same kind as streams with the same number of tokens to write, in interleaved pairs; ratio = the median over the
pairs of our tokens/s by theirs; ``client_cpu_ratio`` = the same of what each client itself took of the processor for
the same tokens, which other people's load on the machine disturbs least. Prompts are all different, so that no side finds its prompts in the prefix cache.
Lengths: ``fixed`` writes --tokens for each; ``natural`` spreads them as answers do (log-normal with that median).

vLLM's benchmark runs without the ``vllm`` command as ``vllm.benchmarks.serve`` (add_cli_args, main_async) in one child
process of .venv-server for the whole bench. Only its reading of data sets is replaced: those need pandas.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp

from kit.serving import load, server
from kit.serving.chat import Chat, connect
from tests.bench.instant import instant

ROOT = Path(__file__).parents[2]
LEVELS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
Work = list[tuple[str, int]]

VLLM = """
import asyncio, json, sys
from vllm.benchmarks import serve
from vllm.benchmarks.datasets import SampleRequest
from vllm.utils.argparse_utils import FlexibleArgumentParser

answers, sys.stdout = sys.stdout, sys.stderr
parser = FlexibleArgumentParser()
serve.add_cli_args(parser)
for line in sys.stdin:
    arguments, work = json.loads(line)
    serve.get_samples = lambda *_: [SampleRequest(prompt=p, prompt_len=1, expected_output_len=n) for p, n in work]
    answers.write(json.dumps(asyncio.run(serve.main_async(parser.parse_args(arguments)))) + "\\n")
    answers.flush()
"""

# --- against a server


def work(lengths: str, number: int, tokens: int, pair: str, side: str) -> Work:
    """As many tokens to write for both sides of a pair; prompts that differ from their first letters on."""
    rng, numbers = random.Random(pair), random.Random(pair + side)
    spread = [tokens if lengths == "fixed" else round(tokens * rng.lognormvariate(0, 0.7)) for _ in range(number)]
    asked = load.prompts(number, numbers)
    return [(prompt, min(max(4, n), 8 * tokens)) for prompt, n in zip(asked, spread, strict=True)]


def ours(chat: Chat, todo: Work, concurrency: int) -> dict:
    cpu = time.process_time()
    found = load.drive(chat, todo, concurrency)
    return {
        "client_cpu_s": round(time.process_time() - cpu, 3),
        "tokens_per_s": found.tokens_per_s,
        "requests_per_s": found.requests_per_s,
        "tokens": found.tokens,
        "errors": len(found.errors),
        "ttft_ms": milliseconds(found.ttft),
        "between_ms": milliseconds(found.itl),
        "whole_ms": milliseconds(found.e2e),
    }


def milliseconds(quantiles: load.Quantiles) -> dict[str, float]:
    return {name: round(getattr(quantiles, name) * 1000, 2) for name in ("p50", "p90", "p99")}


class Theirs:
    """vLLM's own benchmark in a child process that stays, so that its imports are paid once and outside the clock."""

    def __init__(self, url: str, model: str) -> None:
        self._arguments = (
            f"--backend openai-chat --base-url {url.removesuffix('/v1')} --endpoint /v1/chat/completions "
            f"--model {model} --served-model-name {model} --dataset-name custom --skip-tokenizer-init --ignore-eos "
            "--temperature 0 --ready-check-timeout-sec 0 --disable-tqdm --save-detailed --max-concurrency"
        ).split()
        here = server.at(url)
        key = here.key if here else os.environ.get("KIT_LLM_API_KEY", "")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._child = subprocess.Popen(
            [ROOT / ".venv-server" / "bin" / "python", "-c", VLLM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | ({"OPENAI_API_KEY": key} if key else {}),
        )

    def measure(self, todo: Work, concurrency: int) -> dict:
        job = [[*self._arguments, str(concurrency)], todo]
        cpu = self._cpu()
        self._child.stdin.write(json.dumps(job) + "\n")
        self._child.stdin.flush()
        if not (line := self._child.stdout.readline()):
            self._log.seek(0)
            sys.exit(f"vLLM's benchmark ended:\n{self._log.read().decode(errors='replace')[-3000:]}")
        found = json.loads(line)

        return {
            "client_cpu_s": round(self._cpu() - cpu, 3),
            "tokens_per_s": found["output_throughput"],
            "requests_per_s": found["request_throughput"],
            "tokens": found["total_output_tokens"],
            "errors": found["failed"],
            "ttft_ms": milliseconds(load.Quantiles.of(found["ttfts"])),
            "between_ms": milliseconds(load.Quantiles.of(gap for gaps in found["itls"] for gap in gaps)),
            "whole_ms": milliseconds(load.Quantiles.of(found["latencies"])),
        }

    def _cpu(self) -> float:
        """Processor seconds of the child so far: user and system time, fields 14 and 15 of its stat."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._child.stdin.close()
        self._child.wait(60)
        self._child.stdout.close()
        self._log.close()


def level(chat: Chat, theirs: Theirs, lengths: str, concurrency: int, options: argparse.Namespace) -> dict:
    number = max(options.least, options.rounds * concurrency)
    pairs = []
    for pair in range(options.pairs + 1):  # the first only warms up
        todo = {side: work(lengths, number, options.tokens, f"{lengths} {concurrency} {pair}", side) for side in "ot"}
        if pair == 0:
            todo = {side: some[: max(2, concurrency)] for side, some in todo.items()}
        found = {}
        for side in "ot" if pair % 2 else "to":
            found[side] = (
                ours(chat, todo[side], concurrency) if side == "o" else theirs.measure(todo[side], concurrency)
            )
        pairs.append((found["o"], found["t"]))
    pairs = pairs[1:]
    ratios = [mine["tokens_per_s"] / other["tokens_per_s"] for mine, other in pairs]
    middle = sorted(range(len(pairs)), key=ratios.__getitem__)[len(pairs) // 2]
    return {
        "concurrency": concurrency,
        "lengths": lengths,
        "requests": number,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "client_cpu_ratio": round(
            statistics.median(m["client_cpu_s"] / max(0.01, o["client_cpu_s"]) for m, o in pairs), 3
        ),
        "same_tokens": all(mine["tokens"] == other["tokens"] for mine, other in pairs),
        "errors": sum(mine["errors"] for mine, _ in pairs),
        "vllm_errors": sum(other["errors"] for _, other in pairs),
        "ours": pairs[middle][0],
        "vllm": pairs[middle][1],
    }


@contextlib.contextmanager
def tiny_server():
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny"
        subprocess.run([sys.executable, ROOT / "tests" / "tiny_model.py", model], check=True, capture_output=True)
        os.environ["KIT_RUNS"] = str(Path(folder) / "runs")  # a server that somebody left running is not ours to load
        with server.serve(model, context=1024, users=256) as started:
            # vLLM binds its computing process to processors of its own; a client that is put there slows all down.
            every = os.sched_getaffinity(0)
            bound = [cpus for pid in started._processes() if (cpus := os.sched_getaffinity(pid)) < every]
            os.sched_setaffinity(0, every.difference(*bound) or every)  # inherited by what both sides start from here on
            yield started.url


def against_a_server(options: argparse.Namespace) -> dict:
    with contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(tiny_server())
        chat = stack.enter_context(connect(url, model=options.model, timeout_s=600))
        theirs = stack.enter_context(contextlib.closing(Theirs(chat.url, chat.model)))
        rows = []
        for lengths in options.lengths.split(","):
            for concurrency in map(int, options.concurrency.split(",")):
                rows.append(level(chat, theirs, lengths, concurrency, options))
                print(line_of(rows[-1]), file=sys.stderr, flush=True)
        return {"url": url, "model": chat.model, "pairs": options.pairs, "tokens": options.tokens, "rows": rows}


def line_of(row: dict) -> str:
    mine, other = row["ours"], row["vllm"]
    return (
        f"{row['lengths']:<8} {row['concurrency']:>4}  ratio {row['ratio']:.3f} ({min(row['ratios']):.2f}–"
        f"{max(row['ratios']):.2f})  tokens/s {mine['tokens_per_s']:7.0f} / {other['tokens_per_s']:7.0f}  "
        f"TTFT p50 {mine['ttft_ms']['p50']:7.1f} / {other['ttft_ms']['p50']:7.1f} ms  "
        f"between p99 {mine['between_ms']['p99']:6.1f} / {other['between_ms']['p99']:6.1f} ms  "
        f"client CPU {row['client_cpu_ratio']:.2f}  errors {row['errors']}"
    )


# --- the client alone


def per_second(number: int, run) -> float:
    begun = time.perf_counter()
    run()
    return number / (time.perf_counter() - begun)


def the_client(options: argparse.Namespace) -> dict:
    """Requests per second against a server that answers at once: bare aiohttp, ``ask_async``, ``ask`` in threads."""
    number, at_once = options.requests, 64
    with instant() as url:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "?"}], "max_tokens": 512}

        async def bare() -> None:
            gate = asyncio.Semaphore(at_once)

            async def one(session: aiohttp.ClientSession) -> None:
                async with gate, session.post(f"{url}/chat/completions", json=body) as response:
                    await response.json()

            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                await asyncio.gather(*(one(session) for _ in range(number)))

        async def async_face(chat: Chat) -> None:
            gate = asyncio.Semaphore(at_once)

            async def one() -> None:
                async with gate:
                    await chat.ask_async("?")

            await asyncio.gather(*(one() for _ in range(number)))

        def sync_face(chat: Chat, pool: ThreadPoolExecutor) -> None:
            for _ in pool.map(lambda _: chat.ask("?"), range(number)):
                pass

        found: dict[str, list[float]] = {"bare": [], "ask_async": [], "ask_threads": []}
        with connect(url) as chat, ThreadPoolExecutor(at_once) as pool:
            for _ in range(options.pairs + 1):
                found["bare"].append(per_second(number, lambda: asyncio.run(bare())))
                found["ask_async"].append(per_second(number, lambda: asyncio.run(async_face(chat))))
                found["ask_threads"].append(per_second(number, lambda: sync_face(chat, pool)))
    rates = {name: values[1:] for name, values in found.items()}
    return {
        "requests": number,
        "in_flight": at_once,
        **{f"{name}_per_s": round(statistics.median(values)) for name, values in rates.items()},
        **{
            f"{name}_ratio": round(statistics.median(a / b for a, b in zip(rates[name], rates["bare"], strict=True)), 3)
            for name in ("ask_async", "ask_threads")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--json", action="store_true", help="one line")
    parser.add_argument("--client", action="store_true", help="only the client, against a server that answers at once")
    parser.add_argument("--concurrency", default=",".join(map(str, LEVELS)))
    parser.add_argument("--lengths", default="fixed,natural")
    parser.add_argument("--tokens", type=int, default=64, help="tokens to write for each request (natural: the median)")
    parser.add_argument("--pairs", type=int, default=9, help="interleaved pairs; fewer is quicker and says less")
    parser.add_argument("--rounds", type=int, default=3, help="requests a level = rounds x concurrency …")
    parser.add_argument("--least", type=int, default=16, help="… but at least so many")
    parser.add_argument("--requests", type=int, default=2000, help="requests of each round of --client")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server that was started here is stopped
    result = the_client(options) if options.client else against_a_server(options)
    print(json.dumps(result, ensure_ascii=False, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
