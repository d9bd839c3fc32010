"""The ledger: an append-only hash chain of what was sealed, run and decided.

Each entry holds its sequence number, UTC time, kind, content, and the hash of the entry before it. Changing, dropping
or reordering an entry breaks the chain; cutting off its tail is found by comparing the head with a printed summary.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kit.errors import LedgerError, RunError
from kit.trust.durable import JsonLines, Record, canonical, read

NAME = "ledger.jsonl"
"""The ledger lies beside the run folders it speaks of."""
_FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    sequence: int
    at: str
    """UTC, ISO 8601."""
    kind: str
    content: dict[str, Any]
    hash: str


def append(path: Path, kind: str, content: dict[str, Any]) -> Entry:
    """Add one entry; it is on disk when this returns.

    Args:
        path: The ledger file.
        kind: What happened, for example ``seal``, ``run``, ``decision``.
        content: Plain JSON values.

    Raises:
        LedgerError: The chain that is there is broken; nothing is added.
        RunError: The ledger cannot be written.
    """
    entries(path)  # tells a broken chain before the file is opened for writing
    with JsonLines(path) as file:
        earlier = _checked(path, file.records)
        body = {
            "sequence": len(earlier) + 1,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "kind": kind,
            "content": content | ({"recovered_torn_line": True} if file.torn else {}),
            "previous": earlier[-1].hash if earlier else _FIRST,
        }
        record = body | {"hash": hashlib.sha256(canonical(body).encode()).hexdigest()}
        file.append(record)
    return _entry(record)


def entries(path: Path) -> list[Entry]:
    """Return all entries of an intact ledger, oldest first.

    Raises:
        LedgerError: The chain is broken, naming the first bad entry.
    """
    try:
        records = read(path)
    except RunError as error:
        raise _broken(error.what) from error
    return _checked(path, records)


def find(path: Path, kind: str, **content: Any) -> list[Entry]:
    """Return the entries of a kind, oldest first, whose content holds the given values (see ``entries``)."""
    return [entry for entry in entries(path) if entry.kind == kind and content.items() <= entry.content.items()]


def _checked(path: Path, records: list[Record]) -> list[Entry]:
    previous = _FIRST
    for number, record in enumerate(records, 1):
        body = {key: value for key, value in record.items() if key != "hash"}
        intact = (
            record.get("sequence") == number
            and record.get("previous") == previous
            and record.get("hash") == hashlib.sha256(canonical(body).encode()).hexdigest()
        )
        if not intact:
            raise _broken(f"台帳 {path} の連鎖が {number} 行目で切れています。")
        previous = record["hash"]
    return [_entry(record) for record in records]


def _entry(record: Record) -> Entry:
    return Entry(record["sequence"], record["at"], record["kind"], record["content"], record["hash"])


def _broken(what: str) -> LedgerError:
    return LedgerError(
        what,
        "台帳のファイルが手で書き換えられたか、一部が失われています。",
        "バックアップの台帳と比べてください。判定をやり直す場合は、この台帳を保管したうえで runs フォルダを別にします。",
    )
