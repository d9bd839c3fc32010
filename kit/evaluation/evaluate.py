"""Run the sealed questions through all arms, journal every sample, resume where a run was stopped."""

import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from types import CodeType
from typing import Any

from kit.answering.extractive import ExtractiveReader
from kit.answering.rag import KeywordSearch
from kit.errors import DataError, KitError, RunError, SealError, SwappedError, UnreachableError
from kit.evaluation.cases import cases_sha256, question_hash, question_hashes
from kit.evaluation.criteria import prices_sha256, prompts_sha256
from kit.evaluation.flow import System as System, ask as ask, asked, asynchronous
from kit.evaluation.looks import Look, next_look
from kit.evaluation.metrics import METRICS
from kit.evaluation.statistics import share_bounds
from kit.records import Case, Criteria, Evaluation, Kpi, Row, Seal
from kit.serving import server
from kit.serving.meter import Meter
from kit.trust import ledger
from kit.trust.durable import JsonLines, Record, canonical, to_json, write_atomically
from kit.trust.seal import today

JOURNAL = "rows.jsonl"
_NOTED_S = 1.0
"""Seconds between two notes of the interval so far."""


def evaluate(
    arms: Mapping[str, System],
    cases: Sequence[Case],
    *,
    seal: Seal,
    run: str | Path,
    workers: int = 0,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask every arm every question, paired by question, and return all rows.

    Which of the sealed questions are asked, and whether that is a look or asks them again, the ledger says (``looks``).
    A sample counts only when it is on disk; calling again with the same run folder asks only what is missing. An arm
    that raises is a finished sample: the candidate's own fault, or infrastructure for server and store errors; it stays
    in the denominator either way. Only where the model server is gone the run stops: what was never asked is no sample,
    and is asked when the run goes on.

    Args:
        arms: Name → system; the baseline first, the candidate last.
        cases: The sealed questions.
        seal: What ``kit.seal`` returned.
        run: The run's folder; its parent holds the ledger.
        workers: Samples in flight at once. 1 is the latency mode: only there times and costs of a question may decide.
            More is the throughput mode, for arms with ``async def ask`` on an event loop, for others in threads. 0
            takes as many as the server bears for arms with ``ask``, and 1 where there are none.
        about: Plain JSON facts for the summary (number of documents, remarks), kept in the ledger.
        progress: Called with (finished, planned) samples, for each that is on disk; one that has ``note``, as ``Bar``
            has, is also told how the first KPI stands.

    Raises:
        DataError: A KPI that decides is measured by a metric that means nothing for these arms, or in this mode.
        SealError: ``cases`` are not the sealed questions, or the run was begun with other systems or criteria, or was
            finished and changed afterwards.
        RunError: Another process is writing this run, or the disk is full; finished samples stay. Or another model
            answered under way: the run is void.
        UnreachableError: An arm's model server is gone; finished samples stay.
    """
    folder, at_once = Path(run), workers or (0 if any(map(asynchronous, arms.values())) else 1)
    _require_valid_metrics(arms, seal.criteria)
    _require_agreed_model(arms, seal.criteria)
    _require_different(cases)
    mode = "latency" if at_once == 1 else "throughput"
    _require_one_at_a_time(mode, seal.criteria)
    # Interleaved, taking turns to go first: neither arm profits from what the other has just warmed up.
    turns = itertools.cycle((tuple(arms), tuple(reversed(tuple(arms)))))
    if folder.is_symlink() or (folder / JOURNAL).is_symlink():
        raise _not_its_own(folder)
    with JsonLines(folder / JOURNAL, wait=False) as journal:  # first of all: of two that begin at once, one is refused
        if journal.records and not ledger.find(folder.parent / ledger.NAME, "run", run=folder.name):
            raise _not_its_own(folder)
        cases = _start(folder, arms, cases, seal, {**(about or {}), "mode": mode}).choose(cases)
        planned = len(cases) * len(arms)
        rows = [Row.from_json(record) for record in journal.records]
        _require_untouched(folder, cases, tuple(arms), rows, journal.records)
        journal.records.clear()  # of 100,000 they would take more than the rows
        finished = {(row.case, row.arm) for row in rows}
        begun, meter = len(rows), Meter(server.running() is not None)
        live = _Live(cases, tuple(arms)[-1], seal.criteria, progress, rows)
        todo = ((case, arm) for case, turn in zip(cases, turns, strict=False) for arm in turn if (case.id, arm) not in finished)
        try:
            with closing(asked(todo, arms, at_once)) as batches:
                for batch in batches:
                    journal.append(*map(to_json, batch))
                    rows += batch
                    for number, row in enumerate(batch, len(rows) - len(batch) + 1):
                        live.tell(row, number, planned)
        except UnreachableError as error:
            _stop(folder, rows, meter.read(len(rows) - begun))
            raise UnreachableError(
                f"{error.what}評価を途中で止めました。測定済みの {len(rows):,} / {planned:,} 件は残っています。",
                error.cause,
                "サーバーを起動し直して、同じコマンド（ノートブックなら同じセル）をもう一度実行してください。続きから再開します。",
            ) from error
        except SwappedError as error:
            ledger.append(folder.parent / ledger.NAME, "void", {"run": folder.name, "why": error.what})
            raise RunError(
                f"{error.what}この実行（{folder.name}）は無効です。", error.cause,
                "モデルを固定してから、新しい実行として始めてください（`kit poc フォルダ --new`）。",
            ) from error
        except BaseException:  # Ctrl-C, a full disk
            _stop(folder, rows, meter.read(len(rows) - begun))
            raise
    _finish(folder, len(rows), meter.read(len(rows) - begun))
    return Evaluation(folder, seal, tuple(cases), tuple(arms), tuple(rows))


class _Live:
    """Tells a progress callback of each sample, and one that takes notes of the interval so far, once a second.

    Args:
        cases: The questions.
        arm: The candidate.
        criteria: Where the first gate KPI that is a share and scored by the kit comes from, and alpha.
        progress: Called with (finished, planned); may have ``note(text)``; None tells nobody.
        rows: What was finished before.
    """

    def __init__(
        self, cases: Sequence[Case], arm: str, criteria: Criteria, progress: Callable[[int, int], object] | None, rows: Sequence[Row]
    ) -> None:
        self._arm, self._alpha, self._progress = arm, criteria.alpha, progress
        self._note: Callable[[str], object] | None = getattr(progress, "note", None)
        gates = (kpi for kpi in criteria.kpis if kpi.role == "gate")  # what people score is not known yet
        shares = (kpi for kpi in gates if METRICS[kpi.metric].kind == "share" and METRICS[kpi.metric].score)
        self._kpi: Kpi | None = next(shares, None) if self._note else None
        self._cases = {case.id: case for case in cases} if self._kpi else {}
        self._unscored = [row for row in rows if row.arm == arm] if self._kpi else []
        self._hits, self._n, self._told = 0.0, 0, time.monotonic()

    def tell(self, row: Row, finished: int, planned: int) -> None:
        """Tell of a finished sample."""
        if self._kpi and row.arm == self._arm:
            self._unscored.append(row)
        if self._kpi and self._note and (time.monotonic() - self._told >= _NOTED_S or finished == planned):
            self._told = time.monotonic()
            self._note(self._words(self._kpi))
        if self._progress:  # last: at the end a bar closes
            self._progress(finished, planned)

    def _words(self, kpi: Kpi) -> str:
        metric: Any = METRICS[kpi.metric]
        scored = [row for row in self._unscored if metric.applies(self._cases[row.case])]
        self._unscored = []
        # A failed sample counts against the candidate, as in the worst case of the gate.
        failed = float(not metric.higher_is_better)
        self._hits += sum(metric.score(self._cases[r.case], r) if r.state == "answered" else failed for r in scored)
        self._n += len(scored)
        low, high = share_bounds(self._hits, self._n, self._alpha)
        share = f"{self._hits / self._n:.1%}" if self._n else "－"
        return f"途中経過（判定には使いません） {kpi.label} {share}［{low:.1%}～{high:.1%}］"


def _require_one_at_a_time(mode: str, criteria: Criteria) -> None:
    """Refuse to judge times, and costs that follow from them, of samples that wait for one another."""
    timed = [k for k in criteria.kpis if k.role != "info" and METRICS[k.metric].kind in ("p95", "yen_per_right")]
    if timed and mode != "latency":
        raise DataError(
            f"KPI「{timed[0].label}」（{timed[0].metric}）は、複数の質問を同時に実行する評価では測れません。まだ1問も実行していません。",
            "同時に実行すると、応答時間には順番待ちの時間が入り、時間で決まる費用も実際より高くなります。",
            "1問ずつ実行するか（kit.evaluate(…, workers=1)）、criteria.yaml の role を info にして封印し直してください。",
        )


def _require_agreed_model(arms: Mapping[str, System], criteria: Criteria) -> None:
    """Refuse a candidate that is not the model that was agreed on."""
    name, candidate = list(arms.items())[-1]
    known = f"{getattr(candidate, 'name', '')} {getattr(candidate, 'identity', '')}"
    if criteria.model and not re.search(rf"(?<![\w.-]){re.escape(criteria.model)}(?![\w.-])", known):
        raise SealError(
            f"候補（{name}）は、判定基準で決めたモデル「{criteria.model}」ではありません。まだ1問も実行していません。",
            f"いまの候補: {known.strip()[:300] or '名前なし'}",
            "決めたモデルを起動するか、criteria.yaml の model を関係者と決め直して封印し直してください。",
        )


def _require_different(cases: Sequence[Case]) -> None:
    """Refuse questions that differ in signs and blanks only: one answer would count as many."""
    if len(cases) > len(question_hashes(cases)):
        raise DataError(
            f"{len(cases)} 問のうち {len(cases) - len(question_hashes(cases))} 問は、ほかの質問と同じです。まだ1問も実行していません。",
            "句読点などの記号と空白だけが違う質問は、同じ質問です。1問を何問にも数えると、結果が実際より確かに見えます。",
            "質問表から重複を消して、`kit seal フォルダ` で封印し直してください。",
        )


def require_not_void(folder: Path) -> None:
    """Refuse a run in which the model was swapped: it is neither continued nor judged.

    Raises:
        SealError: It is void by the ledger.
    """
    for entry in ledger.find(folder.parent / ledger.NAME, "void", run=folder.name):
        raise SealError(
            f"実行 {folder.name} は無効です。続けることも、判定することもできません。",
            f"実行の途中で、回答するモデルが変わりました（{entry.content['why']}）",
            "モデルを固定してから、新しい実行として始めてください（`kit poc フォルダ --new`）。",
        )


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
    folder: Path, arms: Mapping[str, System], cases: Sequence[Case], seal: Seal, about: dict[str, Any]
) -> Look:
    """Write down what is judged, then enter the run into the ledger; both before the first sample."""
    if cases_sha256(cases) != seal.criteria.cases_sha256:
        raise SealError(
            "質問が、封印した質問と一致しません。",
            "封印のあとで質問や正解が変わったか、別のファイルの質問を渡しています。",
            "封印した質問を使うか、`kit seal フォルダ` で封印し直して新しい実行にしてください。",
        )
    agreed = seal.criteria.prompts_sha256, seal.criteria.prices_sha256
    if any(sealed not in ("", now) for sealed, now in zip(agreed, (prompts_sha256(), prices_sha256()), strict=True)):
        raise SealError(
            "TAMPERED: プロンプトか価格表が、封印したときと違います。評価できません。",
            "封印のあとで、キットの版が変わったか、プロンプトか価格表（kit.toml の prices）が書き換えられました。",
            "封印したときのものに戻すか、`kit seal フォルダ` で封印し直して新しい実行にしてください。",
        )
    require_not_void(folder)
    systems = [
        [name, str(getattr(arm, "name", type(arm).__name__)), str(getattr(arm, "identity", _code(arm)))]
        for name, arm in arms.items()
    ]
    start = {"run": folder.name, "seal": seal.sha256, "arms": systems}
    path = folder.parent / ledger.NAME
    entered = ledger.find(path, "run", run=folder.name)
    begun = entered[0].content if entered else None
    # The ledger may have added a remark of its own.
    if begun and not (start.items() <= begun.items() and begun["about"]["mode"] == about["mode"]):
        raise SealError(
            f"実行 {folder.name} は、別の判定基準・文書・方式で始められています。続きから再開できません。",
            "中断のあとで、判定基準・質問・文書・モデル・設定・同時に実行する数（1問ずつか、それ以外か）のどれかが変わりました。",
            "新しい実行として始めてください（`kit poc フォルダ --new`）。途中までの記録は残ります。",
        )
    if begun:
        return Look.of(begun)
    look = next_look(seal.criteria, cases, path)
    write_atomically(folder / "criteria.yaml", seal.criteria.text)
    write_atomically(folder / "seal.json", json.dumps(to_json(seal), ensure_ascii=False, indent=1))
    write_atomically(folder / "cases.jsonl", "".join(canonical(to_json(case)) + "\n" for case in cases))
    ledger.append(path, "run", start | look.to_json() | {"about": to_json(about)})
    return look


def _code(arm: object) -> str:
    """Return a hash of a plain function's code and constants, the identity it has; "" where there is no code to see."""
    code = getattr(arm, "__code__", None)
    return f"code={hashlib.sha256(repr(_parts(code)).encode()).hexdigest()}" if code else ""


def _parts(item: Any) -> Any:
    """Return what a code object or a constant consists of, without lines and addresses, sets in order."""
    if isinstance(item, CodeType):
        return [item.co_code, item.co_names, *map(_parts, item.co_consts)]
    return sorted(map(repr, item)) if isinstance(item, frozenset) else item


def _finish(folder: Path, count: int, metered: Mapping[str, Any]) -> None:
    """Enter the hash of the finished journal, and the energy it took, into the ledger, once."""
    if not _finished(folder):
        sha256 = _sha256((folder / JOURNAL).read_bytes().splitlines())  # its lines are canonical already
        content = {"run": folder.name, "sha256": sha256, "count": count, "day": today(), **metered}
        ledger.append(folder.parent / ledger.NAME, "rows", content)


def _stop(folder: Path, rows: Sequence[Row], metered: Mapping[str, Any]) -> None:
    """Enter what is on disk when a run is stopped, and the energy it took: whoever goes on must find it as it was."""
    with suppress(KitError):  # a full disk may have no room for it; what stopped the run is told
        content = {"run": folder.name, "sha256": rows_sha256(rows), "count": len(rows), **metered}
        ledger.append(folder.parent / ledger.NAME, "stopped", content)


def _finished(folder: Path) -> list[ledger.Entry]:
    return ledger.find(folder.parent / ledger.NAME, "rows", run=folder.name)


def _require_untouched(
    folder: Path, cases: Sequence[Case], arms: Sequence[str], rows: Sequence[Row], records: Sequence[Record]
) -> None:
    """Refuse a journal that holds other samples than this run's, or not those that it had when it was stopped or finished.

    Going on would enter lost or changed rows into the ledger. After the last orderly stop a kill may have left more.
    """
    stops = ledger.find(folder.parent / ledger.NAME, "stopped", run=folder.name)[-1:]
    kept = all(entry.content["sha256"] == rows_sha256(records[: entry.content["count"]]) for entry in stops)
    kept &= all(entry.content["sha256"] == rows_sha256(records) for entry in _finished(folder))
    if not kept or strangers(cases, arms, rows):
        raise _not_its_own(folder)


def strangers(cases: Sequence[Case], arms: Sequence[str], rows: Iterable[Row]) -> list[Row]:
    """Return the rows that are no sample of these questions and arms, or are one for the second time."""
    planned = {(case.id, arm): question_hash(case) for case in cases for arm in arms}
    return [row for row in rows if planned.pop((row.case, row.arm), None) != row.asked]


def _not_its_own(folder: Path) -> SealError:
    return SealError(
        f"TAMPERED: 実行 {folder.name} の測定記録（{JOURNAL}）が台帳と一致しません。続けられません。",
        "中断のあいだか終了後に書き換えられたか、一部が失われたか、ほかの実行から写されたか、リンクで置かれています。",
        "バックアップから戻すか、新しい実行としてやり直してください（`kit poc フォルダ --new`）。",
    )


def rows_sha256(rows: Sequence[Row | Record]) -> str:
    """Return the hash of a run's samples, or of their records as journaled, whatever their order of arrival."""
    return _sha256(canonical(to_json(row)).encode() for row in rows)


def _sha256(lines: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\n".join(sorted(lines))).hexdigest()  # bytes are in the order of the letters they encode


def rehearse(system: System, cases: Sequence[Case]) -> dict[str, Row]:
    """Ask development questions, without seal, ledger or journal; for fitting and kaizen only.

    Returns:
        Case id → row.

    Raises:
        UnreachableError: The system's model server is gone.
    """
    return {case.id: ask(system, case, "rehearsal") for case in cases}
