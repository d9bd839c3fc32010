"""Several runs side by side: which PoC comes first, whether it still holds, and quality per money by quarter."""

import math
from collections.abc import Sequence

from kit.evaluation import monitoring, portfolio
from kit.evaluation.monitoring import Trend, Week
from kit.evaluation.portfolio import Standing
from kit.records import Decision
from kit.reporting import qpd, verdict, wording
from kit.reporting.blocks import Block, Listing, Section, Table, Text
from kit.reporting.charts_evaluation import trend_chart
from kit.reporting.charts_qpd import quarters_chart
from kit.reporting.quarters import quarters
from kit.reporting.wording import Language, plain
from kit.trust import ledger


def section(decisions: Sequence[Decision], lang: Language = "ja") -> Section | None:
    """Return the chapter on several runs; None for fewer than two.

    The days left are counted from the last run's day, not from today: drawn again, it says the same.

    Args:
        decisions: Decided runs, of one PoC or of several.
        lang: The language.
    """
    if len(decisions) < 2:
        return None
    words = wording.words(lang)
    found = portfolio.portfolio(decisions, day=max(decision.facts["day"] for decision in decisions))
    first = found.standings[0].decision
    lead = words["overview_lead"].format(count=len(found.standings), title=plain(first.seal.criteria.title), outcome=words[first.outcome])
    header = tuple(words[key] for key in ("overview_rank", "overview_poc", "overview_outcome", "overview_binding", "interval", "bar", "overview_yen", "overview_run"))
    rows = tuple((f"{rank}", *_standing(standing, lang)) for rank, standing in enumerate(found.standings, 1))
    blocks: list[Block] = [Table(header, rows, "rlllllrl", words["overview_ranking"], words["overview_note"])]
    blocks += [Text(words["overview_older"].format(runs=words["comma"].join(found.older)))] * bool(found.older)
    for seal in dict.fromkeys(decision.seal.sha256 for decision in decisions):
        blocks += _trend([decision for decision in decisions if decision.seal.sha256 == seal], lang)
    for name in dict.fromkeys(map(portfolio.poc, decisions)):
        blocks += _quarters([decision for decision in decisions if portfolio.poc(decision) == name], lang)
    return Section("overview", words["overview_title"], tuple(blocks), lead if len(found.standings) > 1 else "")


def _standing(standing: Standing, lang: Language) -> tuple[str, ...]:
    decision, yen = standing.decision, standing.yen_per_right
    result = (verdict.decisive(decision) if decision.outcome != "GO" else None) or standing.binding  # what failed or is open, if anything
    return (
        plain(decision.seal.criteria.title), wording.words(lang)[decision.outcome], wording.label(result, lang), wording.interval(result, lang),
        wording.bar(result, lang), "—" if yen is None else wording.quantity([yen], "yen", lang), decision.folder.name,
    )  # fmt: skip


def _trend(decisions: Sequence[Decision], lang: Language) -> list[Block]:
    """Return the trend of the runs of one seal, from the ledger beside them; [] without a second run, or without ledger."""
    folder, words = decisions[0].folder.resolve().parent, wording.words(lang)
    if len(decisions) < 2 or not (folder / ledger.NAME).is_file():
        return []
    if not ledger.find(folder / ledger.NAME, "run", seal=decisions[0].seal.sha256):  # the ledger of other runs
        return []
    found = monitoring.trend(folder, decisions[0].seal.sha256)
    if len(found.weeks) < 2:
        return []
    header = tuple(words[key] for key in ("trend_day", "trend_value", "trend_limits", "trend_state", "trend_verdict", "overview_run"))
    rows = tuple(_week(week, number == 0, lang) for number, week in enumerate(found.weeks))
    return [trend_chart(found, lang=lang), Table(header, rows, "lrllll", _title(found, lang), words["trend_note"])]


def _title(found: Trend, lang: Language) -> str:
    return str(wording.words(lang)["trend_table"].format(name=plain(found.label)))


def _week(week: Week, first: bool, lang: Language) -> tuple[str, ...]:
    words, known = wording.words(lang), not math.isnan(week.low)
    return (
        week.day, wording.quantity([week.share], "share", lang), wording.quantity([week.low, week.high], "share", lang) if known else "—",
        words["trend_out" if week.outside else "trend_in"] if known else "—", words["trend_first"] if first else words[week.verdict], week.run,
    )  # fmt: skip


def _quarters(decisions: Sequence[Decision], lang: Language) -> list[Block]:
    """Return the quality per money of one PoC by quarter; [] for a single quarter."""
    found, words = quarters(decisions), wording.words(lang)
    if len(found) < 2:
        return []
    what, title = words[f"qpd_{found[0].metric}"], words["quarter_title"].format(name=plain(decisions[0].seal.criteria.title))
    axis = words["quarter_axis"].format(what=what)
    rows = tuple(
        Text(words["quarter_line"].format(
            quarter=words["quarter"].format(year=q.year, number=q.number), value=wording.quantity([q.qpd.point], f"qpd_{q.metric}", lang),
            interval=wording.quantity(q.qpd[1:], f"qpd_{q.metric}", lang), runs=q.runs,
        ), max(map(qpd.grade, decisions))) for q in found
    )  # fmt: skip
    return [quarters_chart(found, axis, lang), Listing(rows, title)]
