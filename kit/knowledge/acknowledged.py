"""Which state of the table was acknowledged: the newest whose manifest is listed with its checksum.

Knows the names of Lance's files and nothing else of it. All of this wants the writers' lock; ``require_whole`` takes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.errors import StoreError
from kit.knowledge.disk import locked, made_anew, store_errors, syncfs
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

    def manifests(self) -> list[Path]:
        """Return every state's manifest, oldest first."""
        return sorted(self.folder.glob(f"{HOME}/_versions/*.manifest"), key=version_of)

    def begin(self) -> None:
        """Undo what a killed writer left, go back behind damaged heads, and look at what is missing: what goes from now on is taken away on purpose.

        States past the acknowledged one are not even opened: after a power cut Lance reads zeros as an empty table.
        """
        if self._cleaning.exists() and checksums.read(self.list):  # a killed writer had begun to take old files away
            checksums.update(self.list, HOME, vouch=False)
        listed, there = checksums.read(self.list), checksums.files(self.list, HOME)
        acknowledged = max(map(version_of, listed), default=0)  # a damaged list takes no state for unacknowledged
        for path in map(self.folder.joinpath, there - listed.keys() if acknowledged else ()):
            if version_of(path) > acknowledged or path.parent.name == "tags":
                path.unlink()
        self._lost = frozenset(listed.keys() - there)
        self._set_aside()

    def sync(self) -> None:
        """Put on disk all that LanceDB wrote, then vouch for it: that is the acknowledgement."""
        syncfs(self.folder)
        checksums.update(self.list, HOME, but=HINT, lost=self._lost)

    @contextmanager
    def cleaning(self) -> Iterator[None]:
        """Take files away, and acknowledge it; a kill meanwhile does not make them missing."""
        write_atomically(self._cleaning, "")
        yield
        self.sync()
        self._cleaning.unlink()

    def verify(self) -> checksums.Damage:
        """Compare every file with its checksum."""
        return checksums.verify(self.list, HOME, but=HINT)

    def require_whole(self) -> None:
        """Read every file again and refuse a store that is not as it was written.

        Raises:
            StoreError: A file is damaged or gone, or a damaged head was set aside, so that the last changes are missing.
        """
        with locked(self.folder), store_errors(self.folder):
            damage = self.verify()
        if broken := (*damage.changed, *damage.missing, *self.aside):
            raise StoreError(
                f"RAGストア {self.folder} に、書き込んだときと内容が違うか、なくなったファイルが {len(broken)} 個あります（{broken[0]}）。",
                "ディスクの故障か、保存したあとの書き換えです。壊れた文書のままでは正しく測れないので、1問も実行していません。",
                made_anew(self.folder),
            )

    def require_list(self) -> None:
        """Refuse to go on without the list: the next one would vouch for whatever is there.

        Raises:
            StoreError: It has gone or is damaged, and there are rows.
        """
        if any(self.folder.glob(f"{HOME}/data/*")) and not checksums.read(self.list):
            raise StoreError(
                f"RAGストア {self.folder} のチェックサムの一覧（{self.list.name}）がないか、壊れているため、何も変えていません。",
                "ディスクの故障か、保存したあとの書き換えです。一覧だけを作り直すと、ほかのファイルが壊れていても分からなくなります。",
                made_anew(self.folder),
            )

    def forgive(self, folder: str) -> bool:
        """Miss no longer what went from a folder whose files can be made again; tell whether there was any."""
        derived = {path for path in self._lost if path.startswith(f"{HOME}/{folder}/")}
        self._lost -= derived
        return bool(derived)

    # --- heads that are no good

    @property
    def aside(self) -> tuple[str, ...]:
        """Heads that were damaged or gone: acknowledged changes may be missing since."""
        return tuple(sorted(path.name for path in self.folder.glob(f"{HOME}/_versions/*.corrupt")))

    def _set_aside(self) -> None:
        """Take damaged heads out of the table's sight; what is left of them stays for those who want to look into it."""
        listed = checksums.read(self.list)
        for head in sorted(filter(version_of, listed), key=version_of, reverse=True):
            path = self.folder / head
            if path.exists() and checksums.sha256(path) == listed[head]:
                return
            path.touch()  # one that has gone is told like the others
            path.rename(path.with_suffix(".corrupt"))
            self._lost -= {head}
            self.sync()

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
