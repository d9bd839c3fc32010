"""What the gateway costs a request: time through it less time without it, in interleaved pairs, one request at a time.

    PYTHONPATH=. .venv/bin/python -m tests.bench.gateway [--pairs 1000] [--json]

Server (it answers at once), gateway and client are three processes, as they are for a team; connections are kept open.
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.bench.instant import instant

LETTERS = [20, 4_000, 60_000]
"""Lengths of the question: a short one, one with documents, and close to what a body may hold."""


@contextmanager
def open_gateway(url: str):
    with tempfile.TemporaryDirectory() as folder:
        variables = {**os.environ, "KIT_RUNS": folder}
        kit = [sys.executable, "-m", "kit", "gateway"]
        added = subprocess.run([*kit, "add", "bench"], env=variables, capture_output=True, text=True, check=True)
        started = subprocess.Popen(
            [*kit, "start", "--url", url, "--port", "0"], env=variables, stderr=subprocess.PIPE, text=True
        )
        try:
            yield re.search(r"http://127\.0\.0\.1:\d+", started.stderr.readline())[0] + "/v1", added.stdout.strip()
        finally:
            started.terminate()
            started.wait()
            started.stderr.close()


def ask(line: http.client.HTTPConnection, body: bytes, key: str) -> float:
    begun = time.perf_counter()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    line.request("POST", "/v1/chat/completions", body, headers)
    reply = line.getresponse()
    reply.read()
    assert reply.status == 200, reply.status
    return (time.perf_counter() - begun) * 1000


def quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3)}


def measure(direct: http.client.HTTPConnection, through: http.client.HTTPConnection, key: str, letters: int, pairs: int) -> dict:
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "あ" * letters}], "max_tokens": 64, "temperature": 0}
    body = json.dumps(asked, ensure_ascii=False).encode()
    without, within = [], []
    for pair in range(pairs + 20):  # the first twenty warm up
        for line, times in ((direct, without), (through, within))[:: 1 if pair % 2 else -1]:
            times.append(ask(line, body, key))
    without, within = without[20:], within[20:]
    overhead = [more - less for more, less in zip(within, without, strict=True)]
    return {"bytes": len(body), "without_ms": quantiles(without), "with_ms": quantiles(within), "overhead_ms": quantiles(overhead)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="one line")
    options = parser.parse_args()
    with instant() as url, open_gateway(url) as (shared, key):
        lines = [http.client.HTTPConnection(urlsplit(each).netloc, timeout=30) for each in (url, shared)]
        rows = [measure(*lines, key, letters, options.pairs) for letters in LETTERS]
        for line in lines:
            line.close()
    print(json.dumps({"pairs": options.pairs, "rows": rows}, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
