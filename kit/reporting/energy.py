"""Electricity and CO2 of the answers: from the joules that were metered during the run, else from time and watts."""

from collections.abc import Mapping
from dataclasses import dataclass

from kit.evaluation.gate import Samples
from kit.prices import Prices, planned
from kit.records import Decision
from kit.reporting import wording
from kit.reporting.blocks import Grade, Table
from kit.reporting.wording import Language


@dataclass(frozen=True, slots=True)
class Energy:
    """What 1,000 answers of an arm take."""

    kwh: float
    """At the building's meter: cooling and losses included (PUE)."""
    kg_co2: float
    metered: bool
    """Whether the driver's counters told it (graphics cards only), or time × watts of the price table."""
    grade: Grade


def energy(decision: Decision, found: Samples) -> dict[str, Energy]:
    """Return by arm what 1,000 answers take.

    metered [kWh] = joules / samples × (arm's seconds a sample / all arms' seconds a sample) × PUE × 1,000 / 3.6e6
    estimated [kWh] = arm's seconds a sample × watts × PUE × 1,000 / 3.6e6;  CO2 [kg] = kWh × kg_co2_per_kwh

    Nothing is told of machines elsewhere (``external``), nor estimated where samples waited for one another
    (``throughput``), nor anything where the run kept no prices. Of a run whose prices held no [energy] it is that of the
    table in force.

    Args:
        decision: The decision of a run.
        found: Its samples.

    Raises:
        SettingsError: The price table in force is asked and cannot be read.
    """
    facts, kept = decision.facts, decision.facts.get("prices")
    seconds = {arm: sum(s.seconds for s in items) / max(1, len(items)) for arm, items in found.items()}
    mean, taken = sum(seconds.values()) / max(1, len(seconds)), facts.get("energy")
    if not kept or not mean or facts.get("external") or (not taken and facts.get("mode") == "throughput"):
        return {}
    plan = planned(Prices(**kept)).plan
    if "watts" not in plan:  # a plan of a version without energy, or a table in force that plans nothing
        return {}
    watts, pue, factor = (plan[key] for key in ("watts", "pue", "kg_co2_per_kwh"))
    per_second = taken["joules"] / taken["samples"] / mean if taken else watts
    kwh = {arm: each * per_second * pue * 1000 / 3.6e6 for arm, each in seconds.items()}
    return {arm: Energy(each, each * factor, bool(taken), "C") for arm, each in kwh.items()}


def table(decision: Decision, found: Samples, names: Mapping[str, str], lang: Language) -> Table | None:
    """Return electricity and CO2 by arm, the candidate first, as they stand in the chapter on quality per money."""
    words = wording.words(lang)
    rows = tuple(
        (names[arm], wording.quantity([e.kwh], "kwh", lang), wording.quantity([e.kg_co2], "kg_co2", lang), words["energy_metered" if e.metered else "energy_estimated"], e.grade)
        for arm, e in reversed(energy(decision, found).items())
    )
    header = tuple(words[key] for key in ("qpd_arm", "energy_kwh", "energy_co2", "energy_how", "grade"))
    note = words["energy_note_metered" if decision.facts.get("energy") else "energy_note"]
    return Table(header, rows, "lrrlc", words["energy_table"], note) if rows else None
