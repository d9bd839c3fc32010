"""What people say of an answer: right or not, and what would have been right. One JSON line each, appended durably.

The rows lie in the project's own folder, in ``.kit/`` beside the store: they speak of that project's documents, outlive
its runs (which are evidence and are never added to), and git does not take them. Questions and corrections are personal
data: only the owner of the file may read it, and nothing sends it anywhere.
"""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from kit import views
from kit.errors import DataError
from kit.records import Answer, Citation, place_from_json
from kit.trust.durable import JsonLines, read, to_json

Verdict = Literal["good", "bad"]
VERDICTS: dict[Verdict, str] = {"good": "👍 役に立った", "bad": "👎 誤り・不足"}
"""Verdict → what it is called."""
_MOST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one person said of one answer."""

    question: str
    answer: str
    verdict: Verdict
    correction: str
    """What would have been right, in the person's words; "" for none."""
    citations: tuple[Citation, ...] = field(repr=False)
    reader: str
    """Identity of what answered: its documents, its reader and its thresholds (``Rag.identity``)."""
    user: str
    """As whom the question was asked; "" is a member of ``everyone`` only."""
    at: str
    """UTC, ISO 8601."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Feedback":
        """Rebuild a row from ``to_json``."""
        citations = (Citation(**{**cited, "place": place_from_json(cited["place"])}) for cited in data["citations"])
        return cls(**{**data, "citations": tuple(citations)})


@dataclass(frozen=True, slots=True)
class FeedbackLog:
    """All feedback of a project, oldest first; who presses twice is there twice."""

    path: Path
    rows: tuple[Feedback, ...] = field(repr=False)

    def _repr_html_(self) -> str:
        where = f"記録の場所: {self.path}（このコンピューターの中だけに保存されます。消すときは、このファイルを削除してください）"
        if not self.rows:
            return views.paragraphs("回答への評価は、まだありません。", where)
        counts = Counter(row.verdict for row in self.rows)
        caption = "、".join(f"{name} {counts[verdict]} 件" for verdict, name in VERDICTS.items())
        newest = [
            (
                f"{datetime.fromisoformat(row.at).astimezone():%Y-%m-%d %H:%M}", VERDICTS[row.verdict], row.question, row.answer,
                row.correction, "\n".join(dict.fromkeys(cited.label for cited in row.citations)), row.user or "全員",
            )
            for row in self.rows[: -_MOST_ROWS - 1 : -1]
        ]  # fmt: skip
        header = ("日時", "評価", "質問", "回答", "正しい答え", "出典", "閲覧者")
        more = f"新しいものから {_MOST_ROWS} 件です。" if len(self.rows) > _MOST_ROWS else ""
        return views.table(header, newest, caption) + views.paragraphs(more + where)


def give_feedback(
    path: Path, question: str, answer: Answer, verdict: Verdict, correction: str = "", *, reader: str = "", user: str = ""
) -> Feedback:
    """Append one row; it is on disk when this returns.

    Args:
        path: The project's file (``Project.feedback``); made where absent, readable by its owner only.
        question: The question as it was asked.
        answer: What was answered.
        verdict: ``"good"`` or ``"bad"``.
        correction: What would have been right.
        reader: Identity of what answered; its name where it is not given.
        user: As whom the question was asked.

    Raises:
        DataError: The verdict is none.
        RunError: The file cannot be written, or somebody edited it by hand.
    """
    if verdict not in tuple(VERDICTS):
        what = f"評価「{str(verdict)[:40]}」は使えません。"
        raise DataError(what, "評価は good（役に立った）か bad（誤り・不足）のどちらかです。", 'verdict="good" か verdict="bad" を指定してください。')
    now = datetime.now(UTC).isoformat(timespec="seconds")
    given = Feedback(
        question, answer.text, verdict, correction.strip(), answer.citations, reader or answer.reader, user, now
    )
    with suppress(OSError):  # what is really wrong with the place, the next line says
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    with JsonLines(path) as file:
        file.append(to_json(given))
    return given


def read_feedback(path: Path) -> FeedbackLog:
    """Read all feedback of a project; empty where nobody gave any.

    Raises:
        RunError: Somebody edited the file by hand, and a line is no row any more.
    """
    return FeedbackLog(path, tuple(map(Feedback.from_json, read(path))))
