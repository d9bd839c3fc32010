"""The proof that a forgotten document has left the disk.

Lance may compress text, so looking through the bytes proves little alone: every file from before must have gone, and what
the new ones hold is read, too.
"""

import json
import time
from collections.abc import Iterable
from pathlib import Path

from kit.errors import StoreError
from kit.knowledge import japanese
from kit.knowledge.reports import Erasure
from kit.knowledge.rows import Row, chunk_of
from kit.knowledge.table import Table, among
from kit.records import Chunk

_LEAST = 10  # letters of a text that is looked for; shorter ones stand in other documents by chance
_PIECE = 1 << 24


def certify(folder: Path, document: str, erased: Iterable[Row], table: Table, replaced: int) -> Erasure:
    """Prove that nothing of a document is in any file of a store.

    Args:
        folder: The store's folder.
        document: Name of the document.
        erased: The rows that were erased, with their column ``chunk``.
        table: What remains; it has been written anew.
        replaced: Number of files that there were before.

    Raises:
        StoreError: A row of the document is there, or a text that no remaining document holds.
    """
    chunks = [chunk_of(row) for row in erased]
    texts = {sentence.strip() for chunk in chunks for sentence in (*_names(chunk), *japanese.sentences(chunk.text))}
    texts = {text for text in texts if len(text) >= _LEAST}
    # As it is, and as it stands in JSON.
    forms = {form: text for text in texts for form in (text, json.dumps(text, ensure_ascii=False)[1:-1])}
    sought = {form.encode("utf-8", "replace"): text for form, text in forms.items()}
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {sought[needle]: path for path in files for needle in _found(path, list(sought))}
    shared = len(found)
    if found:
        others = "\n".join("\n".join((*_names(chunk), chunk.text)) for chunk in map(chunk_of, table.rows(["chunk"])))
        found = {text: path for text, path in found.items() if text not in others}
    shared -= len(found)
    where = list(found.values())
    if where or any(table.rows(["document"], among("document", [document]))):
        raise StoreError(
            f"「{document}」は、まだストアのファイルに残っているおそれがあります（{where[0] if where else folder}）。",
            "ほかのプログラムが同時にストアを開いているか、ストアの中に別のファイルがあります。",
            f"ほかのノートブックを閉じ、もう一度消去してください。直らない場合は {folder} を消し、ノートブック 02 で作り直してください。",
        )
    size = sum(path.stat().st_size for path in files)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Erasure(document, when, len(chunks), len(texts) - shared, replaced, len(files), size, table.version)


def _names(chunk: Chunk) -> tuple[str, ...]:
    return chunk.document, chunk.title, *chunk.place.headings


def _found(path: Path, needles: list[bytes]) -> set[bytes]:
    longest = max(map(len, needles), default=0)
    found, rest = set[bytes](), b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(needle for needle in needles if needle in rest + piece)
            rest = (rest + piece)[-longest:] if longest else b""
    return found
