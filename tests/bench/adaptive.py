"""What each hop of adaptive retrieval gains and costs, through the public Store and Rag: counts of questions, times in ms of CPU.

python -m tests.bench.adaptive SET [--data ../shared/data] [--title keep|drop] [--questions N] [--part N] [--json]

SET: ``jaquad`` ``jsquad`` ``niilc`` (its evidence sentences are the documents) ``lawqa`` (question and choices)
``sample`` (development questions) ``pairs`` (two jaquad questions in one) ``compare`` (comparisons of jemhopqa, their
names replaced by titles of jaquad). Margins were chosen on jaquad; ``--part 1`` is the half not looked at for that.

Of each hop alone, and of the default: ``touched`` questions, and of those with the gold document ``first``, among the first
``five`` (of pairs and comparisons: both), and with the gold answer in the two sentences that the extractive reader shows when it
must answer (``contained``), each [before, after, gained, lost]; ``ms`` CPU time of the hop. ``low20``: all questions of the least margin, [R@1 before, after].
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

from tests.bench.squad import read

import kit
from kit.answering.adaptive import DEEP, OTHER_WORDS, REMAINDER, Adaptive
from kit.answering.extractive import Calibration
from kit.evaluation.matching import contains
from kit.knowledge import japanese
from kit.knowledge.ranking import margin
from kit.records import Block, Document, Place

JOINTS = ("か、また、", "？", "。あと、", "、それと")
def words_alone(text: str, groups=japanese.synonym_groups) -> dict:
    return dict.fromkeys(groups(text), ())


HOPS = {
    "synonyms": (Adaptive((OTHER_WORDS,)), lambda: patch.object(japanese, "units", lambda word: [])),
    "units": (Adaptive((OTHER_WORDS,)), lambda: patch.object(japanese, "synonym_groups", words_alone)),
    "words": (Adaptive((OTHER_WORDS,)), nullcontext),
    "remainder": (Adaptive((REMAINDER,)), nullcontext),
    "default": (Adaptive(), nullcontext),
}


def lines(path: Path) -> list:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def document(name: str, title: str, text: str) -> Document:
    return Document(name, name, title, (Block(text, Place()),))


def load(name: str, data: Path, title: bool) -> tuple[list[Document], list[tuple]]:
    """Return documents and (question, groups of gold documents, gold answers, asker)."""
    if name == "jsquad":
        documents, questions = read(data / "jsquad" / "valid.json", title)
        return documents, [(question, [{gold}], answers, "") for question, gold, answers in questions]
    if name == "niilc":
        found = [one for one in lines(data / "niilc" / "dev.jsonl") if one["evidence"]]
        questions = [(one["question"], [{one["id"]}], (tuple(filter(None, one["answers"])),), "") for one in found]
        return [document(one["id"], "", one["evidence"]) for one in found], questions
    if name == "sample":
        cases = [case for case in kit.read_cases("data/sample/development.jsonl") if case.answerable]
        questions = [(c.question, [{e.document} for e in c.evidence], c.answers, c.user) for c in cases]
        return list(kit.load("data/sample/documents")), questions
    folder = data / ("lawqa" if name == "lawqa" else "jaquad")
    documents = [document(one["doc_id"], one.get("title", "") if title else "", one["text"]) for one in lines(folder / "docs.jsonl")]
    found = lines(folder / "qa.jsonl")
    if name == "lawqa":
        asked = ["\n".join((one["question"], *one["choices"].values())) for one in found]
        return documents, [(a, [{one["gold_doc"]}], ((one["answer_text"],),), "") for a, one in zip(asked, found, strict=True)]
    questions = [(one["question"], [{one["gold_doc"]}], (tuple(one["answers"]),), "") for one in found]
    made = {"pairs": pairs, "compare": lambda _: compare(documents, lines(data / "jemhopqa" / "train.jsonl"))}
    return documents, list(made.get(name, iter)(questions))


def pairs(questions: list[tuple]) -> Iterator[tuple]:
    rng = random.Random(1)
    for number in range(600):
        one, other = rng.sample(questions, 2)
        first = one[0].rstrip("?？。").removesuffix("か")
        yield first + JOINTS[number % 4] + other[0], one[1] + other[1], one[2] + other[2], ""


def compare(documents: list[Document], asked: list[dict]) -> Iterator[tuple]:
    rng, by_title = random.Random(1), {}
    for one in documents:
        by_title.setdefault(one.title, set()).add(one.name)
    titles = sorted(title for title in by_title if 0 < len(title) < 12)
    for one in asked:
        names = list(dict.fromkeys(triple[0] for triple in one["derivations"]))
        if one["type"] == "comparison" and len(names) == 2 and all(name in one["question"] for name in names):
            a, b = rng.sample(titles, 2)
            question = one["question"].replace(names[0], "\0").replace(names[1], b).replace("\0", a)
            yield question, [by_title[a], by_title[b]], (), ""


def judge(hits, gold, answers, answer) -> tuple[bool, bool, bool]:
    names = [hit.chunk.document for hit in hits[:5]]
    first = bool(names) and any(names[0] in group for group in gold)
    return first, all(group & set(names) for group in gold), bool(answers) and contains(answer.shown, answers)


def change(before: list[bool], after: list[bool]) -> list[int]:
    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    return [sum(before), sum(after), gained, sum(before) - sum(after) + gained]


def measure(store: kit.Store, questions: list[tuple]) -> dict:
    reader, statistics = kit.ExtractiveReader(Calibration(0.0, 0.0, 0.0, "")), store.statistics()
    found = {name: [] for name in HOPS}
    margins, depth = [], {"five": 0, "five_and_neighbours": 0, "seven": 0}
    for question, gold, answers, user in questions:
        hits = store.search(question, k=DEEP, as_user=user)
        plain = judge(hits, gold, answers, reader.read(question, hits[:5], statistics.idf))
        margins.append(margin(hits))
        if hits and answers and margins[-1] < kit.answering.adaptive.MARGIN:
            chunks = [hit.chunk for hit in hits]
            beside = [c for c in store.chunks(chunks[0].document) if abs(c.ordinal - chunks[0].ordinal) == 1]
            for name, shown in (("five", chunks[:5]), ("five_and_neighbours", chunks[:5] + beside), ("seven", chunks[:7])):
                inside = "\n".join(c.text for c in shown if any(c.document in group for group in gold))
                depth[name] += contains(inside, answers)
        for name, (adaptive, patched) in HOPS.items():
            begun = time.process_time()
            with patched():
                further = adaptive.further(
                    question, hits, lambda q, u=user: store.search(q, k=DEEP, as_user=u), 5, statistics
                )
            spent = time.process_time() - begun
            after = judge(further.hits, gold, answers, reader.read(question, further.hits, statistics.idf)) if further.trace else plain
            found[name].append((bool(further.trace), plain, after, spent))
    low = sorted(range(len(questions)), key=margins.__getitem__)[: len(questions) // 5]
    report = {}
    for name, rows in found.items():
        touched = [row for row in rows if row[0]]
        report[name] = {
            "touched": len(touched),
            **{key: change([r[1][i] for r in touched], [r[2][i] for r in touched]) for i, key in enumerate(("first", "five", "contained"))},
            "low20": [sum(rows[i][side][0] for i in low) / max(1, len(low)) for side in (1, 2)],
            "ms": 1000 * sum(row[3] for row in touched) / max(1, len(touched)),
            "ms_untouched": 1000 * sum(row[3] for row in rows if not row[0]) / max(1, len(rows) - len(touched)),
        }
    return {"questions": len(questions), "r1": sum(r[1][0] for r in found["default"]) / len(questions),
            "r5": sum(r[1][1] for r in found["default"]) / len(questions), "gold_in_doubtful": depth, **report}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("set", choices=("jaquad", "jsquad", "niilc", "lawqa", "sample", "pairs", "compare"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--title", choices=("keep", "drop"), default="keep")
    parser.add_argument("--questions", type=int, default=0, help="0 = all")
    parser.add_argument("--part", type=int, choices=(0, 1), help="every other question, from this one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    documents, questions = load(options.set, options.data, options.title == "keep")
    random.Random(0).shuffle(questions)
    questions = questions[options.part :: 2] if options.part is not None else questions
    with tempfile.TemporaryDirectory() as folder:
        store = kit.Store(folder)
        store.add(documents)
        result = measure(store, questions[: options.questions or None])
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<18} {value}")


if __name__ == "__main__":
    main()
