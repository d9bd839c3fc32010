"""The steps that notebooks and the command line share: a project's seal, its runs, and what a run is about."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit import settings
from kit.answering.extractive import SHIPPED, ExtractiveReader
from kit.answering.llm import LLMReader
from kit.answering.rag import Rag
from kit.evaluation import runs
from kit.evaluation.criteria import read_criteria
from kit.evaluation.evaluate import System
from kit.evaluation.planning import plan
from kit.interface.project import Project
from kit.interface.stores import reading_report
from kit.knowledge.acknowledged import Acknowledged
from kit.knowledge.store import Store
from kit.prices import read_prices
from kit.records import Seal
from kit.trust.durable import to_json
from kit.trust.egress import check_url
from kit.trust.seal import seal


def seal_project(project: Project) -> Seal:
    """Check a project's questions and criteria, then seal them.

    Raises:
        DataError: Something in them is wrong, or they can never lead to GO; nothing is sealed.
    """
    cases, criteria = project.cases(), read_criteria(project.criteria)
    if criteria.scope != "demonstration":
        plan(criteria, cases).require()
    return seal(criteria)


def open_run(project: Project, sealed: Seal, run: str = "") -> Path:
    """Return the run folder to evaluate in: the given one, the stopped one under the same seal, or a fresh one.

    Raises:
        StoreError: The project's store is damaged: nothing is measured on it.
    """
    if project.store.exists():
        Acknowledged(project.store).require_whole()
    return Path(run) if run else runs.open_run(settings.load().runs, project.name, sealed)


def decided_run(project: Project, run: str = "") -> Path:
    """Return the given run, or the project's last decided one.

    Raises:
        RunError: There is none.
    """
    return Path(run) if run else runs.latest_run(settings.load().runs, project.name)


def decided_runs() -> list[str]:
    """Return the decided runs of all projects as ``read_decision`` takes them, the newest first."""
    found = runs.decided_runs(settings.load().runs)
    return [os.path.relpath(folder) for folder in reversed(found)]


def about(project: Project, store: Store, arms: Mapping[str, System]) -> dict[str, Any]:
    """Collect what the summary says about a run beside its figures; plain JSON values."""
    config = settings.load()
    candidate = list(arms.values())[-1]
    readers = [arm.reader for arm in arms.values() if isinstance(arm, Rag)]
    calibrations = [r.calibration for r in readers if isinstance(r, ExtractiveReader)]
    called = [reader.chat.url for reader in readers if isinstance(reader, LLMReader)]
    closed = (file for file in reading_report(project).files if file.problem)
    unread = [f"{file.name}: {file.problem}" for file in closed if not file.name.rpartition("/")[2].startswith("~$")]  # open documents
    notes = []
    if any(calibration == SHIPPED for calibration in calibrations):
        notes.append("開発用質問が足りないため、回答を控えるしきい値はキット同梱の値を使いました。")
    if unread:
        notes.append(f"読み込めなかった文書が {len(unread)} 件あります（{unread[0]}{' ほか' if len(unread) > 1 else ''}）。")
    return {
        "documents": len(store.documents()),
        "chunks": len(store),
        "calibration": calibrations[-1].source if calibrations else "",
        "candidate": str(getattr(candidate, "name", "")),
        "external": not all(check_url(url, config.allowed_hosts) for url in called),
        "notes": notes,
        "prices": to_json(read_prices(config.prices)),
        "scope": project.scope,
    }
