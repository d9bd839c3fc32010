"""Look through the answers of a run, right and wrong, with question, gold answer and source."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kit import views
from kit.evaluation.metrics import right
from kit.records import Evaluation

KINDS = ("誤った回答", "控えた回答", "正しい回答")


@dataclass(frozen=True, slots=True)
class AnswerList:
    """Answers as rows of (id, question, gold, shown, source)."""

    kind: str
    rows: tuple[tuple[str, ...], ...] = field(repr=False)
    found: int

    def _repr_html_(self) -> str:
        caption = f"{self.kind}: {self.found} 件のうち {len(self.rows)} 件"
        return views.table(("番号", "質問", "正解", "回答", "出典"), self.rows, caption)


def answers(evaluation: Evaluation, *, kind: str = KINDS[0], number: int = 5) -> AnswerList:
    """Pick answers of the candidate.

    Args:
        evaluation: The run.
        kind: One of ``KINDS``: wrong answers, abstentions, right answers.
        number: How many to show, those with the highest confidence first.

    Raises:
        ValueError: An unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}")
    rows = evaluation.of(evaluation.arms[-1])
    found = []
    for case in evaluation.cases:
        row = rows.get(case.id)
        if row is not None and kind == _kind(row.state == "answered" and right(case, row) == 1.0, row.abstained):
            gold = " ＋ ".join(part[0] for part in case.answers) or "（文書に答えなし）"
            cited = "、".join(dict.fromkeys(f"{e.document} {e.place.label}".strip() for e in row.cited))
            found.append((-row.confidence, (case.id, case.question, gold, row.text or row.error, cited)))
    shown: Sequence[tuple[str, ...]] = [line for _, line in sorted(found)[:number]]
    return AnswerList(kind, tuple(shown), len(found))


def _kind(is_right: bool, abstained: bool) -> str:
    if abstained:
        return KINDS[1]
    return KINDS[2] if is_right else KINDS[0]
