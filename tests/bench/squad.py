"""Retrieval and reading on a SQuAD file through the public Store and Rag: shares 0–1, times in ms.

python -m tests.bench.squad ../shared/data/jsquad/valid.json [--title keep|drop] [--questions N] [--json]

``r1 r5`` = the gold paragraph is first, among the first five; ``contained`` = the gold answer stands in the two shown
sentences or their title; ``auc_article`` / ``auc_paragraph`` = confidence separates questions from the same questions
with their article / paragraph masked out of the hits.
"""

import argparse
import hashlib
import json
import random
import tempfile
import time
from pathlib import Path

from scipy.stats import mannwhitneyu

import kit
from kit.answering.extractive import Calibration, find
from kit.evaluation.metrics import contains
from kit.records import Block, Document, Place


def read(path: Path, keep_title: bool) -> tuple[list[Document], list[tuple[str, str, tuple[tuple[str, ...], ...]]]]:
    documents, questions = [], []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for number, paragraph in enumerate(article["paragraphs"]):
            title, _, body = paragraph["context"].partition(" [SEP] ")
            name = f"{article['title']}/{number}"
            digest = hashlib.sha256(body.encode()).hexdigest()
            documents.append(Document(digest, name, title if keep_title else "", (Block(body, Place()),)))
            for qa in paragraph["qas"]:
                gold = tuple(answer["text"] for answer in qa["answers"])
                questions.append((qa["question"], name, (gold,)))
    return documents, questions


def auc(positive: list[float], negative: list[float]) -> float:
    return float(mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative)))


def measure(path: Path, keep_title: bool, number: int) -> dict[str, float]:
    documents, questions = read(path, keep_title)
    random.Random(0).shuffle(questions)
    questions = questions[:number] if number else questions
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        store = kit.Store(folder)
        store.add(documents)
        build = time.perf_counter() - begun
        idf = store.statistics().idf
        reader = kit.ExtractiveReader(Calibration(0.0, 0.0, 0.0, ""))
        first = five = shown = 0
        whole: list[float] = []
        no_article: list[float] = []
        no_paragraph: list[float] = []
        milliseconds = []
        for question, gold, answers in questions:
            begun = time.perf_counter()
            hits = store.search(question, k=5)
            answer = reader.read(question, hits, idf)
            milliseconds.append((time.perf_counter() - begun) * 1000)
            names = [hit.chunk.document for hit in hits]
            first, five = first + (names[:1] == [gold]), five + (gold in names)
            shown += contains(answer.shown, answers)
            deep = store.search(question, k=40)
            article = gold.rsplit("/", 1)[0]
            whole.append(find(question, hits, idf)[1])
            others = [h for h in deep if not h.chunk.document.startswith(f"{article}/")][:5]
            no_article.append(find(question, others, idf)[1])
            no_paragraph.append(find(question, [h for h in deep if h.chunk.document != gold][:5], idf)[1])
    n = len(questions)
    return {
        "questions": n,
        "r1": first / n,
        "r5": five / n,
        "contained": shown / n,
        "auc_article": auc(whole, no_article),
        "auc_paragraph": auc(whole, no_paragraph),
        "p50_ms": sorted(milliseconds)[n // 2],
        "p95_ms": sorted(milliseconds)[int(n * 0.95)],
        "build_s": build,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--title", choices=("keep", "drop"), default="keep")
    parser.add_argument("--questions", type=int, default=0, help="0 = all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.file, options.title == "keep", options.questions)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<14} {value:.4g}")


if __name__ == "__main__":
    main()
