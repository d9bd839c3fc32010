"""The sha256 of every file of a folder, in a text file beside it that ``sha256sum -c`` reads, too.

For folders whose files are written once and never changed: what is listed is not hashed again until somebody verifies.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kit import views
from kit.trust.durable import write_atomically


@dataclass(frozen=True, slots=True)
class Damage:
    """What ``verify`` found, as paths relative to the list's own folder."""

    changed: tuple[str, ...]
    missing: tuple[str, ...]
    unlisted: tuple[str, ...]
    """Files that nobody vouches for: what a kill left, or somebody put there."""

    def _repr_html_(self) -> str:
        rows = [
            (mark, kind, path)
            for mark, kind, paths in (("×", "中身が変わった", self.changed), ("×", "なくなった", self.missing), ("△", "記録にない", self.unlisted))
            for path in paths
        ]
        if not rows:
            return views.paragraphs("○ すべてのファイルが、書き込んだときの記録（SHA-256）と一致しました。")
        return views.table(("", "状態", "ファイル"), rows, "書き込んだときの記録と一致しないファイル")


def sha256(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(listing: Path) -> dict[str, str]:
    """Return what is listed: path → sha256; nothing where there is no list. Lines that are none are left out."""
    if not listing.exists():
        return {}
    lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
    return {path: digest for digest, gap, path in (line.partition("  ") for line in lines) if gap and len(digest) == 64}


def update(listing: Path, folder: str, *, but: frozenset[str] = frozenset()) -> None:
    """List what is new below a folder and drop what has gone.

    Args:
        listing: The list.
        folder: Name of the folder beside it.
        but: Names of files that change and that nothing depends on.
    """
    known = read(listing)
    now = {path: known.get(path) or sha256(listing.parent / path) for path in _files(listing, folder, but)}
    write_atomically(listing, "".join(f"{digest}  {path}\n" for path, digest in sorted(now.items())))


def verify(listing: Path, folder: str, *, but: frozenset[str] = frozenset()) -> Damage:
    """Hash every file again and compare (arguments as of ``update``)."""
    known, there = read(listing), set(_files(listing, folder, but))
    changed = [path for path in sorted(there & known.keys()) if sha256(listing.parent / path) != known[path]]
    return Damage(tuple(changed), tuple(sorted(known.keys() - there)), tuple(sorted(there - known.keys())))


def _files(listing: Path, folder: str, but: frozenset[str]) -> Iterator[str]:
    for above, _, names in os.walk(listing.parent / folder):
        for name in names:
            if name not in but:
                yield (Path(above) / name).relative_to(listing.parent).as_posix()
