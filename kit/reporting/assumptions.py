"""What the money figures assume: agreed with the criteria, measured in the run, from the price table, or set by the reader."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from kit.errors import ParameterError
from kit.evaluation.statistics import share_bounds
from kit.prices import PLAN, Prices, bounds
from kit.records import OPEN_STATES, Decision

PREFIXES = {"on_premises": "server", "cloud_api": "api", "cloud_gpu": "gpu", "edge": "edge"}
INSIDE = ("on_premises", "edge")
"""Those on the company's premises."""
"""Places, and how the keys of their prices begin."""
_LONGEST_S = 60.0
"""Seconds per question where so many failed that the run has no 95th percentile: the longest wait by default."""


@dataclass(frozen=True, slots=True)
class Use:
    """The assumptions, each an attribute: the keys of the plan's tables in ``data/prices.toml``, in yen, and

    - ``monthly_questions`` and ``minutes_per_question`` (staff time that a right answer makes unnecessary), as agreed;
    - ``answered_share`` and ``wrong_share`` of all questions (0–1), as measured; a wrong answer costs the time that a
      right one saves;
    - ``measured_minutes`` saved per question as people timed them, wrong answers included; only where they did;
    - ``seconds_per_question`` for which a question occupies the measured machine (95th percentile of the run);
    - ``staff_yen_per_hour`` and ``fixed_yen_per_month``.
    """

    place: str
    """Where it is to run: one of ``PREFIXES``."""
    values: dict[str, float] = field(repr=False)

    def __getattr__(self, name: str) -> float:
        values: dict[str, float] = object.__getattribute__(self, "values")
        if name not in values:
            raise AttributeError(name)
        return values[name]

    @property
    def own(self) -> str:
        """The place on the premises that the others are compared with: the planned one, else a server."""
        return self.place if self.place in INSIDE else INSIDE[0]

    def but(self, **values: float) -> "Use":
        """Return the assumptions with some values set otherwise."""
        return Use(self.place, self.values | values)

    def at(self, place: str, name: str) -> float:
        """Return what a place's assumption of a name is: ``at("edge", "slowness")`` is ``edge_slowness``."""
        return self.values[f"{PREFIXES[place]}_{name}"]


def assumptions(decision: Decision, prices: Prices, changes: dict[str, Any]) -> Use:
    """Put together what was priced, agreed, measured and changed, in this order of rising weight.

    Raises:
        ParameterError: There is no assumption of a changed name, or its value is impossible.
    """
    facts, arm = decision.facts, decision.arms[-1]
    points, tokens = facts["points"][arm], facts.get("tokens", {}).get(arm)
    free = tokens is not None and not sum(tokens)  # it calls no model: a PC will do
    spent = {"prompt_tokens_per_question": tokens[0] / facts["planned"], "completion_tokens_per_question": tokens[1] / facts["planned"],
             "thinking_tokens_per_answer": 0.0} if tokens and not free else {}  # fmt: skip
    timed = None if "minutes_per_question" in changes else timed_minutes(decision)
    values = prices.plan | spent | {
        "monthly_questions": facts["monthly_questions"],
        "minutes_per_question": facts["minutes_per_question"],
        "answered_share": answered_share(decision)[1],
        "wrong_share": points["wrong_answer"],
        "seconds_per_question": points.get("latency_p95") or _LONGEST_S,
        "staff_yen_per_hour": prices.staff_yen_per_hour,
        "fixed_yen_per_month": prices.fixed_yen_per_month,
    } | ({"measured_minutes": timed[1]} if timed else {})  # fmt: skip
    place = "cloud_api" if facts.get("external") else "edge" if free else "on_premises"
    wrong = [key for key, value in changes.items() if key not in {*values, "place"} or not _possible(key, value)]
    if wrong:
        raise ParameterError(
            f"前提「{wrong[0]}」を {changes[wrong[0]]!r} にはできません。", "そのような前提がないか、値が範囲の外にあります。",
            f"使える前提: place、{'、'.join(values)}",
        )  # fmt: skip
    changed = dict(changes)
    return Use(changed.pop("place", place), values | changed)


def _possible(key: str, value: Any) -> bool:
    if key == "place":
        return isinstance(value, str) and value in PREFIXES
    low, high = bounds(key)
    return isinstance(value, (int, float)) and low <= value <= high


def answered_share(decision: Decision) -> tuple[float, float, float]:
    """Return the share of all planned questions that the candidate answered rightly: low, measured, high.

    measured = (right × planned − refusal × unanswerable) / planned: a rightful abstention counts as right for the
    gate but saves nobody's time. Bounds are Clopper-Pearson at the sealed alpha; samples that infrastructure lost
    count as failed below and as answered above. The mix of questions is taken to be that of the real inquiries.
    """
    facts, arm, alpha = decision.facts, decision.arms[-1], decision.seal.criteria.alpha
    points, n = facts["points"][arm], facts["planned"]
    answered = round(points["right"] * n) - round((points["refusal"] or 0.0) * facts["unanswerable"])
    lost = sum(decision.states[arm].get(state, 0) for state in OPEN_STATES)
    return share_bounds(answered, n, alpha)[0], answered / n, share_bounds(answered + lost, n, alpha)[1]


def timed_minutes(decision: Decision) -> tuple[float, float, float] | None:
    """Return the minutes saved per question as people timed them, with their bounds, where a KPI says so."""
    timed = ((r.low, r.point, r.high) for r in decision.kpis if r.kpi.metric == "minutes_saved" and r.kpi.role != "guardrail")
    return next((ends for ends in timed if all(map(math.isfinite, ends))), None)


def export_toml(prices: Prices, use: Use, changed: Iterable[str], day: str) -> str:
    """Return the price table with the changed assumptions, as ``kit.read_prices`` reads it back.

    Assumptions that no price table holds stand in comments above it.

    Args:
        prices: The price table.
        use: The assumptions.
        changed: Which of them are not those of the table.
        day: The day to write beside them.
    """
    values: dict[str, Any] = {name: getattr(use, name) for name in changed}
    notes = dict(prices.notes)
    for table, keys in (PLAN | {"staff": ("staff_yen_per_hour",), "fixed": ("fixed_yen_per_month",)}).items():
        if found := sorted({*keys} & {*values}):
            notes[table] = f"{notes[table].rpartition('（')[0]}。試算で変更: {'、'.join(found)}（{day}、確度C）"
    written = replace(prices, notes=notes, plan={key: values.get(key, value) for key, value in prices.plan.items()})
    staff, fixed = (values.get(key, getattr(prices, key)) for key in ("staff_yen_per_hour", "fixed_yen_per_month"))
    written = replace(written, staff_yen_per_hour=staff, fixed_yen_per_month=fixed)
    others = (f"# {key} = {value}\n" for key, value in values.items() if key not in prices.plan and not hasattr(prices, key))
    return "".join(others) + written.to_toml()
