"""Quality per money over the quarters of the fiscal year."""

import math
import statistics

import pytest

from kit.evaluation.resampling import Span
from kit.reporting.quarters import fiscal_quarter, quarters
from tests.test_qpd import made, share


def test_quarters_are_those_of_the_fiscal_year():
    assert [fiscal_quarter(day) for day in ("2026-03-31", "2026-04-01", "2026-11-23", "2027-01-01")] == [(2025, 4), (2026, 1), (2026, 3), (2026, 4)]


def test_the_runs_of_a_quarter_count_together_and_limits_come_from_the_quarters_before(tmp_path):
    days = ["2025-05-01", "2025-05-20", "2025-08-01", "2025-11-01", "2026-02-01", "2026-05-01"]
    hits = [50, 54, 50, 54, 51, 90]
    runs = [made(tmp_path / day, {"candidate": share(n)}, day=day, finished=day) for day, n in zip(days, hits, strict=True)]
    found = quarters(reversed(runs))
    assert [(q.year, q.number, q.runs, q.questions) for q in found][:2] == [(2025, 1, 2, 200), (2025, 2, 1, 100)]
    assert found[0].qpd.point == pytest.approx(1000 * 0.52 / 12) and math.isnan(found[3].low)
    points = [1000 * share / 12 for share in (0.52, 0.5, 0.54, 0.51)]
    reach = 5.8409 * statistics.stdev(points) * 1.25**0.5  # Student's t of 3 degrees of freedom
    assert (found[4].low, found[4].high) == pytest.approx((sum(points) / 4 - reach, sum(points) / 4 + reach), rel=1e-4)
    assert [q.outside for q in found] == [False] * 4 + [True]
    assert isinstance(found[0].qpd, Span) and quarters([]) == ()


def test_a_look_that_a_later_one_holds_counts_once(tmp_path):
    first = made(tmp_path / "first", {"candidate": share(40)}, finished="1")
    look = first.facts["look"] | {"pooled": ["first"]}
    second = made(tmp_path / "second", {"candidate": share(140, 200)}, finished="2", look=look)
    (found,) = quarters([first, second])
    assert (found.questions, found.runs) == (200, 1) and found.qpd.point == pytest.approx(1000 * 0.7 / 12)
