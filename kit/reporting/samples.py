"""Every question of a decision with what each arm made of it, as far as the run's folder tells."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

from kit.evaluation.evaluate import JOURNAL
from kit.evaluation.failures import cause, cited, gold
from kit.evaluation.metrics import METRICS
from kit.evaluation.runs import read_evaluation
from kit.records import OPEN_STATES, Case, Decision, Row
from kit.reporting import verdict, wording
from kit.reporting.wording import Language
from kit.trust import ledger

Sample = dict[str, str | float | None]
"""Heading → text or figure; None for what was not measured. All samples of a decision have the same headings."""
_ELSEWHERE = ("right", "latency_p95", "yen_per_right")
"""Metrics whose figure for one question stands in a column of its own."""
_MARKS = {1.0: "○", 0.0: "×", None: None}


def samples(decision: Decision, lang: Language) -> Iterator[Sample]:
    """Yield every sample that was judged, question by question and arm by arm, those of pooled looks first.

    Questions and answers are told where the journals of all pooled runs lie there with their ledger; else, as on a
    machine that got nothing but ``decision.json``, there are ends, scores, times and costs only.

    Args:
        decision: The decision; without ``decision.json`` in its folder there are no samples.
        lang: Language of headings and fixed words.

    Raises:
        RunError: A journal is damaged.
        SealError: The ledger does not know a run.
    """
    file, words, names = decision.folder / "decision.json", wording.words(lang), dict(verdict.arms(decision, lang))
    kept = json.loads(file.read_text(encoding="utf-8"))["samples"] if file.exists() else {}
    runs = [decision.folder.parent / name for name in (*decision.facts["look"]["pooled"], decision.folder.name)]
    whole = (decision.folder.parent / ledger.NAME).exists() and all((run / JOURNAL).exists() for run in runs)
    scored = {name for items in kept.values() for item in items for name in item["scores"]} - {*_ELSEWHERE}
    headings = {name: wording.metric(name, lang) for name in METRICS if name in scored}
    asked: Iterable[tuple[Case | None, Mapping[str, Row]]] = _asked(runs) if whole else repeat((None, {}))
    for items, (case, rows) in zip(zip(*kept.values(), strict=True), asked, strict=whole):
        for arm, item in zip(kept, items, strict=True):
            row = rows.get(arm)
            told = _told(case, row, words) if case else {}
            scores = {name: _figure(value) for name, value in item["scores"].items()}
            failed = item["state"] != "answered" and item["state"] not in OPEN_STATES  # by the arm's own fault: counts as wrong
            ended = "abstained" if row and row.abstained and item["state"] == "answered" else item["state"]
            sample: Sample = {"case": item["case"], "question": case.question} if case else {"case": item["case"]}
            sample |= {"arm": names.get(arm, arm), "state": words.get(f"book_{ended}", words.get(ended)), "right": _MARKS[0.0 if failed else scores.get("right")]}
            sample |= told | {"seconds": item["seconds"], "yen": item["yen"]}
            named = {words[f"book_{name}"]: value for name, value in sample.items()}
            yield named | {heading: scores.get(name) for name, heading in headings.items()}


def _asked(runs: list[Path]) -> Iterator[tuple[Case, Mapping[str, Row]]]:
    """Yield the questions of the runs, each with its rows by arm."""
    for evaluation in map(read_evaluation, runs):
        rows = {arm: evaluation.of(arm) for arm in evaluation.arms}
        yield from ((case, {arm: found[case.id] for arm, found in rows.items() if case.id in found}) for case in evaluation.cases)


def _told(case: Case, row: Row | None, words: Mapping[str, Any]) -> Sample:
    """Return the texts of a sample, and what only the journal knows."""
    if not row:
        return {"gold": gold(case), "shown": "", "cited": "", "cause": "", "prompt": None, "completion": None}
    why = cause(case, row)
    texts = {"gold": gold(case), "shown": row.text or row.error, "cited": cited(row), "cause": words[f"book_cause_{why}"] if why else ""}
    return texts | {"prompt": row.prompt_tokens, "completion": row.completion_tokens}


def _figure(value: object) -> float | None:
    """Return a score as kept in JSON; None where people or a judge gave none."""
    return number if math.isfinite(number := float(str(value))) else None
