"""Retrieval through the public Store beside a fixed reference and, where installed, beside other engines as they come.

    python -m tests.bench.retrieval --squad ../shared/data/jsquad/valid.json --title keep [--peers PYTHON] [--stages] [--json]
    python -m tests.bench.retrieval --jsonl ../shared/data/lawqa/docs.jsonl ../shared/data/lawqa/qa.jsonl [--json]
    python -m tests.bench.retrieval --jsonl ../shared/data/m365_help/docs.jsonl [--json]        titles ask for bodies

``r1 r5 r10 mrr`` over passages (mrr up to rank 10); ``r1_low20`` = r1 on the fifth of the questions on which the *reference*
has the least relative margin of first and second score; ``p_at_80`` = r1 of the 80 % that the engine itself is surest of.
Shares 0–1, times in ms, one question at a time; every engine in a process of its own, whose peak memory is ``peak_mb``.
``reference`` = BM25 (k1 .3, b .9) over Sudachi C normalised content words; ``bigram`` = BM25 (1.2, .75) over letter pairs.
``difference`` = r1 of the kit less that of bigram BM25, paired, with its 95 % bootstrap interval over articles or passages.
PYTHON is that of an environment of its own with the peers, whose versions stand in DECISIONS.md; absent ones are named.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csc_array

from tests.bench import engines, questions as data_sets
from tests.bench.questions import Passage, Question

SHARE_LOW, SHARE_ANSWERED, RESAMPLES = 0.2, 0.8, 10_000


def sudachi_words() -> Callable[[str], list[str]]:
    """Cut as the reference does, whatever the kit does: C mode, normalised forms, content words."""
    from sudachipy import Dictionary, SplitMode

    tokenizer = Dictionary(dict="core").tokenizer(mode=SplitMode.C)
    empty = {"助詞", "助動詞", "補助記号", "空白"}

    def cut(text: str) -> list[str]:
        lines = unicodedata.normalize("NFKC", text).lower().splitlines()
        found = [morpheme for line in lines for morpheme in tokenizer.tokenize(line)]
        return [morpheme.normalized_form() for morpheme in found if morpheme.part_of_speech()[0] not in empty]

    return cut


def pairs(text: str) -> list[str]:
    runs = re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())
    return [run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1))]


class BM25:
    """BM25 with Lucene's idf over whole passages; a question's repeated tokens count once."""

    def __init__(self, passages: Sequence[Passage], cut: Callable[[str], list[str]], k1: float, b: float) -> None:
        self.names, self.cut, self.known = [passage.name for passage in passages], cut, dict[str, int]()
        tokens = [[self.known.setdefault(token, len(self.known)) for token in cut(passage.whole)] for passage in passages]
        lengths = np.array([len(text) for text in tokens])
        flat = np.concatenate([np.array(text, int) for text in tokens])
        shape = len(passages), len(self.known)
        counts = csc_array((np.ones(len(flat)), (np.repeat(np.arange(len(tokens)), lengths), flat)), shape=shape)
        counts.sum_duplicates()
        holding = np.diff(counts.indptr)
        idf = np.log1p((len(passages) - holding + 0.5) / (holding + 0.5))
        norm = k1 * (1 - b + b * lengths / lengths.mean())
        counts.data = np.repeat(idf, holding) * counts.data * (k1 + 1) / (counts.data + norm[counts.indices])
        self.weights = counts

    def ask(self, question: str) -> engines.Found:
        columns = [self.known[token] for token in set(self.cut(question)) if token in self.known]
        scores = self.weights[:, columns].sum(axis=1) if columns else np.zeros(len(self.names))
        best = np.argsort(-scores, kind="stable")[:10]
        return engines.with_margin((self.names[i], float(scores[i])) for i in best if scores[i] > 0)


def run(engine: str, python: str, passages: Sequence[Passage], asked: Sequence[Question]) -> dict | None:
    """Run an engine in a child process; None where ``python`` has not got its packages."""
    data = {"passages": [[p.name, p.title, p.text, p.whole] for p in passages], "questions": [q.text for q in asked]}
    environment = {**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False", "PYTHONPATH": ""}
    command = [python, "-P", Path(engines.__file__), engine]
    child = subprocess.run(command, input=json.dumps(data), env=environment, stdout=subprocess.PIPE, text=True)
    if child.returncode == 3:
        return None
    child.check_returncode()
    return json.loads(child.stdout.splitlines()[-1])


def ranks(ranked: Sequence[Sequence[str]], asked: Sequence[Question]) -> np.ndarray:
    """Return of each question the rank of its best gold passage, from 1; infinity where it is not among the first ten."""
    found = [[i for i, name in enumerate(names, 1) if name in q.gold] for names, q in zip(ranked, asked, strict=True)]
    return np.array([min(places, default=np.inf) for places in found])


def surest(right: np.ndarray, confidence: np.ndarray) -> float:
    """Return the share of right ones among the surest 80 %; of equally sure ones, the mean takes part."""
    wanted = SHARE_ANSWERED * len(right)
    cut = np.sort(confidence)[::-1][int(np.ceil(wanted)) - 1]
    above, equal = confidence > cut, confidence == cut
    return float((right[above].sum() + (wanted - above.sum()) * right[equal].mean()) / wanted)


def shares(rank: np.ndarray, low: np.ndarray) -> dict[str, float]:
    result = {f"r{k}": float((rank <= k).mean()) for k in (1, 5, 10)}
    return result | {"mrr": float((1 / rank).mean()), "r1_low20": float((rank[low] == 1).mean())}


def figures(result: dict, asked: Sequence[Question], low: np.ndarray) -> dict[str, float]:
    rank, times = ranks(result["ranked"], asked), np.array(result["ms"])
    return shares(rank, low) | {
        "p_at_80": surest(rank == 1, np.array(result["confidence"])),
        "p50_ms": float(np.percentile(times, 50)),
        "p95_ms": float(np.percentile(times, 95)),
        "build_s": result["build_s"],
        "peak_mb": result["peak_mb"],
    }


def difference(ours: np.ndarray, theirs: np.ndarray, asked: Sequence[Question]) -> dict[str, float]:
    """Return the mean difference with its interval; clusters of questions are drawn, not questions."""
    clusters = np.unique([question.cluster for question in asked], return_inverse=True)[1]
    total = np.bincount(clusters, ours.astype(float) - theirs)
    size = np.bincount(clusters)
    drawn = np.random.default_rng(0).integers(len(size), size=(RESAMPLES, len(size)))
    low, high = np.percentile(total[drawn].sum(axis=1) / size[drawn].sum(axis=1), [2.5, 97.5])
    return {"r1": float(total.sum() / size.sum()), "low": float(low), "high": float(high)}


def stages(passages: Sequence[Passage], asked: Sequence[Question], low: np.ndarray) -> dict[str, dict[str, float]]:
    """Rank the candidates of the index by what each stage of the kit's ranking knows."""
    from kit import Store
    from kit.knowledge import ranking

    orders: dict[str, list[list[str]]] = {"index": [], "words": [], "words_grams": [], "sentences": []}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.add(engines.documents((p.name, p.title, p.text, p.whole) for p in passages))
        for question in asked:
            first = [hit.chunk.document for hit in store.keyword_search(question.text, k=50)]
            hits = store.search(question.text, k=50, fold=False)
            parts = [hit.parts for hit in hits]
            kept = {
                "words": ("words",),
                "words_grams": ("words", "grams"),
                "sentences": ("words", "grams", "sentence_words", "sentence_grams"),
            }
            orders["index"].append(list(dict.fromkeys(first))[:10])
            for stage, names in kept.items():
                known = [ranking.Parts(**{n: getattr(p, n) if n in names else 0.0 for n in kept["sentences"]}) for p in parts]
                scores = ranking.combine(known)
                best = sorted(range(len(hits)), key=lambda i: -scores[i])
                orders[stage].append(list(dict.fromkeys(hits[i].chunk.document for i in best))[:10])
    return {stage: shares(ranks(order, asked), low) for stage, order in orders.items()}


def measure(passages: Sequence[Passage], asked: Sequence[Question], peers: str = "", with_stages: bool = False) -> dict:
    fixed = {"reference": BM25(passages, sudachi_words(), 0.3, 0.9), "bigram": BM25(passages, pairs, 1.2, 0.75)}
    found = {name: [engine.ask(question.text) for question in asked] for name, engine in fixed.items()}
    rank = {name: ranks([names for names, _ in answers], asked) for name, answers in found.items()}
    margins = np.array([margin for _, margin in found["reference"]])
    low = np.argsort(margins, kind="stable")[: max(1, round(SHARE_LOW * len(asked)))]
    kit = run("kit", sys.executable, passages, asked)
    result = {"questions": len(asked), "passages": len(passages), **figures(kit, asked, low)}
    result |= {name: shares(rank[name], low) for name in fixed}
    result["difference"] = difference(ranks(kit["ranked"], asked) == 1, rank["bigram"] == 1, asked)
    if with_stages:
        result["stages"] = stages(passages, asked, low)
    if peers:
        runs = {engine.__name__: run(engine.__name__, peers, passages, asked) for engine in engines.PEERS}
        result["peers"] = {name: figures(there, asked, low) for name, there in runs.items() if there}
        result["absent"] = [name for name, there in runs.items() if not there]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--squad", type=Path)
    source.add_argument("--jsonl", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--title", choices=("keep", "drop"), default="keep")
    parser.add_argument("--questions", type=int, default=0, help="0 = all; otherwise every n-th, so many")
    parser.add_argument("--peers", nargs="?", const=os.environ.get("BENCH_PEERS", sys.executable), default="", metavar="PYTHON")
    parser.add_argument("--stages", action="store_true", help="what each stage of the ranking gains")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep = options.title == "keep"
    if options.squad:
        passages, asked = data_sets.squad(options.squad, keep)
    else:
        docs, qa = (*options.jsonl, None)[:2]
        passages, asked = data_sets.jsonl(docs, qa, keep)
    if options.questions:
        asked = asked[:: max(1, len(asked) // options.questions)][: options.questions]
    result = measure(passages, asked, options.peers, options.stages)
    if options.json:
        print(json.dumps(result))
        return
    tables = {"kit": result, **{name: result[name] for name in ("reference", "bigram")}, **result.get("stages", {}), **result.get("peers", {})}
    columns = ("r1", "r5", "r10", "mrr", "r1_low20", "p_at_80", "p50_ms", "p95_ms", "build_s", "peak_mb")
    print(f"{len(asked)} questions, {len(passages)} passages\n{'':<14}" + "".join(f"{column:>9}" for column in columns))
    for name, row in tables.items():
        print(f"{name:<14}" + "".join(f"{row[column]:>9.4g}" if column in row else f"{'':>9}" for column in columns))
    print("r1 less bigram BM25's: {r1:+.4f} [{low:+.4f}, {high:+.4f}]".format(**result["difference"]))
    for name in result.get("absent", ()):
        print(f"absent in {options.peers}: {name}")


if __name__ == "__main__":
    main()
