"""The money in words: the lines of page one, and the chapters on worth and on cost."""

from collections.abc import Sequence
from typing import NamedTuple

from kit.reporting import wording
from kit.reporting.assumptions import Use
from kit.reporting.blocks import Block, Chart, Listing, Section, Table, Text
from kit.reporting.charts_money import (
    breakeven_chart,
    even_sentences,
    place_name,
    tco_chart,
    tornado_chart,
    waterfall_chart,
)
from kit.reporting.economics import YEARS, Economics, Figure, minutes_saved, yearly_parts
from kit.reporting.wording import Language

_LEAST_SHOWN = 0.0005
"""A smaller difference of two shares is not seen in what is written."""


class MoneyLine(NamedTuple):
    """One figure, written out; ``span`` is "" for a figure without a range."""

    label: str
    value: str
    span: str
    grade: str


def headline(economics: Economics, lang: Language = "ja") -> tuple[MoneyLine, ...]:
    """Write out the figures of page one, as far as the run carries them: six at most.

    Args:
        economics: The money figures.
        lang: Language of the labels.
    """
    words, made = wording.words(lang), economics
    value, *rest = _written(made.run, lang)
    lines = [MoneyLine(words["run"], words["under_one"] if 0 < made.run.point < 1 else value, *rest)]
    if made.per_right:
        lines.append(MoneyLine(words["money_per_right"], *_written(made.per_right, lang)))
    if made.hours and made.value:
        hours, worth = _written(made.hours, lang, "hours"), _written(made.value, lang)
        value, span = (words["money_hours_worth"].format(hours=h, yen=y) if y else h for h, y in zip(hours[:2], worth[:2], strict=True))
        lines.append(MoneyLine(words["money_hours_line"], value, span, max(hours[2], worth[2])))
    if made.running and made.use:
        lines.append(MoneyLine(words["money_running"].format(place=place_name(made.use.place, lang)), *_written(made.running, lang)))
    if made.net and made.payback_months:
        lines.append(MoneyLine(words["money_net"], *_written(made.net, lang)))
        late, months, soon = made.payback_months
        span = words["to"].join(dict.fromkeys((_months(soon, lang, short=True), _months(late, lang, short=True))))
        lines.append(MoneyLine(words["money_payback"], _months(months, lang), span if soon != late else "", made.net.grade))
    return tuple(lines)


def declined(economics: Economics, lang: Language = "ja") -> str:
    """Say why fewer questions save time than were handled rightly: declining rightly saves none; "" where they are as many."""
    made, use = economics, economics.use
    right = made.decision.facts["points"][made.decision.arms[-1]].get("right")
    if not use or right is None or "measured_minutes" in use.values or right - use.answered_share < _LEAST_SHOWN:
        return ""
    figures = {"right": (right, "share"), "declined": (right - use.answered_share, "points"), "answered": (use.answered_share, "share")}
    return str(wording.words(lang)["money_declined"].format(**{name: _quantity(*figure, lang) for name, figure in figures.items()}))


def worth(economics: Economics, lang: Language = "ja") -> Section | None:
    """Return the chapter on what it is worth; None where volume or handling times were not agreed.

    Args:
        economics: The money figures.
        lang: Language of the text.
    """
    words, made, use = wording.words(lang), economics, economics.use
    if not (use and made.hours and made.value and made.running and made.net and made.payback_months):
        return None
    net, span, grade = _written(made.net, lang)
    kind = "gain" if made.net.low > 0 else "loss" if made.net.high < 0 else "open"
    lead = words[f"money_lead_{kind}"].format(net=net, span=span or net) + words["money_lead_assumed"] * (grade == "C")
    if made.decision.outcome == "NO-GO":
        lead = words["money_lead_withdrawn"].format(net=net, span=span or net)
    figures = _texts(made, use, lang)
    blocks: list[Block] = [_worth_table(made, use, lang), _waterfall(made, use, lang)]
    if use.wrong_share and "measured_minutes" not in use.values:
        blocks.append(Text(words["money_wrong"].format(**figures), made.value.grade))
    blocks += [Text(words["money_adoption"].format(**figures), "C"), _scenario_table(made, use, lang)]
    blocks += [tornado_chart(made, use, lang)] * bool(made.sensitivity)
    return Section("worth", words["money_worth_title"], tuple(blocks), lead)


def cost(economics: Economics, lang: Language = "ja", advice: Sequence[Block] = ()) -> Section | None:
    """Return the chapter on what it costs, by place and over years; None where nothing is planned.

    Args:
        economics: The money figures.
        lang: Language of the text.
        advice: Blocks on where to run it, put after the table and its chart.
    """
    words, made, use = wording.words(lang), economics, economics.use
    if not use:
        return None
    here = next(place for place in made.places if place.name == use.place)
    least = min(made.places, key=lambda place: place.total_yen())
    lead = words["money_cost_lead_least" if least == here else "money_cost_lead"].format(
        years=YEARS, place=place_name(here.name, lang), here=_quantity(here.total_yen(), "yen", lang),
        least=place_name(least.name, lang), lowest=_quantity(least.total_yen(), "yen", lang),
    )  # fmt: skip
    even = tuple(Text(sentence, max(place.grade for place in made.places)) for sentence in even_sentences(made, use, lang))
    training = words["money_training"].format(**_texts(made, use, lang))
    blocks = (_cost_table(made, use, lang), tco_chart(made, lang), *advice, Listing(even, words["money_even_title"]),
              breakeven_chart(made, use, lang), Text(training, "C"), _assumed(made, use, lang))  # fmt: skip
    return Section("cost", words["money_cost_title"], blocks, lead)


def _worth_table(made: Economics, use: Use, lang: Language) -> Table:
    words, texts, year = wording.words(lang), _texts(made, use, lang), 12 * use.monthly_questions
    timed = "measured_minutes" in use.values
    given = "C" if made.changed else "B"
    steps = [
        ("money_step_questions", "money_step_questions_of", (_quantity(year, "questions", lang), "", given)),
        ("money_step_saved", "money_step_timed_of" if timed else "money_step_saved_of", (_quantity(minutes_saved(use), "amount", lang), "", given)),
        ("money_hours", "money_step_hours_of", _written(made.hours, lang, "hours")),
        ("money_step_value", "money_step_value_of", _written(made.value, lang)),
        ("money_step_running", "money_step_running_of", _written(made.running, lang)),
        ("money_net", "money_step_net_of", _written(made.net, lang)),
    ]
    rows = tuple((words[name].format(**texts), words[how].format(**texts), *written) for name, how, written in steps)
    header = (words["item"], words["money_step"], words["estimate"], words["range"], words["grade"])
    return Table(header, rows, "llrrc", words["money_worth_table"], words["money_worth_note"])


def _waterfall(made: Economics, use: Use, lang: Language) -> Chart:
    words, year = wording.words(lang), 12 * use.monthly_questions
    parts = yearly_parts(use.place, use, use.monthly_questions)
    steps = [
        (words["money_fall_time"], year * minutes_saved(use) / 60 * use.staff_yen_per_hour),
        (words["money_fall_wrong"], -year * use.wrong_share * use.yen_per_wrong_answer),
        (words["money_fall_machines"], -sum(parts[:5])),
        (words["money_fall_people"], -sum(parts[5:])),
    ]
    return waterfall_chart(steps, words["money_fall_net"], title=words["money_fall_title"], lang=lang)


def _scenario_table(made: Economics, use: Use, lang: Language) -> Table:
    words = wording.words(lang)
    rows = tuple(
        (
            words[f"money_{case.name}"], _quantity(case.minutes_saved, "amount", lang), _quantity(case.monthly_questions, "questions", lang),
            *(_quantity(yen, "yen", lang) for yen in (case.value_yen, case.cost_yen, case.value_yen - case.cost_yen)),
            _months(case.payback_months, lang, short=True),
        )
        for case in made.scenarios
    )  # fmt: skip
    keys = ("scenario", "saved", "volume", "value_years", "cost_years", "net_years", "payback")
    title, note = (words[key].format(**_texts(made, use, lang)) for key in ("money_scenarios", "money_scenarios_note"))
    return Table(tuple(words[f"money_{key}"] for key in keys), rows, "lrrrrrr", title, note)


def _cost_table(made: Economics, use: Use, lang: Language) -> Table:
    words = wording.words(lang)
    rows = tuple(
        (
            words["money_place_here"].format(place_name(p.name, lang)) if p.name == use.place else place_name(p.name, lang),
            *(_quantity(yen, "yen", lang) for yen in (p.settled_yen, p.total_yen(3), p.total_yen())),
            f"{p.machines:,}" if p.machines else "—",
            "—" if not p.machines else _quantity(p.utilisation, "share", lang) if p.utilisation >= 0.001 else words["money_tiny"],
            p.grade,
        )
        for p in made.places
    )  # fmt: skip
    years = (words["money_years"].format(count) for count in (3, YEARS))
    header = (words["money_place"], words["money_settled"], *years, words["money_machines"], words["money_utilisation"], words["grade"])
    return Table(header, rows, "lrrrrrc", words["money_cost_table"], words["money_cost_note"].format(**_texts(made, use, lang)))


def _assumed(made: Economics, use: Use, lang: Language) -> Listing:
    words, texts = wording.words(lang), _texts(made, use, lang)
    items = [Text(words[f"money_assumed_{key}"].format(**texts), "C") for key in ("speed", "tokens", "checks")]
    changed = words["comma"].join(f"{key} = {getattr(use, key)}" for key in made.changed)
    items += [Text(words["money_changed"].format(list=changed), "C")] * bool(changed)
    return Listing((*items, Text(words["money_assumed_here"])), words["money_assumed"])


def _texts(made: Economics, use: Use, lang: Language) -> dict[str, str]:
    """Write out the assumptions and what follows from them, for the sentences to choose from."""
    count, site = 12 * use.monthly_questions * use.wrong_share, "on_premises" if use.place == "cloud_api" else use.place
    amounts = {
        "yen": {"each": use.yen_per_wrong_answer, "damage": count * use.yen_per_wrong_answer, "staff": use.staff_yen_per_hour, "setup": use.setup_yen,
                "training": made.training_yen_per_year or 0.0, "inference": sum(yearly_parts(use.place, use, use.monthly_questions)[1:5])},
        "share": {"right": use.answered_share, "wrong": use.wrong_share},
        "amount": {"minutes": use.minutes_per_question, "audit": use.minutes_per_audit},
        "hours": {"rework": count * use.minutes_per_question / 60},
        "p95": {"seconds": use.seconds_per_question},
    }  # fmt: skip
    counts = {
        "month": use.monthly_questions, "count": round(count), "months": use.adoption_months, "times": use.trainings_per_year,
        "at_once": use.at(site, "questions_at_once"), "prompt": round(use.prompt_tokens_per_question), "completion": round(use.completion_tokens_per_question),
        "thinking": use.thinking_tokens_per_answer, "runs": use.evaluations_per_month, "questions": use.questions_per_evaluation, "audits": use.audits_per_month,
        "years": YEARS,
    }  # fmt: skip
    shares = {"start": use.adoption_start_share, "spread": use.spread, "growth": use.growth_per_year, "target": use.target_utilisation, "retries": use.retries_per_question}
    texts = {name: _quantity(value, unit, lang) for unit, group in amounts.items() for name, value in group.items()}
    texts |= {name: f"{value:,.10g}" for name, value in counts.items()} | {name: f"{value:.0%}" for name, value in shares.items()}
    measured = made.decision.facts["points"][made.decision.arms[-1]].get("latency_p95") and "seconds_per_question" not in made.changed
    basis = wording.words(lang)["money_basis_measured" if measured else "money_basis_assumed"]
    return texts | {"basis": basis, "place": place_name(use.place, lang), "payback": _months((made.payback_months or (None,) * 3)[1], lang)}


def _written(figure: Figure | None, lang: Language, unit: str = "yen") -> tuple[str, str, str]:
    """Return value, range and grade of a figure."""
    if figure is None:
        return "—", "", ""
    span = wording.quantity([figure.low, figure.high], unit, lang) if figure.low < figure.high else ""
    return _quantity(figure.point, unit, lang), span, figure.grade


def _quantity(value: float, unit: str, lang: Language) -> str:
    return wording.quantity([value], unit, lang)


def _months(months: float | None, lang: Language, *, short: bool = False) -> str:
    words = wording.words(lang)
    if months is None:
        return str(words["money_never_short" if short else "money_never"].format(YEARS))
    return str(words["money_months"].format(f"{months:,.0f}"))
