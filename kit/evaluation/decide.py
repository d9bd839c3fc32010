"""Evaluation → Decision: check the seal, score the rows, judge, and keep what is needed to judge again."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from kit.errors import SealError
from kit.evaluation import gate, metrics
from kit.evaluation.cases import cases_sha256
from kit.evaluation.evaluate import JOURNAL, rows_sha256
from kit.evaluation.metrics import METRICS, right
from kit.evaluation.runs import read_evaluation, require_file
from kit.records import Criteria, Decision, Evaluation, Row, Seal, to_json
from kit.trust import ledger, seal
from kit.trust.durable import canonical, read, write_atomically

_VERSIONS = ("lancedb", "sudachipy", "sudachidict-core", "scipy", "statsmodels", "papermill")
_UNCHECKED = "判定ファイルだけから作成しました。台帳が手元にないため、台帳との照合はしていません。"


def decide(evaluation: Evaluation) -> Decision:
    """Judge an evaluation, write ``decision.json`` into its folder and enter the decision into the ledger.

    Args:
        evaluation: What ``kit.evaluate`` returned, or ``read_evaluation`` read back.

    Raises:
        SealError: The criteria were not sealed before the first sample, or questions, rows or metric code are not those
            that were sealed and run.
        LedgerError: The ledger's chain is broken.
    """
    path = evaluation.folder.parent / ledger.NAME
    sealed = seal.require(evaluation.seal.criteria, evaluation.folder.name, path)
    _require_cases_and_metrics(evaluation, sealed.criteria)
    finished = _require_rows(evaluation, path)
    samples = {arm: gate.score(evaluation.cases, evaluation.of(arm)) for arm in evaluation.arms}
    decision = _judge(sealed, samples, evaluation.folder, _facts(evaluation, path, finished))
    _keep(decision, samples, path)
    return decision


def decide_again(folder: str | Path) -> Decision:
    """Judge a run again from its rows (see ``decide``)."""
    return decide(read_evaluation(folder))


def read_decision(folder: str | Path) -> Decision:
    """Judge a run again from its ``decision.json`` alone: nothing else is needed, on any machine.

    Where rows or ledger lie beside it they must agree with it; where there is no ledger the decision's notes say so.

    Raises:
        RunError: There is no decision yet.
        SealError: What is written there does not follow from the samples beside it, or rows or ledger contradict it.
        LedgerError: The ledger's chain is broken.
    """
    path = require_file(Path(folder), "decision.json")
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        sealed = Seal.from_json(kept["seal"])
        samples = {arm: [_sample(item) for item in kept["samples"][arm]] for arm in kept["arms"]}
        decision = _judge(sealed, samples, path.parent, kept["facts"])
        follows = _figures(to_json(decision)) == _figures(kept) and seal.fingerprint(sealed.criteria) == sealed.sha256
        sound = follows and kept["sha256"] == _sha256(kept)
    except (ValueError, LookupError, TypeError, AttributeError):  # not JSON, or not what _document wrote
        sound = False
    if not sound:
        raise SealError(
            f"{path} の判定は、そこに記録された実測値から導けません。",
            "判定ファイルが手で書き換えられたか、別の版のキットで作られています。",
            f"`kit decide {path.parent}` で、元の記録から判定し直してください。",
        )
    return _compared(decision, kept["sha256"])


def _judge(sealed: Seal, samples: gate.Samples, folder: Path, facts: dict[str, Any]) -> Decision:
    day = facts.get("day", facts["finished"][:10])  # the UTC date where the run kept no other
    kpis, outcome, reason = gate.judge(sealed.criteria, samples, day, used=facts["used"])
    measured = facts | _measured(samples)
    return Decision(outcome, reason, kpis, sealed, folder, tuple(samples), _states(samples), measured)


def _compared(decision: Decision, sha256: str) -> Decision:
    """Refuse a decision that rows or ledger beside it contradict; where there is no ledger, let the notes say so."""
    run = decision.folder.resolve()
    book = run.parent / ledger.NAME
    if not book.exists():
        return replace(decision, facts=decision.facts | {"notes": [*decision.facts.get("notes", ()), _UNCHECKED]})
    entered, rows = _entered(book, run.name), rows_sha256(read(run / JOURNAL))
    if not entered or entered[-1].get("decision") != sha256 or rows != decision.facts["rows_sha256"]:
        raise SealError(
            f"実行 {run.name} の判定が、台帳 {book.name} か測定記録 {JOURNAL} と一致しません。",
            "判定のあとでどれかが書き換えられたか、台帳の末尾が失われたか、別の場所の実行フォルダに置かれています。",
            f"`kit decide {run}` で判定し直してください。ほかのマシンで出た判定なら、台帳のないフォルダに置いてください。",
        )
    return decision


def _figures(document: dict[str, Any]) -> Any:
    """Return what must follow from the samples: the outcome and every figure, not the wording of the reasons."""
    kpis = [{key: value for key, value in kpi.items() if key != "reason"} for kpi in document["kpis"]]
    return document["outcome"], kpis, document["states"], document["facts"]


def _sha256(document: dict[str, Any]) -> str:
    """Return the hash of a ``decision.json`` without its own hash: it shows an edit of what no figure follows from."""
    return hashlib.sha256(canonical({k: v for k, v in document.items() if k != "sha256"}).encode()).hexdigest()


def _require_cases_and_metrics(evaluation: Evaluation, criteria: Criteria) -> None:
    """Refuse questions, or metric code, other than the sealed."""
    if cases_sha256(evaluation.cases) != criteria.cases_sha256:
        raise SealError(
            f"実行 {evaluation.folder.name} の質問が、封印した質問と一致しません。判定できません。",
            "実行のあとで cases.jsonl の質問か正解が書き換えられました。",
            "バックアップから戻すか、新しい実行としてやり直してください（`kit poc フォルダ --new`）。",
        )
    if hashlib.sha256(Path(metrics.__file__).read_bytes()).hexdigest() != criteria.metrics_sha256:
        raise SealError(
            "指標の計算方法が、封印したときと違います。判定できません。",
            "封印のあとで、キットの版が変わったか、metrics.py が書き換えられました。",
            "封印したときの版のキットで判定するか、封印し直して新しい実行にしてください（`kit poc フォルダ --new`）。",
        )


def _require_rows(evaluation: Evaluation, path: Path) -> ledger.Entry:
    """Return the ledger's entry of the finished rows, after comparing it with the rows at hand."""
    name = evaluation.folder.name
    found = [e for e in ledger.entries(path) if e.kind == "rows" and e.content["run"] == name]
    digest = rows_sha256(evaluation.rows)
    if not found or any(entry.content["sha256"] != digest for entry in found):
        raise SealError(
            f"実行 {name} の記録が台帳と一致しません。判定できません。",
            "評価が途中で止まったままか、終わったあとで rows.jsonl が書き換えられています。",
            "途中で止まった場合は `kit poc フォルダ` で続きを実行してください。",
        )
    return found[0]


def _states(samples: gate.Samples) -> dict[str, dict[str, int]]:
    return {arm: dict(Counter(sample.state for sample in items)) for arm, items in samples.items()}


def _measured(samples: gate.Samples) -> dict[str, Any]:
    """Return the facts that follow from the samples."""
    return {
        "points": {arm: {name: gate.point(name, items) for name in METRICS} for arm, items in samples.items()},
        "failures": {arm: sum(s.state != "answered" for s in items) for arm, items in samples.items()},
        "yen": {arm: round(sum(s.yen for s in items), 6) for arm, items in samples.items()},
    }


def _used(entries: list[ledger.Entry], start: ledger.Entry, cases: str, sha256: str) -> bool:
    """Whether these questions led to a decision under other criteria before the run began: they are then used up."""
    others = {e.content["sha256"] for e in entries if e.kind == "seal" and e.content["cases_sha256"] == cases} - {sha256}
    runs = {e.content["run"] for e in entries if e.kind == "run" and e.content["seal"] in others}
    return any(e.kind == "decision" and e.content["run"] in runs and e.sequence < start.sequence for e in entries)


def _facts(evaluation: Evaluation, path: Path, finished: ledger.Entry) -> dict[str, Any]:
    entries = ledger.entries(path)
    start = next(e for e in entries if e.kind == "run" and e.content["run"] == evaluation.folder.name)
    repeats = [e for e in entries if e.kind == "run" and e.content["seal"] == evaluation.seal.sha256]
    candidate = evaluation.of(evaluation.arms[-1])
    criteria = evaluation.seal.criteria
    about: dict[str, Any] = start.content["about"]
    return about | {
        "planned": len(evaluation.cases),
        "answerable": sum(case.answerable for case in evaluation.cases),
        "unanswerable": sum(not case.answerable for case in evaluation.cases),
        "arm_labels": {name: label for name, label, _ in start.content["arms"]},
        "seconds": round(sum(row.seconds for row in evaluation.rows), 3),
        "monthly_questions": criteria.monthly_questions,
        "minutes_per_question": criteria.minutes_per_question,
        "used": _used(entries, start, criteria.cases_sha256, evaluation.seal.sha256),
        "repeat": 1 + [e.content["run"] for e in repeats].index(evaluation.folder.name),
        "started": start.at,
        "finished": finished.at,
        "day": finished.content.get("day", finished.at[:10]),
        "ledger_head": finished.hash,
        "rows_sha256": finished.content["sha256"],
        "versions": {name: metadata.version(name) for name in _VERSIONS},
        "examples": _examples(evaluation, candidate),
    }


def _examples(evaluation: Evaluation, rows: Mapping[str, Row]) -> dict[str, list[dict[str, str]]]:
    """Pick three right and three wrong answers of the candidate, the surest first: they teach most."""
    found: dict[str, list[tuple[float, dict[str, str]]]] = {"good": [], "bad": []}
    for case in evaluation.cases:
        row = rows.get(case.id)
        if row is None:
            continue
        good = row.state == "answered" and right(case, row) == 1.0
        if good and row.abstained:
            continue
        example = {
            "question": case.question,
            "shown": row.text or row.error,
            "gold": " ＋ ".join(part[0] for part in case.answers) or "（文書に答えなし）",
            "citation": "、".join(f"{e.document} {e.place.label}".strip() for e in row.cited),
            "why": _why(case.answerable, row, good),
        }
        found["good" if good else "bad"].append((row.confidence, example))
    return {
        kind: [example for _, example in sorted(items, key=lambda item: -item[0])[:3]] for kind, items in found.items()
    }


def _why(answerable: bool, row: Row, good: bool) -> str:
    if good:
        return "正解を含み、出典も正しい"
    if row.state != "answered":
        return "回答を得られなかった"
    if row.abstained:
        return "文書に答えがあるのに、見当たらないとした"
    return "正解または正しい出典を示せなかった" if answerable else "文書に答えがないのに、回答を示した"


def _keep(decision: Decision, samples: gate.Samples, path: Path) -> None:
    document = _document(decision, samples)
    write_atomically(decision.folder / "decision.json", json.dumps(document, ensure_ascii=False, indent=1))
    content = {
        "run": decision.folder.name, "outcome": decision.outcome, "rows": decision.facts["rows_sha256"],
        "decision": document["sha256"],
    }
    entered = _entered(path, decision.folder.name)
    if not entered or not content.items() <= entered[-1].items():
        ledger.append(path, "decision", content)


def _entered(path: Path, run: str) -> list[dict[str, Any]]:
    """Return what the ledger says of a run's decisions, the last of which is in force."""
    return [e.content for e in ledger.entries(path) if e.kind == "decision" and e.content["run"] == run]


def _document(decision: Decision, samples: gate.Samples) -> dict[str, Any]:
    """Return the content of ``decision.json``: the decision without its folder, the samples, and the hash of it all."""
    document = {key: value for key, value in to_json(decision).items() if key != "folder"}
    document |= {"samples": {arm: to_json(list(items)) for arm, items in samples.items()}}
    return document | {"sha256": _sha256(document)}


def _sample(item: dict[str, Any]) -> gate.Sample:
    scores = {name: float(value) for name, value in item["scores"].items()}
    return gate.Sample(item["case"], item["state"], float(item["seconds"]), float(item["yen"]), scores)

