"""One PoC from end to end: the notebooks 00 to 09, one after another, in one run folder."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from shlex import quote

from kit import settings
from kit.errors import ServerError, UnreachableError
from kit.evaluation.decide import read_decision
from kit.evaluation.evaluate import JOURNAL
from kit.evaluation.runs import new_run, open_run
from kit.interface import notebooks
from kit.interface.project import Project, find_project
from kit.interface.steps import seal_project
from kit.records import Decision, Seal
from kit.serving.server import Server, serve
from kit.trust.durable import JsonLines
from kit.trust.egress import check_url

_BEAT_S = 30.0
_LAST_WORDS_S = 10.0
"""How long a server that answers nobody any more may take to end and leave its reason in its log."""


def poc(path: str | Path, *, url: str = "", model: str = "", new: bool = False) -> Decision:
    """Run notebooks 00 to 09 on a project and return the decision; stderr gets a line per notebook, and signs of life.

    A run that was stopped goes on where it was, as long as criteria, questions and documents are the same.

    Args:
        path: A folder that ``kit init`` made, or ``data/sample``.
        url: OpenAI-compatible server that becomes the candidate; "" for the extractive reader.
        model: Folder of a model that vLLM serves as the candidate while this runs; "" for none.
        new: Start anew instead of going on.

    Raises:
        KitError: The project is not ready, or a notebook failed; what was finished stays in the run's folder.
        UnreachableError: The model server is gone; the remedy holds the command that goes on.
    """
    say = partial(print, file=sys.stderr, flush=True)
    project = find_project(path)
    config = settings.load()
    if url:
        check_url(url, config.allowed_hosts)
    sealed = seal_project(project)
    with ExitStack() as stack:
        server = stack.enter_context(serve(model, progress=say)) if model else None
        try:
            return _run(project, config, sealed, server.url if server else url, new, say)
        except UnreachableError as error:
            asked = ("--model", model) if model else ("--url", url) if url else ()
            again = " ".join(map(quote, (shown(Path(sys.executable).with_name("kit")), "poc", str(path), *asked)))
            told = _last_words(server) if server else None
            what, cause = (f"{error.what}\n{told.what}", told.cause + told.remedy) if told else (error.what, error.cause)
            first = "" if model else "サーバーを起動し直します。"
            raise UnreachableError(what, cause, f"{first}続きから再開するには: {again}") from error


def _last_words(server: Server) -> ServerError | None:
    """Return why a server ended that answers nobody any more; None where its process goes on."""
    deadline = time.monotonic() + _LAST_WORDS_S
    while not (told := server.failure()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return told


def _run(
    project: Project, config: settings.Settings, sealed: Seal, url: str, new: bool, say: Callable[[str], None]
) -> Decision:
    runs, label = config.runs, project.name
    run = new_run(runs, label) if new else open_run(runs, label, sealed, last="summary.html")
    resumed = (run / JOURNAL).exists()
    say(f"{'中断した実行の続き' if resumed else '実行'}: {shown(run)}")
    begun = time.monotonic()
    offered = {"project": str(project.folder), "run": str(run), "reader": "llm" if url else "extractive"}
    # A second poc on this run is refused at once.
    with JsonLines(run / "notebooks" / ".running", wait=False), _environment("KIT_LLM_URL", url):
        for notebook in notebooks.numbered():
            started = time.monotonic()
            given = {key: offered[key] for key in notebooks.parameters(notebook) if key in offered}
            with _heartbeat(say, notebook.stem, run / JOURNAL):
                notebooks.run(str(notebook), run / "notebooks" / notebook.name, given)
            say(f"  {notebook.stem:<14} {time.monotonic() - started:5.1f} 秒")
    say(f"合計 {time.monotonic() - begun:.0f} 秒")
    return read_decision(run)


@contextmanager
def _heartbeat(say: Callable[[str], None], name: str, journal: Path) -> Iterator[None]:
    """Say now and then that a notebook is still at work: its own progress bar stays in its kernel."""
    begun, finished = time.monotonic(), threading.Event()

    def beat() -> None:
        while not finished.wait(_BEAT_S):
            samples = journal.read_bytes().count(b"\n") if journal.exists() else 0
            counted = f"、測定済み {samples:,} 件" if samples else ""
            say(f"  {name:<14} 実行中（{time.monotonic() - begun:.0f} 秒経過{counted}）")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for the notebooks' kernels, which read it like any other setting; "" leaves it as it is."""
    before = os.environ.get(name)
    os.environ |= {name: value} if value else {}
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        elif value:
            del os.environ[name]


def shown(path: Path) -> str:
    """Return a path as the user would type it: relative to the working folder where it lies below it."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.as_posix()
