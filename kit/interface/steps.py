"""The steps that notebooks and the command line share: a project's store, its runs, and what a run is about."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kit import settings, views
from kit.answering.extractive import SHIPPED, ExtractiveReader
from kit.answering.llm import LLMReader
from kit.answering.rag import Rag
from kit.errors import StoreError
from kit.evaluation import runs
from kit.evaluation.criteria import read_criteria
from kit.evaluation.evaluate import System
from kit.interface.project import Project
from kit.knowledge.files import ACL_NAME, load
from kit.knowledge.reports import Added, Erasure
from kit.knowledge.store import Store
from kit.prices import read_prices
from kit.records import Criteria, Document, Hit, KpiResult, Seal, Step, to_json
from kit.reporting import wording
from kit.serving.chat import Stream
from kit.trust.durable import write_atomically
from kit.trust.egress import check_url
from kit.trust.seal import seal

_REPORT = "reading.json"
_ROLES = {"gate": "判定", "guardrail": "安全条件", "info": "参考"}


def build_store(project: Project, *, progress: Callable[..., None] | None = None) -> tuple[Store, Added]:
    """Bring a project's store up to date with its ``documents/`` folder (``Store.sync``).

    Args:
        project: The project.
        progress: Called with (read, planned) files; one that cannot be opened may come on top of those planned.
    """
    store = Store(project.store)
    files = (f"/{file.relative_to(project.documents)}" for file in project.documents.rglob("*") if not file.is_dir())
    planned = sum("/." not in name and not name.lower().endswith(f"/{ACL_NAME}") for name in files)

    def noted() -> Iterator[Document]:
        for done, document in enumerate(load(project.documents), 1):
            if progress:  # here, not in the store: reading takes the time, and the store works in batches
                progress(done, planned)
            yield document

    added = store.sync(noted())
    report = {"unreadable": added.unreadable, "doubts": added.doubts}
    write_atomically(project.store / _REPORT, json.dumps(report, ensure_ascii=False, indent=1))
    return store, added


def forget_document(project: Project, name: str) -> Erasure:
    """Erase a document from a project's store, and its name from the reading report beside it (see ``Store.forget``)."""
    report = project.store / _REPORT
    if report.exists():  # a file's name is often its title, which is looked for, too
        lines = json.loads(report.read_text(encoding="utf-8"))
        kept = {kind: [line for line in told if not line.startswith(f"{name}: ")] for kind, told in lines.items()}
        write_atomically(report, json.dumps(kept, ensure_ascii=False, indent=1))
    return Store(project.store).forget(name)


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
    """Return the run folder to evaluate in: the given one, the stopped one under the same seal, or a fresh one."""
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
    report = project.store / _REPORT
    lines = json.loads(report.read_text(encoding="utf-8"))["unreadable"] if report.exists() else []
    unread = [line for line in lines if not line.rpartition("/")[2].startswith("~$")]  # traces of open documents
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


def show(items: Sequence[Hit] | Sequence[Step] | Criteria | Stream | Mapping[str, Any] | str) -> Any:
    """Show a thing to people, in Jupyter.

    Args:
        items: Search hits, the steps of an answer, agreed criteria with their bars as people write them (70%以上), a
            reply that is being written (its pieces appear as they come), parsed JSON, or a line of text.
    """
    from IPython.display import HTML

    if isinstance(items, str):
        return HTML(views.paragraphs(items))
    if isinstance(items, Mapping):
        return HTML(views.table(("項目", "値"), [*items.items()]))
    if isinstance(items, Stream):
        return HTML(_streamed(items))
    if isinstance(items, Criteria):
        return HTML(_agreed(items))
    hits = [item for item in items if isinstance(item, Hit)]
    if hits:
        rows = [
            (h.rank, f"{h.score:.1f}", f"{h.chunk.title} {h.chunk.place.label}".strip(), h.chunk.document, h.chunk.text[:160])
            for h in hits
        ]
        return HTML(views.table(("順位", "点数", "文書と場所", "ファイル", "本文（先頭）"), rows))
    steps = [(s.name, s.detail, f"{s.seconds * 1000:.1f} ミリ秒") for s in items if isinstance(s, Step)]
    return HTML(views.table(("段階", "内容", "時間"), steps) if steps else "<p>該当する断片はありません。</p>")


def _agreed(criteria: Criteria) -> str:
    unjudged = [KpiResult(kpi, 0, 0.0, 0.0, 0.0, None, None, kpi.reason) for kpi in criteria.kpis]
    agreed = [(_ROLES[k.kpi.role], wording.label(k, "ja"), wording.bar(k, "ja"), k.reason) for k in unjudged]
    people = f"責任者: {criteria.owner or '未記入'}　承認者: {'、'.join(criteria.approvers) or '未記入'}"
    risk = f"質問 {criteria.cases_count} 問、片側の誤り率 {criteria.alpha * 100:.3g}%、実行できない質問の許容 {criteria.error_budget * 100:.3g}%"
    head = views.paragraphs(criteria.title, criteria.hypothesis, people, risk)
    return head + views.table(("役割", "KPI", "基準", "その理由"), agreed)


def _streamed(stream: Stream) -> str:
    """Write the pieces as they come; what the whole took stands below."""
    begun, at = time.perf_counter(), []
    for piece in stream:
        at.append(time.perf_counter() - begun)
        print(piece, end="", flush=True)  # noqa: T201
    facts = stream.reply.facts if stream.reply else ()
    first = f"最初の文字まで {at[0]:.2f} 秒、{len(at):,} 回に分けて届きました。" if at else "文字は届きませんでした。"
    return views.paragraphs(first, *facts)
