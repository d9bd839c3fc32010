"""Files that survive a kill: append-only JSON lines and whole files written atomically."""

import dataclasses
import fcntl
import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from kit.errors import RunError, reason

Record = dict[str, Any]
_STORED = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def canonical(value: Any) -> str:
    """Return the one spelling of a JSON value that hashes are taken of: sorted keys, no spaces, valid UTF-8."""
    stored = _STORED(value).encode("utf-8", "replace")
    # Through JSON and back, because lone surrogates and keys that are numbers do not come back as they went.
    return _CANONICAL(json.loads(stored))


def digest_of(value: Any, without: str = "") -> str:
    """Return the SHA-256 (64 hex digits) of a JSON value's one spelling; of an object without the named key."""
    kept = {key: item for key, item in value.items() if key != without} if without else value
    return hashlib.sha256(canonical(kept).encode()).hexdigest()


def to_json(record: Any) -> Any:
    """Turn a record (or a nest of them) into plain JSON values; paths, inf and nan become text.

    Args:
        record: A dataclass instance, or a tuple, list, dict or scalar that may hold some.
    """
    if record is None or isinstance(record, (str, int)):  # nearly all values are: asked first
        return record
    if isinstance(record, float):
        return record if math.isfinite(record) else str(record)  # JSON has no inf and nan; float() reads the text back
    if isinstance(record, (list, tuple)):
        return [to_json(item) for item in record]
    if isinstance(record, dict):
        return {str(key): to_json(value) for key, value in record.items()}
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {name: to_json(getattr(record, name)) for name in record.__dataclass_fields__}
    return record.as_posix() if isinstance(record, Path) else record


def record(line: bytes) -> Record:
    """Read one line; raises ValueError where ``append`` cannot have written it (twice the same key, NaN, a lone surrogate)."""
    found = json.loads(line)
    if not isinstance(found, dict) or canonical(found).encode() != line:
        raise ValueError("not as it was written")
    return found


def read(path: Path, parse: Callable[[bytes], Record] = record) -> list[Record]:
    """Return all whole records; a torn last line was never acknowledged and is left out, a whole one without its end counts.

    Args:
        path: The file; one that is absent holds none.
        parse: What reads one line, and raises ValueError for one that is not as it was written.

    Raises:
        RunError: A line is not a JSON object, or does not end in LF alone.
    """
    return _records(path, path.read_bytes(), parse)[0] if path.exists() else []


def _records(path: Path, content: bytes, parse: Callable[[bytes], Record]) -> tuple[list[Record], bytes]:
    """Return the records and what is left of a torn last line."""
    records = []
    *lines, rest = content.split(b"\n")
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        try:
            records.append(parse(line))
        except (ValueError, RecursionError) as error:
            if number > len(lines) and _is_torn(rest):
                return records, rest
            changed = "改行が LF から CRLF か CR に変わっています。" if b"\r" in line else ""
            raise RunError(
                f"{path} の {number} 行目を読めません。{changed}", "ファイルが手で書き換えられたか、ディスクの故障で壊れています。",
                "バックアップから戻してください。なければ、このファイルを保管したうえで、新しい実行としてやり直してください。",
            ) from error
    return records, b""


def _is_torn(rest: bytes) -> bool:
    """Whether a stop can have left this of one line: it holds no other line end, and no object that is whole already."""
    with suppress(ValueError, RecursionError):
        json.JSONDecoder().raw_decode(rest.decode(errors="replace"))
        return False
    return b"\r" not in rest


class JsonLines(AbstractContextManager["JsonLines"]):
    """An open file of records, locked against other writers; use it as a context manager.

    Attributes:
        records: What the file held when it was opened.
        torn: Whether a kill or a full disk had left a torn last line, which the next ``append`` cuts off.

    Args:
        path: The file; made, with its folder, where absent.
        wait: Wait for another writer to finish instead of refusing.
        parse: What reads one line (see ``read``).

    Raises:
        RunError: The file cannot be opened, a line of it is not a JSON object, or another process is writing it and
            ``wait`` is false.
    """

    def __init__(self, path: Path, *, wait: bool = True, parse: Callable[[bytes], Record] = record) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without a buffer: what a full disk refused would be written again when the file is closed.
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise unwritable(path, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            sync_folder(path.parent)
            self._file.seek(0)
            content = self._file.readall()
            self.records, rest = _records(path, content, parse)
            self.torn, self._end = rest != b"", len(content) - len(rest)
            self._gap = "" if content[: self._end].endswith(b"\n") or not self._end else "\n"
        except BaseException as error:
            self._file.close()
            if not isinstance(error, BlockingIOError):
                raise
            raise RunError(
                f"{path} は別の処理が書き込み中です。", "同じ実行が別の画面やノートブックで動いています。",
                "そちらの終了を待つか、止めてから、もう一度実行してください。",
            ) from error

    def append(self, *records: Record) -> None:
        """Write records and wait, once, until all are on disk; on a full disk nothing of them stays."""
        lines = "".join([self._gap, *(canonical(record) + "\n" for record in records)]).encode()
        rest = lines
        try:
            self._file.truncate(self._end)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise unwritable(self._path, error) from error
        self._end, self._gap = self._end + len(lines), ""

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable, so that a new or renamed file survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file so that a reader sees the old content or the new, never a torn one; of several writers the last wins.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    # A name of its own for each writer. Not from tempfile, whose files only their owner may read.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # gone where all went well
            temporary.unlink()


def unwritable(path: Path, error: OSError) -> RunError:
    """Return the error for a place that the operating system does not let us write to."""
    return RunError(
        f"{path} に書き込めません（{reason(error)}）。",
        "ディスクの空きか書き込み権限がないか、同じ名前のものがあります。",
        "空き容量と権限を確かめて、同じ操作をもう一度実行してください。ここまでの記録は残っており、続きから再開します。",
    )
