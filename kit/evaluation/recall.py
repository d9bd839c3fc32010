"""Does search find the right document? Development questions, the rank of their gold document, and an interval.

Nothing is read or answered: what search does not find, no reader can answer from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kit import views
from kit.evaluation.matching import same_document, same_place
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
