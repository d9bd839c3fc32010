"""The metrics: pure functions of one question and one row, each with the readers it is valid for.

A share metric scores 0 or 1. Where the documents hold no answer, abstaining is right and anything else is wrong.
Editing this file, one of those it scores with, or the gate, changes the hash that a seal covers: a run is judged by the
code that was sealed.
"""

import hashlib
import math
import tomllib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kit.evaluation import matching, quantities, violations
from kit.evaluation.matching import character_f1, contains, edit_similarity, exact_match, same_document, same_place
from kit.records import Case, Evidence, Row


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to measure.

    Attributes:
        label: Japanese name.
        kind: How values become a figure: ``share`` of 1s, ``mean`` of values between 0 and 1, ``p95`` quantile, yen per
            right answer, ``amount`` (mean of any values), ``judged`` (verdicts of a judge, corrected by people's).
        applies: Which questions count.
        score: The value of one answered row; None where people or a judge give it.
        higher_is_better: Direction of the bar: at least, or at most.
        short_answers_only: Whether it means nothing where whole sentences of the documents are shown.
        scored_by: Who gives the values; those of people and judges are read from the run's score file.
        costly: Whether it is computed only where a KPI names it.
        paired: Whether the baseline is measured, too: a guardrail compares the two.
    """

    label: str
    kind: Literal["share", "mean", "p95", "yen_per_right", "amount", "judged"]
    applies: Callable[[Case], bool]
    score: Callable[[Case, Row], float] | None
    higher_is_better: bool = True
    short_answers_only: bool = False
    scored_by: Literal["kit", "people", "judge"] = "kit"
    costly: bool = False
    paired: bool = True

    @property
    def valid_for(self) -> str:
        """Readers the metric means something for, in Japanese."""
        if self.short_answers_only:
            return "短い答えを返すLLMリーダー（抽出型の文には使えません）"
        by = {"kit": "", "people": "（人が採点）", "judge": "（評価用のLLMが採点し、人の採点で補正）"}
        return f"すべてのリーダー{by[self.scored_by]}"

    def show(self, value: float, *, signed: bool = False) -> str:
        """Write a value as a Japanese reader expects it: shares in percent, times in seconds, money in yen."""
        sign = "+" if signed else ""
        if not math.isfinite(value):
            return "求められません"
        share = f"{value * 100:{sign}.1f}{'ポイント' if signed else '%'}"
        written = {
            "share": share,
            "judged": share,
            "p95": f"{value:{sign}.2f}秒",
            "mean": f"{value:{sign}.3f}",
            "amount": f"{value:{sign},.1f}分",
            "yen_per_right": f"{value:{sign},.2f}円",
        }
        return written[self.kind].replace("-", "−")


CODE = (
    "designs.py", "gate.py", "looks.py", "matching.py", "metrics.py", "metrics.toml", "quantities.py", "statistics.py",
    "units.toml", "violations.py",
)  # fmt: skip
"""The files that scores and verdicts come from."""


def measure(case: Case, row: Row | None, named: Collection[str] = ()) -> dict[str, float]:
    """Score one question by all metrics that the kit computes and that apply to it.

    Args:
        case: The question.
        row: Its sample; None where there is none.
        named: The metrics that KPIs name: the costly ones are computed only then.

    Returns:
        Metric → value; NaN of a sample that did not end in an answer.
    """
    answered = row if row is not None and row.state == "answered" else None
    return {
        name: metric.score(case, answered) if answered else math.nan
        for name, metric in METRICS.items()
        if metric.score and metric.applies(case) and (not metric.costly or name in named)
    }


def code_sha256() -> str:
    """Return the hash (64 hex digits) of the metric code: of the bytes of all files that scores and verdicts come from."""
    return hashlib.sha256(b"\0".join(Path(__file__).with_name(name).read_bytes() for name in CODE)).hexdigest()


def cites(case: Case, row: Row) -> bool:
    """Whether every gold document of the question is cited; true where the question names none."""
    return citation_recall(case, row) == 1.0


def citation_recall(case: Case, row: Row) -> float:
    """Return the share of gold documents that are cited; 1.0 where the question names none."""
    gold = {item.document for item in case.evidence}
    return sum(any(same_document(c.document, name) for c in row.cited) for name in gold) / len(gold) if gold else 1.0


def citation_precision(case: Case, row: Row) -> float:
    """Return the share of cited documents that are gold; 0.0 where none is cited."""
    cited = {item.document for item in row.cited}
    return sum(any(same_document(name, g.document) for g in case.evidence) for name in cited) / max(1, len(cited))


def right(case: Case, row: Row) -> float:
    """Return 1.0 for an answer that holds the gold answer and cites its document, or a rightful abstention."""
    if not case.answerable:
        return float(row.abstained)
    return float(not row.abstained and contains(row.shown, case.answers) and cites(case, row))


def first_rank(case: Case, row: Row, depth: int) -> int:
    """Return the rank (from 1) of the first retrieved chunk at a gold place within ``depth``; 0 if none."""
    for rank, found in enumerate(row.retrieved[:depth], 1):
        if any(same_place(found, gold) for gold in case.evidence):
            return rank
    return 0


def ndcg(case: Case, row: Row, depth: int) -> float:
    """Return nDCG (0–1) where each gold place counts once, at the first chunk that stands there and at no other place yet.

    The ideal is one chunk of every gold place at the top (Järvelin and Kekäläinen, ACM TOIS 20, 2002, gains 0 and 1).
    Gold places that no chunk could tell apart, such as two rows of one sheet, are one.
    """
    missing: list[Evidence] = []
    for gold in sorted(case.evidence, key=lambda item: -bool(item.place.page or item.place.sheet or item.place.slide)):
        if not any(same_place(gold, other) or same_place(other, gold) for other in missing):
            missing.append(gold)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(missing), depth) + 1))
    gained = 0.0
    for rank, found in enumerate(row.retrieved[:depth], 1):
        met = [gold for gold in missing if same_place(found, gold)]
        if met:
            missing.remove(met[0])
            gained += 1 / math.log2(rank + 1)
    return gained / ideal if ideal else 0.0


def rubric(case: Case, row: Row) -> float:
    """Return the share of the gold answer's parts that stand in the shown text (0–1); 0.0 for an abstention."""
    parts = [contains(row.shown, (part,)) for part in case.answers]
    return 0.0 if row.abstained or not parts else sum(parts) / len(parts)


def verbatim(case: Case, row: Row) -> float:
    """Return 1.0 for an answer with quotes that all stand word for word in what they name, and for an abstention."""
    return float(row.abstained or (bool(row.cited) and not row.misquoted))


def refusal_precision(cases: Sequence[Case], rows: Sequence[Row]) -> float | None:
    """Return the share of abstentions that are right; None without any.

    What it counts over depends on the answers, so that an arm could choose its own questions: for information only.
    ``refusal`` (its recall) and ``wrongly_refused`` are the KPIs.
    """
    unanswerable = {case.id for case in cases if not case.answerable}
    abstained = [row.case in unanswerable for row in rows if row.state == "answered" and row.abstained]
    return sum(abstained) / len(abstained) if abstained else None


def _reciprocal_rank(case: Case, row: Row) -> float:
    rank = first_rank(case, row, 10)
    return 1 / rank if rank else 0.0


def _likeness(case: Case, row: Row) -> float:
    return max((edit_similarity(row.text, words) for words in matching.wordings(case.answers)), default=0.0)


_COUNTS: dict[str, Callable[[Case], bool]] = {
    "all": lambda case: True,
    "answerable": lambda case: case.answerable,
    "unanswerable": lambda case: not case.answerable,
    "evidence": lambda case: bool(case.evidence),
    "quantity": lambda case: quantities.has_quantity(case.answers),
}
_SCORES: dict[str, Callable[[Case, Row], float]] = {
    "right": right,
    "wrong_answer": lambda c, r: float(not r.abstained and not right(c, r)),
    "answer_contained": lambda c, r: float(not r.abstained and contains(r.shown, c.answers)),
    "rubric": rubric,
    "quantity_match": lambda c, r: float(not r.abstained and quantities.quantities_match(r.text, c.answers)),
    "citation": lambda c, r: float(bool(r.cited) and cites(c, r)),
    "citation_precision": citation_precision,
    "citation_recall": citation_recall,
    "verbatim": verbatim,
    "refusal": lambda c, r: float(r.abstained),
    "wrongly_refused": lambda c, r: float(r.abstained),
    "policy_violation": lambda c, r: float(bool(violations.violations(c, r))),
    "recall_at_1": lambda c, r: float(first_rank(c, r, 1) > 0),
    "recall_at_5": lambda c, r: float(first_rank(c, r, 5) > 0),
    "recall_at_10": lambda c, r: float(first_rank(c, r, 10) > 0),
    "mrr_at_10": _reciprocal_rank,
    "ndcg_at_10": lambda c, r: ndcg(c, r, 10),
    "exact_match": lambda c, r: exact_match(r.text, c.answers),
    "character_f1": lambda c, r: character_f1(r.text, c.answers),
    "edit_similarity": _likeness,
    "rouge_1": lambda c, r: matching.overlap(r.text, c.answers, "rouge_1"),
    "rouge_2": lambda c, r: matching.overlap(r.text, c.answers, "rouge_2"),
    "rouge_l": lambda c, r: matching.overlap(r.text, c.answers, "rouge_l"),
    "bleu": lambda c, r: matching.overlap(r.text, c.answers, "bleu"),
    "latency_p95": lambda c, r: r.seconds,
    "error_rate": lambda c, r: float(r.first != "answered"),
    "yen_per_right": right,
}
"""Metric → the value of one answered row, of all that the kit computes."""

METRICS: dict[str, Metric] = {
    name: Metric(**{"applies": _COUNTS[told.pop("counts", "all")], "score": _SCORES.get(name), **told})
    for name, told in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
}
"""All that criteria may name, as ``metrics.toml`` has them."""
