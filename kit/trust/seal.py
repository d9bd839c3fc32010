"""The seal: criteria become fixed by writing their hash to the ledger before the first sample; approvers may sign it."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from kit import settings
from kit.errors import SealError
from kit.records import Criteria, Seal
from kit.trust import ledger, signing
from kit.trust.durable import digest_of, to_json

APPROVAL = "approval"
"""Kind of the entries in which an approver signs a seal."""
_JAPAN = ZoneInfo("Asia/Tokyo")


@dataclass(frozen=True, slots=True)
class Approval:
    """One approver's signature under a seal, verified. Whose key it is, a fingerprint on paper says."""

    name: str
    key: str
    """Fingerprint (SHA-256) of the approver's public key."""
    at: str
    """UTC, ISO 8601."""


def today() -> str:
    """Return today's ISO date in Japan, where a deadline is meant, whatever time zone this machine is set to."""
    return datetime.now(_JAPAN).date().isoformat()


def fingerprint(criteria: Criteria) -> str:
    """Return the SHA-256 (64 hex digits) of all that is agreed: criteria, questions, metric code.

    It covers the criteria's text and every value read from it, for it is by the values that a run is judged.
    """
    return digest_of(to_json(criteria), "cases_name")


def seal(criteria: Criteria, path: Path | None = None) -> Seal:
    """Write the hash of the criteria to the ledger; sealing the same criteria again returns the same seal.

    Args:
        criteria: The agreed criteria.
        path: The ledger file; by default the one beside the runs.

    Returns:
        The seal; ``parent`` names the last seal of the criteria's lineage, if there is one.

    Raises:
        SealError: The deadline of criteria not sealed so far has passed; nothing is written.
        LedgerError: The ledger's chain is broken.
    """
    path = path or settings.load().runs / ledger.NAME
    digest = fingerprint(criteria)
    parent = ""
    for entry in lineage(criteria, path):
        if entry.content["sha256"] == digest:
            return Seal(criteria, digest, entry.sequence, entry.at, entry.content["parent"])
        parent = entry.content["sha256"]
    if criteria.deadline and today() > criteria.deadline:
        raise SealError(
            f"判定の期限（{criteria.deadline}）をもう過ぎているため、封印できません（今日は {today()}）。",
            "期限の書き間違いか、前の基準から直し忘れています。このまま実行しても、GO にはなりません。",
            "criteria.yaml の deadline を関係者と決め直すか空にして、`kit seal フォルダ` を実行してください。",
        )
    agreed = {
        "title": criteria.title, "sha256": digest, "parent": parent, "cases_sha256": criteria.cases_sha256,
        "metrics_sha256": criteria.metrics_sha256, "questions": criteria.questions,
    }  # fmt: skip
    written = ledger.append(path, "seal", agreed, once=True)
    return Seal(criteria, digest, written.sequence, written.at, parent)


def sharing(criteria: Criteria, path: Path) -> list[ledger.Entry]:
    """Return the ledger's seals that share a question with the criteria, oldest first, whatever their title."""
    asked = {*criteria.questions}
    return [entry for entry in ledger.find(path, "seal") if not asked.isdisjoint(entry.content.get("questions", ()))]


def lineage(criteria: Criteria, path: Path) -> list[ledger.Entry]:
    """Return the seals these criteria descend from or led to, their own among them, oldest first.

    A seal belongs to them that shares a question with one of them, has the title of one (NFKC, blanks squeezed), cites
    one as its parent, or is cited by one: what was amended step by step stays one agreement, even if the last step
    shares no question with the first, and new questions under the old title are no new PoC.
    """
    rest, family = ledger.find(path, "seal"), list[ledger.Entry]()
    known = _marks({"title": criteria.title, "questions": criteria.questions, "sha256": fingerprint(criteria)})
    while kin := [entry for entry in rest if known & _marks(entry.content)]:
        family += kin
        rest = [entry for entry in rest if entry not in kin]
        known = known.union(*(_marks(entry.content) for entry in kin))
    return sorted(family, key=lambda entry: entry.sequence)


def _marks(content: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return what makes two seals kin where they have one of it in common."""
    title = " ".join(unicodedata.normalize("NFKC", content["title"]).split())
    named = {("title", title), ("seal", content["sha256"]), ("seal", content.get("parent", ""))}
    return {("question", question) for question in content.get("questions", ())} | {mark for mark in named if mark[1]}


def approve(criteria: Criteria, name: str, key: Path, path: Path) -> Approval:
    """Sign the seal of these criteria as one of their approvers; signing again with the same key changes nothing.

    Args:
        criteria: The sealed criteria.
        name: The approver, as written in the criteria.
        key: The approver's private key (``signing.make_key``).
        path: The ledger file.

    Raises:
        SealError: The criteria are not sealed, or do not name this approver.
        DataError: The key cannot be used.
        LedgerError: The ledger's chain is broken.
    """
    digest = fingerprint(criteria)
    if name not in criteria.approvers:
        raise SealError(
            f"「{name}」は、この判定基準の承認者ではないため、署名を記録しません。",
            f"criteria.yaml の approvers にある承認者: {'、'.join(criteria.approvers) or 'なし'}",
            "--as に、criteria.yaml に書いたとおりの名前を指定してください。承認者を変えるなら、直してから封印し直します。",
        )
    if not ledger.find(path, "seal", sha256=digest):
        raise SealError(
            "この判定基準は、まだ封印されていません。署名できません。", "封印の前か、封印したあとで基準や質問が変わっています。",
            "`kit seal フォルダ` で封印してから、もう一度署名してください。",
        )
    signed = signing.sign({"seal": digest, "name": name}, signing.read_key(key))
    known = ledger.find(path, APPROVAL, **signed)  # Ed25519 signs the same text in the same way
    entry = known[0] if known else ledger.append(path, APPROVAL, signed)
    return Approval(name, signed["key"], entry.at)


def approvals(path: Path, sha256: str) -> tuple[Approval, ...]:
    """Return the verified approvals of a seal, oldest first; what does not verify counts as none (``kit audit`` tells it)."""
    given = [e for e in ledger.find(path, APPROVAL, seal=sha256) if signing.stands(e.content)]
    return tuple(Approval(entry.content["name"], entry.content["key"], entry.at) for entry in given)


def require(criteria: Criteria, run: str, path: Path) -> Seal:
    """Return the seal under which a run was made.

    Args:
        criteria: The criteria the run is to be judged by.
        run: Name of the run's folder.
        path: The ledger file.

    Raises:
        SealError: The criteria's hash is not in the ledger, was written after the run's first sample, or is not the
            one that the run was started under.
        LedgerError: The ledger's chain is broken.
    """
    digest = fingerprint(criteria)
    seals, starts = ledger.find(path, "seal", sha256=digest), ledger.find(path, "run", run=run)
    if not starts:
        raise SealError(
            f"実行 {run} は、台帳 {path} に記録がありません。判定できません。",
            "実行フォルダの名前を変えたか、ほかの場所から写したか、台帳が別のものです。",
            "フォルダを元の名前で、元の台帳がある場所に戻してください。",
        )
    in_time = seals and seals[0].sequence < starts[0].sequence
    if not in_time or starts[0].content["seal"] != digest:
        raise SealError(
            f"TAMPERED: 実行 {run} は、この判定基準を封印したあとに、その封印で始まったものではありません。判定できません。",
            "封印せずに実行したか、実行のあとで判定基準・質問・指標の計算方法のどれかが変わったか、差し替えられています。",
            "元の判定基準に戻すか、`kit seal フォルダ` で封印してから、新しい実行としてやり直してください。",
        )
    return Seal(criteria, digest, seals[0].sequence, seals[0].at, seals[0].content["parent"])
