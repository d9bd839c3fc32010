"""The chapter on risks: what this run's figures warn of, and which of the kit's claims its own tests have proven."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from kit.errors import LedgerError
from kit.evaluation.statistics import share_bounds
from kit.records import Decision
from kit.reporting import wording
from kit.reporting.blocks import Grade, Section, Table
from kit.reporting.wording import Language, plain
from kit.trust import ledger
from kit.trust.evidence import Proof, read_evidence
from kit.trust.seal import approvals

_NONE = "—"


def section(decision: Decision, lang: Language = "ja") -> Section:
    """Return the risks of a run and what is proven: without a record beside the run and a ledger that vouches for it, nothing."""
    words, proofs = wording.words(lang), read_evidence(decision.folder.parent)
    rows = [
        (words[f"risk_{key}"], plain(words[f"risk_{key}_told"].format(**figures)), words[f"risk_{key}_do"], grade or _NONE)
        for key, figures, grade in _risks(decision, lang)
    ]
    header = (words["risk"], words["risk_told"], words["risk_do"], words["grade"])
    lead = words["evidence_lead"].format(total=len(proofs), proven=sum(not p.lack for p in proofs), unproven=sum(bool(p.lack) for p in proofs))
    return Section("risks", words["evidence_title"], (Table(header, tuple(rows), "lllc", words["risks"]), _claims(proofs, lang)), lead)


def tests(decision: Decision, lang: Language = "ja") -> Table | None:
    """Return the tests behind all that is proven, by the ids that pytest takes; None where nothing is."""
    words = wording.words(lang)
    rows = [(p.claim.says[lang], " ".join(p.claim.tests)) for p in read_evidence(decision.folder.parent) if not p.lack]
    return Table((words["evidence_claim"], words["evidence_test"]), tuple(rows), "ll", words["evidence_tests"]) if rows else None


def _claims(proofs: tuple[Proof, ...], lang: Language) -> Table:
    words = wording.words(lang)
    rows = []
    for proof in proofs:
        lack = words["evidence_unproven"].format(words[f"evidence_{proof.lack}"]) if proof.lack else words["evidence_proven"]
        files = [f"{name.rpartition('/')[2]} {digest[:12]}" for name, digest in proof.files.items()]
        rows.append((proof.claim.says[lang], lack, words["comma"].join(files) or _NONE, proof.claim.limits[lang]))
    run = words["evidence_run"] if any(proof.lack not in ("", "untested") for proof in proofs) else ""
    title = words["evidence_claims"].format(max(proof.day for proof in proofs) or _NONE)
    header = tuple(words[f"evidence_{name}"] for name in ("claim", "state", "files", "limits"))
    return Table(header, tuple(rows), "llll", title, f"{words['evidence_note']}{run}")


def _risks(decision: Decision, lang: Language) -> Iterator[tuple[str, dict[str, Any], Grade]]:
    """Yield what the figures warn of, the gravest first, as key of the words, what to fill in, and grade."""
    facts, states = decision.facts, decision.states[decision.arms[-1]]
    monthly, approvers = facts["monthly_questions"], {*decision.seal.criteria.approvers}
    failed, signed = sum(states.values()) - states.get("answered", 0), approvers & _signers(decision)
    if facts.get("external"):
        yield "external", {}, "A"
    if wrong := _share(decision, "wrong_answer", facts["planned"], lang):
        low, high = (end * monthly for end in wrong["ends"])
        yield "wrong", wrong | {"monthly": monthly, "low": low, "high": high}, "B"
    if shown := _share(decision, "policy_violation", facts["planned"], lang):
        yield "violation", shown, "A"
    if refused := _share(decision, "wrongly_refused", facts["answerable"], lang):
        yield "refused", refused, "A"
    if failed:
        yield "failed", {"count": failed, "n": facts["planned"]}, "A"
    if approvers > signed:
        yield "approval", {"n": len(approvers), "count": len(signed)}, "A"
    if calibration := facts.get("calibration"):
        yield "calibration", {"calibration": calibration}, "A"
    yield from ((key, {}, "") for key in ("sample", "load"))


def _share(decision: Decision, metric: str, n: int, lang: Language) -> dict[str, Any]:
    """Return a share and its interval, as the table of KPIs has it where it is one of them; {} where it was not measured."""
    result = next((r for r in decision.kpis if r.kpi.metric == metric and r.kpi.role != "guardrail"), None)
    point = decision.facts["points"][decision.arms[-1]].get(metric)
    if point is None or not n:
        return {}
    count, alpha = round(point * n), decision.facts["look"]["alpha"]
    ends = (result.low, result.high) if result else share_bounds(count, n, alpha)
    value, most, interval = (wording.quantity(values, "share", lang) for values in ([point], ends[1:], ends))
    return {"value": value, "most": most, "interval": interval, "count": count, "n": n, "ends": ends}


def _signers(decision: Decision) -> set[str]:
    """Return who has signed the seal, as far as a sound ledger beside the run tells."""
    with suppress(LedgerError):
        return {given.name for given in approvals(decision.folder.parent / ledger.NAME, decision.seal.sha256)}
    return set()
