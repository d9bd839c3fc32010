"""What the run found beyond the KPIs: sample answers, why answers were wrong, where, and what stands behind it all."""

import re
from typing import Any

from kit.evaluation.failures import LABELS
from kit.prices import Prices
from kit.records import Decision
from kit.reporting import sovereignty, verdict, wording
from kit.reporting.blocks import Block, Listing, Section, Table, Text
from kit.reporting.wording import Language, plain, quantity

MOST_LETTERS = 120
"""Letters of an answer that fit on a card."""
_SURE = 0.05
_WORST = 5
_KEYS = {label: key for key, label in LABELS.items()}


def answers(decision: Decision, lang: Language) -> Section:
    """Show good and bad answers as cards, why answers were wrong, and where fewer were right."""
    words = wording.words(lang)
    cards = [_cards(decision, kind, words) for kind in ("good", "bad")]
    blocks: list[Block] = [*cards, *_causes(decision, lang), *_slices(decision, lang)]
    if any(isinstance(card, Table) for card in cards):
        blocks.insert(len(cards), Text(words["answers_note"].format(most=MOST_LETTERS)))
    found = wrong(decision, lang)
    lead = words["answers_lead"].format(**found) if "cause" in found else ""
    return Section("answers", words["answers_title"], tuple(blocks), lead)


def wrong(decision: Decision, lang: Language) -> dict[str, str]:
    """Return what is known of the candidate's wrong answers: how many, the most frequent cause and what mends it."""
    words, counts = wording.words(lang), decision.facts.get("causes", {}).get(decision.arms[-1], {})
    if not counts:
        return {}
    (label, most), missed = max(counts.items(), key=lambda item: item[1]), sum(counts.values())
    return {
        "total": f"{sum(decision.states[decision.arms[-1]].values()):,}",
        "missed": f"{missed:,}",
        "cause": _word("cause", label, words),
        "cause_n": f"{most:,}",
        "cause_share": quantity([most / missed], "share", lang),
        "mend": _word("mend", label, words),
    }


def _cards(decision: Decision, kind: str, words: dict[str, Any]) -> Table | Text:
    """Return up to three answers side by side, one column each."""
    examples = decision.facts["examples"][kind]
    if not examples:
        return Text(f"{words[kind]}: {words['answers_none']}")
    named = (words["answers_example"].format(kind=words[kind], number=number) for number in range(1, len(examples) + 1))
    keys = ("question", "shown", "gold", "citation")
    rows = [(words[key], *(_cut(words.get(f"gold_{example[key]}", example[key])) for example in examples)) for key in keys]
    return Table(("", *named), tuple(rows), "l" * (1 + len(examples)))


def _cut(text: str) -> str:
    told = " ".join(plain(text).split())
    cut = re.sub(r"[\d.,+−-]+$", "", told[:MOST_LETTERS].rstrip()) + "…"  # half a number would be a wrong one
    return (cut if len(told) > MOST_LETTERS else told) or "—"


def _causes(decision: Decision, lang: Language) -> list[Block]:
    words, counts = wording.words(lang), decision.facts.get("causes", {})
    arms = [(arm, name) for arm, name in verdict.arms(decision, lang) if arm in counts]
    found = sorted(dict.fromkeys(label for arm, _ in arms for label in counts[arm]), key=lambda label: -counts[arms[0][0]].get(label, 0))
    rows = [(_word("cause", label, words), *(f"{counts[arm].get(label, 0):,}" for arm, _ in arms), _word("mend", label, words)) for label in found]
    header = (words["cause_title"], *(name for _, name in arms), words["cause_remedy"])
    made = Table(header, tuple(rows), f"l{'r' * len(arms)}l", title=words["cause_table"], note=words["cause_note"])
    return [made] if rows else []


def _word(kind: str, label: str, words: dict[str, Any]) -> str:
    """Return what a cause is called, or what mends it; a label of another version stays as it is."""
    return str(words.get(f"{kind}_{_KEYS.get(label)}", plain(label) if kind == "cause" else "—"))


def _slices(decision: Decision, lang: Language) -> list[Block]:
    """Show only slices that are worse than all others beyond chance: of many slices, one looks bad anyway."""
    words, slices = wording.words(lang), decision.facts.get("slices", [])
    weak = sorted((s for s in slices if s["p"] < _SURE and (s["difference"] or 0) < 0), key=lambda s: float(s["p"]))
    rows = [
        (
            words.get(f"by_{s['by']}", plain(s["by"])),
            words.get(f"slice_{s['name']}", plain(s["name"])),
            f"{s['n']:,}",
            words["slice_range"].format(quantity([s["hits"] / s["n"]], "share", lang), quantity([s["low"], s["high"]], "share", lang)),
            quantity([s["difference"]], "points", lang),
        )
        for s in weak[:_WORST]
    ]
    header = ("slice_by", "slice_name", "n", "slice_share", "slice_others")
    note = words["slices_note" if rows else "slices_none"].format(count=len(slices))
    if not rows:
        return [Text(note)] if slices else []
    return [Table(tuple(words[key] for key in header), tuple(rows), "llrrr", title=words["slice_table"], note=note)]


def appendix(decision: Decision, prices: Prices, lang: Language) -> Section:
    """Show method, limits, hashes and versions, the reasons for the bars, and the sources of the prices."""
    words, look, agreed = wording.words(lang), decision.facts["look"], decision.seal.criteria
    alpha = look["alpha"]
    figures = look | {
        "sealed": wording.day(decision.seal.at, lang),
        "total": f"{sum(decision.states[decision.arms[-1]].values()):,}",
        "alpha": quantity([alpha], "share", lang, digits=".3g"),
    }
    reading = words["footnote"].format(one=f"{alpha * 100:.3g}", two=f"{100 - alpha * 200:.4g}")
    unfit = [words["appendix_demonstration"]] if agreed.scope == "demonstration" else []
    method = [*(item.format(**figures) for item in words["appendix_method_items"]), reading]
    bars = [f"{wording.label(r, lang)}: {wording.bar(r, lang)}　{plain(r.kpi.reason)}" for r in decision.kpis]
    sources = [f"{words.get(name, name)}: {plain(note)}" for name, note in prices.notes.items()]
    proofs = sovereignty.tests(decision, lang)
    return Section("appendix", words["appendix"], (
        Table((words["item"], words["content"]), _provenance(decision, lang), "ll", title=words["provenance"]),
        *([proofs] if proofs else []),
        _listing(words["appendix_method"], method),
        _listing(words["appendix_limits"], unfit + words["appendix_limit_items"]),
        _listing(words["reasons"], bars),
        _listing(words["prices"], sources),
    ))  # fmt: skip


def _listing(title: str, texts: list[str]) -> Listing:
    return Listing(tuple(map(Text, texts)), title)


def _provenance(decision: Decision, lang: Language) -> tuple[tuple[str, str], ...]:
    words, facts, seal = wording.words(lang), decision.facts, decision.seal
    listed = words["comma"].join
    entries = {
        "seal": seal.sha256,
        "sealed_at": wording.moment(seal.at, lang),
        "parent": seal.parent,
        "approvers": listed(seal.criteria.approvers) or words["unnamed"],
        "runs": verdict.run_kind(decision, words) or words["first"],
        "measured_at": wording.moment(facts["finished"], lang),
        "planned": words["planned_of"].format(**facts),
        "documents": words["documents_of"].format(**facts) if "documents" in facts else "",
        "calibration": facts.get("calibration"),
        "external": verdict.sent(decision, words),
        "ledger": facts["ledger_head"],
        "rows": facts["rows_sha256"],
        "versions": listed(f"{name} {version}" for name, version in facts["versions"].items()),
    }
    return tuple((words[key], plain(value)) for key, value in entries.items() if value)
