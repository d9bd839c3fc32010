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
from typing import Any

from kit import settings
from kit.errors import ParameterError, ServerError, UnreachableError
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


def poc(
    path: str | Path, *, url: str = "", model: str = "", context: int = 8192, users: int = 4, gpu_fraction: float = 0.9,
    new: bool = False,
) -> Decision:  # fmt: skip
    """Run notebooks 00 to 09 on a project and return the decision; stderr gets a line per notebook, and signs of life.

    A run that was stopped goes on where it was, as long as criteria, questions and documents are the same.

    Args:
        path: A folder that ``kit init`` made, or ``data/sample``.
        url: OpenAI-compatible server that becomes the candidate; "" takes it from the settings (``llm_url``), and
            where that is empty, too, the candidate is the extractive reader.
        model: Folder of a model that vLLM serves as the candidate while this runs, whatever the settings say; "" for
            none. One that somebody left running on purpose goes on running.
        context: Longest conversation with ``model``, in tokens.
        users: Conversations at the same time that the memory of ``model`` is planned for.
        gpu_fraction: Share of the card's memory that ``model`` may take, 0–1.
        new: Start anew instead of going on.

    Raises:
        ParameterError: Both ``url`` and ``model`` are given.
        KitError: The project is not ready, or a notebook failed; what was finished stays in the run's folder.
        UnreachableError: The model server is gone; the remedy holds the command that goes on.
    """
    say = partial(print, file=sys.stderr, flush=True)
    project = find_project(path)
    config = settings.load()
    origin = ""
    if url and model:
        raise ParameterError("--url と --model は同時に指定できません。", "候補にできるサーバーは1つです。", "どちらかを外してください。")
    if not (url or model) and (url := config.llm_url):
        origin = f"（設定 llm_url: {config.sources['llm_url']}。抽出型リーダーを試すには、先頭に KIT_LLM_URL= を付けます）"
    if url:
        check_url(url, config.allowed_hosts)
        say(f"候補: モデルサーバー {url}{origin}")
    sealed = seal_project(project)
    with ExitStack() as stack:
        size: dict[str, Any] = {"context": context, "users": users, "gpu_fraction": gpu_fraction}
        server = stack.enter_context(serve(model, **size, progress=say)) if model else None
        if server and server.found:
            kept = "使い終えた最後の実行が止めます。" if server.temporary else "終わっても動かしたままにします（止めるには: kit stop）。"
            say(f"はじめから動いていたサーバーなので、{kept}ほかでも使っていると、応答時間は長めに測られます。")
        reached = {"KIT_LLM_URL": server.url, "KIT_LLM_MODEL": server.model} if server else {"KIT_LLM_URL": url} if url else {}
        try:
            return _run(project, config, sealed, reached, new, say)
        except UnreachableError as error:
            usual = poc.__kwdefaults__ or {}
            sizes = [f"--{name.replace('_', '-')}={value}" for name, value in size.items() if value != usual[name]]
            raise _lost(error, server, ["poc", str(path), *(["--model", model, *sizes] if model else ["--url", url])]) from error


def _lost(error: UnreachableError, server: Server | None, command: list[str]) -> UnreachableError:
    """Return the error with what the server's log tells, where we started it, and with the command that goes on."""
    again = " ".join(map(quote, (shown(Path(sys.executable).with_name("kit")), *command)))
    told = _last_words(server) if server else None
    what, cause = (f"{error.what}\n{told.what}", told.cause + told.remedy) if told else (error.what, error.cause)
    return UnreachableError(what, cause, f"{'' if server else 'サーバーを起動し直します。'}続きから再開するには: {again}")


def _last_words(server: Server) -> ServerError | None:
    """Return why a server ended that answers nobody any more; None where its process goes on."""
    deadline = time.monotonic() + _LAST_WORDS_S
    while not (told := server.failure()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return told


def _run(
    project: Project, config: settings.Settings, sealed: Seal, reached: dict[str, str], new: bool, say: Callable[[str], None]
) -> Decision:
    """Run the notebooks; ``reached`` are the settings by which they find the candidate's server, {} for none."""
    runs, label = config.runs, project.name
    run = new_run(runs, label) if new else open_run(runs, label, sealed, last="summary.html")
    resumed = (run / JOURNAL).exists()
    say(f"{'中断した実行の続き' if resumed else '実行'}: {shown(run)}")
    begun = time.monotonic()
    offered = {"project": str(project.folder), "run": str(run), "runs": [str(run)], "reader": "llm" if reached else "extractive"}
    # A second poc on this run is refused at once.
    with JsonLines(run / "notebooks" / ".running", wait=False), _environment(reached):
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
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the notebooks' kernels, which read them like any other setting."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ |= values
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ |= before


def shown(path: Path) -> str:
    """Return a path as the user would type it: relative to the working folder where it lies below it."""
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()
