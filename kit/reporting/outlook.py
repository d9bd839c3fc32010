"""What follows from a decision: next steps, a plan for 90 days, and what to say in the meeting.

All sentences stand in ``templates/words/story.toml``. One that needs a figure which the run does not carry is left out,
so that nothing is said that is not known; figures are text, ready to read.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from string import Formatter
from typing import cast

from kit.evaluation.gate import is_broken
from kit.records import Decision
from kit.reporting import findings, verdict, wording
from kit.reporting.blocks import Grade, Listing, Section, Table, Text
from kit.reporting.charts_money import place_name
from kit.reporting.economics import Economics, cheaper_now
from kit.reporting.wording import Language, plain, quantity

WRITING_MINUTES = 15
"""Assumed time to write one question with its right answer and have it checked."""
Figures = Mapping[str, str]


def next_steps(decision: Decision, lang: Language = "ja") -> tuple[str, ...]:
    """Say what happens next after this outcome, and how many questions would settle an EXTEND."""
    words = wording.words(lang)
    standing = words[f"steps_{decision.outcome}"]
    if decision.outcome != "EXTEND":
        return tuple(standing)
    waiting = [r for r in decision.kpis if r.outcome == "EXTEND"]
    if verdict.is_incomplete(decision):
        return (words["rerun"], *standing)
    if not waiting or any(map(is_broken, waiting)):
        return (words["mend" if waiting else "unused"], *standing)
    pooled = decision.facts["look"]["kind"] == "look"  # the next look is judged together with this one
    text = {True: words["needs_pooled" if pooled else "needs_item"], False: words["needs_unknown"]}
    counts = [text[r.needed > 0].format(label=wording.label(r, lang), needed=r.needed, n=r.n) for r in waiting]
    settling = words["comma"].join(counts)
    if told := _agreed_look(decision):
        first = words["agreed_last" if told["last"] else "agreed_look"].format(**told)
        return (first, words["agreed_more"].format(list=settling, **told), *standing)
    return (words["needs"].format(list=settling), *standing)


def _agreed_look(decision: Decision) -> dict[str, str]:
    """Return the next look as sealed: it takes so many new questions, never more; {} where no number was agreed."""
    look, agreed = decision.facts["look"], decision.seal.criteria
    if look["kind"] != "look" or not agreed.per_look or look["number"] >= look["of"]:
        return {}
    number = look["number"] + 1
    return {"per_look": f"{agreed.per_look:,}", "number": f"{number}", "of": f"{look['of']}", "last": "yes" if number == look["of"] else ""}


def plan(decision: Decision, known: Figures, lang: Language) -> Section:
    """Return the next 90 days as a table."""
    words = wording.words(lang)
    header = tuple(words[f"plan_{key}"] for key in ("when", "what", "who", "measure", "budget"))
    rows = tuple(_filled(words[f"plan_{decision.outcome}"], known))
    table = Table(header, rows, "lllll", note=words["plan_note"].format(**known))
    return Section("plan", words["plan_title"], (table,), words["plan_lead_stage" if decision.outcome == "GO" and known.get("stage") else f"plan_lead_{decision.outcome}"])


def steps(decision: Decision, known: Figures, lang: Language) -> tuple[str, ...]:
    """Return what page one says of the next steps; after a GO that may not pay, the money comes first, then the stage agreed."""
    words, standing = wording.words(lang), next_steps(decision, lang)
    if decision.outcome != "GO":
        return standing
    first = (words["plan_check_money"].format(**known),) if known.get("not_gain") else ()
    return (*first, *([words["steps_stage"].format(**known), *standing[1:]] if known.get("stage") else standing))


def but(decision: Decision, known: Figures, lang: Language) -> str:
    """Return what the box of a GO must say where the money does not follow: that cost may be above worth; "" otherwise."""
    kind = next((kind for kind in ("loss", "even") if known.get(kind)), "")
    return str(wording.words(lang)[f"but_{kind}"].format(**known)) if decision.outcome == "GO" and kind else ""


def talk(decision: Decision, known: Figures, lang: Language) -> Section:
    """Return sentences for the meeting, questions to expect with their answers, and a speaker script of two minutes."""
    words = wording.words(lang)
    said = [*words["said_all"], *words[f"said_{decision.outcome}"]]
    answered = dict[str, tuple[str, ...]]()
    for question, *answer in _filled([*words[f"faq_{decision.outcome}"], *words["faq_all"]], known):
        answered.setdefault(question, (question, *answer))
    header = (words["talk_question"], words["talk_answer"], words["grade"])
    return Section("talk", words["talk_title"], (
        Listing(tuple(_texts(said, known)), words["talk_phrases"], numbered=True),
        Table(header, tuple(answered.values()), "llc", title=words["talk_faq"]),
        Listing(tuple(_texts(words["script_all"], known)), words["talk_script"]),
    ), words["talk_lead"])  # fmt: skip


def figures(decision: Decision, economics: Economics, lang: Language) -> dict[str, str]:
    """Return all that the sentences may name, written out; "" or absent where the run does not carry it."""
    words, facts, agreed = wording.words(lang), decision.facts, decision.seal.criteria
    stages = dict(agreed.scale_up)
    days = {f"d{n}": wording.day(str(date.fromisoformat(facts["day"]) + timedelta(days=n)), lang) for n in (14, 30, 60, 90)}
    gates = (r for r in decision.kpis if r.kpi.role == "gate")
    bars = (words["quoted"].format(label=wording.label(r, lang)) + " " * (lang == "en") + wording.bar(r, lang) for r in gates)
    return days | {
        "title": plain(agreed.title),
        "outcome": decision.outcome,
        "verdict": words[decision.outcome],
        decision.outcome: "yes",
        "reason": verdict.reason(decision, lang),
        "comparison": verdict.comparison(decision, lang),
        "failures": verdict.failures(decision, lang),
        "seal": decision.seal.sha256[:12],
        "sealed_day": wording.day(decision.seal.at, lang),
        "approvers": words["comma"].join(map(plain, agreed.approvers)) or words["plan_nobody"],
        "owner": plain(agreed.owner) or words["plan_no_owner"],
        "candidate": plain(facts["arm_labels"][decision.arms[-1]]),
        "alpha": quantity([facts["look"]["alpha"]], "share", lang, digits=".3g"),
        "error_budget": quantity([agreed.error_budget], "share", lang, digits=".3g"),
        "gates": words["comma"].join(bars) or "—",
        "deadline": wording.day(agreed.deadline, lang) if agreed.deadline else "",
        "no_deadline": "" if agreed.deadline else "yes",
        "limit": quantity([agreed.budget_yen], "yen", lang) if agreed.budget_yen else words["plan_none"],
        "stage": plain(stages.get("stage", "")),
        "no_stage": "" if stages.get("stage") else "yes",
        "stage_kpi": plain(stages.get("kpi", "")) or words["plan_none"],
        "stage_budget": plain(stages.get("budget", "")) or words["plan_none"],
        "inside": "yes" if facts.get("external") is False else "",
        "outside": "yes" if facts.get("external") else "",
        "total": f"{sum(decision.states[decision.arms[-1]].values()):,}",
    } | _results(decision, lang) | _money(economics, lang) | _next_look(decision, economics, lang)  # fmt: skip


def _results(decision: Decision, lang: Language) -> dict[str, str]:
    """Return the deciding figure and the count of errors; of a run that is to be done again, nothing but that."""
    if verdict.is_incomplete(decision):
        return {"incomplete": "yes"}
    states, found = decision.states[decision.arms[-1]], verdict.decisive(decision)
    total, wrong = sum(states.values()), decision.facts["points"][decision.arms[-1]].get("wrong_answer")
    made = findings.wrong(decision, lang)
    made["failed" if states.get("answered", 0) < total else "no_failed"] = "yes"
    if wrong is not None:
        made["wrong_n"] = f"{round(wrong * total):,}"
    if found:
        line = verdict.kpi_line(found, lang)
        made |= {"kpi": line.label, "kpi_value": line.value, "kpi_interval": line.interval, "kpi_bar": line.bar}
        made["broken" if is_broken(found) else "missed_bar" if decision.outcome == "NO-GO" else "settled"] = "yes"
    return made


def _money(economics: Economics, lang: Language) -> dict[str, str]:
    """Return the figures of a settled year, the payback, and on-premises beside a cloud API."""
    words, made = wording.words(lang), dict[str, str]()
    for name in ("run", "per_right", "value", "running", "net"):
        if figure := getattr(economics, name):
            made[name], made[f"{name}_grade"] = quantity([figure.point], "yen", lang), figure.grade
            made[f"{name}_span"] = quantity([figure.low, figure.high], "yen", lang)
    if net := economics.net:
        made["gain" if net.low > 0 else "loss" if net.high < 0 else "even"] = "yes"
        made["not_gain"] = "" if net.low > 0 else "yes"
    made["running_budget"] = f"{made['running']}{words['plan_yearly'].format(made['running_grade'])}" if "running" in made else "—"
    if months := economics.payback_months:
        worst, usual, best = (f"{month:.0f}" if month is not None else "" for month in months)
        open_ended = words["payback_open"].format(best)
        made |= {"payback": usual, "payback_span": words["payback_range"].format(best, worst) if worst else open_ended}
        made["no_payback"] = "" if usual else "yes"
    places, breakeven = {place.name: place for place in economics.places}, dict(economics.breakeven)
    if economics.use and {"on_premises", "cloud_api"} <= places.keys():
        own = dict.fromkeys((economics.use.own, "on_premises"))
        totals = {name: quantity([place.total_yen()], "yen", lang) for name, place in places.items()}
        made["own_places"] = words["comma"].join(f"{place_name(name, lang)} {totals[name]}" for name in own)
        made["own"] = place_name(economics.use.own, lang)
        made["cloud_api"] = totals["cloud_api"]
        made["cloud_grade"] = max(places[name].grade for name in (*own, "cloud_api"))
        even = breakeven.get("cloud_api")
        if even is not None or not cheaper_now(economics.use, economics.use.own, "cloud_api"):
            made["never_even" if even is None else "breakeven" if even else "always_even"] = quantity([even], "questions", lang) if even else "yes"
    return made


def _next_look(decision: Decision, economics: Economics, lang: Language) -> dict[str, str]:
    """Return how many new questions an EXTEND needs, those that the sealed plan takes, and what they cost.

    staff [yen] = questions × ``WRITING_MINUTES`` / 60 × staff yen per hour; run [yen] = cost of this run × questions / planned
    """
    waiting, pooled = [r for r in decision.kpis if r.outcome == "EXTEND"], decision.facts["look"]["kind"] == "look"
    needed = max((r.needed - r.n * pooled for r in waiting if r.needed), default=0)  # looks are judged together
    sealed = _agreed_look(decision)
    if decision.outcome != "EXTEND" or (needed <= 0 and not sealed) or verdict.is_incomplete(decision) or any(map(is_broken, waiting)):
        return {"no_questions": "yes"}
    words = wording.words(lang)
    settling = {"settling": f"{needed:,}", "free_look": "" if sealed else "yes"} if needed > 0 else {}
    needed = decision.seal.criteria.per_look if sealed else needed
    unknown = [words["quoted"].format(label=wording.label(r, lang)) for r in waiting if not r.needed]
    staff = needed * WRITING_MINUTES / 60 * economics.prices.staff_yen_per_hour
    rerun = economics.run.point * needed / decision.facts["planned"]
    return sealed | settling | {
        "questions": f"{needed:,}" if sealed else words["about"].format(f"{needed:,}"),
        "undetermined": words["comma"].join(unknown),
        "writing_minutes": f"{WRITING_MINUTES}",
        "writing": quantity([staff], "yen", lang),
        "rerun": quantity([rerun], "yen", lang),
    }


def _filled(rows: Iterable[Sequence[str]], known: Figures) -> Iterable[tuple[str, ...]]:
    """Fill rows of sentences in, and leave out those that need a figure which is not known."""
    for row in rows:
        needed = {name for cell in row for _, name, _, _ in Formatter().parse(cell) if name}
        if all(known.get(name) for name in needed):
            yield tuple(cell.format(**known) for cell in row)


def _texts(rows: Iterable[Sequence[str]], known: Figures) -> Iterable[Text]:
    return (Text(text, cast(Grade, grade)) for text, grade in _filled(rows, known))
