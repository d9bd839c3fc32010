"""The proof that a forgotten document has left the disk: every byte of the store is looked through for its text."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import views
from kit.errors import StoreError
from kit.knowledge import japanese
from kit.knowledge.table import Table

_LEAST = 10  # letters of a text that is looked for; shorter ones stand in other documents by chance
_PIECE = 1 << 24


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was looked for after a document was erased, and where. Holds none of its text."""

    document: str
    time: str
    """UTC."""
    chunks: int
    texts: int
    """Sentences and titles looked for, without those that remaining documents hold, too."""
    files: int
    bytes: int
    version: int
    """The only state of the table that exists."""

    def _repr_html_(self) -> str:
        looked = f"消した断片 {self.chunks}、探した文 {self.texts}、調べたファイル {self.files}（{self.bytes:,} バイト）"
        return views.paragraphs(f"「{self.document}」はこのストアのどのファイルにも残っていません（{self.time}）。", looked)


def certify(folder: Path, document: str, erased: Iterable[Mapping[str, Any]], table: Table) -> Erasure:
    """Look for a document's texts in every file of a store.

    Args:
        folder: The store's folder.
        document: Name of the document.
        erased: The rows that were erased, with title and text.
        table: What remains; it has been written anew.

    Raises:
        StoreError: A text was found, and no remaining document holds it.
    """
    rows = list(erased)
    texts = {sentence.strip() for row in rows for sentence in (row["title"], *japanese.sentences(row["text"]))}
    sought = {text.encode("utf-8", "replace"): text for text in texts if len(text) >= _LEAST}
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {sought[needle]: path for path in files for needle in _found(path, list(sought))}
    if found:
        remaining = table.arrow(["title", "text"])
        others = "\n".join((*remaining["title"].to_pylist(), *remaining["text"].to_pylist()))
        left = {text: path for text, path in found.items() if text not in others}
        if left:
            raise StoreError(
                f"「{document}」の文が {len(left)} 件、まだストアのファイルに残っています（{next(iter(left.values()))}）。",
                "ほかのプログラムが同時にストアを開いているか、ストアの中に別のファイルがあります。",
                f"ほかのノートブックを閉じ、もう一度消去してください。直らない場合は {folder} を消し、ノートブック 02 で作り直してください。",
            )
    size = sum(path.stat().st_size for path in files)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Erasure(document, when, len(rows), len(sought) - len(found), len(files), size, table.version)


def _found(path: Path, needles: list[bytes]) -> set[bytes]:
    longest = max(map(len, needles), default=0)
    found, rest = set[bytes](), b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(needle for needle in needles if needle in rest + piece)
            rest = (rest + piece)[-longest:] if longest else b""
    return found
