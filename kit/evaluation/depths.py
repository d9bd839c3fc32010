"""How deep to search: the same development questions at several numbers of hits, accuracy against time.

Two shares tell apart what a deeper search brings: in how many questions the evidence was found at all, and in how
many it became a right answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from kit import views
from kit.answering.extractive import Calibration, ExtractiveReader
from kit.answering.rag import Rag
from kit.evaluation.evaluate import rehearse
from kit.evaluation.metrics import right
from kit.evaluation.recall import gold_ranks
from kit.evaluation.statistics import share_bounds
from kit.knowledge.store import Store
from kit.records import Case


@dataclass(frozen=True, slots=True)
class Depth:
    """One depth: accuracy (0–1) with its 90 % interval, found evidence, and median seconds per question."""

    hits: int
    right: int
    n: int
    accuracy: float
    low: float
    high: float
    seconds: float
    found: int = 0
    """Questions whose evidence is among the hits."""
    evidenced: int = 0
    """Questions that name their evidence."""

    @property
    def label(self) -> str:
        """The depth in words."""
        return f"上位 {self.hits} 件"


@dataclass(frozen=True, slots=True)
class Depths:
    """All depths, in the order asked for; empty without questions."""

    points: tuple[Depth, ...]

    def _repr_html_(self) -> str:
        if not self.points:
            return views.paragraphs("開発用質問がないため、比べられません。質問表の「開発用」シートに書くと比べられます。")
        rows = [
            (p.label, f"{p.found} / {p.evidenced} 問", f"{p.right} / {p.n} 問（{p.low:.0%}〜{p.high:.0%}）", f"{p.seconds:.3f} 秒")
            for p in self.points
        ]
        return views.table(("検索の深さ", "根拠が検索に出た", "正しく対応（90%区間）", "1問あたりの時間（中央値）"), rows)


def compare_depths(
    store: Store, cases: Sequence[Case], calibration: Calibration, *, hits: Sequence[int] = (1, 5, 20)
) -> Depths:
    """Answer development questions at several depths.

    Args:
        store: Where to search.
        cases: Development questions, never sealed ones.
        calibration: The confidence curve in use.
        hits: Numbers of hits the reader reads.
    """
    evidenced = [case for case in cases if case.evidence]
    ranks = [gold_ranks(case, store.search(case.question, k=max(hits, default=1), as_user=case.user))[1] for case in evidenced]
    points = []
    for depth in hits if cases else ():
        rows = rehearse(Rag(store, ExtractiveReader(calibration, top=depth)), cases)
        score = sum(round(right(case, rows[case.id])) for case in cases)
        low, high = share_bounds(score, len(cases), 0.05)
        seconds = median(row.seconds for row in rows.values())
        found = sum(0 < rank <= depth for rank in ranks)
        points.append(Depth(depth, score, len(cases), score / len(cases), low, high, seconds, found, len(evidenced)))
    return Depths(tuple(points))
