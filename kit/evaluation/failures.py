"""The answers of a run, right and wrong, with question, gold answer and source, and why an answer was wrong.

The cause is the first station on its way where the gold evidence was lost, or the source if only that is wrong.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kit import views
from kit.evaluation.matching import contains
from kit.evaluation.metrics import first_rank, refusal_precision, right
from kit.evaluation.runs import as_evaluation
from kit.records import ARM_WORDS, OPEN_STATES, Case, Evaluation, Row

LABELS = {
    "infrastructure": "実行環境の障害",
    "timeout": "時間内に回答できなかった",
    "wrong_format": "決められた形で回答しなかった",
    "model_error": "回答の生成に失敗",
    "not_refused": "答えがないのに回答した",
    "not_retrieved": "根拠が検索に出なかった",
    "ranked_low": "根拠の順位が低かった",
    "wrongly_refused": "根拠は見つけたが回答を控えた",
    "not_read": "根拠は見つけたが読み取れなかった",
    "citation_wrong": "出典を誤った",
}
"""Cause of a wrong answer → what it is called."""
KINDS = ("誤った回答", "控えた回答", "正しい回答")


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


@dataclass(frozen=True, slots=True)
class Causes:
    """How often each cause made an answer wrong, by arm, and how many abstentions were right."""

    counts: Mapping[str, Mapping[str, int]]
    """Arm → Japanese cause → number."""
    refusals: Mapping[str, float | None] = field(repr=False)
    """Arm → share of its abstentions that are right; None without any. For information only, never a KPI."""

    def _repr_html_(self) -> str:
        arms = list(self.counts)
        causes = [label for label in LABELS.values() if any(self.counts[arm].get(label) for arm in arms)]
        rows: list[tuple[object, ...]] = [(label, *(self.counts[arm].get(label, 0) for arm in arms)) for label in causes]
        rows.append(("誤りの合計", *(sum(self.counts[arm].values()) for arm in arms)))
        shares = [self.refusals[arm] for arm in arms]
        rows.append(("（参考）控えた回答のうち正しかった割合", *("—" if share is None else f"{share:.1%}" for share in shares)))
        return views.table(("原因", *(ARM_WORDS.get(arm, arm) for arm in arms)), rows, "誤りの原因（方式ごとの件数）")


def causes(evaluation: Evaluation | str | Path, *, top: int = 5) -> Causes:
    """Count the causes of wrong answers of every arm of a run, or of its folder (see ``attribute``)."""
    evaluation, counts, refusals = as_evaluation(evaluation), {}, {}
    for arm in evaluation.arms:
        rows = evaluation.of(arm)
        counts[arm] = attribute(evaluation.cases, rows, top=top).counts()
        refusals[arm] = refusal_precision(evaluation.cases, list(rows.values()))
    return Causes(counts, refusals)


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
        if row is not None and (why := cause(case, row, top)):
            failures.append(Failure(case, row, why))
    return Attribution(tuple(failures))


def cause(case: Case, row: Row, top: int = 5) -> str:
    """Return why an answer is wrong, a key of ``LABELS``; "" for a right one."""
    if row.state != "answered":
        return "infrastructure" if row.state in OPEN_STATES else row.state
    if right(case, row):
        return ""
    if not case.answerable:
        return "not_refused"
    if not row.abstained and contains(row.shown, case.answers):
        return "citation_wrong"  # it says what is right: wherever it has that from, only the source is wrong
    # A question on two documents needs both: the one found last decides.
    documents = {gold.document for gold in case.evidence}
    each = [replace(case, evidence=tuple(gold for gold in case.evidence if gold.document == name)) for name in documents]
    ranks = [first_rank(part, row, len(row.retrieved)) for part in each]
    if 0 in ranks:
        return "not_retrieved"
    if max(ranks, default=1) > top:
        return "ranked_low"
    return "wrongly_refused" if row.abstained else "not_read"


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
