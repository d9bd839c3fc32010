"""A chunk as a row of the store's table and back, and the column of vectors in Arrow's terms.

A row holds the whole chunk in one column, because to fetch fifty rows costs by their columns (thirteen took half of a search at a
million), and beside it only what is filtered by or indexed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kit.knowledge import japanese
from kit.records import Chunk, place_from_json
from kit.trust.durable import to_json

if TYPE_CHECKING:
    from kit.knowledge.embedding import Embedder

COLUMNS = ("id", "document_id", "document", "readers", "date", "words", "chunk")
Row = dict[str, Any]


def index_text(title: str, headings: Sequence[str], text: str) -> str:
    """Return what is searched for a chunk: its title and heading path before its text."""
    return "\n".join((title, *headings, text))


def parts_of(title: str, headings: Sequence[str], text: str) -> list[str]:
    """Return what is scored of a chunk, part by part: its title with the heading path, then each sentence."""
    return ["\n".join((title, *headings)), *japanese.sentences(text)]


def row_of(chunk: Chunk) -> Row:
    """Return a chunk as the table takes it, without a vector."""
    parts = parts_of(chunk.title, chunk.place.headings, chunk.text)
    words = [japanese.words(japanese.normalise(part)) for part in parts]
    marks = {mark for word in {word for line in words for word in line} for mark in japanese.marks(word)}
    return {
        **{name: getattr(chunk, name) for name in ("id", "document_id", "document", "date")},
        "readers": f"|{'|'.join(chunk.readers)}|" if chunk.readers else "",
        # A line for each part, as ``corpus.searched`` reads them, and one of marks for the index alone.
        "words": "\n".join(map(" ".join, [*words, sorted(marks)])),
        "chunk": json.dumps(to_json(chunk), ensure_ascii=False),
    }


def chunk_of(row: Mapping[str, Any]) -> Chunk:
    """Return the chunk that a row holds."""
    plain = json.loads(row["chunk"])
    return Chunk(**plain | {"place": place_from_json(plain["place"]), "readers": tuple(plain["readers"])})


def readers_of(value: str) -> tuple[str, ...]:
    """Read the column ``|everyone|hr|``: LanceDB's expressions cannot look into lists, but into text."""
    return tuple(name for name in value.split("|") if name)


def vector_schema(schema: Any, model: "Embedder | None") -> Any:
    """Return a table's schema with a column for a model's vectors at its end, in the place of another model's; without one for None."""
    import pyarrow as pa

    columns, told = [field for field in schema if field.name != "vector"], {b"embedder": b"", b"embedder_name": b""}
    if model:  # required: a row without a vector would be found by its words only, and nobody would know
        columns.append(pa.field("vector", pa.list_(pa.float32(), model.dimensions), nullable=False))
        told = {b"embedder": model.identity.encode(), b"embedder_name": model.name.encode()}
    return pa.schema(columns, metadata=(schema.metadata or {}) | told)


def embedder_of(schema: Any) -> tuple[str, str]:
    """Return identity and name of the model whose vectors a table holds; "" where it holds none."""
    told = schema.metadata or {}
    return told.get(b"embedder", b"").decode(), told.get(b"embedder_name", b"").decode()


def rows_of(found: Any) -> list[Row]:
    """Return the rows of an Arrow table; a vector stays an array, because lists of numbers take their time."""
    if "vector" not in found.column_names or not len(found):  # no shape can be told of nothing
        return list(found.to_pylist())
    vectors = found["vector"].combine_chunks().flatten().to_numpy().reshape(len(found), -1)
    return [row | {"vector": vector} for row, vector in zip(found.drop_columns(["vector"]).to_pylist(), vectors, strict=True)]
