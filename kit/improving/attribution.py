"""Why an answer was wrong: the first station on its way where the gold evidence was lost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kit import views
from kit.evaluation.metrics import cites, contains, first_rank, right
from kit.records import OPEN_STATES, Case, Row

LABELS = {
    "infrastructure": "実行環境の障害",
    "candidate_failed": "回答の生成に失敗",
    "not_refused": "答えがないのに回答した",
    "not_retrieved": "根拠が検索に出なかった",
    "ranked_low": "根拠の順位が低かった",
    "wrongly_refused": "根拠は見つけたが回答を控えた",
    "not_read": "根拠は見つけたが読み取れなかった",
    "citation_wrong": "出典を誤った",
}
"""Cause of a wrong answer → what it is called."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One wrong answer with its cause."""

    case: Case
    row: Row
    cause: str
    """A key of ``LABELS``."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """All wrong answers of one arm, in the order of the questions."""

    failures: tuple[Failure, ...] = field(repr=False)

    def counts(self) -> dict[str, int]:
        """Return Japanese cause → number, most frequent first."""
        return dict(Counter(LABELS[failure.cause] for failure in self.failures).most_common())

    def _repr_html_(self) -> str:
        if not self.failures:
            return views.paragraphs("誤りはありません。")
        return views.table(("原因", "件数"), list(self.counts().items()), f"誤り {len(self.failures)} 件の内訳")


def attribute(cases: Sequence[Case], rows: Mapping[str, Row], *, top: int = 5) -> Attribution:
    """Label every wrong answer with the first cause that applies.

    Args:
        cases: The questions.
        rows: One arm's rows by case id.
        top: Number of hits the reader read.
    """
    failures = []
    for case in cases:
        row = rows.get(case.id)
        if row is not None and not (row.state == "answered" and right(case, row)):
            failures.append(Failure(case, row, _cause(case, row, top)))
    return Attribution(tuple(failures))


def _cause(case: Case, row: Row, top: int) -> str:
    if row.state in OPEN_STATES:
        return "infrastructure"
    if row.state != "answered":
        return "candidate_failed"
    if not case.answerable:
        return "not_refused"
    rank = first_rank(case, row, len(row.retrieved))
    if case.evidence and not rank:
        return "not_retrieved"
    if rank > top:
        return "ranked_low"
    if row.abstained:
        return "wrongly_refused"
    if contains(row.shown, case.answers) and not cites(case, row):
        return "citation_wrong"
    return "not_read"
