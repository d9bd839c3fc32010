"""Search engines as they come, behind one door: a child process of ``retrieval.py`` runs one of them and prints what it found.

    PYTHON tests/bench/engines.py NAME < data.json        data: {passages: [[name, title, text, whole], …], questions: [text, …]}

Printed: ``{ranked, confidence, ms, build_s, peak_mb}``, a line for each question; only ``kit`` needs the kit, the others need
their own packages (an absent one ends with code 3). Each indexes whole passages and is asked for ten.
"""

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Passages = list[tuple[str, str, str, str]]
Found = tuple[list[str], float]
"""Names of passages, best first, and how sure the engine is that the first one is right."""
Ask = Callable[[str], Found]


def with_margin(found: Iterable[tuple[str, float]]) -> Found:
    """Take the relative margin of the first two scores for the confidence; 0 where the engine tells no scores."""
    scored = list(found)
    first, second = ([score for _, score in scored] + [0.0, 0.0])[:2]
    return [name for name, _ in scored], 1 - second / first if first > 0 else 0.0


def documents(passages: Iterable[tuple[str, str, str, str]]) -> Iterable[Any]:
    """Return passages as the kit's documents."""
    from kit.records import Block, Document, Place

    return [Document(name, name, title, (Block(text, Place()),)) for name, title, text, _ in passages]


def kit(passages: Passages, folder: Path) -> Ask:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from kit import Store
    from kit.knowledge.ranking import margin

    store = Store(folder)
    store.add(documents(passages))

    def ask(question: str) -> Found:
        hits = store.search(question, k=50)  # several chunks may be of one passage; what is folded comes after its hit
        return [chunk.document for hit in hits for chunk in (hit.chunk, *hit.also)], margin(hits)

    return ask


def langchain(passages: Passages, folder: Path) -> Ask:
    from langchain_community.retrievers import BM25Retriever

    retriever = BM25Retriever.from_texts(
        [whole for *_, whole in passages], metadatas=[{"name": name} for name, *_ in passages], k=10
    )
    return lambda question: with_margin((document.metadata["name"], 0.0) for document in retriever.invoke(question))


def llamaindex(passages: Passages, folder: Path) -> Ask:
    from llama_index.core.schema import TextNode
    from llama_index.retrievers.bm25 import BM25Retriever

    nodes = [TextNode(text=whole, id_=name) for name, _, _, whole in passages]
    retriever = BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=min(10, len(nodes)))
    return lambda question: with_margin((found.node.id_, found.score or 0.0) for found in retriever.retrieve(question))


def haystack(passages: Passages, folder: Path) -> Ask:
    from haystack import Document
    from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    store = InMemoryDocumentStore()
    store.write_documents([Document(id=name, content=whole) for name, _, _, whole in passages])
    retriever = InMemoryBM25Retriever(store, top_k=10)
    return lambda question: with_margin((found.id, found.score or 0.0) for found in retriever.run(query=question)["documents"])


def lancedb(passages: Passages, folder: Path, **options: object) -> Ask:
    from lancedb import connect
    from lancedb.index import FTS

    table = connect(folder).create_table("t", [{"name": name, "text": whole} for name, _, _, whole in passages])
    table.create_index("text", config=FTS(**options))

    def ask(question: str) -> Found:
        rows = table.search(question, query_type="fts").limit(10).to_list()
        return with_margin((row["name"], row["_score"]) for row in rows)

    return ask


def lancedb_ngram(passages: Passages, folder: Path) -> Ask:
    return lancedb(passages, folder, base_tokenizer="ngram", ngram_min_length=1, ngram_max_length=2)


PEERS = (langchain, llamaindex, haystack, lancedb, lancedb_ngram)


def main() -> int:
    engine = {function.__name__: function for function in (kit, *PEERS)}[sys.argv[1]]
    data = json.load(sys.stdin)
    ranked, confidence, milliseconds = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        try:
            ask = engine(data["passages"], Path(folder))
        except ModuleNotFoundError as error:
            print(error, file=sys.stderr)
            return 3
        build = time.perf_counter() - begun
        ask(data["questions"][0])  # what is loaded at the first question is no part of the others
        for question in data["questions"]:
            begun = time.perf_counter()
            names, sure = ask(question)
            milliseconds.append((time.perf_counter() - begun) * 1000)
            ranked.append(list(dict.fromkeys(names))[:10])
            confidence.append(sure)
    # Not getrusage's peak, which remembers the parent's memory at the fork.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    result = {"ranked": ranked, "confidence": confidence, "ms": milliseconds, "build_s": build, "peak_mb": peak}
    print("\n" + json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
