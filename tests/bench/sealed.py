"""Real data through sealed criteria: each comparison on its own disjoint half, with a fresh ledger of its own.

    python -m tests.bench.sealed [--sets jsquad lawqa] [--questions N] [--model FOLDER] [--json]

First half: the extractive reader against plain keyword search. Second half: a model that vLLM serves (by default the
tiny one with random weights, which knows nothing: an honest NO-GO is the right result) against the extractive reader.
The reader's curve is fitted on JaQuAD, never on these sets. Bars were written down before the first run.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import kit
from kit.answering.extractive import ExtractiveReader
from kit.answering.llm import LLMReader
from kit.answering.rag import KeywordSearch, Rag
from kit.evaluation.cases import read_squad
from kit.evaluation.criteria import read_criteria
from kit.records import Block, Case, Document, Evidence, Place
from kit.trust import ledger
from kit.trust.durable import to_json

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SEED = 20261122
FITTED_ON = 600
CRITERIA = """\
title: 実データの確認（{name}）
scope: internal
looks: 2
cases: questions.jsonl
kpis:
{kpis}"""
# A statute question asks which of four sentences is wrong: its answer stands in no document, the statute it rests on does.
KPIS = {
    "jsquad": [("right", "gate", 0.70), ("wrong_answer", "gate", 0.15), ("right", "guardrail", 0.05)],
    "lawqa": [("recall_at_5", "gate", 0.70), ("recall_at_5", "guardrail", 0.05), ("right", "info", 0.5)],
}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def document(name, title, text):
    return Document(hashlib.sha256(text.encode()).hexdigest(), name, title or name, (Block(text, Place()),))


def read(name):
    """Return documents and questions of one set."""
    if name == "jsquad":
        source = SHARED / "jsquad" / "valid.json"
        return [document(p.name, p.title, p.text) for p in read_squad(source)], kit.read_cases(source)
    folder = SHARED / name
    documents = [document(one["doc_id"], one.get("title", ""), one["text"]) for one in lines(folder / "docs.jsonl")]
    cases = []
    for one in lines(folder / "qa.jsonl"):
        asked = "\n".join((one["question"], *one.get("choices", {}).values()))
        wordings = tuple(one.get("answers", ())) or (one["answer_text"],)
        cases.append(Case(one["id"], asked, (wordings,), (Evidence(one["gold_doc"]),)))
    return documents, cases


def halves(cases, most):
    """Cut the questions into two disjoint halves by a seeded hash."""
    ordered = sorted(cases, key=lambda case: hashlib.sha256(f"{SEED} {case.id}".encode()).digest())
    middle = len(ordered) // 2
    return ordered[:middle][:most], ordered[middle:][:most]


def fitted(folder):
    """Fit the reader's curve on JaQuAD."""
    documents, cases = read("jaquad")
    store = kit.Store(folder)
    store.add(documents)
    first, _ = halves(cases, FITTED_ON)
    return kit.calibrate(store, first)


def compare(folder, name, cases, arms):
    """Seal, run, decide in a fresh ledger; return what is reported."""
    folder.mkdir(parents=True)
    text = "".join(json.dumps(to_json(case), ensure_ascii=False) + "\n" for case in cases)
    (folder / "questions.jsonl").write_text(text, encoding="utf-8")
    kpis = "".join(f"  - {{metric: {m}, role: {r}, bar: {b}, reason: 実データでの確認}}\n" for m, r, b in KPIS[name])
    (folder / "criteria.yaml").write_text(CRITERIA.format(name=name, kpis=kpis), encoding="utf-8")
    criteria = read_criteria(folder / "criteria.yaml")
    begun = time.perf_counter()
    sealed = kit.seal(criteria, folder / "runs" / ledger.NAME)
    evaluation = kit.evaluate(arms, kit.read_cases(folder / "questions.jsonl"), seal=sealed, run=folder / "runs" / "20261122-000000-bench")
    asked = time.perf_counter() - begun
    decision = kit.decide(evaluation)
    figures = {
        f"{r.kpi.metric} {r.kpi.role}": [r.outcome or "info", round(r.point, 3), [round(r.low, 3), round(r.high, 3)], r.baseline and round(r.baseline, 3)]
        for r in decision.kpis
    }
    total = time.perf_counter() - begun
    return {"n": len(evaluation.cases), "decision": decision.outcome, "kpis": figures, "seconds_asking": round(asked, 1), "seconds": round(total, 1)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", nargs="+", default=["jsquad", "lawqa"], choices=[*KPIS])
    parser.add_argument("--questions", type=int, default=10**6, help="most questions of a half")
    parser.add_argument("--asked-of-model", type=int, default=10**6, help="most questions of the model's half")
    parser.add_argument("--model", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        reader = ExtractiveReader(replace(fitted(home / "jaquad"), source="JaQuAD"))
        model = Path(options.model or home / "tiny")
        if not options.model:
            subprocess.run([sys.executable, Path(__file__).parents[1] / "tiny_model.py", model], check=True, capture_output=True)
        with kit.serve(model, context=4096) as server, kit.connect(server.url, model=server.model) as chat:
            for name in options.sets:
                documents, cases = read(name)
                store = kit.Store(home / name / "store")
                store.add(documents)
                first, second = halves(cases, options.questions)
                extractive = Rag(store, reader)
                comparisons = {
                    "extractive against keyword search": (first, {"baseline": KeywordSearch(store), "candidate": extractive}),
                    "model against extractive": (
                        second[: options.asked_of_model],
                        {"baseline": extractive, "candidate": Rag(store, LLMReader(chat))},
                    ),
                }
                for number, (title, (half, arms)) in enumerate(comparisons.items()):
                    found[f"{name}: {title}"] = compare(home / name / str(number), name, half, arms)
                    print(f"{name}: {title}: {found[f'{name}: {title}']}", file=sys.stderr, flush=True)
    print(json.dumps(found, ensure_ascii=False, indent=1) if options.json else "")


if __name__ == "__main__":
    main()
