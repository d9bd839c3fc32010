"""Where to run it: on-premises, cloud, edge, or both, with the reasons, from sensitivity, volume and response time.

A small table of rules, each a sentence with its grade. What must stay inside decides first, then what answers in time,
and only among what is left the cost of five years.
"""

from dataclasses import dataclass

from kit.reporting import wording
from kit.reporting.assumptions import INSIDE
from kit.reporting.blocks import Block, Grade, Listing, Text
from kit.reporting.charts_money import place_name
from kit.reporting.economics import YEARS, Economics, Place
from kit.reporting.wording import Language

DEARER = 1.2
"""Where nothing was agreed on what must stay, staying may cost this many times the cheapest place before both are advised."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The advice."""

    place: str
    """on_premises, edge, cloud_api, cloud_gpu, or ``hybrid``: what may leave in the cheapest place, the rest inside."""
    reasons: tuple[Text, ...]


def placement(economics: Economics, lang: Language = "ja") -> Placement | None:
    """Advise where to run the candidate; None where nothing is planned.

    1. Data: where a safety limit or KPI is sealed (``policy_violation``), or nothing was sent outside so far, they stay.
    2. Time: of these a place whose expected p95 (measured seconds × its slowness) misses the sealed bar is out, unless
       all do.
    3. Cost: of what is left the cheapest over five years. If staying was never agreed but costs more than ``DEARER``
       times the cheapest place, the advice is hybrid.
    """
    if not economics.use or not economics.places:
        return None
    facts, criteria = economics.decision.facts, economics.decision.seal.criteria
    agreed = criteria.safety_hits >= 0 or any(kpi.metric == "policy_violation" for kpi in criteria.kpis)
    stays = agreed or not facts.get("external")
    reasons = [_say("placement_agreed" if agreed else "placement_inside" if stays else "placement_sent", lang, "A")]
    in_time, told = _in_time(economics, lang)
    reasons += told
    places = sorted(economics.places, key=lambda place: place.total_yen())
    allowed = [place for place in places if place.name in INSIDE or not stays]
    best, cheapest = (([place for place in among if place.name in in_time] or among)[0] for among in (allowed, places))
    reasons.append(_cost(best, cheapest, lang))
    for name, volume in economics.breakeven:
        if volume and best.name in INSIDE:
            key = "placement_above" if volume <= economics.use.monthly_questions else "placement_below"
            given = {"volume": wording.quantity([volume], "questions", lang), "monthly": wording.quantity([economics.use.monthly_questions], "questions", lang)}
            reasons.append(_say(key, lang, _weakest(economics, name), own=_name(economics.use.own, lang), place=_name(name, lang), **given))
    hybrid = stays and not agreed and best.total_yen() > DEARER * cheapest.total_yen()
    return Placement("hybrid" if hybrid else best.name, tuple(reasons))


def advice(economics: Economics, lang: Language = "ja") -> tuple[Block, ...]:
    """Return the advice and its reasons as they stand in the chapter on cost; () where nothing is planned."""
    if not (found := placement(economics, lang)):
        return ()
    grade = max(reason.grade for reason in found.reasons)
    lead = wording.words(lang)["placement_lead"].format(place=_name(found.place, lang))
    return Text(lead, grade), Listing(found.reasons, wording.words(lang)["placement_why"])


def _in_time(economics: Economics, lang: Language) -> tuple[set[str], list[Text]]:
    """Return the places that answer within the sealed bar, as far as is known, and what is to be said of it."""
    use, names = economics.use, {place.name for place in economics.places}
    timed = [r for r in economics.decision.kpis if r.kpi.metric == "latency_p95"]
    if not use or not timed or not (measured := economics.decision.facts["points"][economics.decision.arms[-1]].get("latency_p95")):
        return names, []
    bar = timed[0].kpi.bar
    late = {name for name in names - {"cloud_api"} if measured * use.at(name, "slowness") > bar}
    figures = {"measured": wording.quantity([measured], "p95", lang), "bar": wording.quantity([bar], "p95", lang)}
    reasons = [_say("placement_time" if measured <= bar else "placement_slow", lang, "A", **figures)]
    if listed := wording.words(lang)["comma"].join(_name(name, lang) for name in sorted(late)):
        reasons.append(_say("placement_late", lang, "C", places=listed, bar=figures["bar"]))
    return names - late, reasons


def _cost(best: Place, cheapest: Place, lang: Language) -> Text:
    given = {"place": _name(best.name, lang), "years": YEARS, "yen": wording.quantity([best.total_yen()], "yen", lang)}
    if best.name == cheapest.name:
        return _say("placement_cheapest", lang, best.grade, **given)
    more = wording.quantity([best.total_yen() - cheapest.total_yen()], "yen", lang)
    return _say("placement_dearer", lang, max(best.grade, cheapest.grade), **given, cheapest=_name(cheapest.name, lang), more=more)


def _weakest(economics: Economics, name: str) -> Grade:
    return max(place.grade for place in economics.places if place.name in (name, "on_premises"))


def _name(place: str, lang: Language) -> str:
    return str(wording.words(lang)["placement_hybrid"]) if place == "hybrid" else place_name(place, lang)


def _say(key: str, lang: Language, grade: Grade, **given: object) -> Text:
    return Text(wording.words(lang)[key].format(**given), grade)
