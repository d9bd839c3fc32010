"""The executive summary as one value, computed once from a decision and the price table.

Every format shows the texts of that value and computes nothing (``export``), so the figures are the same everywhere
and the same decision gives the same bytes. Nothing here runs a model or needs a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kit.prices import Prices
from kit.records import Decision, Outcome
from kit.reporting import findings, money, outlook, overview, placement, qpd, sovereignty, verdict, wording
from kit.reporting.blocks import Chart, Section, Table
from kit.reporting.charts import kpi_chart
from kit.reporting.economics import economics
from kit.reporting.money import MoneyLine
from kit.reporting.verdict import KpiLine
from kit.reporting.wording import Language, plain


@dataclass(frozen=True, slots=True)
class Summary:
    """All that any format shows, as texts in one language, in the order an executive reads; pairs are name and text."""

    lang: Language
    outcome: Outcome
    mark: str
    title: str
    hypothesis: str
    scope: str
    headline: tuple[str, ...]
    """The seal line: seal, approvers, amendments, look, questions, day of measurement, data sent outside."""
    reason: str
    evidence: str
    comparison: str
    """Candidate against baseline, as far as the interval of their difference carries it; "" with one arm."""
    kpis: tuple[KpiLine, ...]
    arms: tuple[tuple[str, str], ...]
    failures: str
    footnote: str
    chart: Chart | None
    money: tuple[MoneyLine, ...]
    assumption: str
    steps: tuple[str, ...]
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    """All that follows the first page."""


def kpi_table(summary: Summary, note: str = "") -> Table:
    """Return the measures of page one; the baseline only where there is one."""
    words, beside = wording.words(summary.lang), len(summary.arms) > 1
    names = [words[key] for key in ("measure", "result", "value", "interval", "bar", *["baseline"] * beside, "n")]
    rows = tuple((k.label, f"{k.mark} {k.word}", k.value, k.interval, k.bar, *[k.baseline] * beside, k.n) for k in summary.kpis)
    return Table(tuple(names), rows, "llrrrrr"[: len(names)], words["kpis"], note)


def money_table(summary: Summary, note: str = "") -> Table:
    """Return the money of page one."""
    words = wording.words(summary.lang)
    return Table(tuple(words[key] for key in ("item", "estimate", "range", "grade")), tuple(map(tuple, summary.money)), "lrrc", words["money"], note)


def summarise(decision: Decision, prices: Prices, lang: Language = "ja", others: Sequence[Decision] = ()) -> Summary:
    """Compute the summary of a decision.

    Args:
        decision: The decision of a sealed run.
        prices: The price table for the yearly figures.
        lang: Language of the fixed words and of how figures are written.
        others: Further runs, for the overview.
    """
    words, facts, criteria = wording.words(lang), decision.facts, decision.seal.criteria
    found = economics(decision, prices)
    known, complete = outlook.figures(decision, found, lang), not verdict.is_incomplete(decision)
    sections = (
        overview.section([decision, *others], lang),
        money.worth(found, lang) if complete else None,
        money.cost(found, lang, placement.advice(found, lang)) if complete else None,
        qpd.section(decision, lang) if complete else None,
        sovereignty.section(decision, lang),
        findings.answers(decision, lang),
        outlook.plan(decision, known, lang),
        outlook.talk(decision, known, lang),
        findings.appendix(decision, found.prices, lang),
    )
    return Summary(
        lang=lang,
        outcome=decision.outcome,
        mark=verdict.MARKS[decision.outcome][0],
        title=plain(criteria.title),
        hypothesis=plain(criteria.hypothesis),
        scope=plain(facts.get("scope", "")),
        headline=verdict.headline(decision, lang),
        reason=verdict.reason(decision, lang),
        evidence=verdict.evidence(decision, lang) + outlook.but(decision, known, lang),
        comparison=verdict.comparison(decision, lang),
        kpis=tuple(verdict.kpi_line(result, lang) for result in decision.kpis),
        arms=tuple((name, plain(facts["arm_labels"][arm])) for arm, name in verdict.arms(decision, lang)),
        failures=verdict.failures(decision, lang),
        footnote=words["reading"].format(two=f"{100 - facts['look']['alpha'] * 200:.4g}"),
        chart=kpi_chart(decision.kpis, lang=lang),
        money=money.headline(found, lang) if complete else (),
        assumption=words["assumption"].format(staff=prices.staff_yen_per_hour, **facts) if found.hours and complete else "",
        steps=outlook.steps(decision, known, lang),
        notes=(*map(plain, facts.get("notes", ())), *filter(None, [money.declined(found, lang)] * complete)),
        sections=tuple(section for section in sections if section),
    )
