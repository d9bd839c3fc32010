"""One child process in which all files are parsed: a file can kill it, but never the notebook.

Parent and child send each other JSON and the file's bytes, no pickle. ``multiprocessing`` only lends its pipe: its spawn
would run the user's main module again and fails in a notebook and under ``python -c``.
The child opens no file and no socket, has limited memory and a clock, and ends when the parent does.
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from kit.errors import RunError
from kit.knowledge.dates import edition
from kit.knowledge.texts import LOCKED, Reading, UnreadableError, finished, squeeze
from kit.records import Block, Place

PARSE_SECONDS = 10.0
"""Seconds of computing without a finished page, sheet, slide or the like, so that the verdict does not depend on what else
the machine does; three times as long by the clock."""
FILES_PER_CHILD = 200
"""A child is replaced after so many files: what libraries leak does not add up."""
MEMORY_BYTES = 2 * 1024**3
"""Address space of the child."""
REPLY_BYTES = 256 * 1024**2
"""More text than this out of one file is refused."""

KINDS = {
    ".pdf": "pdf", ".docx": "docx", ".docm": "docx", ".pptx": "pptx", ".pptm": "pptx", ".xlsx": "xlsx", ".xlsm": "xlsx",
    ".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown", ".txt": "text",
    ".csv": "csv", ".tsv": "csv", ".zip": "zip", ".eml": "mail",
}  # fmt: skip
"""File ending → kind of document."""

_HOMES = {
    "pdf": "pdf", "docx": "office", "pptx": "office", "xlsx": "workbooks", "csv": "workbooks",
    "html": "markup", "markdown": "markup", "text": "texts",
}  # fmt: skip
"""Kind of document → module whose ``read_<kind>`` reads it; its library is imported only then."""

TOO_SLOW = "解析が進まないので打ち切りました。ファイルを分割するか、別の形式で保存し直してください。"
TOO_LARGE = "解析に必要なメモリーが上限を超えました。ファイルを分割してください。"
DIED = "解析中に異常終了しました（壊れているか不正なファイルです）。元のアプリで開き、保存し直してください。"
BROKEN = "ファイルが壊れているか、拡張子と中身が合いません。元のアプリで開き、保存し直してください。"
NO_TEXT = "読み取れる文字がありません。画像や図だけの文書なら、文字を書き加えるかOCRをかけてください。"
UNKNOWN = (
    "対応していない形式（{}）です。PDF・Office・HTML・テキストで保存し直してください"
    "（画像はOCRで文字入りのPDFに、ZIP以外の圧縮ファイルは展開して、.msg は .eml で）。"
)
TOO_DEEP = "圧縮ファイルやメールが何重にも入っているので開きません。展開して保存し直してください。"
OLD = "旧形式のOfficeファイル（.doc・.xls・.pptなど）です。Officeで開き、.docx・.xlsx・.pptxで保存し直してください。"


class _Child(NamedTuple):
    process: "subprocess.Popen[bytes]"
    pipe: Connection


class Worker(contextlib.AbstractContextManager["Worker"]):
    """The parent's side: starts the child when needed, restarts it after a death; a context manager.

    Args:
        seconds: Time allowed for one page, sheet, slide or the like.
    """

    def __init__(self, seconds: float = PARSE_SECONDS) -> None:
        self._seconds = seconds
        self._child: _Child | None = None
        self._files = 0

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, name: str, data: bytes) -> Reading:
        """Parse one file in the child.

        Args:
            name: File name; its ending tells the kind where the bytes do not.
            data: The whole file.

        Returns:
            Its text, or the problem in one Japanese line.

        Raises:
            RunError: The child cannot be started at all.
        """
        if self._files == FILES_PER_CHILD:
            self.close()
        try:
            used = self._child is not None
            reading = self._ask(name, data)
            # A child worn out by earlier files must not decide over this one.
            return self._ask(name, data) if used and reading.problem in (DIED, TOO_LARGE) else reading
        except BaseException:  # Ctrl-C between question and answer leaves the pipe out of step
            self.close()
            raise

    def close(self) -> None:
        """End the child; the next ``read`` starts a new one."""
        child, self._child, self._files = self._child, None, 0
        if child is not None:
            child.process.kill()
            child.process.wait()
            child.pipe.close()

    def _ask(self, name: str, data: bytes) -> Reading:
        child = self._child = self._child or _start()
        self._files += 1
        try:
            child.pipe.send_bytes(json.dumps({"name": name, "seconds": self._seconds}).encode())
            child.pipe.send_bytes(data)
            reading = _unpack(json.loads(child.pipe.recv_bytes(REPLY_BYTES)))
        except (EOFError, ConnectionError):
            slow = child.process.wait() in (-signal.SIGPROF, -signal.SIGALRM)
            reading = Reading(problem=TOO_SLOW if slow else DIED)
        except OSError:  # a reply beyond the limit
            reading = Reading(problem=TOO_LARGE)
        if reading.problem in (TOO_SLOW, TOO_LARGE, DIED):
            self.close()
        return reading


def _start() -> _Child:
    pipe, other = Pipe()
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    # -P: no module from the folder the user happens to stand in; own session: Ctrl-C is the parent's affair.
    command = [sys.executable, "-P", "-W", "ignore", "-m", __name__, str(other.fileno())]
    null = subprocess.DEVNULL
    try:
        with other:
            streams: dict[str, Any] = {"stdin": null, "stdout": null, "stderr": null, "pass_fds": [other.fileno()]}
            process = subprocess.Popen(command, env=environment, start_new_session=True, **streams)
        pipe.recv_bytes()
    except (OSError, EOFError) as error:
        raise RunError(
            "文書を解析する子プロセスを起動できません。",
            "メモリーやプロセス数の制限、または環境の不備です。",
            f'原因を確かめてください: {sys.executable} -c "import kit.knowledge.worker"',
        ) from error
    return _Child(process, pipe)


def parse(name: str, data: bytes, depth: int = 0) -> Reading:
    """Read one file; whatever goes wrong in a library comes back as a problem, never as an exception.

    Args:
        name: File name with its ending.
        data: The whole file.
        depth: How many archives and mails it stands in.
    """
    ending = PurePath(name).suffix.lower()
    stem = PurePath(name).stem
    try:
        kind = sniff(name, data)
        if kind in ("zip", "mail"):
            reading = _unpacked(kind, stem, data, depth)
        else:
            read: Callable[[bytes, str], Reading]
            read = getattr(import_module(f"kit.knowledge.{_HOMES[kind]}"), f"read_{kind}")
            reading = read(data, stem)
    except UnreadableError as error:
        return Reading(problem=str(error))
    except MemoryError:
        return Reading(problem=TOO_LARGE)
    except Exception:
        return Reading(problem=BROKEN)
    if not reading.blocks:
        return Reading(problem=NO_TEXT)
    # A table's row tells of what it lists, not of the table; a mail's day is the one it was sent on, whatever is attached.
    lines = (block.text for block in reading.blocks[:100] if not (block.place.row and re.match("[^/]+: .* / ", block.text)))
    date = reading.date if kind == "mail" and reading.date else edition(stem, lines, reading.date)
    note = f"拡張子は「{ending}」ですが中身は{kind.upper()}なので、中身に合わせて読みました。"
    return replace(reading, date=date, doubts=(*[note] * (KINDS.get(ending) != kind), *reading.doubts))


def _unpacked(kind: str, stem: str, data: bytes, depth: int) -> Reading:
    """Read what is in a ZIP or a mail as one document; each file's name stands above its headings."""
    from kit.knowledge import archives

    if depth == archives.MAX_DEPTH:
        raise UnreadableError(TOO_DEEP)
    title, date, members = archives.mail_members(data) if kind == "mail" else (stem, "", archives.zip_members(data))
    blocks: list[Block] = []
    doubts: list[str] = []
    for name, content in members:
        inner = Reading(problem=content) if isinstance(content, str) else parse(name, content, depth + 1)
        above = () if kind == "mail" and name in archives.OWN else (squeeze(name),)
        blocks += [replace(b, place=replace(b.place, headings=(*above, *b.place.headings))) for b in inner.blocks]
        label = f"{squeeze(name)}: " if above else ""
        doubts += [label + line for line in filter(None, (*inner.doubts, inner.problem))]
        finished()
    if not blocks and doubts:
        raise UnreadableError(doubts[0])
    return Reading(title or stem, tuple(blocks), tuple(doubts), date=date)


def sniff(name: str, data: bytes) -> str:
    """Tell the kind of a file by its content, and by its ending only among text formats.

    Raises:
        UnreadableError: The kind is not supported, or the file is protected by a password.
    """
    ending = PurePath(name).suffix.lower()
    kind = KINDS.get(ending, "")
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        from kit.knowledge.office import package_kind

        if packed := package_kind(data):
            return packed
        if not kind or kind == "zip":
            return "zip"
    elif data.startswith(b"\xd0\xcf\x11\xe0"):
        protected = any(mark.encode("utf-16-le") in data for mark in ("EncryptedPackage", "DRMEncryptedDataSpace"))
        raise UnreadableError(LOCKED if protected else OLD)
    elif kind in ("html", "markdown", "text", "csv", "mail"):
        return kind
    elif ending.startswith(".xls") and b"\0" not in data:
        # Web systems often call an HTML table or comma separated values .xls.
        return "html" if data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") else "csv"
    raise UnreadableError(BROKEN if kind else UNKNOWN.format(ending or "拡張子なし"))


def _serve(pipe: Connection) -> None:
    """The child's side: answer until the parent closes the pipe."""
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # No core file: it would leave the document's text on the disk.
    for limit, value in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(limit)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    close_network()
    pipe.send_bytes(b"ready")
    while True:
        request = json.loads(pipe.recv_bytes())
        # The signals kill even inside a C library, and even when the parent is gone. ``finished`` starts them anew.
        for clock, seconds in ((signal.ITIMER_PROF, request["seconds"]), (signal.ITIMER_REAL, 3 * request["seconds"])):
            signal.setitimer(clock, seconds, seconds)
        reading = parse(request["name"], pipe.recv_bytes())
        finished()
        answer = json.dumps(reading, default=_fields).encode()
        for clock in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(clock, 0)
        pipe.send_bytes(answer)


def close_network() -> None:
    """Take from this process and its children, for good, what opens a socket (seccomp; x86-64).

    Where the kernel has no such filter, Python itself still refuses.
    """
    load, equal, above, give = 0x20, 0x15, 0x35, 0x06  # BPF: word into A; jump if A == k, A >= k; return k
    x86_64, socket, io_uring, x32 = 0xC000003E, 41, 425, 0x40000000
    deny, allow = 0x00050000 | errno.EACCES, 0x7FFF0000
    program = (
        (load, 0, 0, 4), (equal, 0, 5, x86_64), (load, 0, 0, 0),  # the architecture, then the system call's number
        (above, 3, 0, x32), (equal, 2, 0, socket), (equal, 1, 0, io_uring), (give, 0, 0, allow), (give, 0, 0, deny),
    )  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    prctl = ctypes.CDLL(None).prctl
    no_new_privileges, seccomp, by_filter = 38, 22, 2
    foreign = os.uname().machine != "x86_64"
    if foreign or prctl(no_new_privileges, 1, 0, 0, 0) or prctl(seccomp, by_filter, header, 0, 0):
        sys.addaudithook(_refuse_socket)


def _refuse_socket(event: str, _: object) -> None:
    if event.startswith("socket."):
        raise PermissionError(errno.EACCES, "no network here")


def _fields(record: Any) -> list[Any]:
    return [getattr(record, name) for name in record.__slots__]


def _unpack(fields: list[Any]) -> Reading:
    title, blocks, doubts, problem, date = fields
    built = (
        Block(text, Place(page, sheet, row, slide, tuple(path))) for text, (page, sheet, row, slide, path) in blocks
    )
    return Reading(title, tuple(built), tuple(doubts), problem, date)


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        _serve(Connection(int(sys.argv[1])))
