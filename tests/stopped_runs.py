"""Evaluations in processes of their own, to be interrupted, starved of disk and run beside one another.

``python -m tests.stopped_runs`` reads lines of jobs (JSON lists) and forks a process for each, those of one line at once:
before there is any thread, so that none is lost in the fork.
"""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from kit.answering.llm import ClosedBook
from kit.errors import KitError
from kit.evaluation.decide import decide
from kit.evaluation.evaluate import evaluate
from kit.serving.chat import connect
from kit.trust import ledger
from kit.trust.seal import seal
from tests.evaluations import make_cases, make_criteria

RUN = "20261121-090000-p"
CASES = tuple(dataclasses.replace(case, evidence=()) for case in make_cases(40))  # a model that cites nothing can be right


def work(job):
    """Seal, run and decide; the result says how it ended and how many samples were acknowledged.

    A job has ``folder``, ``url``, ``key`` (by which the server knows the process), and may have ``run``, ``press`` (seconds
    until Ctrl-C), ``largest`` (bytes that no file may grow beyond) and ``workers``.
    """
    told = 0

    def progress(finished, planned):
        nonlocal told
        told = finished

    os.environ["KIT_LLM_API_KEY"] = job["key"]
    if "largest" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"], resource.RLIM_INFINITY))
    if "press" in job:
        timer = threading.Timer(job["press"], os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()
    folder = Path(job["folder"])
    try:
        with connect(job["url"]) as chat:
            sealed = seal(make_criteria(CASES), folder / ledger.NAME)
            arms = {"baseline": ClosedBook(chat), "candidate": ClosedBook(chat, max_tokens=9)}
            run = folder / job.get("run", RUN)
            decide(evaluate(arms, CASES, seal=sealed, run=run, workers=job.get("workers", 0), progress=progress))
    except KeyboardInterrupt:
        return {"ended": "interrupted", "told": told}
    except KitError as error:
        return {"ended": type(error).__name__, "told": told, "error": str(error)}
    return {"ended": "decided", "told": told}


def main():
    """Serve jobs until the input ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        children = []
        for job in json.loads(line):
            reading, writing = os.pipe()
            if not (pid := os.fork()):
                try:
                    begun = time.monotonic()
                    result = work(job)
                    os.write(writing, json.dumps({**result, "seconds": time.monotonic() - begun}).encode())
                finally:
                    os._exit(0)
            os.close(writing)
            children.append((pid, reading))
        results = []
        for pid, reading in children:
            with os.fdopen(reading, "rb") as file:
                results.append(json.loads(file.read() or b'{"ended": "died"}'))
            os.waitpid(pid, 0)
        print(json.dumps(results), flush=True)  # noqa: T201


@contextmanager
def forking():
    """Yield a function that runs jobs at once and returns their results."""
    command = [sys.executable, "-m", "tests.stopped_runs"]
    child = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def run(*jobs):
        child.stdin.write(json.dumps(jobs) + "\n")
        return json.loads(child.stdout.readline())

    with child:
        yield run
        child.stdin.close()


if __name__ == "__main__":
    main()
