"""Looks and monitor runs, told apart by the ledger alone, never by a parameter.

A look judges questions that nobody of the same PoC has seen answered; the error alpha is spent over the agreed number of
looks. The same questions again are a monitor run (再確認): it can say better, same or worse, but gives no verdict.
Criteria belong to one PoC while they share a question or a title with an earlier seal, or cite it (``seal.lineage``). A
demonstration has no looks, but it uses its questions up for looks to come.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kit.errors import RunError, SealError
from kit.evaluation.cases import question_hash, read_cases
from kit.evaluation.designs import spend
from kit.records import Case, Criteria
from kit.trust import ledger, seal
from kit.trust.durable import canonical, read, to_json

LEAST_ALPHA = 1e-6
"""Less than this is no error left to spend, but what rounding leaves."""
TERMS = (
    "kpis", "alpha", "error_budget", "looks", "per_look", "deadline", "budget_yen", "safety_hits", "scope", "model", "judge",
    "metrics_sha256", "prompts_sha256", "prices_sha256",
)  # fmt: skip
"""What answers are judged by. Answers that were seen before any of it changed count no more."""
Kind = Literal["demonstration", "look", "monitor"]
Runs = Mapping[str, Mapping[str, Any]]
"""Name of a run → what the ledger holds of its beginning, oldest first."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a run is, for the gate.

    Attributes:
        kind: A demonstration, a look, or a monitor run.
        number: Which look it is, from 1; of a monitor run the look whose questions it asks again.
        alpha: One-sided error that is spent on it; of a demonstration all of it, of a monitor run that of its look.
        questions: Hashes of the questions to ask.
        earlier: Finished looks of the same PoC, oldest first: names of their runs.
        terms: Hash of what answers are judged by (``TERMS``).
        whole: The error that was agreed for all looks together.
    """

    kind: Kind
    number: int
    alpha: float
    questions: frozenset[str]
    earlier: tuple[str, ...]
    terms: str
    whole: float

    def choose(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Return the questions to ask, in the order of the file."""
        return tuple(case for case in cases if question_hash(case) in self.questions)

    def to_json(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        listed = {"questions": sorted(self.questions), "earlier": [*self.earlier]}
        return {"kind": self.kind, "look": self.number, "alpha": self.alpha, "terms": self.terms, "whole": self.whole, **listed}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Look":
        """Read it back from the ledger's entry of a run."""
        questions, earlier = frozenset(content["questions"]), tuple(content["earlier"])
        return cls(content["kind"], content["look"], content["alpha"], questions, earlier, content["terms"], content["whole"])


def next_look(criteria: Criteria, cases: Sequence[Case], path: Path) -> Look:
    """Tell what a run that begins now is.

    Args:
        criteria: The sealed criteria.
        cases: Their questions.
        path: The ledger file.

    Raises:
        SealError: Some questions are new, but fewer than a look needs, or no look is left for them.
        LedgerError: The ledger's chain is broken.
    """
    hashes, agreed = frozenset(map(question_hash, cases)), (terms(criteria), criteria.alpha)
    if criteria.scope == "demonstration":
        return Look("demonstration", 1, criteria.alpha, hashes, (), *agreed)
    runs = begun(criteria, path)
    done = finished(runs, path)
    looks = {run: content for run, content in runs.items() if content["kind"] == "look" and run in done}
    fresh = hashes - {question for run, content in runs.items() for question in _used(run, content, run in done, path)}
    same_seal = any(content["seal"] == seal.fingerprint(criteria) for content in looks.values())
    number, wanted = len(looks) + 1, criteria.per_look or max(1, len(fresh))
    # Criteria that were amended to more looks, or to a larger alpha, must not spend what earlier looks have spent already.
    whole = min([criteria.alpha, *(content["whole"] for content in looks.values())])
    left = whole - sum(content["alpha"] for content in looks.values())
    is_due = number <= criteria.looks and left > LEAST_ALPHA and not (same_seal and _is_decided([*looks][-1], path))
    if is_due and len(fresh) >= wanted:
        alpha = min(spend(whole, criteria.looks)[number - 1], left)
        return Look("look", number, alpha, frozenset(sorted(fresh, key=_order)[:wanted]), tuple(looks), *agreed)
    if fresh and (is_due or not same_seal):
        raise _no_look(criteria, number, wanted, len(fresh), is_due)
    if not looks:
        raise SealError(
            "これらの質問はすべて使われているため、判定には使えません。まだ1問も実行していません。",
            "デモ（criteria.yaml に scope がない）として実行したか、途中までの実行で回答を見られる状態になっています。",
            "まだ使っていない質問を質問表に足して、`kit seal フォルダ` で封印し直してください。",
        )
    *_, last = looks.values()
    return Look("monitor", len(looks), last["alpha"], hashes & {*last["questions"]} or hashes, tuple(looks), *agreed)


def _is_decided(run: str, path: Path) -> bool:
    """Whether a look gave GO or NO-GO: questions that were left for further looks wait for new criteria."""
    return any(entry.content["outcome"] != "EXTEND" for entry in ledger.find(path, "decision", run=run)[-1:])


def _no_look(criteria: Criteria, number: int, wanted: int, fresh: int, is_due: bool) -> SealError:
    if is_due:
        return SealError(
            f"{number} 回目の判定には、まだ使っていない質問が {wanted} 問必要ですが、{fresh} 問しかありません。",
            f"criteria.yaml の per_look（1回の判定に使う質問の数）が {criteria.per_look} です。使った質問で判定し直すことはできません。",
            "質問表に新しい質問を足して、`kit seal フォルダ` で封印し直してください（使った質問だけに戻せば、再確認として実行できます）。",
        )
    return SealError(
        f"このPoCで判定できる回数を使い切ったため、新しい質問 {fresh} 問では判定できません。まだ1問も実行していません。",
        f"criteria.yaml の looks で約束した回数の判定が終わっています（終わった判定: {number - 1} 回）。回数や誤り率をあとから増やしても、使った分は戻りません。",
        "使った質問だけに戻せば、再確認として実行できます。再挑戦するときは、別の表題と、使っていない質問だけの質問表で、新しいPoCとして始めてください。",
    )


def terms(criteria: Criteria) -> str:
    """Return the hash (16 hex digits) of what answers are judged by."""
    agreed = to_json(criteria)
    return hashlib.sha256(canonical({name: agreed[name] for name in TERMS}).encode()).hexdigest()[:16]


def of_run(run: str, path: Path) -> Look:
    """Return what a run was begun as."""
    return Look.of(ledger.find(path, "run", run=run)[0].content)


def settled(run: str, criteria: Criteria, path: Path) -> Look:
    """Return what a finished run is: what it was begun as, unless another run was quicker.

    Of runs that are begun side by side the first that ends is the look. For the others its questions were seen.
    """
    look, runs = of_run(run, path), begun(criteria, path)
    ended = {entry.content["run"]: entry.sequence for entry in ledger.find(path, "rows")}
    quicker = [
        name for name, content in runs.items()
        if name != run and name not in look.earlier and ended.get(name, math.inf) < ended[run]
        and (content["kind"] == "look" or look.questions & {*content["questions"]})
    ]  # fmt: skip
    return replace(look, kind="monitor", earlier=(*look.earlier, *quicker)) if quicker and look.kind == "look" else look


def begun(criteria: Criteria, path: Path) -> dict[str, dict[str, Any]]:
    """Return all runs of the PoC that the criteria belong to, oldest first, those given up and void ones among them."""
    seals = {entry.content["sha256"] for entry in seal.lineage(criteria, path)}
    entries = (entry.content for entry in ledger.find(path, "run"))
    return {content["run"]: content for content in entries if content["seal"] in seals and "terms" in content}


def finished(runs: Runs, path: Path) -> set[str]:
    """Return the names of those runs that came to their end."""
    void = {entry.content["run"] for entry in ledger.find(path, "void")}
    return {entry.content["run"] for entry in ledger.find(path, "rows")} & runs.keys() - void


def pooled(look: Look, run: str, path: Path) -> tuple[str, ...]:
    """Return the earlier looks whose answers count with this one's: those of the very same systems under the same terms.

    A system that was changed after its questions were seen has used them up, and begins anew with this look's. So do
    criteria that were changed, and systems of which nothing is known by which to tell them apart.
    """
    starts = {entry.content["run"]: entry.content for entry in ledger.find(path, "run")}
    known = look.kind == "look" and all(identity for *_, identity in starts[run]["arms"])
    return tuple(
        name for name in look.earlier if known and starts[name]["arms"] == starts[run]["arms"] and starts[name]["terms"] == look.terms
    )


def _used(run: str, content: Mapping[str, Any], is_done: bool, path: Path) -> set[str]:
    """Return the questions whose answers lie there to be read: of a run given up those that it came to ask.

    Where its folder is gone, all that it was to ask count.
    """
    planned, folder = {*content["questions"]}, path.parent / run
    if is_done or not (folder / "cases.jsonl").exists():
        return planned
    try:
        answered = {record["case"] for record in read(folder / "rows.jsonl")}
        return planned & {question_hash(case) for case in read_cases(folder / "cases.jsonl") if case.id in answered}
    except (RunError, LookupError):  # what cannot be read any more
        return planned


def _order(question: str) -> str:
    """Return what puts questions into an order that has nothing to do with their content, the same everywhere."""
    return hashlib.sha256(f"look {question}".encode()).hexdigest()
