"""Paired bootstrap over questions, whole groups together: bounds of ratios of sums, and of differences of two of them.

Nothing here decides: the gate has its own bounds (``statistics``, ``designs``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kit.evaluation import designs
from kit.evaluation.gate import Sample

DRAWS = 2000
BLOCKS = 2000
"""More groups than this are drawn in blocks of several: as unrelated as they are, and fewer to draw."""


class Span(NamedTuple):
    """A figure with its one-sided bounds."""

    point: float
    low: float
    high: float

    def wider(self, low: float, high: float) -> "Span":
        """Return it with bounds that are at least as wide as these."""
        return self._replace(low=min(self.low, low), high=max(self.high, high))


@dataclass(frozen=True, slots=True)
class Resampled:
    """Sums over all questions of some columns; row 0 as observed, then one row for each resample."""

    sums: np.ndarray
    """(1 + DRAWS) × columns."""
    products: np.ndarray
    """(1 + DRAWS) × columns × columns: sums over the groups of the products of two columns' sums within a group."""

    def span(self, alpha: float, *terms: tuple[float, int, int]) -> Span:
        """Return a weighted sum of ratios of two columns' sums with bounds, each one-sided at ``alpha``.

        The wider of percentile and studentised bootstrap, the error by linearisation over the groups (Davison & Hinkley,
        Bootstrap Methods and their Application, 2.4 and 3.8). How often the truth lies outside: ``tests/bench/qpd.py``.

        Args:
            alpha: One-sided error.
            terms: (weight, numerator, denominator): the last two are places of columns.
        """
        values, slopes = np.zeros(len(self.sums)), np.zeros(self.sums.shape)
        for weight, top, bottom in terms:
            ratio = self.sums[:, top] / self.sums[:, bottom]
            values += weight * ratio
            slopes[:, top] += weight / self.sums[:, bottom]
            slopes[:, bottom] -= weight * ratio / self.sums[:, bottom]
        errors = np.sqrt(np.maximum(np.einsum("bk,bkl,bl->b", slopes, self.products, slopes), 0.0))
        low, high = np.quantile(values[1:], [alpha, 1 - alpha])
        some = errors > 1e-6 * np.abs(values).max()  # below it a root of rounding errors
        if some[0]:
            away = np.divide(values - values[0], errors, out=np.zeros(len(values)), where=some)[1:]
            left, right = np.quantile(away, [alpha, 1 - alpha])
            low, high = min(low, values[0] - right * errors[0]), max(high, values[0] - left * errors[0])
        return Span(float(values[0]), float(low), float(high))


def resampled(columns: np.ndarray, groups: Sequence[str]) -> Resampled:
    """Draw groups of questions with replacement, as many as there are; the same draws each time.

    Args:
        columns: One row a question; what is paired stands in one row.
        groups: The group of each question.
    """
    place = {name: number % BLOCKS for number, name in enumerate(dict.fromkeys(groups))}
    table = np.zeros((min(len(place), BLOCKS), columns.shape[1]))
    np.add.at(table, [place[name] for name in groups], columns)
    n = len(table)
    weights = np.vstack([np.ones(n), np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=DRAWS)])
    pairs = (table[:, :, None] * table[:, None, :]).reshape(n, -1)
    return Resampled(weights @ table, (weights @ pairs).reshape(len(weights), table.shape[1], -1))


def levels(samples: Sequence[Sample]) -> list[list[str]]:
    """Return the groups of the questions, by each way of grouping that the gate counts by.

    A question without a known document stands alone, with itself where it was asked twice.
    """
    found = designs.groupings([sample.group for sample in samples])[0] or [["\0"] * len(samples)]
    return [[s.case if name.startswith("\0") else name for s, name in zip(samples, level, strict=True)] for level in found]
