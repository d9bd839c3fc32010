"""Evaluation → Decision: check the seal, score the rows, judge, and keep what is needed to judge again."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from kit.errors import SealError
from kit.evaluation import gate, metrics
from kit.evaluation.answers import answers
from kit.evaluation.cases import cases_sha256, read_cases
from kit.evaluation.evaluate import JOURNAL, rows_sha256
from kit.evaluation.metrics import METRICS
from kit.evaluation.runs import read_evaluation, require_file
from kit.records import Criteria, Decision, Evaluation, Seal
from kit.trust import ledger, seal
from kit.trust.durable import canonical, read, to_json, write_atomically

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
    finished = _require_unchanged(evaluation, sealed.criteria, path)
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
    kpis, outcome, reason = gate.judge(sealed.criteria, samples, facts["day"], used=facts["used"])
    measured = facts | {  # what follows from the samples
        "points": {arm: {name: gate.point(name, items) for name in METRICS} for arm, items in samples.items()},
        "yen": {arm: round(sum(s.yen for s in items), 6) for arm, items in samples.items()},
    }
    states = {arm: dict(Counter(sample.state for sample in items)) for arm, items in samples.items()}
    return Decision(outcome, reason, kpis, sealed, folder, tuple(samples), states, measured)


def _compared(decision: Decision, sha256: str) -> Decision:
    """Refuse a decision that rows or ledger beside it contradict; where there is no ledger, let the notes say so."""
    run = decision.folder.resolve()
    book = run.parent / ledger.NAME
    if not book.exists():
        return replace(decision, facts=decision.facts | {"notes": [*decision.facts.get("notes", ()), _UNCHECKED]})
    entered, rows = ledger.find(book, "decision", run=run.name), rows_sha256(read(run / JOURNAL))
    agreed = decision.seal.criteria
    copies_stand = _copy_stands(run, agreed) and cases_sha256(read_cases(run / "cases.jsonl")) == agreed.cases_sha256
    rows_stand = entered and entered[-1].content["decision"] == sha256 and rows == decision.facts["rows_sha256"]
    if not copies_stand or not rows_stand:
        raise SealError(
            f"実行 {run.name} の判定が、台帳 {book.name} か、実行フォルダにある基準・質問・測定記録と一致しません。",
            "判定のあとでどれかが書き換えられたか、台帳の末尾が失われたか、別の場所の実行フォルダに置かれています。",
            f"`kit decide {run}` で判定し直してください。ほかのマシンで出た判定なら、台帳のないフォルダに置いてください。",
        )
    return decision


def _copy_stands(run: Path, criteria: Criteria) -> bool:
    """Whether the criteria that lie readable in the run's folder are the sealed ones."""
    return (run / "criteria.yaml").read_bytes() == criteria.text.encode("utf-8", "replace")


def _figures(document: dict[str, Any]) -> Any:
    """Return what must follow from the samples: the outcome and every figure, not the wording of the reasons."""
    kpis = [{key: value for key, value in kpi.items() if key != "reason"} for kpi in document["kpis"]]
    return document["outcome"], kpis, document["states"], document["facts"]


def _sha256(document: dict[str, Any]) -> str:
    """Return the hash of a ``decision.json`` without its own hash: it shows an edit of what no figure follows from."""
    return hashlib.sha256(canonical({k: v for k, v in document.items() if k != "sha256"}).encode()).hexdigest()


def _require_unchanged(evaluation: Evaluation, criteria: Criteria, path: Path) -> ledger.Entry:
    """Return the ledger's entry of the finished rows; refuse questions, rows or metric code other than seal and ledger say."""
    name, digest = evaluation.folder.name, rows_sha256(evaluation.rows)
    finished = ledger.find(path, "rows", run=name)
    rows_stand = finished and all(entry.content["sha256"] == digest for entry in finished)
    agreed_stands = _copy_stands(evaluation.folder, criteria) and cases_sha256(evaluation.cases) == criteria.cases_sha256
    if not rows_stand or not agreed_stands:
        raise SealError(
            f"実行 {name} の基準・質問・測定記録のどれかが、封印や台帳と一致しません。判定できません。",
            f"評価が途中で止まったままか、終わったあとで criteria.yaml、cases.jsonl、{JOURNAL} のどれかが書き換えられています。",
            "途中で止まった場合は `kit poc フォルダ` で続きを実行し、そうでなければバックアップから戻してください。",
        )
    if hashlib.sha256(Path(metrics.__file__).read_bytes()).hexdigest() != criteria.metrics_sha256:
        raise SealError(
            "指標の計算方法が、封印したときと違います。判定できません。",
            "封印のあとで、キットの版が変わったか、metrics.py が書き換えられました。",
            "封印したときの版のキットで判定するか、封印し直して新しい実行にしてください（`kit poc フォルダ --new`）。",
        )
    return finished[0]


def _used(path: Path, start: ledger.Entry, criteria: Criteria, sha256: str) -> bool:
    """Whether any of these questions led to a decision under another seal before the run began: it is then used up."""
    others = {entry.content["sha256"] for entry in seal.sharing(criteria, path)} - {sha256}
    runs = {entry.content["run"] for entry in ledger.find(path, "run") if entry.content["seal"] in others}
    return any(e.content["run"] in runs and e.sequence < start.sequence for e in ledger.find(path, "decision"))


def _facts(evaluation: Evaluation, path: Path, finished: ledger.Entry) -> dict[str, Any]:
    start = ledger.find(path, "run", run=evaluation.folder.name)[0]
    runs = [entry.content["run"] for entry in ledger.find(path, "run", seal=evaluation.seal.sha256)]
    criteria = evaluation.seal.criteria
    about: dict[str, Any] = start.content["about"]
    return about | {
        "planned": len(evaluation.cases),
        "answerable": sum(case.answerable for case in evaluation.cases),
        "unanswerable": sum(not case.answerable for case in evaluation.cases),
        "arm_labels": {name: label for name, label, _ in start.content["arms"]},
        "monthly_questions": criteria.monthly_questions,
        "minutes_per_question": criteria.minutes_per_question,
        "used": _used(path, start, criteria, evaluation.seal.sha256),
        "repeat": 1 + runs.index(evaluation.folder.name),
        "finished": finished.at,
        "day": finished.content["day"],
        "ledger_head": finished.hash,
        "rows_sha256": finished.content["sha256"],
        "versions": {name: metadata.version(name) for name in _VERSIONS},
        "examples": {"good": _examples(evaluation, "正しい回答"), "bad": _examples(evaluation, "誤った回答")},
    }


def _examples(evaluation: Evaluation, kind: str) -> list[dict[str, str]]:
    """Pick three answers of a kind, the surest first: they teach most."""
    names = ("question", "gold", "shown", "citation")
    return [dict(zip(names, row[1:], strict=True)) for row in answers(evaluation, kind=kind, number=3).rows]


def _keep(decision: Decision, samples: gate.Samples, path: Path) -> None:
    document = _document(decision, samples)
    write_atomically(decision.folder / "decision.json", json.dumps(document, ensure_ascii=False, indent=1))
    content = {
        "run": decision.folder.name, "outcome": decision.outcome, "rows": decision.facts["rows_sha256"],
        "decision": document["sha256"],
    }
    entered = ledger.find(path, "decision", run=decision.folder.name)
    if not entered or not content.items() <= entered[-1].content.items():
        ledger.append(path, "decision", content)


def _document(decision: Decision, samples: gate.Samples) -> dict[str, Any]:
    """Return the content of ``decision.json``: the decision without its folder, the samples, and the hash of it all."""
    document = {key: value for key, value in to_json(decision).items() if key != "folder"}
    document |= {"samples": {arm: to_json(list(items)) for arm, items in samples.items()}}
    return document | {"sha256": _sha256(document)}


def _sample(item: dict[str, Any]) -> gate.Sample:
    scores = {name: float(value) for name, value in item["scores"].items()}
    return gate.Sample(item["case"], item["state"], float(item["seconds"]), float(item["yen"]), scores)

