"""Run the sealed questions through all arms, journal every sample, resume where a run was stopped."""

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from kit.answering.extractive import ExtractiveReader
from kit.answering.rag import KeywordSearch
from kit.errors import DataError, KitError, SealError, UnreachableError
from kit.evaluation.cases import cases_sha256
from kit.evaluation.metrics import METRICS
from kit.records import Answer, Case, Criteria, Evaluation, Evidence, Row, Seal, State
from kit.trust import ledger
from kit.trust.durable import JsonLines, Record, canonical, to_json, write_atomically
from kit.trust.seal import today

JOURNAL = "rows.jsonl"


class System(Protocol):
    """An arm: any callable that answers a question as a user. A plain string counts as an answer without citation."""

    def __call__(self, question: str, *, user: str = "") -> Answer | str:
        """Answer one question."""
        ...


def evaluate(
    arms: Mapping[str, System],
    cases: Sequence[Case],
    *,
    seal: Seal,
    run: str | Path,
    workers: int = 1,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask every arm every question, paired by question, and return all rows.

    Each sample is on disk before the next is acknowledged; calling again with the same run folder asks only what is
    missing. An arm that raises is a finished sample: the candidate's own fault, or infrastructure for server and
    store errors; it stays in the denominator either way. Only where the model server is gone the run stops: what was
    never asked is no sample, and is asked when the run goes on.

    Args:
        arms: Name → system; the baseline first, the candidate last.
        cases: The sealed questions.
        seal: What ``kit.seal`` returned.
        run: The run's folder; its parent holds the ledger.
        workers: Samples in flight at once; more than 1 makes times mean load, not latency.
        about: Plain JSON facts for the summary (number of documents, remarks), kept in the ledger.
        progress: Called with (finished, planned) samples.

    Raises:
        DataError: A KPI that decides is measured by a metric that means nothing for these arms.
        SealError: ``cases`` are not the sealed questions, or the run was begun with other systems or criteria, or was
            finished and changed afterwards.
        RunError: Another process is writing this run, or the disk is full; finished samples stay.
        UnreachableError: An arm's model server is gone; finished samples stay.
    """
    folder = Path(run)
    _require_valid_metrics(arms, seal.criteria)
    _start(folder, arms, cases, seal, about or {})
    # Interleaved, taking turns to go first: neither arm profits from what the other has just warmed up.
    turns = itertools.cycle((tuple(arms), tuple(reversed(tuple(arms)))))
    plan = [(case, arm) for case, turn in zip(cases, turns, strict=False) for arm in turn]
    with JsonLines(folder / JOURNAL, wait=False) as journal:
        rows = [Row.from_json(record) for record in journal.records]
        _require_untouched(folder, rows)
        finished = {(row.case, row.arm) for row in rows}
        todo = ((case, arm) for case, arm in plan if (case.id, arm) not in finished)
        try:
            for row in _sample(todo, arms, workers):
                journal.append(to_json(row))
                rows.append(row)
                if progress:
                    progress(len(rows), len(plan))
        except UnreachableError as error:
            raise UnreachableError(
                f"{error.what}評価を途中で止めました。測定済みの {len(rows):,} / {len(plan):,} 件は残っています。",
                error.cause,
                "サーバーを起動し直して、同じコマンド（ノートブックなら同じセル）をもう一度実行してください。続きから再開します。",
            ) from error
    _finish(folder, rows)
    return Evaluation(folder, seal, tuple(cases), tuple(arms), tuple(rows))


def _require_valid_metrics(arms: Mapping[str, System], criteria: Criteria) -> None:
    """Refuse to judge by short answers where an arm shows sentences: all would score 0, or beat a baseline of 0."""
    shows = [isinstance(getattr(arm, "reader", arm), (ExtractiveReader, KeywordSearch)) for arm in arms.values()]
    senseless = {"gate": shows[-1], "guardrail": shows[0] or shows[-1], "info": False}
    wrong = [k for k in criteria.kpis if METRICS[k.metric].short_answers_only and senseless[k.role]]
    if wrong:
        raise DataError(
            f"KPI「{wrong[0].label}」（{wrong[0].metric}）は、文書の文をそのまま示す方式では測れません。まだ1問も実行していません。",
            "抽出型とキーワード検索は文を示すので、短い答えとの一致を測る指標は、候補にも比較対象にも使えません。",
            "criteria.yaml の metric を answer_contained に替えるか、role を info にして、もう一度実行してください。",
        )


def _start(
    folder: Path, arms: Mapping[str, System], cases: Sequence[Case], seal: Seal, about: Mapping[str, Any]
) -> None:
    """Write down what is judged, then enter the run into the ledger; both before the first sample."""
    if cases_sha256(cases) != seal.criteria.cases_sha256:
        raise SealError(
            "質問が、封印した質問と一致しません。",
            "封印のあとで質問や正解が変わったか、別のファイルの質問を渡しています。",
            "封印した質問を使うか、`kit seal フォルダ` で封印し直して新しい実行にしてください。",
        )
    systems = [
        [name, str(getattr(arm, "name", type(arm).__name__)), str(getattr(arm, "identity", ""))]
        for name, arm in arms.items()
    ]
    start = {"run": folder.name, "seal": seal.sha256, "arms": systems}
    path = folder.parent / ledger.NAME
    entered = ledger.find(path, "run", run=folder.name)
    if entered and not start.items() <= entered[0].content.items():  # the ledger may have added a remark of its own
        raise SealError(
            f"実行 {folder.name} は、別の判定基準・文書・方式で始められています。続きから再開できません。",
            "中断のあとで、判定基準・質問・文書・モデル・設定のどれかが変わりました。",
            "新しい実行として始めてください（`kit poc フォルダ --new`）。途中までの記録は残ります。",
        )
    if entered:
        return
    write_atomically(folder / "criteria.yaml", seal.criteria.text)
    write_atomically(folder / "seal.json", json.dumps(to_json(seal), ensure_ascii=False, indent=1))
    write_atomically(folder / "cases.jsonl", "".join(canonical(to_json(case)) + "\n" for case in cases))
    ledger.append(path, "run", start | {"about": to_json(dict(about))})


def _finish(folder: Path, rows: Sequence[Row]) -> None:
    """Enter the hash of the finished journal into the ledger, once."""
    if not _finished(folder):
        content = {"run": folder.name, "sha256": rows_sha256(rows), "count": len(rows), "day": today()}
        ledger.append(folder.parent / ledger.NAME, "rows", content)


def _finished(folder: Path) -> list[ledger.Entry]:
    return ledger.find(folder.parent / ledger.NAME, "rows", run=folder.name)


def _require_untouched(folder: Path, rows: Sequence[Row]) -> None:
    """Refuse a finished run whose journal was changed: going on would enter the changed rows into the ledger."""
    if any(entry.content["sha256"] != rows_sha256(rows) for entry in _finished(folder)):
        raise SealError(
            f"終わった実行 {folder.name} の記録が台帳と一致しません。続けられません。",
            f"評価が終わったあとで {JOURNAL} が書き換えられたか、一部が失われました。",
            "バックアップから戻すか、新しい実行としてやり直してください（`kit poc フォルダ --new`）。",
        )


def rows_sha256(rows: Sequence[Row | Record]) -> str:
    """Return the hash of a run's samples, or of their records as journaled, whatever their order of arrival."""
    lines = sorted(canonical(to_json(row)) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _sample(todo: Iterator[tuple[Case, str]], arms: Mapping[str, System], workers: int) -> Iterator[Row]:
    """Yield rows as they finish, never more than ``workers`` in flight; an error leaves after the last of them."""
    if workers <= 1:
        for case, arm in todo:
            yield ask(arms[arm], case, arm)
        return
    with ThreadPoolExecutor(workers) as pool:
        begun = (pool.submit(ask, arms[arm], case, arm) for case, arm in todo)
        running = set(itertools.islice(begun, workers))
        stopped: BaseException | None = None
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                if error := future.exception():
                    stopped = error
                else:
                    yield future.result()
            running |= set() if stopped else set(itertools.islice(begun, len(done)))
        if stopped:
            raise stopped


def rehearse(system: System, cases: Sequence[Case]) -> dict[str, Row]:
    """Ask development questions, without seal, ledger or journal; for fitting and kaizen only.

    Returns:
        Case id → row.

    Raises:
        UnreachableError: The system's model server is gone.
    """
    return {case.id: ask(system, case, "rehearsal") for case in cases}


def ask(system: System, case: Case, arm: str) -> Row:
    """Ask one system one question and return the finished sample; exceptions become end states.

    Raises:
        UnreachableError: The system's model server is gone: there is no sample.
    """
    begun = time.perf_counter()
    try:
        given: Any = system(case.question, user=case.user)
        answer = Answer(given) if isinstance(given, str) else given
        if not isinstance(answer, Answer):
            answer = Answer("", state="wrong_format", error=f"{type(given).__name__} instead of an Answer or a text")
    except UnreachableError:
        raise
    except Exception as error:  # any other fault of an arm is a result, and must be counted
        state: State = "infrastructure_error" if isinstance(error, KitError) else "model_error"
        answer = Answer("", state=state, error=f"{type(error).__name__}: {error}"[:500])
    if not answer.seconds:
        answer = replace(answer, seconds=time.perf_counter() - begun)
    return Row(
        case=case.id,
        arm=arm,
        state=answer.state,
        text=answer.text,
        shown=answer.shown,
        abstained=answer.abstained,
        confidence=round(answer.confidence, 6),
        cited=tuple(Evidence(citation.document, citation.place) for citation in answer.citations),
        retrieved=tuple(Evidence(hit.chunk.document, hit.chunk.place) for hit in answer.hits[:10]),
        seconds=round(answer.seconds, 6),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        yen=round(answer.yen, 9),
        error=answer.error,
    )
