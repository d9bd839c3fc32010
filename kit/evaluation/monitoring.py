"""Monitor runs: the sealed questions asked again, week after week. They decide nothing anew; they tell whether it still holds.

Asking the same questions again is no new evidence about other questions. What can differ between two runs is only the
questions that one got right and the other did not (the discordant ones), and so every limit here rests on those.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from kit import views
from kit.errors import DataError, RunError, SealError
from kit.evaluation.designs import mcnemar_p
from kit.evaluation.metrics import METRICS
from kit.evaluation.runs import require_file
from kit.evaluation.statistics import holm_rejects, share_bounds
from kit.records import Evaluation
from kit.trust import ledger
from kit.trust.durable import digest_of

_SHORTEST = 12  # digits of a seal, as a summary shows it
Verdict = Literal["改善", "同等", "劣化"]
Scores = Mapping[str, int]
"""Question → 1 where the candidate was right, 0 where it was wrong or failed."""


@dataclass(frozen=True, slots=True)
class Week:
    """One monitor run beside those before it."""

    run: str
    day: str
    share: float
    """Share of the questions that the candidate got right, 0–1."""
    center: float
    low: float
    high: float
    """Control limits, 0–1, from the runs before this one; NaN where those are too few."""
    outside: bool
    verdict: Verdict
    """Against the first run, by Holm over all the weeks."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The runs of one seal on the same questions, oldest first."""

    seal: str
    questions: int
    weeks: tuple[Week, ...]
    label: str = METRICS["right"].label
    """Of the metric: of the sealed gate KPIs ``right``, else the first share that the kit scores; ``right`` without any."""

    def _repr_html_(self) -> str:
        rows = [
            (
                week.day, f"{week.share:.1%}", *_placed(week), week.verdict if number else "基準とする回", week.run,
            )
            for number, week in enumerate(self.weeks)
        ]  # fmt: skip
        caption = f"再確認の推移（同じ {self.questions} 問、封印 {self.seal[:12]}…）"
        header = ("実施日", self.label, "管理限界", "ばらつき", "初回との比較", "実行")
        left = [] if any(not math.isnan(week.low) for week in self.weeks) else [f"あと {3 - len(self.weeks)} 回で管理限界を計算できます。"]
        return views.table(header, rows, caption) + views.paragraphs(*left)


def _placed(week: Week) -> tuple[str, str]:
    """Write the limits, and where the share lies."""
    if math.isnan(week.low):
        return "—", "—"
    return f"{week.low:.1%} 〜 {week.high:.1%}", "管理限界の外" if week.outside else "範囲内"


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """How much a system differs from itself when it is asked twice."""

    questions: int
    discordant: int
    """Questions that one arm got right and the other did not."""
    low: float
    high: float
    """Exact bounds of their share, 0–1; each one-sided at .05."""

    @property
    def share(self) -> float:
        """Share of the questions that came out differently, 0–1."""
        return self.discordant / self.questions if self.questions else 0.0


def verdicts(weeks: Sequence[Scores], before: Scores, alpha: float = 0.05) -> list[Verdict]:
    """Tell of each run whether it is better or worse than an earlier one on the same questions.

    The test is the exact one-sided McNemar test of the discordant questions, once in each direction, Holm over all the
    weeks. Holm is renewed each week over the weeks so far, so the chance of at least one false 劣化
    is not held at ``alpha`` over a long watch (simulated, 200 questions, 52 weeks: .00, .04 and .08 where 2, 10 and 30 %
    of the questions come out differently now and then).

    Args:
        weeks: The monitor runs so far.
        before: The run that they are measured by: the one on which the decision rests.
        alpha: One-sided error, for each direction.

    Raises:
        DataError: Two runs did not ask the same questions.
    """
    found = [changes(week, before) for week in weeks]
    better = holm_rejects([mcnemar_p(gains, losses) for gains, losses in found], alpha)
    worse = holm_rejects([mcnemar_p(losses, gains) for gains, losses in found], alpha)
    return ["劣化" if down else "改善" if up else "同等" for up, down in zip(better, worse, strict=True)]


def changes(now: Scores, before: Scores) -> tuple[int, int]:
    """Count the questions (gained, lost) since ``before``."""
    if now.keys() != before.keys():
        raise DataError(
            "2つの実行の質問が同じではないため、比べられません。", "質問を変えたあとの実行と、変える前の実行です。",
            "同じ封印・同じ質問の実行どうしを選んでください。",
        )
    return sum(now[c] > before[c] for c in now), sum(now[c] < before[c] for c in now)


def right(folder: str | Path, metric: str = "") -> dict[str, int]:
    """Return what the candidate of a decided run got right, by question; a failed sample counts 0.

    The samples are read as the ledger has them: judging each run of a year again would take minutes.

    Args:
        folder: The run, beside its ledger.
        metric: A metric of 0 and 1, more is better; "" takes the one that is watched (see ``Trend.label``).

    Raises:
        RunError: There is no decision yet.
        SealError: What is written there is not what was entered into the ledger.
        LedgerError: The ledger's chain is broken.
    """
    path = require_file(Path(folder).resolve(), "decision.json")
    entered = ledger.find(path.parents[1] / ledger.NAME, "decision", run=path.parent.name)
    kept = json.loads(path.read_bytes())
    if not entered or entered[-1].content["decision"] != digest_of(kept, "sha256"):
        raise SealError(
            f"{path} の判定は、台帳に記録されたものではありません。", "判定ファイルが書き換えられたか、別の台帳の実行です。",
            f"`kit decide {path.parent}` で、元の記録から判定し直してください。",
        )
    metric = metric or _watched(kept)[0]
    counted = (sample for sample in kept["samples"][kept["arms"][-1]] if metric in sample["scores"])
    return {s["case"]: int(s["state"] == "answered" and float(s["scores"][metric]) >= 1) for s in counted}


def _watched(kept: Mapping[str, Any]) -> tuple[str, str]:
    """Return the metric that the trend of a decision's seal is drawn of, and its label."""
    gates = [(kpi["metric"], kpi["label"]) for kpi in kept["seal"]["criteria"]["kpis"] if kpi["role"] == "gate"]
    shares = [(name, label) for name, label in gates if (m := METRICS[name]).kind == "share" and m.higher_is_better and m.score]
    return min(shares, key=lambda found: found[0] != "right", default=("right", METRICS["right"].label))


def trend(runs: str | Path, seal: str = "", *, noise: NoiseFloor | None = None) -> Trend:
    """Draw the trend of all decided runs of one seal on the same questions, with control limits and verdicts.

    A p-chart whose limits do not come from sqrt(p (1 - p) / n): that is how much the share would vary over *other*
    questions, and it is far too wide where the same ones are asked again. Between two runs of an unchanged system the
    expected number of discordant questions D is twice the sum of each question's own variance, so the share varies
    around its mean with sqrt(D / 2) / n. D is the mean over successive runs (as the moving range of an individuals
    chart, so a lasting shift enters once), plus one question spread over them, because a few runs without any do not
    prove that there never is one; an A/A run, where given, counts as one more pair. A run is measured by the runs
    before it that were inside: center = their mean, limits = center ± 3 standard deviations · sqrt(1 + 1/k), k runs. Before
    two runs there are no limits, unless an A/A run gives them. Simulated false alarms: .002–.010 a run.

    Args:
        runs: The folder of all runs, with the ledger.
        seal: SHA-256 of the seal, or its first 12 digits or more; "" takes that of the run decided last.
        noise: Of an A/A run on as many questions.

    Raises:
        RunError: No run was decided under the seal.
        SealError: A decision is not the one that was entered into the ledger.
        LedgerError: The ledger's chain is broken.
    """
    book = ledger.entries(Path(runs) / ledger.NAME)
    seals = {entry.content["run"]: entry.content["seal"] for entry in book if entry.kind == "run"}
    decided = [entry for entry in reversed(book) if entry.kind == "decision"]
    days = {entry.content["run"]: f"{datetime.fromisoformat(entry.at).astimezone():%Y-%m-%d}" for entry in decided}
    seal = seal or next((seals[run] for run in days), "")
    meant = {known for known in seals.values() if known.startswith(seal)} if len(seal) >= _SHORTEST else set()
    found = [(run, days[run], right(Path(runs) / run)) for run in seals if run in days and {seals[run]} == meant]
    if not found:
        raise RunError(
            f"{runs} に、{f'封印「{seal}」の' if seal else ''}判定済みの実行がありません。", "まだ一度も判定していないか、フォルダの場所か封印の値が違います。",
            f"ノートブック 05 を実行するか、`kit poc フォルダ` を実行してください。封印は SHA-256 の先頭 {_SHORTEST} 桁以上で指定できます。",
        )
    kept = json.loads((Path(runs) / found[-1][0] / "decision.json").read_bytes())
    found = [item for item in found if item[2].keys() == found[-1][2].keys()]
    first = found[0][2]
    told: list[Verdict] = ["同等", *verdicts([scores for _, _, scores in found[1:]], first)]
    weeks, inside = [], list[Scores]()
    for (run, day, scores), verdict in zip(found, told, strict=True):
        share = sum(scores.values()) / len(scores)
        center, low, high = limits(inside, noise) if inside else (share, math.nan, math.nan)
        if len(inside) < 2 and not noise:
            low = high = math.nan
        outside = share < low or share > high
        weeks.append(Week(run, day, share, center, low, high, outside, verdict))
        if not outside:
            inside.append(scores)
    (digest,) = meant
    return Trend(digest, len(first), tuple(weeks), _watched(kept)[1])


def limits(earlier: Sequence[Scores], noise: NoiseFloor | None = None) -> tuple[float, float, float]:
    """Return (center, low, high) for the next run after these, at least one (see ``trend``)."""
    n = len(earlier[0])
    center = sum(sum(scores.values()) for scores in earlier) / len(earlier) / n
    discordant = [sum(changes(*pair)) for pair in pairwise(earlier)]
    if noise:
        discordant.append(round(noise.share * n))
    if not discordant:
        return center, 0.0, 1.0
    spread = math.sqrt((sum(discordant) + 1) / len(discordant) / 2 * (1 + 1 / len(earlier))) / n
    return center, max(0.0, center - 3 * spread), min(1.0, center + 3 * spread)


def noise_floor(evaluation: Evaluation, metric: str = "right") -> NoiseFloor:
    """Measure an A/A run: two arms that are the same system, on how many questions did they come out differently?

    Args:
        evaluation: What ``kit.evaluate`` returned for ``{"a": system, "b": system}``.
        metric: A metric of 0 and 1.

    Raises:
        DataError: It does not have two arms of the same identity.
    """
    start = ledger.find(evaluation.folder.parent / ledger.NAME, "run", run=evaluation.folder.name)
    arms = start[0].content["arms"] if start else []
    if len(arms) != 2 or arms[0][1:] != arms[1][1:]:
        raise DataError(
            f"実行 {evaluation.folder.name} は、同じ方式どうしを比べたもの（A/A）ではありません。",
            "方式が2つではないか、名前か設定が違います。",
            'kit.evaluate({"a": 方式, "b": 方式}, …) のように、同じものを2つ渡した実行を使ってください。',
        )
    score, (a, b) = METRICS[metric].score, (evaluation.of(arm) for arm in evaluation.arms)
    counted = [case for case in evaluation.cases if METRICS[metric].applies(case)]
    if score is None:
        raise ValueError(f"{metric} is not computed from rows")
    hits = [[c.id in rows and rows[c.id].state == "answered" and score(c, rows[c.id]) >= 1 for c in counted] for rows in (a, b)]
    discordant = sum(one != other for one, other in zip(*hits, strict=True))
    return NoiseFloor(len(counted), discordant, *share_bounds(discordant, len(counted), 0.05))
