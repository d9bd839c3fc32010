"""Where an arm is right more often, and where less: the questions cut by document type, department and kind.

For information only, never a gate: whoever looks at ten slices finds one that looks bad by chance. Each slice is
compared with all other questions (Fisher's exact test), and Holm's procedure corrects for the number of slices.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from kit import views
from kit.evaluation.metrics import right
from kit.evaluation.runs import as_evaluation
from kit.evaluation.statistics import share_bounds
from kit.records import ARM_WORDS, Case, Evaluation

FEWEST = 5
"""Smaller slices are put together as その他: they can say nothing on their own."""
_ALPHA = 0.025  # one-sided: low and high are a two-sided interval of 95 %
_UNNAMED, _REST = "（記載なし）", "その他"


def _document_type(case: Case) -> str:
    types = {PurePath(item.document).suffix.lstrip(".").upper() for item in case.evidence}
    return "・".join(sorted(types - {""}))


BY: dict[str, tuple[str, Callable[[Case], str]]] = {
    "document": ("文書の形式", _document_type),
    "category": ("分野・部署", lambda case: case.category),
    "kind": ("質問の種類", lambda case: case.kind),
    "answerable": ("答えの有無", lambda case: "文書に答えあり" if case.answerable else "文書に答えなし"),
}
"""Way to cut → its Japanese name, and the slice of a question."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The questions of one kind.

    Attributes:
        by: A key of ``BY``.
        name: Its Japanese name.
        n: Questions.
        hits: Those answered right; what failed or was not run is not.
        low: Clopper-Pearson bound of the share, of a two-sided interval of 95 %.
        high: The other bound.
        difference: Its share less that of all other questions (-1–1); None without others.
        p: Holm-adjusted p-value of that difference (0–1).
    """

    by: str
    name: str
    n: int
    hits: int
    low: float
    high: float
    difference: float | None
    p: float


@dataclass(frozen=True, slots=True)
class Slices:
    """All slices of one arm, those of each way to cut by size; a way that leaves all questions in one slice is none."""

    arm: str
    slices: tuple[Slice, ...] = field(repr=False)

    def _repr_html_(self) -> str:
        if not self.slices:
            return views.paragraphs("どの分け方でも、質問が2つ以上の区分に分かれません。")
        rows = []
        for s in self.slices:
            share = views.html(views.stack((s.hits / s.n,), 80), f" {s.hits / s.n:.1%}（{s.low:.1%}〜{s.high:.1%}）")
            compared = ("—", "—") if s.difference is None else (f"{s.difference * 100:+.1f}ポイント".replace("-", "−"), f"{s.p:.3f}" if s.p >= 0.001 else "0.001未満")
            rows.append((BY[s.by][0], s.name, s.n, share, *compared))
        header = ("分け方", "区分", "質問数", "正しく対応できた割合（95%区間）", "ほかの質問との差", "p値（Holm補正後）")
        note = "参考です。判定には使いません。p値が0.05未満の区分だけが、偶然とは言いにくい差です。"
        return views.table(header, rows, f"区分ごとの結果（{ARM_WORDS.get(self.arm, self.arm)}）") + views.paragraphs(note)


def slices(evaluation: Evaluation | str | Path, *, by: Sequence[str] = tuple(BY), arm: str = "") -> Slices:
    """Cut the questions of a run and compare each slice with all other questions.

    Args:
        evaluation: The run, or its folder.
        by: The ways to cut: keys of ``BY``. Holm's procedure corrects over all their slices together.
        arm: Whose answers; "" for the candidate's.

    Raises:
        ValueError: An unknown way to cut, or an unknown arm.
    """
    evaluation = as_evaluation(evaluation)
    name = arm or evaluation.arms[-1]
    if unknown := [key for key in by if key not in BY] or [name] * (name not in evaluation.arms):
        raise ValueError(f"unknown: {unknown}; by is some of {tuple(BY)}, arm one of {evaluation.arms}")
    rows = evaluation.of(name)
    hits = {
        case.id: (row := rows.get(case.id)) is not None and row.state == "answered" and right(case, row) == 1.0
        for case in evaluation.cases
    }
    ways = {key: _cut(evaluation.cases, BY[key][1]) for key in by}
    cut = [(key, label, ids) for key, way in ways.items() for label, ids in way if len(way) > 1]
    tables = [_table(ids, hits) for _, _, ids in cut]
    return Slices(name, tuple(
        Slice(key, label, len(ids), inside[0], *share_bounds(inside[0], len(ids), _ALPHA), _difference(inside, outside), p)
        for (key, label, ids), (inside, outside), p in zip(cut, tables, _adjusted(tables), strict=True)
    ))  # fmt: skip


_Table = tuple[tuple[int, int], tuple[int, int]]
"""(right, wrong) of a slice, and of all other questions."""


def _cut(cases: Sequence[Case], name: Callable[[Case], str]) -> list[tuple[str, set[str]]]:
    """Return the slices with the ids of their questions, the largest first and その他 last."""
    counts = Counter(name(case) or _UNNAMED for case in cases)
    found: dict[str, set[str]] = {label: set() for label, n in counts.most_common() if n >= FEWEST}
    for case in cases:
        label = name(case) or _UNNAMED
        found.setdefault(label if label in found else _REST, set()).add(case.id)
    return list(found.items())


def _table(ids: set[str], hits: dict[str, bool]) -> _Table:
    inside, total = sum(hits[case] for case in ids), sum(hits.values())
    return (inside, len(ids) - inside), (total - inside, len(hits) - len(ids) - total + inside)


def _difference(inside: tuple[int, int], outside: tuple[int, int]) -> float | None:
    return inside[0] / sum(inside) - outside[0] / sum(outside) if sum(outside) else None


def _adjusted(tables: Sequence[_Table]) -> list[float]:
    from scipy.stats import fisher_exact
    from statsmodels.stats.multitest import multipletests

    raw = [float(fisher_exact(table).pvalue) for table in tables]
    return [float(p) for p in multipletests(raw, method="holm")[1]] if raw else []
