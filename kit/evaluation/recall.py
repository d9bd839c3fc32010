"""Does search find the right document, and how deep must it look? Development questions, never sealed ones.

Recall: the rank of their gold document, and an interval; nothing is read or answered, for what search does not find, no
reader can answer from. Depths: the same questions at several numbers of hits, accuracy against time. Two shares tell
apart what a deeper search brings: in how many questions the evidence was found at all, and in how many it became a
right answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from kit import views
from kit.answering.extractive import Calibration, ExtractiveReader
from kit.answering.rag import Rag
from kit.evaluation.evaluate import rehearse
from kit.evaluation.matching import same_document, same_place
from kit.evaluation.metrics import right
from kit.evaluation.statistics import share_bounds
from kit.knowledge.store import Store
from kit.records import Case, Evidence, Hit

DEPTHS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Recall:
    """For each question its case, and the ranks of the first hit in its document and at its place; 0 where there is none."""

    found: tuple[tuple[Case, int, int], ...]

    def counts(self) -> dict[str, list[int]]:
        """Return, of document and place, in how many questions it was among the first 1, 5 and 10 hits."""
        ranks = {"文書": [document for _, document, _ in self.found], "文書と場所": [place for *_, place in self.found]}
        return {what: [sum(0 < rank <= depth for rank in each) for depth in DEPTHS] for what, each in ranks.items()}

    def _repr_html_(self) -> str:
        n = len(self.found)
        if not n:
            return views.paragraphs("根拠文書を書いた開発用質問がないため、確かめられません。質問表の「開発用」シートに書くと確かめられます。")
        rows = [(what, *(_share(count, n) for count in counts)) for what, counts in self.counts().items()]
        header = ("見つかったもの", *(f"上位 {depth} 件まで" for depth in DEPTHS))
        shown = views.table(header, rows, f"開発用質問 {n} 問（かっこ内は90%区間）")
        lines = [
            (case.question, "、".join(dict.fromkeys(e.document for e in case.evidence)), f"{document} 位（場所は別）" if document else "なし")
            for case, document, place in self.found if not place
        ]
        return shown + (views.table(("質問", "根拠文書", "文書の順位"), lines, "上位 10 件に根拠がなかった質問") if lines else "")


def measure_recall(store: Store, cases: Sequence[Case]) -> Recall:
    """Search for development questions, each as its asker, and look for their evidence among the first ten hits.

    Args:
        store: Where to search.
        cases: Development questions, never sealed ones; those that name no evidence are left out.
    """
    found = []
    for case in cases:
        if case.evidence:
            hits = store.search(case.question, k=max(DEPTHS), as_user=case.user)
            found.append((case, *gold_ranks(case, hits)))
    return Recall(tuple(found))


def gold_ranks(case: Case, hits: Sequence[Hit]) -> tuple[int, int]:
    """Return the rank of the first hit in a gold document, and of the first at a gold place; 0 where there is none."""
    at = [(hit.rank, Evidence(hit.chunk.document, hit.chunk.place)) for hit in hits]
    document = (rank for rank, found in at if any(same_document(found.document, gold.document) for gold in case.evidence))
    place = (rank for rank, found in at if any(same_place(found, gold) for gold in case.evidence))
    return next(document, 0), next(place, 0)


def _share(count: int, n: int) -> str:
    low, high = share_bounds(count, n, 0.05)
    return f"{count} / {n} 問（{low:.0%}〜{high:.0%}）"


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
