"""The sha256 of every file of a folder, in a text file beside it that ``sha256sum -c`` reads, too.

For folders whose files are written once and never changed: what is listed is not hashed again until somebody verifies.
The last line is a comment with the sha256 of the lines above it, so that damage to the list is not taken for damage to a file.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from kit.trust.durable import write_atomically


@dataclass(frozen=True, slots=True)
class Damage:
    """What ``verify`` found, as paths relative to the list's own folder."""

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    files: int
    """Number of files that were read."""


def sha256(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(listing: Path) -> dict[str, str]:
    """Return what is listed: path → sha256; nothing where there is no list, or it is not as it was written."""
    content = listing.read_bytes() if listing.exists() else b""
    body = content[: content.rfind(b"# ")]
    if content != body + _last_line(body):
        return {}
    return {path: digest for digest, _, path in (line.partition("  ") for line in body.decode().split("\n")) if path}


def update(
    listing: Path, folder: str, *, but: frozenset[str] = frozenset(), lost: frozenset[str] = frozenset(), vouch: bool = True
) -> None:
    """List what is new below a folder and drop what has gone; a list that is damaged is made anew.

    Args:
        listing: The list.
        folder: Name of the folder beside it.
        but: Names of files that change and that nothing depends on.
        lost: Paths that stay on the list, though they are not there: nobody took them away on purpose.
        vouch: Whether to list what is new.
    """
    there = files(listing, folder, but)
    digests = {path: digest for path, digest in read(listing).items() if path in there | lost}
    if vouch:
        digests |= {path: sha256(listing.parent / path) for path in there - digests.keys()}
    body = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items())).encode()
    write_atomically(listing, body + _last_line(body))


def verify(listing: Path, folder: str, *, but: frozenset[str] = frozenset()) -> Damage:
    """Hash every file again and compare (arguments as of ``update``); the list itself is looked at, too."""
    known, there = read(listing), files(listing, folder, but)
    changed = [path for path in sorted(there & known.keys()) if sha256(listing.parent / path) != known[path]]
    missing = sorted(known.keys() - there)
    if not known:
        (changed if listing.exists() else missing).insert(0, listing.name)
    return Damage(tuple(changed), tuple(missing), len(there))


def _last_line(body: bytes) -> bytes:
    return f"# {hashlib.sha256(body).hexdigest()}\n".encode()


def files(listing: Path, folder: str, but: frozenset[str] = frozenset()) -> set[str]:
    """Return the paths of all files below a folder, as the list has them (arguments as of ``update``)."""
    found = ((Path(above) / name for name in names if name not in but) for above, _, names in os.walk(listing.parent / folder))
    return {path.relative_to(listing.parent).as_posix() for paths in found for path in paths}
