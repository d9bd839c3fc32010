"""The ledger: an append-only hash chain of what was sealed, run and decided.

Each entry holds its sequence number, UTC and monotonic time, kind, content, and the hash of the entry before it.
Changing, dropping or reordering an entry breaks the chain. Writing the whole chain anew shows in the signatures of its
checkpoints; cutting off its tail, with the checkpoints in it, is found by comparing the head with a printed summary.

The order is that of the sequence, never of the clock: a clock may be set back, and ``drifts`` tells where.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from kit.errors import DataError, LedgerError, RunError
from kit.trust import signing
from kit.trust.durable import JsonLines, Record, digest_of, read, record

NAME = "ledger.jsonl"
"""The ledger lies beside the run folders it speaks of."""
CHECKPOINT = "checkpoint"
"""Kind of the entries that sign the chain before them."""
FIRST = "0" * 64
"""What the first entry cites as the hash before it."""
_DRIFT_S = 2.0
"""How far UTC and the monotonic clock of one boot may part between two entries before it is worth a remark."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. Its content is shared by all who read it: not to be changed."""

    sequence: int
    at: str
    """UTC, ISO 8601."""
    kind: str
    content: dict[str, Any]
    hash: str
    boot: str = ""
    """Start of the machine that the monotonic clock counts from; "" where the system has no name for it."""
    monotonic_ns: int = 0
    """Monotonic clock in nanoseconds: comparable among entries of the same boot only."""
    recovered_torn_line: bool = False
    """Whether a torn last line, never acknowledged, was cut off before this entry was written."""


def append(path: Path, kind: str, content: dict[str, Any], *, once: bool = False) -> Entry:
    """Add one entry; it is on disk when this returns.

    Args:
        path: The ledger file.
        kind: What happened, for example ``seal``, ``run``, ``decision``.
        content: Plain JSON values. One with a ``signature`` must be a signed statement (``kit.trust.signing``).
        once: Where an entry of this kind holds the same already, return that: of several at once, the first adds it.

    Raises:
        LedgerError: The chain that is there is broken; nothing is added.
        DataError: The content's signature is not of this content; nothing is added.
        RunError: The ledger cannot be written.
    """
    if "signature" in content and not signing.stands(content):
        raise DataError(
            f"署名が内容と合わないため、台帳 {path} に記録しません。", "署名のあとで内容が変わったか、別のものへの署名です。",
            "内容を確かめて、署名し直してください（承認の署名: kit audit sign フォルダ --as 役職名 --key 鍵のファイル）。",
        )
    entries(path)  # tells a broken chain before the file is opened for writing
    with JsonLines(path, parse=_line) as file:
        earlier = _checked(path, file.records)
        same = (entry for entry in earlier if entry.kind == kind and digest_of(entry.content) == digest_of(content))
        if once and (known := next(same, None)):
            return known
        body: Record = {
            "sequence": len(earlier) + 1,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "boot": _boot(),
            "monotonic_ns": time.monotonic_ns(),
            "kind": kind,
            "content": content,
            "previous": earlier[-1].hash if earlier else FIRST,
        }
        body |= {"recovered_torn_line": True} if file.torn else {}
        body |= {"hash": digest_of(body)}
        file.append(body)
    return Entry(**{key: value for key, value in body.items() if key != "previous"})


def checkpoint(path: Path) -> Entry:
    """Sign the chain as it stands (sequence, head hash, UTC); where its last entry is a checkpoint, return that.

    The key is made at first use and lies in the user's configuration folder, out of reach of those who may only write
    the runs; the public key is put beside the ledger. The signature proves that whoever held the key had this chain
    before him: who cannot read the key can no longer write the chain anew. It proves nothing against the user himself
    or the machine's administrator, who can sign another chain with the same key, nor that the clock was right, nor
    that nothing followed. Against them only what is kept elsewhere helps: the head printed on a summary.

    Raises:
        LedgerError: The chain is broken.
        DataError: The key cannot be used.
        RunError: Key or ledger cannot be written.
    """
    known, key = entries(path), signing.machine_key()
    if known and known[-1].kind == CHECKPOINT:
        return known[-1]
    if not key.exists():
        with suppress(DataError):  # another process was first
            signing.make_key(key)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    chain = {"sequence": len(known), "head": known[-1].hash if known else FIRST, "at": now}
    statement = signing.sign(chain, signing.read_key(key))
    entry = append(path, CHECKPOINT, statement)
    # A copy for people to take elsewhere: the kit itself takes the key from the entry.
    with suppress(OSError), path.with_name(f"ledger-{statement['key'][:16]}.pem").open("x", encoding="ascii") as file:
        file.write(statement["public_key"])
    return entry


def entries(path: Path) -> list[Entry]:
    """Return all entries of an intact ledger, oldest first.

    Raises:
        LedgerError: The chain is broken, naming the first bad entry.
    """
    try:
        records = read(path, _line)
    except RunError as error:
        raise _broken(error.what) from error
    return _checked(path, records)


def find(path: Path, kind: str, **content: Any) -> list[Entry]:
    """Return the entries of a kind, oldest first, whose content holds the given values (see ``entries``)."""
    return [entry for entry in entries(path) if entry.kind == kind and content.items() <= entry.content.items()]


def drifts(known: Sequence[Entry]) -> Iterator[tuple[Entry, float]]:
    """Yield entries before which the wall clock jumped, each with the jump in seconds (negative: set back).

    Within one boot the jump is measured against the monotonic clock, which stands still while a machine sleeps;
    between boots only a step back can be seen.
    """
    for last, entry in pairwise(known):
        step = (datetime.fromisoformat(entry.at) - datetime.fromisoformat(last.at)).total_seconds()
        same = entry.boot != "" and entry.boot == last.boot
        jump = step - (entry.monotonic_ns - last.monotonic_ns) / 1e9 if same else min(step, 0.0)
        if step < 0 or abs(jump) > _DRIFT_S:
            yield entry, jump


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


@lru_cache(maxsize=1 << 14)
def _line(line: bytes) -> Record:
    """Read one line and the hash that it should have: once a process, for a ledger is read again at each step."""
    body = record(line)
    try:
        entry = Entry(**{key: value for key, value in body.items() if key != "previous"})
        datetime.fromisoformat(entry.at) - datetime.now(UTC)  # a TypeError where it has no zone
        shapes = {"kind": str, "content": dict, "boot": str, "monotonic_ns": int}
        if not all(isinstance(body.get(key, shape()), shape) for key, shape in shapes.items()):
            raise TypeError
    except TypeError as error:
        raise ValueError("no entry of a ledger") from error
    return {"entry": entry, "previous": body.get("previous"), "sha256": digest_of(body, "hash")}


def _checked(path: Path, records: list[Record]) -> list[Entry]:
    previous = FIRST
    for number, line in enumerate(records, 1):
        entry = line["entry"]
        if entry.sequence != number or line["previous"] != previous or entry.hash != line["sha256"]:
            raise _broken(f"台帳 {path} の連鎖が {number} 行目で切れています。")
        previous = entry.hash
    return [line["entry"] for line in records]


def _broken(what: str) -> LedgerError:
    return LedgerError(
        what,
        "台帳のファイルが手で書き換えられたか、一部が失われています。",
        "バックアップの台帳と比べてください。判定をやり直す場合は、この台帳を保管したうえで runs フォルダを別にします。",
    )
