"""Look through the answers of a run, right and wrong, with question, gold answer, source and what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kit import views
from kit.evaluation.failures import LABELS, cause
from kit.evaluation.runs import as_evaluation
from kit.records import Case, Evaluation, Row

KINDS = ("誤った回答", "控えた回答", "正しい回答")


@dataclass(frozen=True, slots=True)
class AnswerList:
    """Answers as rows of (id, question, gold, shown, source, cause of the failure)."""

    kind: str
    rows: tuple[tuple[str, ...], ...] = field(repr=False)
    found: int

    def _repr_html_(self) -> str:
        caption = f"{self.kind}: {self.found} 件のうち {len(self.rows)} 件"
        header = ("番号", "質問", "正解", "回答", "出典", "誤りの原因")
        shown = header[: -1 if self.kind == KINDS[2] else None]  # what is right has no cause
        return views.table(shown, [row[: len(shown)] for row in self.rows], caption)


def answers(evaluation: Evaluation | str | Path, *, kind: str = KINDS[0], number: int = 5) -> AnswerList:
    """Pick answers of the candidate.

    Args:
        evaluation: The run, or its folder.
        kind: One of ``KINDS``: wrong answers, abstentions, right answers.
        number: How many to show, those with the highest confidence first.

    Raises:
        ValueError: An unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}")
    evaluation = as_evaluation(evaluation)
    rows = evaluation.of(evaluation.arms[-1])
    found = []
    for case in evaluation.cases:
        row = rows.get(case.id)
        if row is None:
            continue
        why = cause(case, row)
        if kind == KINDS[1 if row.abstained else 0 if why else 2]:
            line = (case.id, case.question, gold(case), row.text or row.error, cited(row), LABELS.get(why, ""))
            found.append((-row.confidence, line))
    shown: Sequence[tuple[str, ...]] = [line for _, line in sorted(found)[:number]]
    return AnswerList(kind, tuple(shown), len(found))


def gold(case: Case) -> str:
    """Write the gold answer: the first wording of each part."""
    return " ＋ ".join(part[0] for part in case.answers) or "（文書に答えなし）"


def cited(row: Row) -> str:
    """Write the sources that an answer cites, each once."""
    return "、".join(dict.fromkeys(f"{evidence.document} {evidence.place.label}".strip() for evidence in row.cited))
