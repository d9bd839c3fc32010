"""How the Store grows: rows a second at ingest, time of a search, memory and disk at 1k, 10k, … rows.

    python -m tests.bench.scale --rows 100000 [--folder DIR] [--profile] [--json]

Rows are distinct chunks of about 200 characters, mixed by seed from sentences of ``../shared/data/laws``, fifty to a document.
A question is a stretch of 15–40 characters of one of them. One core, one user, in process, warm, ``Store.search(k=5)`` without
folding. ``cpu`` is processor time of all threads: what the wall clock would say on an idle machine. ``rss_mb`` is the most that the process has held so far, at ingest or search; ``disk_mb`` is all of the folder.
"""

import argparse
import hashlib
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

LAWS = Path(__file__).parents[3] / "shared" / "data" / "laws" / "text"
LETTERS, CHUNKS = 200, 50
QUESTIONS, WARM = 200, 30


def sentences(folder: Path) -> list[str]:
    from kit.knowledge import japanese

    found = {
        sentence.strip()
        for path in sorted(folder.glob("*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
        for sentence in japanese.sentences(line)
    }
    return sorted(sentence for sentence in found if 15 <= len(sentence) <= LETTERS)


def mixed(stock: list[str]) -> Iterator[str]:
    """Yield distinct chunks without end."""
    draw, seen = random.Random(0), set[int]()
    while True:
        parts: list[str] = []
        while sum(map(len, parts)) < LETTERS - 30:
            parts.append(draw.choice(stock))
        text = "\n".join(parts)
        if hash(text) not in seen:
            seen.add(hash(text))
            yield text


def documents(texts: Iterator[str], rows: int, first: int) -> Iterator:
    from kit.records import Block, Document, Place

    left = islice(texts, rows)
    number = first
    while batch := list(islice(left, CHUNKS)):
        blocks = tuple(Block(text, Place(page=page)) for page, text in enumerate(batch, 1))
        yield Document(hashlib.sha256(str(number).encode()).hexdigest(), f"法令/{number}.txt", f"法令集 {number}", blocks)
        number += 1


def stretches(stock: list[str], number: int) -> list[str]:
    draw = random.Random(1)
    found = []
    for sentence in draw.choices(stock, k=number):
        length = draw.randint(15, min(40, len(sentence)))
        start = draw.randint(0, len(sentence) - length)
        found.append(sentence[start : start + length])
    return found


def memory_mb() -> float:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def disk_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def search_times(store, questions: list[str]) -> dict[str, float]:
    for question in questions[:WARM]:
        store.search(question, k=5, fold=False)
    wall, busy = [], []
    for question in questions[WARM:]:
        begun, cpu = time.perf_counter(), time.process_time()
        store.search(question, k=5, fold=False)
        wall.append((time.perf_counter() - begun) * 1000)
        busy.append((time.process_time() - cpu) * 1000)
    return {
        f"p{share}_{name}": sorted(times)[len(times) * share // 100]
        for name, times in (("ms", wall), ("cpu_ms", busy))
        for share in (50, 95)
    }


def measure(folder: Path, rows: int, profile: bool = False) -> Iterator[dict[str, float]]:
    from kit import Store

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    stock = sentences(LAWS)
    texts, questions = mixed(stock), stretches(stock, QUESTIONS + WARM)
    store, there, size = Store(folder), 0, min(1000, rows)
    while there < rows:
        begun, cpu = time.perf_counter(), time.process_time()
        store.add(documents(texts, size - there, there // CHUNKS))
        seconds, busy = time.perf_counter() - begun, time.process_time() - cpu
        times = search_times(store, questions)
        if profile:
            show_profile(store, questions)
        yield {
            "rows": len(store),
            "ingest_rows_s": (size - there) / seconds,
            "ingest_rows_cpu_s": (size - there) / busy,
            **times,
            "rss_mb": memory_mb(),
            "disk_mb": disk_mb(folder),
        }
        there, size = size, min(rows, size * 10)


def show_profile(store, questions: list[str]) -> None:
    import cProfile
    import pstats
    import sys

    with cProfile.Profile() as profile:
        for question in questions:
            store.search(question, k=5, fold=False)
    pstats.Stats(profile, stream=sys.stderr).sort_stats("cumulative").print_stats(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--folder", type=Path, help="an empty one on the disk to be measured; otherwise a temporary one")
    parser.add_argument("--profile", action="store_true", help="where the time of a search goes, to stderr")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = []
        for row in measure(Path(folder), options.rows, options.profile):
            found.append(row)
            if not options.json:
                print("  ".join(f"{name} {value:,.4g}" for name, value in row.items()), flush=True)
        if options.json:
            print(json.dumps({"rows": found}))


if __name__ == "__main__":
    main()
