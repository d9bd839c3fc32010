"""Who may use the gateway: name → hash of the key in ``runs/gateway/users.json``; the keys themselves are kept nowhere.

One round of SHA-256 is enough, because nobody can guess 256 random bits: scrypt guards what people make up, and would
here only slow each request down and let strangers load the machine with wrong keys.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kit.errors import DataError, ParameterError
from kit.trust import durable


def add(file: Path, name: str) -> str:
    """Make a user's key and return it, to be handed over once.

    Raises:
        ParameterError: The name is taken, or holds other than letters, digits and ``. @ _ -``.
        DataError: The file is damaged.
        RunError: The folder cannot be written.
    """
    key = f"kit-{secrets.token_urlsafe(32)}"
    with _changing(file) as users:
        if name in users or not re.fullmatch(r"[\w.@-]{1,64}", name):
            cause = "同じ名前の利用者がいるか、名前に使えない文字があります（使えるのは文字、数字、. @ _ -）。"
            remedy = f"鍵を作り直すなら、先に外します: kit gateway remove {name!r}"
            raise ParameterError(f"利用者 {name!r} を加えられません。", cause, remedy)
        users[name] = _hash(key)
    return key


def remove(file: Path, name: str) -> None:
    """Take a user's key away; a running gateway refuses it from the next request on.

    Raises:
        ParameterError: Nobody is called so.
        DataError: The file is damaged.
    """
    with _changing(file) as users:
        if not users.pop(name, None):
            known = "、".join(users) or "なし"
            raise ParameterError(f"利用者 {name!r} はいません。", f"いまの利用者: {known}", "名前を確かめてください。")


def read(file: Path) -> dict[str, str]:
    """Return name → hash of all users; raises DataError when the file is damaged."""
    try:
        users: dict[str, str] = json.loads(file.read_bytes()) if file.exists() else {}
        if not all(re.fullmatch(r"[0-9a-f]{64}", known) for known in users.values()):
            raise ValueError("not a hash")
        return users
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        cause, remedy = (
            "手で書き換えられたか、権限がありません。",
            f"移してから、利用者を加え直します: mv {file} {file}.old",
        )
        raise DataError(f"利用者の一覧 {file} を読めません。", cause, remedy) from error


def owner(file: Path, key: str) -> str:
    """Return the name of the user whose key it is, by the file as it stands now; "" for nobody's."""
    found, digest = "", _hash(key)
    for name, known in read(file).items():  # all of them, each in constant time
        found = name if hmac.compare_digest(known, digest) else found
    return found


@contextmanager
def _changing(file: Path) -> Iterator[dict[str, str]]:
    """Let one change at a time go on, so that none brings back what another has taken away."""
    with suppress(OSError):  # the lock says why it cannot be had
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with durable.JsonLines(file.with_suffix(".lock")):
        users = read(file)
        yield users
        durable.write_atomically(file, durable.canonical(users))
        file.chmod(0o600)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
