"""Where the candidate is right more often, and where less: by kind of question, and against the baseline.

For information only, never a gate. Slices cut the questions by document type, department and kind: whoever looks at ten
of them finds one that looks bad by chance, so each is compared with all other questions (Fisher's exact test), and Holm's
procedure corrects for their number. Pairs tell what the candidate gained and lost against the baseline, question by
question.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from kit import views
from kit.evaluation import gate, looks
from kit.evaluation.metrics import METRICS, right
from kit.evaluation.runs import as_evaluation
from kit.evaluation.statistics import share_bounds
from kit.records import ARM_WORDS, Case, Evaluation, Kpi, KpiResult
from kit.trust import ledger

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
            compared = ("—", "—") if s.difference is None else (f"{_points(s.difference)}ポイント", f"{s.p:.3f}" if s.p >= 0.001 else "0.001未満")
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


@dataclass(frozen=True, slots=True)
class Pair:
    """One share of both arms on the same questions; well means 1, or 0 where less is better."""

    result: KpiResult
    """``point``, ``low`` and ``high`` are candidate − baseline (−1 to 1), more than 0 where the candidate does better."""
    both: int
    """Questions that both arms did well on."""
    gained: int
    """Questions that only the candidate did well on."""
    lost: int
    """Questions that only the baseline did well on."""
    neither: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """The shares among the criteria's KPIs, each once, in their order."""

    pairs: tuple[Pair, ...] = field(repr=False)

    def _repr_html_(self) -> str:
        rows = [
            (p.result.kpi.label, f"{_points(p.result.point)}ポイント", f"{_points(p.result.low)}〜{_points(p.result.high)}",
             p.both, p.gained, p.lost, p.neither) for p in self.pairs
        ]  # fmt: skip
        head = ("KPI", "差（＋は候補が良い）", "区間", "両方とも良い", "候補だけ良い", "比較対象だけ良い", "どちらも良くない")
        return views.table(head, rows) if rows else views.paragraphs("比べる相手がないか、割合の KPI がありません。")


def compare(evaluation: Evaluation | str | Path) -> Pairs:
    """Compare candidate and baseline, paired by question, with the interval of a guardrail at the alpha of the run's look.

    Where the decision pools this look with earlier ones, this is still the run's questions alone.

    Args:
        evaluation: The run, or its folder. With one arm there is nothing to compare.
    """
    evaluation = as_evaluation(evaluation)
    agreed, arms = evaluation.seal.criteria, (evaluation.arms[0], evaluation.arms[-1])
    shares = [kpi for kpi in agreed.kpis if METRICS[kpi.metric].kind == "share" and METRICS[kpi.metric].scored_by == "kit"]
    once: dict[str, Kpi] = {}
    for kpi in shares:  # the first to name a metric gives it its label
        once.setdefault(kpi.metric, replace(kpi, role="guardrail"))
    if arms[0] == arms[1] or not once:
        return Pairs(())
    samples = {arm: gate.score(evaluation.cases, evaluation.of(arm)) for arm in arms}
    look = looks.of_run(evaluation.folder.name, evaluation.folder.parent / ledger.NAME)
    results, _, _ = gate.judge(replace(agreed, kpis=tuple(once.values()), deadline=""), samples, "", alpha=look.alpha)
    return Pairs(tuple(_pair(result, *samples.values()) for result in results if result.n))


def _points(share: float) -> str:
    return f"{share * 100:+.1f}".replace("-", "−")


def _pair(result: KpiResult, baseline: Sequence[gate.Sample], candidate: Sequence[gate.Sample]) -> Pair:
    name = result.kpi.metric
    good = float(METRICS[name].higher_is_better)
    before, after = ([v == good for v in gate.values(METRICS[name], name, arm, best=False)] for arm in (baseline, candidate))
    seen = Counter(zip(before, after, strict=True))
    return Pair(result, seen[True, True], seen[False, True], seen[True, False], seen[False, False])
