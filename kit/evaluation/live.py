"""What is told of a run under way: how many samples are finished, and how the candidate's first KPI stands so far."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from kit.evaluation.metrics import METRICS
from kit.evaluation.statistics import share_bounds
from kit.records import Case, Criteria, Kpi, Row

_EVERY_S = 1.0


class Live:
    """Tells a progress callback of each sample, and one that takes notes of the interval so far, once a second.

    Args:
        cases: The questions.
        arm: The candidate.
        criteria: Where the first gate KPI that is a share and scored by the kit comes from, and alpha.
        progress: Called with (finished, planned); may have ``note(text)``; None tells nobody.
        rows: What was finished before.
    """

    def __init__(
        self, cases: Sequence[Case], arm: str, criteria: Criteria, progress: Callable[[int, int], object] | None, rows: Sequence[Row]
    ) -> None:
        self._arm, self._alpha, self._progress = arm, criteria.alpha, progress
        self._note: Callable[[str], object] | None = getattr(progress, "note", None)
        gates = (kpi for kpi in criteria.kpis if kpi.role == "gate")  # what people score is not known yet
        shares = (kpi for kpi in gates if METRICS[kpi.metric].kind == "share" and METRICS[kpi.metric].score)
        self._kpi: Kpi | None = next(shares, None) if self._note else None
        self._cases = {case.id: case for case in cases} if self._kpi else {}
        self._unscored = [row for row in rows if row.arm == arm] if self._kpi else []
        self._hits, self._n, self._told = 0.0, 0, time.monotonic()

    def tell(self, row: Row, finished: int, planned: int) -> None:
        """Tell of a finished sample."""
        if self._kpi and row.arm == self._arm:
            self._unscored.append(row)
        if self._kpi and self._note and (time.monotonic() - self._told >= _EVERY_S or finished == planned):
            self._told = time.monotonic()
            self._note(self._words(self._kpi))
        if self._progress:  # last: at the end a bar closes
            self._progress(finished, planned)

    def _words(self, kpi: Kpi) -> str:
        metric: Any = METRICS[kpi.metric]
        scored = [row for row in self._unscored if metric.applies(self._cases[row.case])]
        self._unscored = []
        # A failed sample counts against the candidate, as in the worst case of the gate.
        failed = float(not metric.higher_is_better)
        self._hits += sum(metric.score(self._cases[r.case], r) if r.state == "answered" else failed for r in scored)
        self._n += len(scored)
        low, high = share_bounds(self._hits, self._n, self._alpha)
        share = f"{self._hits / self._n:.1%}" if self._n else "－"
        return f"途中経過（判定には使いません） {kpi.label} {share}［{low:.1%}～{high:.1%}］"
