"""The steps that notebooks and the command line share: a project's store, its runs, and what a run is about."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kit import settings
from kit.answering.extractive import SHIPPED, ExtractiveReader
from kit.answering.llm import LLMReader
from kit.answering.rag import Rag
from kit.errors import StoreError
from kit.evaluation import runs
from kit.evaluation.criteria import read_criteria
from kit.evaluation.evaluate import System
from kit.interface.project import Project
from kit.knowledge.acknowledged import Acknowledged
from kit.knowledge.files import ACL_NAME, load
from kit.knowledge.reading import FileReading, ReadingReport
from kit.knowledge.reports import Added, Erasure
from kit.knowledge.store import Store
from kit.prices import read_prices
from kit.records import Document, Seal
from kit.trust.durable import to_json, write_atomically
from kit.trust.egress import check_url
from kit.trust.seal import seal

_REPORT = "reading.json"


def build_store(project: Project, *, progress: Callable[..., None] | None = None) -> tuple[Store, Added]:
    """Bring a project's store up to date with its ``documents/`` folder (``Store.sync``).

    Args:
        project: The project.
        progress: Called with (read, planned) files; one that cannot be opened may come on top of those planned.
    """
    store = Store(project.store)
    looked: list[FileReading] = []
    files = (f"/{file.relative_to(project.documents)}" for file in project.documents.rglob("*") if not file.is_dir())
    planned = sum("/." not in name and not name.lower().endswith(f"/{ACL_NAME}") for name in files)

    def noted() -> Iterator[Document]:
        for done, document in enumerate(load(project.documents), 1):
            looked.append(FileReading.of(document))
            if progress:  # here, not in the store: reading takes the time, and the store works in batches
                progress(done, planned)
            yield document

    added = store.sync(noted())
    _write_report(project, ReadingReport(tuple(looked)))
    return store, added


def reading_report(project: Project) -> ReadingReport:
    """Return what became of each file when a project's store was last brought up to date; empty where it never was."""
    path = project.store / _REPORT
    return ReadingReport.from_json(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})


def forget_document(project: Project, name: str) -> Erasure:
    """Erase a document from a project's store, and its name from the reading report beside it (see ``Store.forget``)."""
    # A file's name is often its title, which is looked for, too.
    _write_report(project, ReadingReport(tuple(file for file in reading_report(project).files if file.name != name)))
    return Store(project.store).forget(name)


def _write_report(project: Project, report: ReadingReport) -> None:
    write_atomically(project.store / _REPORT, json.dumps(to_json(report), ensure_ascii=False, indent=1))


def open_store(project: Project) -> Store:
    """Open a project's store.

    Raises:
        StoreError: It holds nothing yet.
    """
    store = Store(project.store)
    if not len(store):
        raise StoreError(
            f"「{project.name}」のRAGストアに文書がありません。", "文書の登録（ノートブック 02）がまだ済んでいません。",
            f"ノートブック 02 か、`kit store {project.folder}` を実行してください。",
        )
    return store


def seal_project(project: Project) -> Seal:
    """Check a project's questions and criteria, then seal them.

    Raises:
        DataError: Something in them is wrong; nothing is sealed.
    """
    project.cases()
    return seal(read_criteria(project.criteria))


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
