"""How much vectors count beside words: fitted on development questions, kept only where it helps on others of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kit import views
from kit.errors import DataError
from kit.evaluation.recall import gold_ranks
from kit.knowledge import ranking
from kit.knowledge.retrieval import Scope
from kit.knowledge.store import CANDIDATES, Store
from kit.records import Case

FEWEST = 30
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2)
"""Tried for a cosine beside the words' score, which is at most 2.8."""
_DEPTH = 10
_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Fusion:
    """What the fit found; ``weight`` is in force in the store."""

    weight: float
    """0 where the vectors did not help."""
    tried: float
    """The best one on the first half of the questions."""
    gain: float
    """What it changed in the mean reciprocal rank (0–1) of the other half."""
    low: float
    high: float
    """The 95 % interval of ``gain``."""
    questions: int

    def _repr_html_(self) -> str:
        verdict = "検索が確かに良くなるとは言えないので、このモデルのベクトルは使いません（重み 0）。"
        if self.weight:
            verdict = f"検索が良くなるので、このモデルのベクトルを重み {self.weight:g} で使います。"
        found = f"選ぶための半分では、{WEIGHTS[1]:g}〜{WEIGHTS[-1]:g} のどの重みも、言葉だけの検索を上回りませんでした。"
        if self.tried:
            gain = f"平均逆順位の変化は {self.gain:+.3f} でした（95% 区間 {self.low:+.3f}〜{self.high:+.3f}、下限が 0 を超えれば使います）。"
            found = f"選ぶための半分で最も良かった重み {self.tried:g} を残りの半分で確かめると、{gain}"
        return views.paragraphs(verdict, f"根拠の分かる開発用質問 {self.questions} 問で試しました。{found}")


def usable(questions: Sequence[Case]) -> list[Case]:
    """Return the questions that a weight can be fitted on: those that name their evidence.

    Raises:
        DataError: They are fewer than 30.
    """
    asked = [case for case in questions if case.evidence]
    if len(asked) < FEWEST:
        raise DataError(
            f"正解の場所が分かる開発用質問が {len(asked)} 問しかありません。", f"重みを選んで確かめるには {FEWEST} 問以上が必要です。",
            "開発用の質問に根拠文書を書き足してください。それまでは言葉だけで検索します（重み 0）。",
        )  # fmt: skip
    return asked


def fit_weight(store: Store, questions: Sequence[Case]) -> Fusion:
    """Find the weight of a store's vectors on development questions, and keep it with the store.

    Half of the questions choose a weight by the reciprocal rank of the first hit at a gold place; on the other half it must raise that
    against search by words alone, with 97.5 % confidence (paired bootstrap), or else the weight is 0. Questions about one document are
    kept together, because they are not independent.

    Args:
        store: Opened with its embedding model.
        questions: Development questions, never sealed ones; those without evidence are left out.

    Raises:
        DataError: Fewer than 30 questions name their evidence.
        StoreError: The store was opened without an embedding model.
    """
    asked = usable(questions)
    store.weigh(0.0)
    ranks = np.array([_reciprocal_ranks(store, case) for case in asked])
    documents = np.unique([case.evidence[0].document for case in asked], return_inverse=True)[1]
    if not documents.any():  # all about one
        documents = np.arange(len(asked))
    random = np.random.default_rng(0)
    first = random.permutation(documents.max() + 1)[documents] % 2 == 0
    best = int(np.argmax(ranks[first].mean(axis=0)))  # of equal ones the least
    differences = ranks[~first, best] - ranks[~first, 0]
    # Of one or two documents the bootstrap draws nearly the same all the time: the less hopeful interval counts.
    gains = [paired_gain(differences, clusters, random) for clusters in (documents[~first], np.arange(len(differences)))]
    gain, low, high = min(gains, key=lambda found: found[1])
    weight = WEIGHTS[best] if low > 0 else 0.0
    store.weigh(weight)
    return Fusion(weight, WEIGHTS[best], gain, low, high, len(asked))


def paired_gain(differences: np.ndarray, clusters: np.ndarray, random: np.random.Generator) -> tuple[float, float, float]:
    """Return the mean of differences and its 95 % bootstrap interval; whole clusters are drawn."""
    number = np.unique(clusters, return_inverse=True)[1]
    total, size = np.bincount(number, differences), np.bincount(number)
    drawn = random.integers(len(size), size=(_RESAMPLES, len(size)))
    low, high = np.percentile(total[drawn].sum(axis=1) / size[drawn].sum(axis=1), [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


def _reciprocal_ranks(store: Store, case: Case) -> list[float]:
    """Return 1 / rank of the first hit at a gold place for each of ``WEIGHTS``; 0 where none is among the first ten."""
    scope = Scope(case.user)
    near = store.candidates(case.question, CANDIDATES, scope, near=True)
    words = store.candidates(case.question, CANDIDATES, scope)  # what search by words alone sees: weight 0 means that
    found = (ranking.ranked(ranking.scored(near if weight else words, weight), _DEPTH) for weight in WEIGHTS)
    ranks = [gold_ranks(case, hits)[1] for hits in found]
    return [1 / rank if rank else 0.0 for rank in ranks]
