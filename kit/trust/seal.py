"""The seal: criteria become fixed by writing their hash to the ledger before the first sample."""

import hashlib
from datetime import datetime
from pathlib import Path

from kit import settings
from kit.errors import SealError
from kit.records import Criteria, Seal
from kit.trust import ledger
from kit.trust.durable import canonical, to_json


def today() -> str:
    """Return today's ISO date in the time zone of this machine: the one a deadline is meant in."""
    return datetime.now().astimezone().date().isoformat()


def fingerprint(criteria: Criteria) -> str:
    """Return the SHA-256 (64 hex digits) of all that is agreed: criteria, questions, metric code.

    It covers the criteria's text and every value read from it, for it is by the values that a run is judged.
    """
    covered = {name: value for name, value in to_json(criteria).items() if name != "cases_name"}
    return hashlib.sha256(canonical(covered).encode()).hexdigest()


def seal(criteria: Criteria, path: Path | None = None) -> Seal:
    """Write the hash of the criteria to the ledger; sealing the same criteria again returns the same seal.

    Args:
        criteria: The agreed criteria.
        path: The ledger file; by default the one beside the runs.

    Returns:
        The seal; ``parent`` names the last seal that shares a question with these criteria, if there is one.

    Raises:
        SealError: The deadline of criteria not sealed so far has passed; nothing is written.
        LedgerError: The ledger's chain is broken.
    """
    path = path or settings.load().runs / ledger.NAME
    digest = fingerprint(criteria)
    parent = ""
    for entry in sharing(criteria, path):
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
    written = ledger.append(path, "seal", agreed)
    return Seal(criteria, digest, written.sequence, written.at, parent)


def sharing(criteria: Criteria, path: Path) -> list[ledger.Entry]:
    """Return the ledger's seals that share a question with the criteria, oldest first, whatever their title."""
    asked = {*criteria.questions}
    return [entry for entry in ledger.find(path, "seal") if not asked.isdisjoint(entry.content.get("questions", ()))]


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
            f"実行 {run} は、この判定基準を封印したあとに、その封印で始まったものではありません。判定できません。",
            "封印せずに実行したか、実行のあとで判定基準・質問・指標の計算方法のどれかが変わったか、差し替えられています。",
            "元の判定基準に戻すか、`kit seal フォルダ` で封印してから、新しい実行としてやり直してください。",
        )
    return Seal(criteria, digest, seals[0].sequence, seals[0].at, seals[0].content["parent"])
