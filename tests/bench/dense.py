"""What vectors add to words: search through the public Store with and without, paired by question; shares 0–1, times in ms.

    python -m tests.bench.dense --fit DOCS QA SET [SET …] [--embedder FOLDER] [--json]

SET = a SQuAD file (``…/valid.json``), or ``DOCS+QA``, or ``DOCS`` alone, whose titles ask for their bodies (see ``questions.py``).
Each set gets the embedder that the kit fits on its own chunks, or the one in FOLDER. The weight is fitted on the questions of ``--fit``
(half chooses, half confirms) and used on the sets as it is: ``kept`` is what ``kit.fit_weight`` leaves in force, ``tried`` its best on the
choosing half. For each set: ``words``, ``vectors`` (alone), ``hybrid`` at ``tried``, each {r1, r5}; the same for ``low10``, the tenth of the
questions of which the gold passage covers the least idf; ``gain`` of hybrid over words with 95 % intervals, clusters drawn together.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

import kit
from kit.evaluation.fusion import WEIGHTS, paired_gain
from kit.knowledge import japanese, ranking
from kit.knowledge.retrieval import Scope
from kit.knowledge.store import CANDIDATES
from kit.records import Case, Evidence
from tests.bench import engines, questions as data_sets
from tests.bench.questions import Passage, Question

LOW = 0.1


def read(name: str) -> tuple[list[Passage], list[Question]]:
    docs, _, qa = name.partition("+")
    if docs.endswith(".json"):
        return data_sets.squad(Path(docs), keep_title=True)
    return data_sets.jsonl(Path(docs), Path(qa) if qa else None, keep_title=True)


def built(passages: Sequence[Passage], folder: Path, embedder: str) -> tuple[kit.Store, float, float]:
    """Return a store with vectors, and the seconds that fitting the embedder and embedding the chunks took (processor time)."""
    store = kit.Store(folder / "store")
    store.add(engines.documents((p.name, p.title, p.text, p.whole) for p in passages))
    begun = time.process_time()
    model = embedder or str(kit.fit_embedder(store, folder / "model"))
    fitted = time.process_time()
    store.embed(model)
    return store, fitted - begun, time.process_time() - fitted


def ranks(hits: Sequence, gold: frozenset[str]) -> float:
    found = dict.fromkeys(hit.chunk.document for hit in hits)
    return next((rank for rank, name in enumerate(found, 1) if name in gold), np.inf)


def asked(store: kit.Store, question: Question, gold: Sequence[Passage], idf) -> list[float]:
    """Return idf coverage by the gold passage, ms by words and by both; its ranks by words, by vectors, by both at each of WEIGHTS."""
    begun = time.perf_counter()
    words = ranking.scored(store.candidates(question.text, CANDIDATES, Scope()))
    between = time.perf_counter()
    near = store.candidates(question.text, CANDIDATES, Scope(), near=True)
    hybrids = [ranking.scored(near, weight) for weight in WEIGHTS]
    ended = time.perf_counter()
    vectors = sorted(near, key=lambda hit: -hit.parts.likeness)
    tokens = japanese.query(question.text)
    texts = [japanese.union(japanese.normalise(passage.whole)) for passage in gold]
    covered = max((ranking.coverage(tokens, text, idf) for text in texts), default=0.0)
    places = [ranks(hits, question.gold) for hits in (words, vectors, *hybrids)]
    return [covered, (between - begun) * 1000, (ended - between) * 1000, *places]


def compared(rank: np.ndarray, clusters: np.ndarray, weight: float) -> dict:
    """Compare columns of ranks: words, vectors, hybrid at each of WEIGHTS."""
    by_weight = [float((column <= 1).mean()) for column in rank[:, 2:].T]
    rank = rank[:, [0, 1, 2 + WEIGHTS.index(weight)]]
    found = {f"r{k}": rank <= k for k in (1, 5)}
    result = {kind: {k: float(ok[:, i].mean()) for k, ok in found.items()} for i, kind in enumerate(("words", "vectors", "hybrid"))}
    gains = {k: paired_gain(ok[:, 2] * 1.0 - ok[:, 0], clusters, np.random.default_rng(0)) for k, ok in found.items()}
    return result | {"r1_by_weight": by_weight, "gain": {k: dict(zip(("mean", "low", "high"), gain, strict=True)) for k, gain in gains.items()}}


def measured(passages: Sequence[Passage], questions: Sequence[Question], embedder: str, weight: float) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        store, fit_s, embed_s = built(passages, Path(folder), embedder)
        idf = store.statistics().idf
        named = {passage.name: passage for passage in passages}
        table = np.array([asked(store, q, [named[name] for name in q.gold], idf) for q in questions])
    clusters = np.unique([question.cluster for question in questions], return_inverse=True)[1]
    low = np.argsort(table[:, 0], kind="stable")[: max(1, round(LOW * len(table)))]
    times = {"words_p50_ms": float(np.median(table[:, 1])), "hybrid_p50_ms": float(np.median(table[:, 2]))}
    result = {"questions": len(questions), "fit_cpu_s": fit_s, "embed_cpu_s": embed_s, **times, **compared(table[:, 3:], clusters, weight)}
    return result | {"low10": compared(table[low, 3:], clusters[low], weight)}


def fitted(docs: Path, qa: Path, embedder: str, number: int) -> dict:
    passages, questions = data_sets.jsonl(docs, qa, keep_title=True)
    questions = questions[:: max(1, len(questions) // number)] if number else questions
    cases = [
        Case(str(n), question.text, (("?",),), tuple(map(Evidence, question.gold))) for n, question in enumerate(questions)
    ]
    with tempfile.TemporaryDirectory() as folder:
        store, *_ = built(passages, Path(folder), embedder)
        fusion = kit.fit_weight(store, cases)
    return asdict(fusion)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--fit", nargs=2, type=Path, metavar=("DOCS", "QA"))
    parser.add_argument("--weight", type=float, choices=WEIGHTS, default=0.1, help="instead of --fit")
    parser.add_argument("--questions", type=int, default=0, help="0 = all; otherwise every n-th, so many")
    parser.add_argument("--embedder", default="", help="a folder; fitted on each set's own chunks where absent")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    fit = fitted(*options.fit, options.embedder, options.questions) if options.fit else {"tried": options.weight}
    result = {"weights": WEIGHTS, "fit": fit, "sets": {}}
    for name in options.sets:
        passages, questions = read(name)
        questions = questions[:: max(1, len(questions) // options.questions)] if options.questions else questions
        result["sets"][name] = measured(passages, questions, options.embedder, fit["tried"])
    print(json.dumps(result) if options.json else json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
