"""The executive summary: one ``Summary`` value computed once from a decision and the price table, thin renderers.

Every format shows the texts of that value and computes nothing, so the figures are the same everywhere and the same
decision gives the same bytes. Nothing here runs a model or needs a network.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import settings
from kit.errors import ParameterError
from kit.evaluation.gate import is_broken
from kit.prices import Prices, read_prices
from kit.records import OPEN_STATES, Decision, KpiResult, Outcome
from kit.reporting import wording
from kit.reporting.charts import Chart, kpi_chart
from kit.reporting.cost import MoneyLine, cost
from kit.reporting.wording import Language, plain
from kit.trust.durable import write_atomically

_TEMPLATES = Path(__file__).parent / "templates"
_MARKS = {"GO": ("○", "met"), "NO-GO": ("×", "missed"), "EXTEND": ("△", "open"), None: ("－", "info")}


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
    reason: str
    """The business reason for the bar."""


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
    """Seal, number of questions, data sent outside, day of measurement: one line under the title."""
    reason: str
    evidence: str
    kpis: tuple[KpiLine, ...]
    arms: tuple[tuple[str, str], ...]
    failures: str
    footnote: str
    chart: Chart | None
    money: tuple[MoneyLine, ...]
    assumption: str
    prices: tuple[tuple[str, str], ...]
    steps: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
    examples: tuple[tuple[str, list[dict[str, str]]], ...]
    """Good and bad answers."""
    notes: tuple[str, ...]


def write_summary(
    decision: Decision,
    *,
    to: str | Path,
    formats: Sequence[str] = ("html", "md"),
    lang: Language = "ja",
    prices: Prices | None = None,
) -> list[Path]:
    """Write the summary of a decision, one file a format: ``summary.html``; ``summary.en.html`` in English.

    Args:
        decision: The decision of a sealed run.
        to: The folder to write into; made where absent.
        formats: Some of ``html`` and ``md``.
        lang: ``ja`` or ``en``; free text from the criteria stays as it was agreed.
        prices: The price table; by default the one that was in force at the run, so that a redrawn summary says
            the same, else the one that the settings name.

    Returns:
        The files written, in the order of ``formats``.

    Raises:
        ParameterError: A format or language is unknown.
        SettingsError: The price table cannot be read.
        RunError: The folder cannot be written.
    """
    if not {*formats} <= {"html", "md"} or lang not in ("ja", "en"):
        raise ParameterError(
            f"サマリーの形式「{','.join(formats)}」か言語「{lang}」は使えません。", "形式は html と md、言語は ja と en です。",
            "例: kit summary runs/実行フォルダ --formats html,md --lang ja",
        )
    kept = decision.facts.get("prices")
    prices = prices or (Prices(**kept) if kept else read_prices(settings.load().prices))
    summary = summarise(decision, prices, lang)
    written = [Path(to) / f"summary{'.en' if lang == 'en' else ''}.{name}" for name in dict.fromkeys(formats)]
    for path in written:
        write_atomically(path, _render(summary, path.suffix))
    return written


def summarise(decision: Decision, prices: Prices, lang: Language = "ja") -> Summary:
    """Compute the summary of a decision.

    Args:
        decision: The decision of a sealed run.
        prices: The price table for the yearly figures.
        lang: Language of the fixed words and of how figures are written.
    """
    words, facts, criteria = wording.words(lang), decision.facts, decision.seal.criteria
    money = cost(decision, prices)
    names = {decision.arms[0]: words["baseline"]} | {decision.arms[-1]: words["candidate"]}
    return Summary(
        lang=lang,
        outcome=decision.outcome,
        mark=_MARKS[decision.outcome][0],
        title=plain(criteria.title),
        hypothesis=plain(criteria.hypothesis),
        scope=plain(facts.get("scope", "")),
        headline=_headline(decision, lang),
        reason=_reason(decision, lang),
        evidence=_evidence(decision, lang),
        kpis=tuple(_kpi_line(result, lang) for result in decision.kpis),
        arms=tuple((name, plain(facts["arm_labels"][arm])) for arm, name in reversed(names.items())),
        failures=_failures(decision, names, words),
        footnote=words["footnote"].format(one=f"{criteria.alpha * 100:g}", two=f"{100 - criteria.alpha * 200:g}"),
        chart=kpi_chart(decision.kpis, lang=lang),
        money=money.lines(lang),
        assumption=words["assumption"].format(staff=prices.staff_yen_per_hour, **facts) if money.hours_per_year else "",
        prices=tuple((words[name], plain(note)) for name, note in prices.notes.items()),
        steps=_steps(decision, lang),
        provenance=_provenance(decision, lang),
        examples=tuple((words[kind], _examples(facts["examples"][kind], words)) for kind in ("good", "bad")),
        notes=tuple(plain(note) for note in facts.get("notes", ())),
    )


def _headline(decision: Decision, lang: Language) -> tuple[str, ...]:
    words, facts = wording.words(lang), decision.facts
    parts = [
        f"{words['seal']} {decision.seal.sha256[:12]}",
        words["amended"] if decision.seal.parent else "",
        words["rechecked"].format(**facts) if facts["repeat"] > 1 else "",
        f"{words['n']} {facts['planned']:,}",
        f"{words['measured_at']} {wording.moment(facts['finished'], lang)}",
        words["external_line"].format(sent=sent) if (sent := _sent(decision, words)) else "",
    ]
    return tuple(part for part in parts if part)


def _sent(decision: Decision, words: dict[str, Any]) -> str:
    """Say whether data left the premises; "" where the run does not know."""
    outside = decision.facts.get("external")
    return "" if outside is None else str(words["yes" if outside else "none"])


def _incomplete(decision: Decision) -> bool:
    """Whether the gate asked for the run to be done again, whatever the KPIs say: more was lost than agreed."""
    states = decision.states[decision.arms[-1]]
    lost = sum(states.get(state, 0) for state in OPEN_STATES)
    return decision.outcome == "EXTEND" and lost > decision.seal.criteria.error_budget * sum(states.values())


def _reason(decision: Decision, lang: Language) -> str:
    """Return the gate's sentence; in English its own words, also where no KPI explains the outcome."""
    words = wording.words(lang)
    found = [r for r in decision.kpis if r.outcome == decision.outcome]
    broken = [r for r in found if is_broken(r)]
    if lang == "en" and _incomplete(decision):
        return str(words["incomplete"])
    if lang == "ja":
        return plain(decision.reason)
    named = words["comma"].join(words["quoted"].format(label=wording.label(r, lang)) for r in broken or found)
    kind = "broken" if broken else decision.outcome if found else f"{decision.outcome}_alone"
    return str(words[f"reason_{kind}"].format(names=named, deadline=decision.seal.criteria.deadline))


def _evidence(decision: Decision, lang: Language) -> str:
    """Return the figure behind the outcome: a broken guardrail, else the first KPI that shares it, gates first."""
    shared = [r for r in decision.kpis if r.outcome == decision.outcome]
    found = sorted(shared, key=lambda r: (not is_broken(r), r.kpi.role != "gate"))
    if not found or not math.isfinite(found[0].point) or _incomplete(decision):
        return ""
    line, words = _kpi_line(found[0], lang), wording.words(lang)
    text = words["evidence"].format(label=line.label, value=line.value, interval=line.interval, bar=line.bar)
    beside = found[0].baseline is not None and found[0].kpi.role != "guardrail"
    return str(text + (words["beside"].format(line.baseline) if beside else ""))


def _kpi_line(result: KpiResult, lang: Language) -> KpiLine:
    mark, word = _MARKS["NO-GO" if is_broken(result) else result.outcome]
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
        reason=plain(result.kpi.reason),
    )


def _failures(decision: Decision, names: dict[str, str], words: dict[str, Any]) -> str:
    """Say openly how many questions failed in each arm, and how."""
    counts = []
    for arm, name in reversed(names.items()):
        ended = {words[state]: n for state, n in sorted(decision.states[arm].items()) if state != "answered"}
        how = words["comma"].join(f"{state} {n}" for state, n in ended.items())
        counts += [words["failed"].format(arm=name, count=sum(ended.values()), how=how)] if ended else []
    return str(words["failures"].format(counts=words["comma"].join(counts)) if counts else words["no_failures"])


def _steps(decision: Decision, lang: Language) -> tuple[str, ...]:
    words = wording.words(lang)
    standing = words[f"steps_{decision.outcome}"]
    if decision.outcome != "EXTEND":
        return tuple(standing)
    waiting = [r for r in decision.kpis if r.outcome == "EXTEND"]
    if _incomplete(decision):
        return (words["rerun"], *standing)
    if not waiting or any(map(is_broken, waiting)):
        return (words["mend" if waiting else "unused"], *standing)
    text = {True: words["needs_item"], False: words["needs_unknown"]}
    counts = [text[r.needed > 0].format(label=wording.label(r, lang), needed=r.needed, n=r.n) for r in waiting]
    return (words["needs"].format(list=words["comma"].join(counts)), *standing)


def _provenance(decision: Decision, lang: Language) -> tuple[tuple[str, str], ...]:
    words, facts, seal = wording.words(lang), decision.facts, decision.seal
    listed = words["comma"].join
    entries = {
        "seal": seal.sha256,
        "sealed_at": wording.moment(seal.at, lang),
        "parent": seal.parent,
        "approvers": listed(seal.criteria.approvers) or words["unnamed"],
        "runs": words["first" if facts["repeat"] == 1 else "repeated"].format(**facts),
        "measured_at": wording.moment(facts["finished"], lang),
        "planned": words["planned_of"].format(**facts),
        "documents": words["documents_of"].format(**facts) if "documents" in facts else "",
        "calibration": facts.get("calibration"),
        "external": _sent(decision, words),
        "ledger": facts["ledger_head"],
        "rows": facts["rows_sha256"],
        "versions": listed(f"{name} {version}" for name, version in facts["versions"].items()),
    }
    return tuple((words[key], plain(value)) for key, value in entries.items() if value)


def _examples(found: Sequence[dict[str, str]], words: dict[str, Any]) -> list[dict[str, str]]:
    keys = ("question", "shown", "gold", "citation")
    return [{words[key]: plain(example[key]) or "—" for key in keys} for example in found]


def _render(summary: Summary, suffix: str) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=suffix == ".html",
        finalize=_escape_markdown if suffix == ".md" else None,
    )
    text = environment.get_template(f"summary{suffix}").render(s=summary, w=wording.words(summary.lang))
    return re.sub(r"\n{3,}", "\n\n", text)


def _escape_markdown(value: object) -> str:
    """Take from a text what Markdown or HTML would read as markup, and its line ends, which would end a table row."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(str(value).split()))
