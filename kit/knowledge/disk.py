"""A store's folder on local disk: its lock, its sync, what it must not lie on, and how its failures are told."""

import ctypes
import fcntl
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote

from kit.errors import RunError, StoreError

_NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "drvfs", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "davfs", "vboxsf",
    "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.davfs", "fuse.gcsfuse", "fuse.blobfuse2",
}  # fmt: skip


@contextmanager
def store_errors(folder: Path) -> Iterator[None]:
    """Turn what LanceDB, SQLite and the disk raise into a ``StoreError`` that names the store and a remedy."""
    try:
        yield
    except Exception as raised:
        # Of a file that could not be written atomically the store is told, not the run of an evaluation.
        error = raised.__cause__ if isinstance(raised, RunError) else raised
        if not isinstance(error, (OSError, RuntimeError, ValueError, sqlite3.Error)) and type(error).__name__ != "RustPanic":
            raise  # told already, or a mistake of ours; a damaged file makes Lance panic
        full = "No space left" in str(error) or "disk is full" in str(error) or getattr(error, "errno", 0) == 28
        cause = f"ストアのファイルが壊れているか、読み書きの権限がありません（{' '.join(str(error).split())[:200]}）。"
        remedy = f"権限を確かめてください。壊れたファイルは `kit store verify フォルダ` で分かります。直らない場合は、{made_anew(folder)}"
        if full:
            cause, remedy = "ディスクの空きがありません。", "空きを作り、同じ操作をもう一度実行してください。登録済みの文書は失われていません。"
        raise StoreError(f"RAGストア {folder} を操作できません。", cause, remedy) from error


def made_anew(folder: Path) -> str:
    """Return the one remedy that helps against any damage: everything is in the documents still."""
    return f"別名にして（mv {quote(str(folder))} {quote(f'{folder}.broken')}）、文書を登録し直してください: kit store sync フォルダ"


@contextmanager
def locked(folder: Path, patient: bool = True) -> Iterator[bool]:
    """Hold the lock that a store's writers share, across processes.

    Args:
        folder: The store's folder.
        patient: Wait for another writer.

    Yields:
        Whether it is held; not where another writer has it, or where nothing can be written.
    """
    with ExitStack() as stack:
        with store_errors(folder):
            held = writable(folder)
            if held:
                file = stack.enter_context((folder / ".writer.lock").open("w"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
                except BlockingIOError:
                    held = False
        yield held


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait for the end: LanceDB's threads would go on with a commit, and make it when somebody else is writing."""
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C does not come here
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


def writable(folder: Path) -> bool:
    """Tell whether this process may change a store, or only read it."""
    return os.access(folder, os.W_OK)


def syncfs(folder: Path) -> None:
    """Put on disk all that was written to a folder's file system."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)


def refuse_network(folder: Path) -> None:
    """Refuse a folder whose file system another machine keeps: there, neither lock nor sync can be relied on."""
    device, kinds = folder.stat().st_dev, {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        mount, _, after = line.partition(" - ")
        kinds[mount.split()[2]] = after.split()[0]
    kind = kinds.get(f"{os.major(device)}:{os.minor(device)}", "")
    if kind in _NETWORK:
        raise StoreError(
            f"RAGストア {folder} を開きませんでした。", f"ネットワーク上のファイルシステム（{kind}）で、書き込みの確定と排他を保証できません。",
            "この機械のディスク（ext4、xfs など）に置いてください。承知のうえで使う場合は Store(path, network=True) とします。",
        )
