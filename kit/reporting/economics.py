"""What a decision is worth and what it costs, over years and by place: plain arithmetic, every formula in its docstring.

Every figure has a grade: A measured in the run, B computed from measured and agreed figures, C rests on a price that
is only assumed. A figure is as sure as its weakest input. The price table grades its own prices.

A *settled year* asks the agreed questions each month, without growth and after adoption: page one shows it. The years
of the plan (``Place.yearly_yen``, payback, scenarios) begin with the adoption curve and grow.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from kit.prices import Prices, bounds, planned
from kit.records import Decision
from kit.reporting.assumptions import PREFIXES, Use, answered_share, assumptions, export_toml, timed_minutes
from kit.reporting.blocks import Grade

YEARS = 5
PARTS = ("setup", "hardware", "power", "site", "usage", "people", "checking")
"""Kinds of cost: set-up, depreciation, electricity, space and maintenance, fees by use, operation, checks of quality."""
_TABLES = {"on_premises": ("server", "power"), "cloud_api": ("cloud_api",), "cloud_gpu": ("cloud_gpu",), "edge": ("edge_pc", "power")}
_VARIED = ("answered_share", "wrong_share", "monthly_questions", "minutes_per_question", "staff_yen_per_hour", "fixed_yen_per_month",
           "yen_per_wrong_answer", "adoption_months", "audits_per_month", "yen_per_kwh", "setup_yen")  # fmt: skip
_PRICED = ("_yen", "_per_hour", "_completion", "_operation_hours_per_month")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its range: at the lower and upper bound of what was measured, else all three equal."""

    low: float
    point: float
    high: float
    grade: Grade


@dataclass(frozen=True, slots=True)
class Place:
    """What a place costs over the years of the plan."""

    name: str
    yearly_yen: tuple[float, ...]
    """Cost of each of the 5 years."""
    parts: tuple[tuple[float, ...], ...]
    """For each year its kinds of cost, in the order of ``PARTS``."""
    settled_yen: float
    """Cost of a settled year."""
    machines: int
    """Machines or instances that a settled year needs; 0 where fees are by token."""
    utilisation: float
    """Share of their capacity that they then are used to, 0–1."""
    grade: Grade

    def total_yen(self, years: int = YEARS) -> float:
        """Return the cost of the first years (1–5)."""
        return sum(self.yearly_yen[:years])


@dataclass(frozen=True, slots=True)
class Scenario:
    """The plan under one set of assumptions, over all years."""

    name: str
    """low, base or high."""
    minutes_saved: float
    """Per question."""
    monthly_questions: float
    value_yen: float
    cost_yen: float
    payback_months: float | None


@dataclass(frozen=True, slots=True)
class Effect:
    """What the net of all years becomes at the two ends of one assumption."""

    field: str
    ends: tuple[float, float]
    """The assumption's low and high value."""
    net_yen: tuple[float, float]
    """The net at these."""


@dataclass(frozen=True, slots=True)
class Economics:
    """All money figures of a decision; a figure is None where run and price table do not carry it."""

    decision: Decision = field(repr=False)
    prices: Prices = field(repr=False)
    use: Use | None
    """None where the price table plans nothing or no volume was agreed."""
    changed: tuple[str, ...]
    """Assumptions that the caller set."""
    run: Figure
    """This run, all arms, in yen."""
    per_right: Figure | None = None
    """Yen per right response: of a settled year where there is one, else of this run."""
    hours: Figure | None = None
    """Staff time saved in a settled year; negative where wrong answers cost more than right ones save."""
    value: Figure | None = None
    """Worth of a settled year in yen, damage of wrong answers deducted."""
    running: Figure | None = None
    """Cost of a settled year at ``use.place``."""
    net: Figure | None = None
    """Value less running cost."""
    places: tuple[Place, ...] = ()
    breakeven: tuple[tuple[str, float | None], ...] = ()
    """For each other place the monthly questions from which ``Use.own`` costs no more; None: at no volume."""
    payback_months: tuple[float | None, float | None, float | None] | None = None
    """At the low, measured and high value; None within: not in the years of the plan."""
    scenarios: tuple[Scenario, ...] = ()
    sensitivity: tuple[Effect, ...] = ()
    """The largest effect first."""
    training_yen_per_year: float | None = None
    """What adapting the model again and again would cost, beside the inference of ``usage`` and ``hardware``."""

    def export_toml(self) -> str:
        """Return the price table with the changed assumptions, as ``kit.read_prices`` reads it back."""
        return export_toml(self.prices, self.use, self.changed, self.decision.facts["day"]) if self.use else self.prices.to_toml()


def economics(decision: Decision, prices: Prices, **changes: Any) -> Economics:
    """Compute all money figures of a decision.

    A year is claimed only where a volume was agreed (or set), its worth only where handling times were agreed or
    timed, and costs by place only where a price table plans them: the run's own, else the one in force.

    Args:
        decision: The decision of a run.
        prices: The price table.
        **changes: Assumptions (see ``Use``) to set otherwise, e.g. ``monthly_questions=800``; what rests on them is of grade C.

    Raises:
        ParameterError: There is no such assumption, or its value is impossible.
    """
    facts, arm, prices = decision.facts, decision.arms[-1], planned(prices)
    metered = prices.prompt_yen_per_million + prices.completion_yen_per_million > 0
    grade = cast(Grade, prices.grade("machine", *["tokens"] * metered))
    right = facts["points"][arm]["right"]
    made = Economics(
        decision, prices, None, tuple(changes), _same(sum(facts["yen"].values()), grade),
        _same(facts["yen"][arm] / (right * facts["planned"]), grade) if right else None,
    )  # fmt: skip
    use = assumptions(decision, prices, changes) if prices.plan else None
    if not use or not use.monthly_questions:
        return made
    places = tuple(_place(name, use, _grade(prices, changes, "staff", "fixed", "usage", "checking", *_TABLES[name])) for name in PREFIXES)
    here, own = next(place for place in places if place.name == use.place), use.own
    made = replace(
        made, use=use, places=places, running=_same(here.settled_yen, here.grade),
        per_right=_same(here.settled_yen / (12 * use.monthly_questions * right), here.grade) if right else None,
        breakeven=tuple((name, breakeven(use, own, name)) for name in PREFIXES if name != own),
        training_yen_per_year=training_yen_per_year(use),
    )  # fmt: skip
    return _with_worth(made, use) if use.minutes_per_question or "measured_minutes" in use.values else made


def minutes_saved(use: Use) -> float:
    """Return the staff minutes that a question saves: as timed, else (answered − wrong share) × minutes_per_question."""
    return use.values.get("measured_minutes", (use.answered_share - use.wrong_share) * use.minutes_per_question)


def worth_yen(use: Use, questions: float) -> float:
    """Return what some questions are worth: questions × (minutes saved / 60 × staff − wrong_share × yen_per_wrong_answer)."""
    return questions * (minutes_saved(use) / 60 * use.staff_yen_per_hour - use.wrong_share * use.yen_per_wrong_answer)


def monthly_volumes(use: Use) -> tuple[float, ...]:
    """Return the questions of each month of the plan.

    monthly_questions × (1 + growth_per_year)^(full years gone) × adoption, where adoption rises linearly from
    adoption_start_share to 1 over adoption_months.
    """
    start, months = use.adoption_start_share, use.adoption_months
    adoption = (min(1.0, start + (1 - start) * month / months) if months else 1.0 for month in range(12 * YEARS))
    return tuple(use.monthly_questions * (1 + use.growth_per_year) ** (m // 12) * share for m, share in enumerate(adoption))


def asked_per_month(use: Use, monthly_questions: float) -> float:
    """Return the calls a month: questions × (1 + retries) + evaluations × questions of each."""
    return monthly_questions * (1 + use.retries_per_question) + use.evaluations_per_month * use.questions_per_evaluation


def load(name: str, use: Use, monthly_questions: float) -> float:
    """Return the machines that are busy in working hours: calls × seconds × slowness / 3600 / at once / open hours."""
    value = partial(use.at, name)
    busy_hours = asked_per_month(use, monthly_questions) * use.seconds_per_question * value("slowness") / 3600
    return busy_hours / value("questions_at_once") / use.open_hours_per_month


def machines(name: str, use: Use, monthly_questions: float) -> int:
    """Return the machines or instances needed: load / target_utilisation, rounded up; none where fees are by token."""
    if name == "cloud_api":
        return 0
    least = 1 if name == "cloud_gpu" else int(use.at(name, "minimum"))
    return max(least, math.ceil(round(load(name, use, monthly_questions) / use.target_utilisation, 9)))


def yearly_parts(name: str, use: Use, monthly_questions: float) -> tuple[float, ...]:
    """Return a year's cost in yen, before taxes, by the kinds of ``PARTS``, without set-up.

    hardware = machines × price / years of depreciation (straight-line, no residual value)
    power = (machines × 8,760 h × idle + busy hours × (load − idle watts)) / 1,000 × PUE × yen per kWh
    site = machines × (12 × space + maintenance share × price)
    usage = 12 × calls × (prompt tokens × price + (completion + thinking tokens) × price) / 10^6 (API),
    12 × instances × hours × price (GPU by the hour)
    people = 12 × (fixed_yen_per_month + operation hours × staff)
    checking = 12 × audited answers × minutes / 60 × staff; evaluation runs are among the calls
    """
    value, count = partial(use.at, name), machines(name, use, monthly_questions)
    hardware = power = site = usage = 0.0
    if name == "cloud_api":
        completion = use.completion_tokens_per_question + use.thinking_tokens_per_answer
        call = use.prompt_tokens_per_question * value("yen_per_million_prompt") + completion * value("yen_per_million_completion")
        usage = 12 * asked_per_month(use, monthly_questions) * call / 1e6
    elif name == "cloud_gpu":
        usage = 12 * count * value("hours_per_month") * value("yen_per_hour")
    else:
        hardware = count * value("yen") / value("years")
        busy_hours = 12 * load(name, use, monthly_questions) * use.open_hours_per_month
        watt_hours = count * 8760 * value("idle_watts") + busy_hours * (value("load_watts") - value("idle_watts"))
        power = watt_hours / 1000 * value("pue") * use.yen_per_kwh
        site = count * (12 * value("space_yen_per_month") + value("maintenance_share") * value("yen"))
    people = 12 * (use.fixed_yen_per_month + value("operation_hours_per_month") * use.staff_yen_per_hour)
    checking = 12 * use.audits_per_month * use.minutes_per_audit / 60 * use.staff_yen_per_hour
    return 0.0, hardware, power, site, usage, people, checking


def settled_yen(name: str, use: Use, monthly_questions: float) -> float:
    """Return the cost of a settled year at a place, for a number of questions a month."""
    return sum(yearly_parts(name, use, monthly_questions))


def breakeven(use: Use, place: str, other: str, most: float = 1e7) -> float | None:
    """Return the questions a month from which on (up to ``most``) a place costs no more than another in a settled year.

    0 where it never costs more, None where it does at ``most``. Machines come in whole numbers, so that the cheaper
    place may change several times: the last change counts. Found on a grid of 40 points a decade, then by bisection,
    and rounded up to two digits, for the prices are known no better.
    """

    def dearer(volume: float) -> bool:
        return settled_yen(place, use, volume) > settled_yen(other, use, volume)

    grid = [most * 10 ** (step / 40) for step in range(-40 * 7, 1)]
    last = max((at for at, volume in enumerate(grid) if dearer(volume)), default=-1)
    if last == len(grid) - 1 or last < 0:
        return None if last >= 0 else 0.0
    low, high = grid[last], grid[last + 1]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if dearer(middle) else (low, middle)
    unit = 10.0 ** (math.floor(math.log10(high)) - 1)
    return math.ceil(high / unit) * unit


def cheaper_now(use: Use, place: str, other: str) -> bool:
    """Return whether a place costs no more than another in a settled year of the volume assumed."""
    return settled_yen(place, use, use.monthly_questions) <= settled_yen(other, use, use.monthly_questions)


def payback_months(use: Use) -> float | None:
    """Return the months after which worth has made up for all that was paid until then; None where it does not.

    Paid are set-up and machines when they are bought (and bought again at the end of their life), all else evenly
    over the year. Worth follows the adoption curve.
    """
    volumes, bought, balance = monthly_volumes(use), list[float](), -use.setup_yen
    for month, volume in enumerate(volumes):
        if month % 12 == 0:
            mean = sum(volumes[month : month + 12]) / 12
            running = sum(yearly_parts(use.place, use, mean)[2:]) / 12
            balance -= _purchase(use, machines(use.place, use, mean), bought)
        balance += worth_yen(use, volume) - running
        if balance >= 0:
            return month + 1
    return None


def net_yen(use: Use) -> float:
    """Return worth less cost at ``use.place`` over all years of the plan."""
    return worth_yen(use, sum(monthly_volumes(use))) - _place(use.place, use).total_yen()


def training_yen_per_year(use: Use) -> float:
    """Return what adapting a model costs: trainings × (GPU hours × rent of a GPU + hours of people × staff)."""
    each = use.training_gpu_hours * use.gpu_yen_per_hour + use.training_people_hours * use.staff_yen_per_hour
    return use.trainings_per_year * each


def _with_worth(made: Economics, use: Use) -> Economics:
    """Add what rests on the worth: its range is that of the measured share or of the timed minutes, unless they were set."""
    timed = timed_minutes(made.decision) if "measured_minutes" in use.values else None
    key, ends = ("measured_minutes", timed) if timed else ("answered_share", answered_share(made.decision))
    low, high = (use.but(**{key: end}) for end in (ends[0], ends[2])) if key not in made.changed else (use, use)
    uses, year, running = (low, use, high), 12 * use.monthly_questions, made.running or _same(0, "C")
    hours = _figure((year * minutes_saved(each) / 60 for each in uses), _grade(made.prices, made.changed))
    worth = _grade(made.prices, made.changed, "staff", *["checking"] * bool(use.yen_per_wrong_answer))
    value = _figure((worth_yen(each, year) for each in uses), worth)
    net = _figure((worth_yen(each, year) - running.point for each in uses), max(worth, running.grade))
    volumes = (use.monthly_questions * (1 + side * use.spread) for side in (-1, 0, 1))
    cases = [each.but(monthly_questions=volume) for each, volume in zip(uses, volumes, strict=True)]
    return replace(
        made, hours=hours, value=value, net=net,
        payback_months=(payback_months(low), payback_months(use), payback_months(high)),
        scenarios=tuple(_scenario(name, case) for name, case in zip(("low", "base", "high"), cases, strict=True)),
        sensitivity=_sensitivity(use, {key: (ends[0], ends[2])} if key not in made.changed else {}),
    )  # fmt: skip


def _scenario(name: str, use: Use) -> Scenario:
    worth = worth_yen(use, sum(monthly_volumes(use)))
    return Scenario(name, minutes_saved(use), use.monthly_questions, worth, worth - net_yen(use), payback_months(use))


def _sensitivity(use: Use, measured: dict[str, tuple[float, float]]) -> tuple[Effect, ...]:
    """Change one assumption at a time: what was measured to its bounds, all else by ``spread`` to either side."""
    prefix = PREFIXES[use.place]
    varied = [*_VARIED, *(name for name in use.values if name.startswith(f"{prefix}_") and name.endswith(_PRICED))]
    ends = {key: _ends(key, use) for key in varied} | measured
    effects = [
        Effect(key, (low, high), (net_yen(use.but(**{key: low})), net_yen(use.but(**{key: high}))))
        for key, (low, high) in ends.items()
    ]
    found = [each for each in effects if abs(each.net_yen[1] - each.net_yen[0]) >= 1]
    return tuple(sorted(found, key=lambda each: -abs(each.net_yen[1] - each.net_yen[0]))[:8])


def _ends(key: str, use: Use) -> tuple[float, float]:
    """Return an assumption ``spread`` lower and higher, but no share above 1 and nothing else that cannot be."""
    (least, most), value = bounds(key), use.values[key]
    return max(least, value * (1 - use.spread)), min(most, value * (1 + use.spread))


def _place(name: str, use: Use, grade: Grade = "") -> Place:
    volumes = monthly_volumes(use)
    means = [sum(volumes[12 * year : 12 * year + 12]) / 12 for year in range(YEARS)]
    parts = [yearly_parts(name, use, mean) for mean in means]
    parts[0] = (use.setup_yen, *parts[0][1:])
    count = machines(name, use, use.monthly_questions)
    used = load(name, use, use.monthly_questions) / count if count else 0.0
    return Place(name, tuple(map(sum, parts)), tuple(parts), settled_yen(name, use, use.monthly_questions), count, used, grade)


def _purchase(use: Use, needed: int, bought: list[float]) -> float:
    """Return the price of the machines to buy this year, and note them among those bought each year so far."""
    if use.place not in ("on_premises", "edge"):
        return 0.0
    value = partial(use.at, use.place)
    bought.append(max(0.0, needed - sum(bought[-math.ceil(value("years")) + 1 :] if value("years") > 1 else ())))
    return bought[-1] * value("yen")


def _grade(prices: Prices, changes: Iterable[str], *tables: str) -> Grade:
    """Return the weakest of B, the grades of the tables, and C where the caller set assumptions of his own."""
    return "C" if [*changes] else cast(Grade, max("B", prices.grade(*tables))) if tables else "B"


def _figure(values: Iterable[float], grade: Grade) -> Figure:
    low, point, high = values
    return Figure(low, point, high, grade)


def _same(value: float, grade: Grade) -> Figure:
    return Figure(value, value, value, grade)
