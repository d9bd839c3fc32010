"""Which state of the table was acknowledged: the newest whose manifest is listed with its checksum.

Knows the names of Lance's files and nothing else of it. All of this wants the writers' lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.errors import RunError
from kit.knowledge.disk import syncfs
from kit.trust import checksums
from kit.trust.durable import write_atomically

HOME = "chunks.lance"
HINT = frozenset({"latest_version_hint.json"})  # Lance writes it over and over, and does without it


class Acknowledged:
    """The checksums of a store's table, kept so that they tell kills, power cuts and damage apart.

    Args:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.list = folder / "checksums.txt"
        self._cleaning = folder / ".cleaning"
        self._lost: frozenset[str] = frozenset()

    @property
    def version(self) -> int:
        """The acknowledged state's number; 0 where nothing is vouched for."""
        return max(map(version_of, self.listed()), default=0)

    def listed(self) -> dict[str, str]:
        """Return the listed files; none where the list is damaged, so that it takes no state for unacknowledged."""
        return checksums.read(self.list) if checksums.intact(self.list) else {}

    def manifests(self) -> list[Path]:
        """Return every state's manifest, oldest first."""
        return sorted(self.folder.glob(f"{HOME}/_versions/*.manifest"), key=version_of)

    def begin(self) -> None:
        """Undo what a killed writer left, and look at what is missing: what goes from now on is taken away on purpose.

        States past the acknowledged one are not even opened: after a power cut Lance reads zeros as an empty table.
        """
        if self._cleaning.exists() and checksums.intact(self.list):  # a killed writer had begun to take old files away
            checksums.update(self.list, HOME, vouch=False)
        listed, there = self.listed(), checksums.files(self.list, HOME)
        acknowledged = self.version
        for path in map(self.folder.joinpath, there - listed.keys() if acknowledged else ()):
            if version_of(path) > acknowledged or path.parent.name == "tags":
                path.unlink()
        self._lost = frozenset(listed.keys() - there)

    def sync(self) -> None:
        """Put on disk all that LanceDB wrote, then vouch for it: that is the acknowledgement."""
        syncfs(self.folder)
        try:
            checksums.update(self.list, HOME, but=HINT, lost=self._lost)
        except RunError as error:  # no run of an evaluation, but the store is what cannot be written
            raise error.__cause__ or error from None

    @contextmanager
    def cleaning(self) -> Iterator[None]:
        """Take files away, and acknowledge it; a kill meanwhile does not make them missing."""
        try:
            write_atomically(self._cleaning, "")
        except RunError as error:
            raise error.__cause__ or error from None
        yield
        self.sync()
        self._cleaning.unlink()

    # --- heads that are no good

    @property
    def aside(self) -> tuple[str, ...]:
        """Heads that were damaged or gone: acknowledged changes may be missing since."""
        return tuple(sorted(path.name for path in self.folder.glob(f"{HOME}/_versions/*.corrupt")))

    def damaged_head(self) -> Path | None:
        """Return the acknowledged head's manifest, where it has gone or changed."""
        listed = self.listed()
        head = max(listed, key=version_of, default="")
        path = self.folder / head
        whole = not version_of(head) or (path.exists() and checksums.sha256(path) == listed[head])
        return None if whole else path

    def set_aside(self, manifest: Path) -> None:
        """Take a damaged head out of the table's sight; what is left of it stays for those who want to look into it."""
        aside = manifest.with_suffix(".corrupt")
        if manifest.exists():
            manifest.rename(aside)
        else:
            aside.touch()
        self._lost -= {manifest.relative_to(self.folder).as_posix()}
        self.sync()

    def give_up_head(self, error: Exception) -> None:
        """Take away a head that cannot be opened, unless it is as it was written: then rights, memory or handles are wanting."""
        manifests = self.manifests()
        if self.listed() or len(manifests) < 2:
            raise error
        self.set_aside(manifests[-1])

    def dismiss(self) -> None:
        """Forget about heads that were set aside and files that went missing: what is there now is all there should be."""
        for name in self.aside:
            (self.folder / HOME / "_versions" / name).unlink()
        self._lost = frozenset()
        self.sync()


def version_of(name: str | Path) -> int:
    """Return the version that a manifest's name stands for; Lance counts down from 2^64 - 1. 0 for other files."""
    number, _, rest = Path(name).name.partition(".")
    return 2**64 - 1 - int(number) if rest == "manifest" and len(number) == 20 and number.isdigit() else 0
