"""Evaluation → Decision: check the seal, score the rows, judge, and keep what is needed to judge again."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from kit.errors import RunError, SealError
from kit.evaluation import audit, gate, looks, metrics, monitoring, scores
from kit.evaluation.calibration import reliability
from kit.evaluation.cases import cases_sha256, question_hash, read_cases
from kit.evaluation.comparisons import slices
from kit.evaluation.evaluate import JOURNAL, require_not_void, rows_sha256, strangers
from kit.evaluation.failures import answers, causes
from kit.evaluation.looks import Look
from kit.evaluation.metrics import METRICS
from kit.evaluation.runs import read_evaluation, require_file
from kit.records import Criteria, Decision, Evaluation, KpiResult, Outcome, Seal
from kit.trust import ledger, seal
from kit.trust.durable import digest_of, read, to_json, write_atomically

_VERSIONS = ("lancedb", "sudachipy", "sudachidict-core", "scipy", "statsmodels", "papermill")
_RESTORE = "バックアップから戻すか、新しい実行としてやり直してください（`kit poc フォルダ --new`）。"
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
    require_not_void(evaluation.folder)
    sealed = seal.require(evaluation.seal.criteria, evaluation.folder.name, path)
    finished = _require_unchanged(evaluation, sealed.criteria, path)
    look = looks.settled(evaluation.folder.name, sealed.criteria, path)
    pooled = looks.pooled(look, evaluation.folder.name, path)
    parts = [*(_earlier(evaluation.folder.parent / name, path) for name in pooled), evaluation]
    samples = {arm: [sample for part in parts for sample in _scored(part, arm)] for arm in evaluation.arms}
    facts = _facts(evaluation, path, finished) | _counts(parts) | _place(evaluation, look, pooled, path)
    decision = _with_history(_judge(sealed, samples, evaluation.folder, facts), path)
    _keep(decision, samples, path)
    return _anchored(decision, path)


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
        sound = follows and kept["sha256"] == digest_of(kept, "sha256")  # shows an edit of what no figure follows from
    except (ValueError, LookupError, TypeError, AttributeError):  # not JSON, or not what _document wrote
        sound = False
    if not sound:
        raise SealError(
            f"{path} の判定は、そこに記録された実測値から導けません。",
            "判定ファイルが手で書き換えられたか、別の版のキットで作られています。",
            f"`kit decide {path.parent}` で、元の記録から判定し直してください。",
        )
    return _compared(decision)


def samples(decision: Decision) -> gate.Samples:
    """Return the samples behind a decision from its ``decision.json``; none where that is not at hand."""
    path = decision.folder / "decision.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["samples"] if path.is_file() else {}
    return {arm: [_sample(item) for item in kept[arm]] for arm in decision.arms if arm in kept}


def _earlier(folder: Path, path: Path) -> Evaluation:
    """Read an earlier look back, as unchanged as the one that is judged."""
    made = read_evaluation(folder)
    _require_unchanged(made, made.seal.criteria, path)
    return made


def _scored(evaluation: Evaluation, arm: str) -> list[gate.Sample]:
    """Score an arm's rows; what people and judges said of them comes from the run's score file."""
    given = scores.final(scores.read(evaluation.folder))
    own = {(case, metric): value for (case, of, metric), value in given.items() if of == arm}
    named = {kpi.metric for kpi in evaluation.seal.criteria.kpis}
    return gate.score(evaluation.cases, evaluation.of(arm), own, named=named)


def _place(evaluation: Evaluation, look: Look, pooled: Sequence[str], path: Path) -> dict[str, Any]:
    """Return where the run stands among all runs of the PoC: which look, what was spent, what was decided before."""
    criteria, run = evaluation.seal.criteria, evaluation.folder.name
    runs = looks.begun(criteria, path)
    decided = {e.content["run"]: e.content["outcome"] for e in ledger.find(path, "decision")}
    placed = {"kind": look.kind, "number": look.number, "of": criteria.looks, "alpha": look.alpha, "pooled": [*pooled]}
    facts: dict[str, Any] = {
        "look": placed | {
            "abandoned": len(runs.keys() - looks.finished(runs, path) - {run}),
            "history": [[name, decided.get(name, "")] for name in look.earlier],
        },
        "spent_yen": round(sum(_yen(path.parent / name) for name in {*runs, run}), 6),
    }  # fmt: skip
    if look.kind == "monitor":
        facts["monitor"] = _monitor(evaluation, look, path)
    return facts


def _with_history(decision: Decision, path: Path) -> Decision:
    """Add to the notes what went before that a reader of the decision must know."""
    look, run, lines = decision.facts["look"], decision.folder.name, list[str]()
    decided = [f"{outcome or '未判定'}（{name}）" for name, outcome in look["history"]]
    lines += [f"このPoCのこれまでの判定: {'、'.join(decided)}。"] * bool(decided)
    lines += [f"始めて終えなかった実行が {look['abandoned']} 件あります（途中までの回答を見た質問は、新しい判定に使えません）。"] * bool(look["abandoned"])
    before = (entry.content["outcome"] for entry in ledger.find(path, "decision", run=run))
    other = [outcome for outcome in dict.fromkeys(before) if outcome != decision.outcome]
    lines += [f"この実行は、以前は {'、'.join(other)} と判定されていました。採点が加わったか、直されています。"] * bool(other)
    changed = scores.corrected(decision.folder, decided=True)
    lines += [f"判定のあとで直された採点が {changed} 件あります。"] * bool(changed)
    return replace(decision, facts=decision.facts | {"notes": [*decision.facts.get("notes", ()), *lines]}) if lines else decision


def _yen(run: Path) -> float:
    """Return what a run has cost, whether it came to its end or not; of a folder that is gone nothing is known."""
    return sum(float(record.get("yen", 0.0)) for record in read(run / JOURNAL))


def _monitor(evaluation: Evaluation, look: Look, path: Path) -> dict[str, Any]:
    """Compare a monitor run with the look whose questions it asks again, question by question.

    The verdict of that look stands for the same terms only, and a GO only while the run is no worse.
    """
    last = (look.earlier or ("",))[-1]
    decided = ledger.find(path, "decision", run=last)
    if not decided:
        raise RunError(
            f"実行 {evaluation.folder.name} は、同じ質問による再確認です。比べる相手の判定がまだありません。",
            f"先に実行した {last or '実行'} が、判定されていません。",
            f"`kit decide {evaluation.folder.parent / last}` で判定してから、もう一度実行してください。",
        )
    now = _hits(evaluation)
    before = {case: hit for case, hit in _hits(_earlier(evaluation.folder.parent / last, path)).items() if case in now}
    now = {case: hit for case, hit in now.items() if case in before}
    (verdict,), (gains, losses) = monitoring.verdicts([now], before), monitoring.changes(now, before)
    same = looks.of_run(last, path).terms == look.terms
    found = {"of": last, "standing": decided[-1].content["outcome"], "same_terms": same}
    return found | {"verdict": verdict, "gains": gains, "losses": losses}


def _hits(evaluation: Evaluation) -> dict[str, int]:
    """Return 1 for each question that the candidate got right, else 0; by its wording, for ids may change."""
    hashes = {case.id: question_hash(case) for case in evaluation.cases}
    scored = _scored(evaluation, evaluation.arms[-1])
    return {hashes[sample.case]: int(sample.scores["right"] == 1.0) for sample in scored}


def _judge(sealed: Seal, samples: gate.Samples, folder: Path, facts: dict[str, Any]) -> Decision:
    look = facts["look"]
    terms = {"alpha": look["alpha"], "last": look["kind"] == "look" and look["number"] == look["of"], "used": facts["used"]}
    kpis, outcome, reason = gate.judge(sealed.criteria, samples, facts["day"], spent_yen=facts["spent_yen"], **terms)
    if monitor := facts.get("monitor"):
        outcome, reason = _standing(monitor, kpis)
    measured = facts | {  # what follows from the samples
        "points": {arm: {name: gate.point(name, items) for name in METRICS} for arm, items in samples.items()},
        "yen": {arm: round(sum(s.yen for s in items), 6) for arm, items in samples.items()},
    }
    states = {arm: dict(Counter(sample.state for sample in items)) for arm, items in samples.items()}
    return Decision(outcome, reason, kpis, sealed, folder, tuple(samples), states, measured)


def _standing(monitor: dict[str, Any], kpis: Sequence[KpiResult]) -> tuple[Outcome, str]:
    """Return what stands after a monitor run: the verdict that it checks, for it cannot give one of its own."""
    if not monitor["same_terms"]:
        why = f"これらの質問は、前の基準で {monitor['of']} の判定（{monitor['standing']}）に使われています。"
        if monitor["standing"] == "NO-GO":  # a criterion that is changed afterwards opens no PoC that is closed
            return "NO-GO", f"{why}基準を変えて同じ質問で測り直しても、前の判定（NO-GO）のままです。再挑戦には、まだ使っていない質問が必要です。"
        return "EXTEND", f"{why}変えた基準で判定するには、まだ使っていない質問が必要です。"
    change = f"よくなった質問が{monitor['gains']}問、悪くなった質問が{monitor['losses']}問"
    told = f"同じ質問による再確認の結果は「{monitor['verdict']}」です（{change}）。"
    missed = [r for r in kpis if r.outcome == "NO-GO"]
    if monitor["standing"] == "GO" and (monitor["verdict"] == "劣化" or missed):
        return "EXTEND", f"{told}{monitor['of']} の GO は、いまの状態では裏づけられません。原因を調べて直し、再確認してください。"
    outcome: Outcome = monitor["standing"]
    return outcome, f"{told}判定は {monitor['of']} の {outcome} のままです。"


def _compared(decision: Decision) -> Decision:
    """Refuse a decision that the ledger or a file beside it contradicts; where there is no ledger, let the notes say so."""
    run = decision.folder.resolve()
    book = run.parent / ledger.NAME
    if not book.exists():
        return replace(decision, facts=decision.facts | {"notes": [*decision.facts.get("notes", ()), _UNCHECKED]})
    if wrong := audit.differing(run, ledger.entries(book)):
        mended = wrong == ["decision.json"]  # what it was made of stands
        raise SealError(
            f"実行 {run.name} の {audit.named(run, wrong)} が、台帳 {book.name} と一致しません。",
            "判定のあとで書き換えられたか、失われたか、台帳の末尾が失われたか、別の場所の実行フォルダに置かれています。",
            (f"`kit decide {run}` で判定し直してください。" if mended else _RESTORE) + "ほかのマシンで出た判定なら、台帳のないフォルダに置いてください。",
        )
    return _anchored(decision, book)


def _anchored(decision: Decision, path: Path) -> Decision:
    """Return the decision with the ledger's head after it was entered and signed for: what a summary prints as anchor."""
    entered = ledger.find(path, "decision", run=decision.folder.resolve().name)[-1]
    after = (e for e in ledger.entries(path)[entered.sequence :] if e.kind == ledger.CHECKPOINT)
    return replace(decision, facts=decision.facts | {"ledger_head": next(after, entered).hash})


def _figures(document: dict[str, Any]) -> Any:
    """Return what must follow from the samples: the outcome and every figure, not the wording of the reasons."""
    kpis = [{key: value for key, value in kpi.items() if key != "reason"} for kpi in document["kpis"]]
    return document["outcome"], kpis, document["states"], document["facts"]


def _require_unchanged(evaluation: Evaluation, criteria: Criteria, path: Path) -> ledger.Entry:
    """Return the ledger's entry of the finished rows; refuse questions, rows or metric code other than seal and ledger say."""
    name, digest = evaluation.folder.name, rows_sha256(evaluation.rows)
    finished = ledger.find(path, "rows", run=name)
    if not finished:
        planned = len(evaluation.cases) * len(evaluation.arms)
        raise RunError(
            f"実行 {name} はまだ終わっていません（{len(evaluation.rows):,} / {planned:,} 件）。判定できません。",
            "途中で止まったままです。ここまでの記録は残っています。", "`kit poc フォルダ` で続きから再開してください。",
        )
    if lost := [file for file in ("criteria.yaml", "cases.jsonl", JOURNAL) if not (evaluation.folder / file).is_file()]:
        raise RunError(f"実行 {name} に {'、'.join(lost)} がありません。判定できません。", "評価が終わったあとで、消されたか、移されました。", _RESTORE)
    rows_stand = all(e.content["sha256"] == digest for e in finished) and not strangers(evaluation.cases, evaluation.arms, evaluation.rows)
    cases, text = read_cases(evaluation.folder / "cases.jsonl"), (evaluation.folder / "criteria.yaml").read_bytes()
    agreed_stands = text == criteria.text.encode("utf-8", "replace") and cases_sha256(cases) == criteria.cases_sha256
    asked = looks.of_run(name, path).choose(cases)
    if not (rows_stand and agreed_stands and cases_sha256(evaluation.cases) == cases_sha256(asked)):
        wrong = [file for file in audit.differing(evaluation.folder, ledger.entries(path)) if file not in ("decision.json", "scores.jsonl")]
        told = f" {'、'.join(wrong)} " if wrong else "基準・質問・測定記録のどれか"  # what is at hand was changed, not the files
        raise SealError(
            f"TAMPERED: 実行 {name} の{told}が、封印や台帳と一致しません。判定できません。",
            "評価が終わったあとで書き換えられています。",
            _RESTORE,
        )
    if metrics.code_sha256() != criteria.metrics_sha256:
        raise SealError(
            "TAMPERED: 指標の計算方法が、封印したときと違います。判定できません。",
            "封印のあとで、キットの版が変わったか、metrics.py が書き換えられました。",
            "封印したときの版のキットで判定するか、封印し直して新しい実行にしてください（`kit poc フォルダ --new`）。",
        )
    return finished[0]


def _used(path: Path, finished: ledger.Entry, criteria: Criteria, sha256: str) -> bool:
    """Whether, in a demonstration, any of these questions was answered under another seal before the run ended."""
    others = {entry.content["sha256"] for entry in seal.sharing(criteria, path)} - {sha256}
    runs = {entry.content["run"] for entry in ledger.find(path, "run") if entry.content["seal"] in others}
    return any(e.content["run"] in runs and e.sequence < finished.sequence for e in ledger.find(path, "rows"))


def _facts(evaluation: Evaluation, path: Path, finished: ledger.Entry) -> dict[str, Any]:
    start = ledger.find(path, "run", run=evaluation.folder.name)[0]
    runs = [entry.content["run"] for entry in ledger.find(path, "run", seal=evaluation.seal.sha256)]
    criteria = evaluation.seal.criteria
    about: dict[str, Any] = start.content["about"]
    return about | _energy(evaluation, path) | {
        "arm_labels": {name: label for name, label, _ in start.content["arms"]},
        "monthly_questions": criteria.monthly_questions,
        "minutes_per_question": criteria.minutes_per_question,
        "used": start.content["kind"] == "demonstration" and _used(path, finished, criteria, evaluation.seal.sha256),
        "repeat": 1 + runs.index(evaluation.folder.name),
        "finished": finished.at,
        "day": finished.content["day"],
        "ledger_head": finished.hash,
        "rows_sha256": finished.content["sha256"],
        "versions": {name: metadata.version(name) for name in _VERSIONS},
        "causes": causes(evaluation).counts,
        "reliability": to_json(reliability(evaluation)),
        "slices": to_json(slices(evaluation).slices),
        "examples": {"good": _examples(evaluation, "正しい回答"), "bad": _examples(evaluation, "誤った回答")},
    }


def _energy(evaluation: Evaluation, path: Path) -> dict[str, Any]:
    """Return the energy of the run's sessions together; {} where a model answered nothing, or none was metered.

    A session that was killed tells none: its samples are not among those that the joules are of.
    """
    ended = [e for kind in ("stopped", "rows") for e in ledger.find(path, kind, run=evaluation.folder.name)]
    parts = [part for entry in ended if (part := entry.content.get("energy")) and part["samples"]]
    if not parts or not any(row.completion_tokens for row in evaluation.rows):
        return {}
    return {"energy": {name: round(sum(part[name] for part in parts), 3) for name in ("joules", "seconds", "samples")} | {"how": parts[-1]["how"]}}


def _counts(parts: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the questions and tokens (sent, received) of all looks that are judged together, as the points and yen are."""
    answerable = [case.answerable for part in parts for case in part.cases]
    rows = {arm: [row for part in parts for row in part.of(arm).values()] for arm in parts[-1].arms}
    return {
        "planned": len(answerable), "answerable": sum(answerable), "unanswerable": len(answerable) - sum(answerable),
        "tokens": {arm: [sum(row.prompt_tokens for row in of), sum(row.completion_tokens for row in of)] for arm, of in rows.items()},
    }  # fmt: skip


def _examples(evaluation: Evaluation, kind: str) -> list[dict[str, str]]:
    """Pick three answers of a kind, the surest first: they teach most."""
    names = ("question", "gold", "shown", "citation")
    return [dict(zip(names, row[1:5], strict=True)) for row in answers(evaluation, kind=kind, number=3).rows]


def _keep(decision: Decision, samples: gate.Samples, path: Path) -> None:
    document = _document(decision, samples)
    write_atomically(decision.folder / "decision.json", json.dumps(document, ensure_ascii=False, indent=1))
    content = {
        "run": decision.folder.name, "outcome": decision.outcome, "rows": decision.facts["rows_sha256"],
        "decision": document["sha256"],
    }  # fmt: skip
    entered = ledger.find(path, "decision", run=decision.folder.name)
    if not entered or not content.items() <= entered[-1].content.items():
        ledger.append(path, "decision", content)
    with suppress(RunError):  # no home to keep a key in: the decision stands, and an audit says that no signature does
        ledger.checkpoint(path)


def _document(decision: Decision, samples: gate.Samples) -> dict[str, Any]:
    """Return the content of ``decision.json``: the decision without its folder, the samples, and the hash of it all."""
    document = {key: value for key, value in to_json(decision).items() if key != "folder"}
    document |= {"samples": {arm: to_json(list(items)) for arm, items in samples.items()}}
    return document | {"sha256": digest_of(document)}


def _sample(item: dict[str, Any]) -> gate.Sample:
    scores = {name: float(value) for name, value in item["scores"].items()}
    return gate.Sample(item["case"], item["state"], float(item["seconds"]), float(item["yen"]), scores, item["group"])

