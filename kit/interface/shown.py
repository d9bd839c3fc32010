"""How things look in Jupyter: search hits with marks and links, answers with their sources, tables of everything else."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kit import settings, views
from kit.answering.rag import Rag
from kit.improving.feedback import VERDICTS, Verdict, give_feedback
from kit.interface.project import Project
from kit.interface.widgets import rating
from kit.knowledge import japanese
from kit.knowledge.ranking import SENTENCE
from kit.records import Answer, Chunk, Criteria, Hit, KpiResult, Step
from kit.reporting import export, money, placement, wording
from kit.reporting.agreement import ROLES
from kit.reporting.blocks import Block, Chart, Section
from kit.reporting.economics import Economics
from kit.reporting.paper import page
from kit.reporting.summary import Summary
from kit.serving.chat import Stream

_PARTS = ("単語", "文字の並び", "最もよく合う1文", "意味の近さ")
_WEIGHTS = (1, 1, 2 * SENTENCE, 1)
_BREAK = views.Html("<br>")
_EXCERPT = 160  # letters of a hit
_STYLE = (
    "<style>.jp-OutputArea .block :is(td,th).l{text-align:left}.jp-OutputArea .block :is(td,th).r{text-align:right}"
    ".block.chart{min-width:0}.block.chart svg{max-width:min(720px,100%);height:auto}.block th{white-space:nowrap}"
    ".block .grade{border:1px solid;border-radius:3px;padding:0 4px;margin-left:6px;font-size:85%;white-space:nowrap}</style>"
)
_VIEWED = {".pdf", ".md", ".txt", ".csv", ".tsv", ".html", ".htm"}
"""What JupyterLab can show; other files are handed to the browser to keep."""


def show(
    items: Sequence[Hit] | Sequence[Step] | Answer | Criteria | Economics | Summary | Stream | Mapping[str, Any] | str,
    *, query: str = "", project: Project | None = None, section: str = "",
) -> Any:
    """Show a thing to people, in Jupyter.

    Args:
        items: Search hits, the steps of an answer, an answer, agreed criteria with their bars as people write them (70%以上),
            money figures with their charts, a summary as it will look, a reply that is being written (its pieces appear as they come), parsed JSON, or a line of text.
        query: What the hits were searched for: its words are marked in them.
        project: Where the documents are: sources become links that open the file.
        section: Key of the one chapter that is wanted: of money ``worth`` or ``cost``, of a summary any of its sections.
    """
    from IPython.display import HTML

    if isinstance(items, str):
        return HTML(views.paragraphs(items))
    if isinstance(items, Mapping):
        return HTML(views.table(("項目", "値"), [*items.items()]))
    if isinstance(items, Summary):
        found = next((part for part in items.sections if part.key == section), None)
        return HTML(_chapter(found, items.lang) if section else views.frame(export.html(items), items.title))
    if isinstance(items, Economics):
        return HTML(_money(items, section))
    if isinstance(items, Stream):
        return HTML(_streamed(items))
    if isinstance(items, Criteria):
        return HTML(_agreed(items))
    if isinstance(items, Answer):
        return HTML(items.page(lambda cited: _source(project, cited.label, cited.document, cited.place.page)))
    hits = [item for item in items if isinstance(item, Hit)]
    if hits:
        return HTML(_found(hits, query, project))
    steps = [(s.name, s.detail, f"{s.seconds * 1000:.1f} ミリ秒") for s in items if isinstance(s, Step)]
    return HTML(views.table(("段階", "内容", "時間"), steps) if steps else "<p>該当する断片はありません。</p>")


def ask(project: Project, rag: Rag, question: str, *, user: str = "") -> Any:
    """Ask a question, show the answer with its sources, and return buttons that say whether it was right.

    What is pressed is appended to the project's ``feedback``; nothing waits for it.

    Args:
        project: Where the documents and the feedback are.
        rag: What answers.
        question: Any text.
        user: Reader name; "" is a member of ``everyone`` only.
    """
    from IPython.display import display

    answer = rag(question, user=user)
    display(show(answer, project=project))

    def save(verdict: Verdict, correction: str) -> str:
        give_feedback(project.feedback, question, answer, verdict, correction, reader=rag.identity, user=user)
        return f"記録しました（{VERDICTS[verdict]}）。"

    return rating(save, VERDICTS)


def opened(project: Project | None, document: str, page: int = 0) -> tuple[str, bool]:
    """Return the link from a notebook to a document, and whether the browser should keep the file instead of showing it.

    Args:
        project: Where the documents are; None gives no link.
        document: Name of the document.
        page: Page to open, for a PDF; 0 for none.

    Returns:
        A relative, percent-encoded address from the notebook's folder; "" where Jupyter does not get at the file.
    """
    if not project:
        return "", False
    folder, root = project.documents.resolve(), settings.load().root.resolve()
    named = folder / document
    with suppress(OSError):  # what came out of an archive may have a longer name than any file
        # It has no file of its own either: the archive is what can be opened.
        file = next((path for path in (*reversed(named.parents), named) if path.is_file()), named).resolve()
        if file.is_file() and file.is_relative_to(folder) and file.is_relative_to(root):
            suffix = file.suffix.lower()
            at = f"#page={page}" if page and suffix == ".pdf" else ""
            return quote(Path(os.path.relpath(file)).as_posix()) + at, suffix not in _VIEWED
    return "", False


def _source(project: Project | None, text: str, document: str, page: int) -> views.Html:
    target, keep = opened(project, document, page)
    return views.link(text, target, download=keep)


def _found(hits: Sequence[Hit], query: str, project: Project | None) -> str:
    """Draw hits; a bar is as long as the score, its pieces say roughly how the score came about."""
    best = max(hit.score for hit in hits) or 1.0
    tops = [max(values) or 1.0 for values in zip(*map(_measured, hits), strict=True)]
    rows = []
    for hit in hits:
        measured = _measured(hit)
        shares = [max(value, 0) / top * weight for value, top, weight in zip(measured, tops, _WEIGHTS, strict=True)]
        scale = max(hit.score, 0) / best / (sum(shares) or 1.0)
        raw = "・".join(f"{value:.1f}" for value in (measured if measured[3] else measured[:3])) if hit.parts else ""
        score = views.html(f"{hit.score:.2f}", _BREAK, views.stack([share * scale for share in shares]), _BREAK, raw)
        rows.append((hit.rank, score, _where(hit.chunk, project), _text(hit, query, project)))
    semantic = any(hit.parts and hit.parts.likeness for hit in hits)
    caption = views.paragraphs(views.html("点数の内訳の目安: ", views.key(*_PARTS[: 3 + semantic])))
    return (caption if any(hit.parts for hit in hits) else "") + views.table(("順位", "点数", "文書と場所", "本文（抜粋）"), rows)


def _measured(hit: Hit) -> tuple[float, float, float, float]:
    p = hit.parts
    return (p.words, p.grams, p.sentence_words + p.sentence_grams, p.likeness) if p else (0.0, 0.0, 0.0, 0.0)


def _where(chunk: Chunk, project: Project | None) -> views.Html:
    name = f"{chunk.title} {chunk.place.label}".strip()
    day = f"（{chunk.date}）" if chunk.date else ""
    source = _source(project, name, chunk.document, chunk.place.page)
    return views.html(views.Html('<div style="min-width:15em">'), source, day, _BREAK, chunk.document, views.Html("</div>"))


def _text(hit: Hit, query: str, project: Project | None) -> views.Html:
    """Draw the stretch of a hit where most of the question's words stand, with these marked, and what is folded under it."""
    text = hit.chunk.text
    spans = japanese.matched(text, query) if query else []
    starts = [0, *(max(0, begin - 20) for begin, _ in spans)]
    start = max(starts, key=lambda at: sum(e - b for b, e in spans if at <= b and e <= at + _EXCERPT))
    piece = text[start : start + _EXCERPT]
    within = [(b - start, e - start) for b, e in spans if start <= b and e <= start + len(piece)]
    shown = views.html("…" * (start > 0), views.marked(piece, within), "…" * (start + len(piece) < len(text)))
    if not hit.also:
        return shown
    others = [views.html(_source(project, f"{c.title} {c.place.label}".strip(), c.document, c.place.page), f"（{c.document}）") for c in hit.also]
    apart = [piece for other in others for piece in (other, "、")][:-1]
    return views.html(shown, _BREAK, "ほぼ同じ文書・旧版: ", *apart)


def _agreed(criteria: Criteria) -> str:
    unjudged = [KpiResult(kpi, 0, 0.0, 0.0, 0.0, None, None, kpi.reason) for kpi in criteria.kpis]
    agreed = [(ROLES[k.kpi.role], k.kpi.label, wording.bar(k, "ja"), k.reason) for k in unjudged]
    people = f"責任者: {criteria.owner or '未記入'}　承認者: {'、'.join(criteria.approvers) or '未記入'}"
    risk = f"質問 {criteria.cases_count} 問、片側の誤り率 {criteria.alpha * 100:.3g}%、実行できない質問の許容 {criteria.error_budget * 100:.3g}%"
    head = views.paragraphs(criteria.title, criteria.hypothesis, people, risk)
    return head + views.table(("役割", "KPI", "基準", "その理由"), agreed)


def _money(made: Economics, key: str) -> str:
    """Draw one chapter on money, or the figures of page one above all charts, side by side where there is room."""
    chapters = {"worth": money.worth(made), "cost": money.cost(made, "ja", placement.advice(made))}
    if key:
        return _chapter(chapters[key])
    charts = [block for part in chapters.values() if part for block in part.blocks if isinstance(block, Chart)]
    lines = views.table(("項目", "見込み", "幅", "確度"), money.headline(made))
    return f'{lines}<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:4px 20px">{_drawn(charts)}</div>'


def _chapter(section: Section | None, lang: wording.Language = "ja") -> str:
    if not section:
        return views.paragraphs("この章はありません。月間件数などの前提が決められていないか、この実行に記録がありません。")
    return views.paragraphs(section.lead) + _drawn(section.blocks, lang)


def _drawn(blocks: Sequence[Block], lang: wording.Language = "ja") -> str:
    """Draw blocks as the summary does, with the little style of theirs that a notebook does not have."""
    return _STYLE + "".join(page("block.html", block=block, w=wording.words(lang)) for block in blocks)


def _streamed(stream: Stream) -> str:
    """Write the pieces as they come; what the whole took stands below."""
    begun, at = time.perf_counter(), []
    for piece in stream:
        at.append(time.perf_counter() - begun)
        print(piece, end="", flush=True)  # noqa: T201
    facts = stream.reply.facts if stream.reply else ()
    first = f"最初の文字まで {at[0]:.2f} 秒、{len(at):,} 回に分けて届きました。" if at else "文字は届きませんでした。"
    return views.paragraphs(first, *facts)
