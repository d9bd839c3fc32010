"""What a run cost and what a year of use would cost and save: plain arithmetic, every formula in its docstring.

Every figure has a grade: A measured in the run, B computed from measured and agreed figures, C rests on a price that
is only assumed. A figure is as sure as its weakest input. The price table grades its own prices.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from kit import views
from kit.prices import Prices
from kit.records import Decision
from kit.reporting import wording
from kit.reporting.scenario import answered_share, scenario
from kit.reporting.wording import Language


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its range: at the lower and upper bound of the answered share, else all three equal."""

    low: float
    point: float
    high: float
    grade: str
    """A, B or C."""


class MoneyLine(NamedTuple):
    """One figure, written out; ``span`` is "" for a figure without a range."""

    label: str
    value: str
    span: str
    grade: str


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost and worth of one decision's candidate in yen; a figure is None where the run does not carry it."""

    run: Figure
    """This run, all arms."""
    per_right: Figure | None
    """Per right response: of a year with its fixed cost where the volume is known, else of this run."""
    hours_per_year: Figure | None = None
    """Staff time saved, in hours; negative where wrong answers cost more than right ones save."""
    value_per_year: Figure | None = None
    running_per_year: Figure | None = None
    net_per_year: Figure | None = None

    def lines(self, lang: Language = "ja") -> tuple[MoneyLine, ...]:
        """Write out the figures that the run carries."""
        lines = []
        for field in fields(self):
            if figure := getattr(self, field.name):
                unit = "hours" if field.name == "hours_per_year" else "yen"
                span = wording.quantity([figure.low, figure.high], unit, lang) if figure.low < figure.high else ""
                value = wording.quantity([figure.point], unit, lang)
                lines.append(MoneyLine(wording.words(lang)[field.name], value, span, figure.grade))
        return tuple(lines)

    def _repr_html_(self) -> str:
        return views.table(("項目", "見込み", "幅", "確度"), self.lines())


def cost(decision: Decision, prices: Prices) -> Cost:
    """Return what the run cost and what its candidate would cost and save in a year (see ``Scenario``).

    per_right [yen] = running cost of a year / (12 × monthly_questions × share of right responses)

    Args:
        decision: The decision of the run.
        prices: The price table in force.
    """
    facts, arm = decision.facts, decision.arms[-1]
    metered = prices.prompt_yen_per_million + prices.completion_yen_per_million > 0
    machine = _grade(prices, "machine", *["tokens"] * metered)
    right = facts["points"][arm]["right"] * facts["planned"]
    made = Cost(
        run=_figure([sum(facts["yen"].values())] * 3, machine),
        per_right=_figure([facts["yen"][arm] / right] * 3, machine) if right else None,
    )
    year = scenario(decision, prices)
    if not year.monthly_questions * year.minutes_per_question:
        return made
    years = [replace(year, answered_share=share) for share in answered_share(decision)]
    worth, running = max("B", _grade(prices, "staff")), max("B", machine, _grade(prices, "fixed"))
    volume = 12 * year.monthly_questions * facts["points"][arm]["right"]
    return replace(
        made,
        per_right=_figure([year.running_yen / volume] * 3, running) if volume else None,
        hours_per_year=_figure((each.hours for each in years), "B"),
        value_per_year=_figure((each.value_yen for each in years), worth),
        running_per_year=_figure([year.running_yen] * 3, running),
        net_per_year=_figure((each.net_yen for each in years), max(worth, running)),
    )


def _grade(prices: Prices, *tables: str) -> str:
    """Return the weakest grade that the notes of some prices end with; a price without one is assumed."""
    found = (re.search(r"確度([AB])）$", prices.notes.get(table, "")) for table in tables)
    return max(match[1] if match else "C" for match in found)


def _figure(values: Iterable[float], grade: str) -> Figure:
    low, point, high = values
    return Figure(low, point, high, grade)
