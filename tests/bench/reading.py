"""Reading and abstention through the public Store and the extractive reader: shares 0–1, times in ms.

python -m tests.bench.reading --squad ../shared/data/jsquad/valid.json --json
python -m tests.bench.reading --jsonl ../shared/data/jaquad/{docs,qa}.jsonl --foreign ../shared/data/niilc/dev.jsonl
python -m tests.bench.reading --jsonl ../shared/data/jaquad/{docs,qa}.jsonl --questions 2000 --fit

``sentence`` / ``two_sentences`` = the gold answer stands in the best sentence / in all that is shown, with the title.
``span_em span_f1`` = the hint found by rule; none counts 0. ``auc_article auc_paragraph`` = confidence separates questions
from the same ones with their article / paragraph masked out of the hits; ``auc_foreign`` = from questions of ``--foreign``,
``auc_wrong`` = right from wrong sentences where the answer is there. ``ece`` = of "what is shown is right" over all three
kinds in equal parts, ten bins, by the curve of JaQuAD; ``ece_shipped`` by the shipped one. ``p95_ms`` = processor time, all
threads, of search and reading; ``read_p95_ms`` of reading alone.
"""

import argparse
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple
from itertools import compress
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu

import kit
from kit.answering.extractive import SHIPPED, Calibration, Signs, find
from kit.evaluation.cases import read_squad
from kit.evaluation.matching import character_f1, contains, exact_match
from kit.records import Block, Document, Place

JAQUAD = Calibration(0.0, 1.0, 0.0, "JaQuAD")
Question = tuple[str, str, tuple[str, ...]]
"""Its text, the name of its document, the wordings of its answer."""


def squad(path: Path) -> tuple[list[Document], list[Question]]:
    paragraphs = read_squad(path)
    asked = [(case.question, p.name, case.answers[0]) for p in paragraphs for case in p.cases if case.answerable]
    return [document(p.name, p.title, p.text) for p in paragraphs], asked


def jsonl(documents: Path, questions: Path) -> tuple[list[Document], list[Question]]:
    rows = [json.loads(line) for line in questions.open(encoding="utf-8")]
    asked = [
        (" ".join((r["question"], *r.get("choices", {}).values())), r["gold_doc"], tuple(r.get("answers") or [r["answer_text"]]))
        for r in rows
    ]  # fmt: skip
    found = map(json.loads, documents.open(encoding="utf-8"))
    return [document(d["doc_id"], d.get("title", ""), d["text"]) for d in found], asked


def document(name: str, title: str, text: str) -> Document:
    return Document(hashlib.sha256(text.encode()).hexdigest(), name, title, (Block(text, Place()),))


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    return float(mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative)))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    bins = np.minimum((confidence * 10).astype(int), 9)
    return float(sum(abs(np.sum(confidence[bins == b] - right[bins == b])) for b in range(10)) / len(right))


def measure(
    documents: list[Document], questions: list[Question], foreign: list[str]
) -> tuple[dict[str, float], list[tuple[Signs, float]]]:
    """Return the figures, and every question's signs with whether what was shown is right."""
    articles = {d.name: d.title or d.name for d in documents}
    reader = kit.ExtractiveReader(Calibration(0.0, 0.0, 0.0, ""))
    own: list[tuple[Signs, float]] = []
    masked: dict[str, list[tuple[Signs, float]]] = {"article": [], "paragraph": []}
    figures: list[tuple[float, ...]] = []
    milliseconds = []
    with tempfile.TemporaryDirectory() as folder:
        store = kit.Store(folder)
        store.add(documents)
        idf = store.statistics().idf
        for question, gold, answers in questions:
            begun = time.process_time()
            deep = store.search(question, k=40)  # the first five are those of k=5
            searched = time.process_time()
            answer = reader.read(question, deep[:5], idf)
            read = time.process_time()
            milliseconds.append(((read - begun) * 1000, (read - searched) * 1000))
            two = float(contains(answer.shown, (answers,)))
            one = float(any(contains(f"{c.quote}\n{c.title}", (answers,)) for c in answer.citations[:1]))
            figures.append((one, two, exact_match(answer.hint, (answers,)), character_f1(answer.hint, (answers,))))
            own.append((find(question, deep[:5], idf)[1], two))

            named = [{chunk.document for chunk in (hit.chunk, *hit.also)} for hit in deep]
            absent = {
                "article": [articles[gold] not in map(articles.__getitem__, names) for names in named],
                "paragraph": [gold not in names for names in named],
            }
            for kind, kept in absent.items():
                masked[kind].append((find(question, list(compress(deep, kept))[:5], idf)[1], 0.0))
        strangers = [find(question, store.search(question, k=5), idf)[1] for question in foreign]
    sure = [signs.evidence for signs, _ in own]
    rows = own + masked["article"] + masked["paragraph"]
    evidence, right = np.array([signs.evidence for signs, _ in rows]), np.array([label for _, label in rows])
    result = {"questions": float(len(questions))}
    result |= dict(zip(("sentence", "two_sentences", "span_em", "span_f1"), np.mean(figures, axis=0).tolist(), strict=True))
    result |= {f"auc_{kind}": auc(sure, [signs.evidence for signs, _ in of]) for kind, of in masked.items()}
    if strangers:
        result["auc_foreign"] = auc(sure, [signs.evidence for signs in strangers])
    result["auc_wrong"] = auc([s.evidence for s, y in own if y], [s.evidence for s, y in own if not y])
    for name, curve in (("ece", JAQUAD), ("ece_shipped", SHIPPED)):
        result[name] = calibration_error(np.vectorize(curve.confidence)(evidence), right)
    result |= dict(zip(("p95_ms", "read_p95_ms"), np.quantile(milliseconds, 0.95, axis=0).tolist(), strict=True))
    return result, rows


def fit(rows: list[tuple[Signs, float]]) -> dict[str, float]:
    """Return base and weights of ``Signs.evidence``."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=100).fit([astuple(signs) for signs, _ in rows], [label for _, label in rows])
    names = ("weight_base", *(f"weight_{name}" for name in Signs.__slots__))
    return dict(zip(names, (*model.intercept_, *model.coef_[0]), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser()
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--squad", type=Path)
    source.add_argument("--jsonl", type=Path, nargs=2, metavar=("DOCS", "QA"))
    parser.add_argument("--foreign", type=Path, help="JSON lines with questions that these documents do not answer")
    parser.add_argument("--questions", type=int, default=0, help="0 = all")
    parser.add_argument("--fit", action="store_true", help="fit the weights of the signs, too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    documents, questions = squad(options.squad) if options.squad else jsonl(*options.jsonl)
    random.Random(0).shuffle(questions)
    foreign = options.foreign.read_text(encoding="utf-8").splitlines() if options.foreign else []
    asked = [json.loads(line)["question"] for line in foreign]
    result, rows = measure(documents, questions[: options.questions or None], asked)
    if options.fit:
        result |= fit(rows)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<14} {value:.4g}")


if __name__ == "__main__":
    main()
