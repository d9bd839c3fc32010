"""A language model as judge of a finished run's answers: asked by a rubric and a JSON schema, never about its own.

A verdict that cannot be read, was cut off or reads 判断できない is a judge error: it has no value, and the gate counts
it at its worst and its best. What the server kept the judge from has none either, but is asked again by the next call.

Each verdict is on disk (``verdicts.jsonl``) before the next is acknowledged. What holds goes to the run's scores, which
the ledger vouches for, with a line for every answer that was to be judged: stopping early hides none from the gate.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

from yarl import URL

from kit import views
from kit.answering.llm import closed_object, plain
from kit.errors import SealError, UnreachableError
from kit.evaluation import scores, statistics
from kit.evaluation.criteria import prompts_sha256
from kit.evaluation.designs import LABELS
from kit.evaluation.flow import asked
from kit.evaluation.runs import read_evaluation
from kit.evaluation.scores import JUDGE, Score
from kit.knowledge.store import Store
from kit.records import Answer, Case, Chunk, Evaluation, Evidence, Row
from kit.serving.chat import Chat
from kit.trust import ledger
from kit.trust.durable import JsonLines, to_json

VERDICTS = "verdicts.jsonl"
RIGHT, LABEL, PREFERRED = "right_by_judge", "right_by_people", "preferred_by_judge"
"""Metrics: the judge's verdict on an answer, people's on the same one, the judge's choice between two arms (0, .5, 1)."""
_MOST_TOKENS = 1024  # of one reply, thinking included
_LONGEST_REASON = 120  # letters
_PROMPTS = Path(__file__).with_name("prompts")

Passages = Callable[[Evidence], str]
"""Gives the text of a place that an answer cites, "" where it is not known."""
Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class _Rubric:
    """What a judge is asked: the file of the prompt, and the words that the verdict may be."""

    file: str
    words: tuple[str, ...]

    @property
    def schema(self) -> dict[str, Any]:
        """The form of the reply; the reason comes first, so that the verdict follows from it."""
        reason = {"type": "string", "maxLength": _LONGEST_REASON}
        return closed_object(reason=reason, verdict={"type": "string", "enum": list(self.words)})

    @property
    def digest(self) -> str:
        """Sixteen hex digits that change with prompt and schema."""
        return hashlib.sha256((_PROMPTS / self.file).read_bytes() + json.dumps(self.schema).encode()).hexdigest()[:16]

    def prompt(self, **material: str) -> str:
        """Fill in the prompt. Each line of material carries a mark, whatever it says: none can step out of it."""
        marked = {
            name: plain("\n".join(f"> {line}" for line in text.splitlines() if line.strip()) or "> （なし）")
            for name, text in material.items()
        }
        return Template((_PROMPTS / self.file).read_text(encoding="utf-8")).substitute(marked)


_UNSURE, _DRAW = "判断できない", "引き分け"
_VALUES = {"正しい": 1.0, "誤り": 0.0}
_SINGLE = _Rubric("judge_ja.txt", (*_VALUES, _UNSURE))
_PAIR = _Rubric("compare_ja.txt", ("A", "B", _DRAW, _UNSURE))
OUTCOMES = ("候補が良い", "比較対象が良い", "引き分け", "引き分け（判定ゆれ）", "判定不能", "未採点")
"""What becomes of a pair."""


class _Judge:
    """The judge as an arm that is asked prompts: what it replies is ``verdict: reason``, or a judge error.

    A request that failed is an infrastructure error, whatever failed: nothing was judged, and it is asked again.
    """

    def __init__(self, chat: Chat, rubric: _Rubric) -> None:
        self.chat, self._rubric = chat, rubric

    async def ask(self, question: str, *, user: str = "") -> Answer:
        reply = await self.chat.ask_async(question, max_tokens=_MOST_TOKENS, schema=self._rubric.schema)
        took = Answer("", seconds=reply.seconds, prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens, yen=reply.yen)
        if reply.state == "infrastructure_error":
            return replace(took, state=reply.state, error=f"finish {reply.finish}")
        match reply.parsed:
            case {"reason": str(reason), "verdict": str(verdict)} if verdict in self._rubric.words:
                return replace(took, text=f"{verdict}: {reason[:_LONGEST_REASON]}")
        text = f"判定不能: 応答を読み取れません（終了 {reply.finish}）: {reply.text[:_LONGEST_REASON]}"
        return replace(took, text=text, state="judge_error")


def _word(row: Row) -> str:
    """Return the verdict of a row; 判定不能 of a judge error, "" where no reply came."""
    return row.text.partition(": ")[0]


@dataclass(frozen=True, slots=True)
class Judging:
    """What became of the answers that were to be judged.

    Attributes:
        by: The judge: model, what is known of its weights, hash of its rubric.
        planned: Answers to be judged, of all arms.
        errors: Verdicts that cannot be read, were cut off or read 判断できない.
        unjudged: Answers that the server kept the judge from; the next call asks again.
        trouble: What kept it from the first of them.
        yen: What the verdicts cost by the price table.
    """

    by: str
    planned: int
    errors: int
    unjudged: int
    trouble: str
    yen: float

    @property
    def facts(self) -> tuple[str, ...]:
        """The same in words."""
        judged = f"{self.planned - self.unjudged:,} / {self.planned:,} 件を採点しました"
        left = f"{self.unjudged:,} 件は応答を得られず、採点していません。同じ操作をもう一度実行すると、続きから採点します（{self.trouble}）。"
        done = f"採点モデルが {judged}（うち判定不能 {self.errors:,} 件、{self.yen:.2f} 円）。"
        return done, f"採点モデル: {self.by.removeprefix(JUDGE)}", *[left] * bool(self.unjudged)

    def _repr_html_(self) -> str:
        return views.paragraphs(*self.facts)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which arm's answers a judge prefers, each pair shown in both orders; for information only, it decides nothing.

    Attributes:
        by: The judge.
        counts: Pairs by ``OUTCOMES``. Another verdict when the order is changed makes a draw, counted for itself.
        low: Lower Clopper-Pearson bound (0–1) of the candidate's share of the pairs that were decided, at 95 %.
        high: The upper bound.
        p_value: Two-sided exact sign test of "neither is preferred".
    """

    by: str
    counts: Mapping[str, int]
    low: float
    high: float
    p_value: float

    def _repr_html_(self) -> str:
        shown = views.table((*self.counts,), [(*self.counts.values(),)], "2つの回答の比較（参考。順序を入れ替えて2回）")
        scope = f"決着した組のうち候補が良い割合の95%信頼区間 {self.low:.1%}〜{self.high:.1%}、符号検定 p = {self.p_value:.3f}"
        return shown + views.paragraphs(scope)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far a judge agrees with people on answers that both judged; each share with its 95 % interval (low, high).

    Attributes:
        n: Answers that both judged.
        sensitivity: Share that the judge calls right of those right by people.
        specificity: Share that the judge calls wrong of those wrong by people.
        agreement: Share of equal verdicts.
        kappa: Cohen's kappa with its asymptotic interval; NaN where all verdicts are the same.
    """

    n: int
    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]
    agreement: tuple[float, float, float]
    kappa: tuple[float, float, float]

    @property
    def refusal(self) -> str:
        """Why the judge's verdicts may not decide yet; "" where they may."""
        if self.n >= LABELS:
            return ""
        return (
            f"採点モデルと人の両方が採点した回答は {self.n} 件です。採点モデルの判定を人の採点で補正するには {LABELS} 件以上が"
            f"必要です（あと {LABELS - self.n} 件）。採点シートを追加で作り、人の採点を取り込んでください。"
        )

    def _repr_html_(self) -> str:
        names = ("感度（正しい回答を正しいとした割合）", "特異度（誤った回答を誤りとした割合）", "一致率", "κ 係数")
        figures = (self.sensitivity, self.specificity, self.agreement, self.kappa)
        rows = [(name, *(f"{value:.3f}" for value in line)) for name, line in zip(names, figures, strict=True)]
        shown = views.table(("指標", "値", "95%下限", "95%上限"), rows, f"採点モデルと人の一致（{self.n} 件）")
        return shown + views.paragraphs(*filter(None, [self.refusal]))


def judge_run(
    run: str | Path, chat: Chat, *, passages: Passages | None = None, in_flight: int = 0, progress: Progress | None = None
) -> Judging:
    """Let a model judge every answer of a finished run; what it has judged before is not asked again.

    Args:
        run: The run's folder.
        chat: The connection to the judge, for example on the same GPU after the candidate was stopped.
        passages: Gives the texts that answers cite (see ``cited_texts``), to be held against them, too.
        in_flight: Requests under way at once; 0 for as many as the server bears.
        progress: Called with (finished, planned) requests.

    Raises:
        SealError: The judge is a model that is judged, or not the one agreed, or its prompts have changed since.
        RunError: The run is not finished, another process is judging it, or the disk is full.
        UnreachableError: The judge's server is gone; verdicts so far stay.
        SwappedError: Another model answers under the judge's name.
    """
    evaluation, by = _begin(run, chat, _SINGLE)
    by += " cited" * bool(passages)
    cases = {case.id: case for case in evaluation.cases}
    answers = [row for row in evaluation.rows if row.state == "answered"]
    prompts = []
    for row in answers:
        cited = "\n".join(map(passages, dict.fromkeys(row.cited))) if passages else ""
        question, gold = cases[row.case].question, _gold(cases[row.case])
        prompts.append((row.case, _SINGLE.prompt(question=question, gold=gold, cited=cited, shown=row.shown)))
    found = _ask_all(evaluation.folder, _Judge(chat, _SINGLE), by, prompts, in_flight, progress)
    verdicts = zip(answers, found, strict=True)
    said = [Score(a.case, a.arm, RIGHT, _VALUES.get(_word(v)), by, scores.now(), v.text or v.error) for a, v in verdicts]
    scores.append(evaluation.folder, said, by)
    troubles = [row.error for row in found if not _word(row)]
    errors = sum(score.value is None for score in said) - len(troubles)
    yen = sum(row.yen for row in {row.case: row for row in found}.values())  # equal answers were asked about once
    return Judging(by, len(found), errors, len(troubles), "".join(troubles[:1]), yen)


def compare_pairs(run: str | Path, chat: Chat, *, in_flight: int = 0, progress: Progress | None = None) -> Pairs:
    """Let a model choose between baseline and candidate on every question that both answered, in both orders.

    A judge likes what stands first, or last: only a choice that survives the change of order counts.

    Args:
        run: The run's folder.
        chat: The connection to the judge.
        in_flight: Requests under way at once; 0 for as many as the server bears.
        progress: Called with (finished, planned) requests, two a pair.

    Raises:
        KitError: See ``judge_run``.
    """
    from scipy.stats import binomtest

    evaluation, by = _begin(run, chat, _PAIR)
    arms = (evaluation.arms[0], evaluation.arms[-1])
    rows = {(row.case, row.arm): row.shown for row in evaluation.rows if row.state == "answered"}
    both = [case for case in evaluation.cases if sum((case.id, arm) in rows for arm in {*arms}) == 2]
    prompts = []
    for case, (first, second) in ((case, order) for case in both for order in (arms, arms[::-1])):
        texts = {"first": rows[case.id, first], "second": rows[case.id, second]}
        prompts.append((case.id, _PAIR.prompt(question=case.question, gold=_gold(case), **texts)))
    found = _ask_all(evaluation.folder, _Judge(chat, _PAIR), by, prompts, in_flight, progress)
    counts, said = dict.fromkeys(OUTCOMES, 0), []
    for case, one, other in zip(both, found[::2], found[1::2], strict=True):
        outcome, value = _agreed(_word(one), _word(other))
        counts[outcome] += 1
        note = f"{outcome}（{one.text or one.error} ／ 逆順: {other.text or other.error}）"
        said.append(Score(case.id, arms[1], PREFERRED, value, by, scores.now(), note))
    scores.append(evaluation.folder, said, by)
    won, decided = counts[OUTCOMES[0]], counts[OUTCOMES[0]] + counts[OUTCOMES[1]]
    p_value = float(binomtest(won, decided).pvalue) if decided else 1.0
    return Pairs(by, counts, *statistics.share_bounds(won, decided, 0.025), p_value)


def _agreed(one: str, other: str) -> tuple[str, float | None]:
    """Return what two verdicts on a pair come to, the baseline being A in the first: outcome, the candidate's score."""
    settled = {("B", "A"): (OUTCOMES[0], 1.0), ("A", "B"): (OUTCOMES[1], 0.0), (_DRAW, _DRAW): (OUTCOMES[2], 0.5)}
    if "" in (one, other):
        return OUTCOMES[5], None
    return (OUTCOMES[4], None) if {one, other} - {"A", "B", _DRAW} else settled.get((one, other), (OUTCOMES[3], 0.5))


def calibration(given: Iterable[Score], arm: str = "") -> Calibration:
    """Measure a judge by people: their verdicts on the same answers of a run.

    Args:
        given: The run's scores (``kit.evaluation.scores.read``).
        arm: The arm whose answers count; "" for all.
    """
    held = scores.final(given)
    both = [
        (label == 1.0, verdict == 1.0)
        for (case, of, metric), verdict in held.items()
        if metric == RIGHT and arm in ("", of) and None not in (verdict, label := held.get((case, of, LABEL)))
    ]
    table = Counter(both)
    right, wrong = table[True, True] + table[True, False], table[False, True] + table[False, False]
    equal = _share(table[True, True] + table[False, False], len(both))
    shares = _share(table[True, True], right), _share(table[False, False], wrong), equal
    return Calibration(len(both), *shares, statistics.kappa([[table[a, b] for b in (True, False)] for a in (True, False)]))


def cited_texts(store: Store) -> Passages:
    """Return what finds the text of a cited place in the store that the answers were drawn from."""

    @cache
    def chunks(document: str) -> list[Chunk]:
        return store.chunks(document)

    return lambda cited: "\n".join(chunk.text for chunk in chunks(cited.document) if chunk.place == cited.place)


def _begin(run: str | Path, chat: Chat, rubric: _Rubric) -> tuple[Evaluation, str]:
    """Return the run and what the judge is called in its scores, before hours are spent on what would be refused."""
    evaluation = read_evaluation(run)
    scores.append(evaluation.folder, (), "")  # refuses a run that is not finished
    _require_agreed(evaluation, chat)
    _require_another(evaluation.folder, chat)
    return evaluation, " ".join(f"{JUDGE}{chat.model} {URL(chat.url).host} {chat.identity} prompt={rubric.digest}".split())


def _require_agreed(evaluation: Evaluation, chat: Chat) -> None:
    agreed = evaluation.seal.criteria
    deciding = any(kpi.metric == RIGHT and kpi.role != "info" for kpi in agreed.kpis)
    changed = agreed.judge and agreed.prompts_sha256 not in ("", prompts_sha256())
    if changed or agreed.judge not in f"{chat.model} {chat.identity}" or (deciding and not agreed.judge):
        raise SealError(
            f"モデル「{chat.model}」とこの版のキットの採点方法は、判定基準で決めたもの（judge: {agreed.judge or '指定なし'}）と違います。1件も採点していません。",
            "接続先のモデルが違うか、採点のプロンプトが封印のあとで変わったか、採点モデルを criteria.yaml の judge に書かずに封印しました。",
            "封印したときのモデルとキットで採点するか、judge を決めて `kit seal フォルダ` で封印し、新しい実行としてやり直してください。",
        )


def _require_another(folder: Path, chat: Chat) -> None:
    """Refuse a judge that is a model of the run; under the same name it may be another only where both hashes are known."""
    facts = [fact for fact in chat.identity.split() if not fact.isdigit()]  # without the length of its context
    hashed = any(fact.startswith("sha256=") for fact in facts)
    for name, label, identity in ledger.find(folder.parent / ledger.NAME, "run", run=folder.name)[0].content["arms"]:
        told = f"{label} {identity}"
        marks = facts if hashed and "sha256=" in told else [*facts, PurePosixPath(chat.model).name]
        if any(re.search(rf"(?<![\w.-]){re.escape(mark)}(?![\w.-])", told) for mark in marks):
            raise SealError(
                f"モデル「{chat.model}」は、採点される方式「{name}」のモデルと同じか、別物だと確かめられません。1件も採点していません。",
                "モデルに自分の回答を採点させると、甘い結果になります。同じ名前のモデルは、重みのハッシュが両方とも分かる場合に限り区別できます。",
                "別のモデルを起動し、その URL を渡してください: `kit stop` のあと `kit serve 採点モデルのフォルダ`",
            )


def _ask_all(
    folder: Path, judge: Any, by: str, prompts: Sequence[tuple[str, str]], in_flight: int, progress: Progress | None
) -> list[Row]:
    """Ask what the journal does not know yet; return a row for each (case, prompt), where no reply came, too."""
    keys = [f"{case} {hashlib.sha256(f'{by} {prompt}'.encode()).hexdigest()}" for case, prompt in prompts]
    with JsonLines(folder / VERDICTS, wait=False) as journal:
        known = {row.case: row for row in map(Row.from_json, journal.records)}
        # By their keys: equal answers to one question are asked about once.
        todo = {key: Case(key, prompt) for key, (_, prompt) in zip(keys, prompts, strict=True) if key not in known}
        planned = len({*keys})
        finished = planned - len(todo)
        try:
            with closing(asked(((case, by) for case in todo.values()), {by: judge}, in_flight)) as batches:
                for batch in batches:
                    journal.append(*(to_json(row) for row in batch if _word(row)))
                    known |= {row.case: row for row in batch}
                    for _ in batch:
                        finished += 1
                        if progress:
                            progress(finished, planned)
        except UnreachableError as error:
            raise UnreachableError(
                f"{error.what}採点を途中で止めました。採点済みの分は残っています。", error.cause,
                "採点モデルのサーバーを起動し直して、同じ操作をもう一度実行してください。続きから採点します。",
            ) from error
    return [known[key] for key in keys]


def _gold(case: Case) -> str:
    if not case.answerable:
        return "資料に答えはない（答えが見当たらないと述べるのが正しい）"
    return "\n".join("、または ".join(part) for part in case.answers)


def _share(successes: int, n: int) -> tuple[float, float, float]:
    return successes / n if n else math.nan, *statistics.share_bounds(successes, n, 0.025)
