"""What the first page says about the decision, as sentences: reason, evidence, baseline, failures, seal.

Wording follows the interval: a share is written with it, and "better" or "worse" only where it leaves out 0.
"""

import math
from dataclasses import dataclass
from typing import Any

from kit.evaluation.gate import is_broken
from kit.records import OPEN_STATES, Decision, KpiResult
from kit.reporting import wording
from kit.reporting.wording import Language, plain

MARKS = {"GO": ("○", "met"), "NO-GO": ("×", "missed"), "EXTEND": ("△", "open"), None: ("－", "info")}


@dataclass(frozen=True, slots=True)
class KpiLine:
    """One row of the KPI table, written out."""

    label: str
    mark: str
    word: str
    value: str
    interval: str
    bar: str
    baseline: str
    n: str
    decides: bool


def headline(decision: Decision, lang: Language) -> tuple[str, ...]:
    """Return the seal line: seal, approvers, amendments, which look it was, questions, day, data sent outside."""
    words, facts, seal = wording.words(lang), decision.facts, decision.seal
    names = words["comma"].join(map(plain, seal.criteria.approvers)) or words["unnamed"]
    parts = [
        words["seal_line"].format(hash=seal.sha256[:12], day=wording.day(seal.at, lang)),
        words["approved_line"].format(names=names),
        words["amended_from" if seal.parent else "unamended"].format(hash=seal.parent[:12]),
        run_kind(decision, words),
        f"{words['n']} {facts['planned']:,}",
        f"{words['measured_at']} {wording.moment(facts['finished'], lang)}",
        words["external_line"].format(sent=told) if (told := sent(decision, words)) else "",
    ]
    return tuple(part for part in parts if part)


def run_kind(decision: Decision, words: dict[str, Any]) -> str:
    """Say which look this was, or that it asked again what had been asked before; "" for a demonstration's first run."""
    look, repeat = decision.facts["look"], decision.facts["repeat"]
    if look["kind"] == "look":
        return str(words["look"].format(**look))
    return str(words["rechecked"].format(repeat=repeat)) if look["kind"] == "monitor" or repeat > 1 else ""


def sent(decision: Decision, words: dict[str, Any]) -> str:
    """Say whether data left the premises; "" where the run does not know."""
    outside = decision.facts.get("external")
    return "" if outside is None else str(words["yes" if outside else "none"])


def is_incomplete(decision: Decision) -> bool:
    """Whether the gate asked for the run to be done again, whatever the KPIs say: more was lost than agreed."""
    states = decision.states[decision.arms[-1]]
    lost = sum(states.get(state, 0) for state in OPEN_STATES)
    return decision.outcome == "EXTEND" and lost > decision.seal.criteria.error_budget * sum(states.values())


def reason(decision: Decision, lang: Language) -> str:
    """Return the gate's sentence; in English its own words, also where no KPI explains the outcome."""
    words = wording.words(lang)
    found = [r for r in decision.kpis if r.outcome == decision.outcome]
    broken = [r for r in found if is_broken(r)]
    if lang == "en" and is_incomplete(decision):
        return str(words["incomplete"])
    if lang == "ja":
        return plain(decision.reason)
    if monitor := decision.facts.get("monitor"):
        return str(words["reason_monitor"].format(**monitor | {"verdict": words[monitor["verdict"]]}))
    named = words["comma"].join(words["quoted"].format(label=wording.label(r, lang)) for r in broken or found)
    if decision.outcome == "NO-GO" and not found:
        agreed = decision.seal.criteria
        figures = {"deadline": agreed.deadline, "budget": agreed.budget_yen, "hits": agreed.safety_hits}
        return str(words[f"withdrawn_{_withdrawn(decision)}"].format(**figures))
    kind = "broken" if broken else decision.outcome if found else f"{decision.outcome}_alone"
    return str(words[f"reason_{kind}"].format(names=named))


def _withdrawn(decision: Decision) -> str:
    """Return which of the agreed reasons to withdraw applied, in the order in which the gate asks for them."""
    agreed, facts = decision.seal.criteria, decision.facts
    if agreed.deadline and facts["day"] > agreed.deadline:
        return "deadline"
    if 0 < agreed.budget_yen < facts["spent_yen"]:
        return "money"
    return "last" if facts["look"]["kind"] == "look" and facts["look"]["number"] == facts["look"]["of"] else "safety"


def decisive(decision: Decision) -> KpiResult | None:
    """Return the KPI behind the outcome: a broken guardrail, else the first that shares it, gates first; None without figures."""
    shared = [r for r in decision.kpis if r.outcome == decision.outcome]
    found = sorted(shared, key=lambda r: (not is_broken(r), r.kpi.role != "gate"))
    return found[0] if found and math.isfinite(found[0].point) and not is_incomplete(decision) else None


def evidence(decision: Decision, lang: Language) -> str:
    """Return the figure behind the outcome."""
    if not (found := decisive(decision)):
        return ""
    line, words = kpi_line(found, lang), wording.words(lang)
    text = words["evidence"].format(label=line.label, value=line.value, interval=line.interval, bar=line.bar)
    beside = found.baseline is not None and found.kpi.role != "guardrail"
    return str(text + (words["beside"].format(line.baseline) if beside else ""))


def kpi_line(result: KpiResult, lang: Language) -> KpiLine:
    """Write a judged KPI out."""
    mark, word = MARKS["NO-GO" if is_broken(result) else result.outcome]
    return KpiLine(
        label=wording.label(result, lang),
        mark=mark,
        word=wording.words(lang)[word],
        value=wording.measured(result, result.point, lang, signed=result.kpi.role == "guardrail"),
        interval=wording.interval(result, lang),
        bar=wording.bar(result, lang),
        baseline=wording.measured(result, result.baseline, lang),
        n=f"{result.n:,}",
        decides=result.outcome is not None,
    )


def comparison(decision: Decision, lang: Language) -> str:
    """Say of each guardrail whether the candidate is better than the baseline: only if the paired interval leaves out 0."""
    words, told = wording.words(lang), []
    for result in decision.kpis:
        if result.kpi.role == "guardrail":
            known = all(map(math.isfinite, (result.point, result.low, result.high)))
            kind = "better" if result.low > 0 else "worse" if result.high < 0 else "unclear"
            told.append(words[f"beside_{kind}" if known else "beside_unmeasured"].format(
                label=wording.name(result, lang),
                value=wording.measured(result, result.point, lang, signed=True),
                interval=wording.interval(result, lang),
            ))  # fmt: skip
    if not told and len(decision.arms) > 1:
        return str(words["beside_none"])
    return (" " if lang == "en" else "").join(told)


def failures(decision: Decision, lang: Language) -> str:
    """Say openly how many questions failed in each arm, and how."""
    words, counts = wording.words(lang), []
    for arm, name in arms(decision, lang):
        ended = {words[state]: n for state, n in sorted(decision.states[arm].items()) if state != "answered"}
        how = words["comma"].join(f"{state} {n}" for state, n in ended.items())
        counts += [words["failed"].format(arm=name, count=sum(ended.values()), how=how)] if ended else []
    return str(words["failures"].format(counts=words["comma"].join(counts)) if counts else words["no_failures"])


def arms(decision: Decision, lang: Language) -> list[tuple[str, str]]:
    """Return the arms that are compared, the candidate first, and what people read for them."""
    words = wording.words(lang)
    named = {decision.arms[0]: words["baseline"]} | {decision.arms[-1]: words["candidate"]}
    return [*reversed(named.items())]
