"""Files that survive a kill: append-only JSON lines and whole files written atomically."""

import dataclasses
import fcntl
import json
import math
import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from kit.errors import RunError, reason

Record = dict[str, Any]


def canonical(value: Any) -> str:
    """Return the one spelling of a JSON value that hashes are taken of: sorted keys, no spaces, valid UTF-8."""
    stored = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    # Through JSON and back, because lone surrogates and keys that are numbers do not come back as they went.
    return json.dumps(json.loads(stored), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def to_json(record: Any) -> Any:
    """Turn a record (or a nest of them) into plain JSON values; paths, inf and nan become text.

    Args:
        record: A dataclass instance, or a tuple, list, dict or scalar that may hold some.
    """
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: to_json(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, (list, tuple)):
        return [to_json(item) for item in record]
    if isinstance(record, dict):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, Path):
        return record.as_posix()
    if isinstance(record, float) and not math.isfinite(record):
        return str(record)  # JSON has no inf and nan; float() reads the text back
    return record


def read(path: Path) -> list[Record]:
    """Return all whole records; a torn last line was never acknowledged and is left out.

    Raises:
        RunError: A line is not a JSON object.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    return _records(path, content[: content.rfind(b"\n") + 1])


def _records(path: Path, content: bytes) -> list[Record]:
    """Read whole lines; one that ``append`` cannot have written (twice the same key, NaN, a lone surrogate) is refused."""
    records = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or canonical(record).encode() != line:
                raise ValueError("not as it was written")
        except (ValueError, RecursionError) as error:
            raise RunError(
                f"{path} の {number} 行目を読めません。", "ファイルが手で書き換えられたか、ディスクの故障で壊れています。",
                "バックアップから戻してください。なければ、このファイルを保管したうえで、新しい実行としてやり直してください。",
            ) from error
        records.append(record)
    return records


class JsonLines(AbstractContextManager["JsonLines"]):
    """An open file of records, locked against other writers; use it as a context manager.

    Attributes:
        records: What the file held when it was opened.
        torn: Whether a kill or a full disk had left a torn last line, which was cut off.

    Args:
        path: The file; made, with its folder, where absent.
        wait: Wait for another writer to finish instead of refusing.

    Raises:
        RunError: The file cannot be opened, a line of it is not a JSON object, or another process is writing it and
            ``wait`` is false.
    """

    def __init__(self, path: Path, *, wait: bool = True) -> None:
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
            self._end = content.rfind(b"\n") + 1
            self.torn = self._end < len(content)
            self.records = _records(path, content[: self._end])
        except BaseException as error:
            self._file.close()
            if not isinstance(error, BlockingIOError):
                raise
            raise RunError(
                f"{path} は別の処理が書き込み中です。", "同じ実行が別の画面やノートブックで動いています。",
                "そちらの終了を待つか、止めてから、もう一度実行してください。",
            ) from error

    def append(self, record: Record) -> None:
        """Write one record and wait until it is on disk; on a full disk nothing of it stays."""
        line = (canonical(record) + "\n").encode()
        rest = line
        try:
            self._file.truncate(self._end)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise unwritable(self._path, error) from error
        self._end += len(line)

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
    """Write a whole file so that a reader sees the old content or the new, never a torn one.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> RunError:
    """Return the error for a place that the operating system does not let us write to."""
    return RunError(
        f"{path} に書き込めません（{reason(error)}）。",
        "ディスクの空きか書き込み権限がないか、同じ名前のものがあります。",
        "空き容量と権限を確かめて、同じ操作をもう一度実行してください。ここまでの記録は残っており、続きから再開します。",
    )
