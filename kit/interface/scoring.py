"""People score a finished run: ``kit score`` hands sheets out and takes them back, a notebook shows one answer at a time."""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from kit import views
from kit.errors import RunError
from kit.evaluation import raters, scores, scoring_sheet
from kit.evaluation.judge import calibration, judge_run
from kit.evaluation.runs import read_evaluation
from kit.evaluation.scoring_sheet import DEFAULTS, METRIC, VERDICTS, Item
from kit.interface.poc import shown
from kit.interface.widgets import Bar, deck
from kit.serving.chat import connect

_BACK = "戻る"
_SCORED = {METRIC, "right_by_judge"}
"""Metrics that need 採点シート: a judge's verdicts are corrected by people's."""


def score(options: argparse.Namespace) -> tuple[Any, str]:
    """Write the sheets of a run, or read one that came back; say how far the scoring has come."""
    if options.judge:
        return _by_model(options.run, options.judge)
    run, lines, sheets = options.run, [], []
    if options.sheet:
        lines.append(scoring_sheet.read_sheet(options.sheet, run))
    else:
        agreed = {kpi.metric for kpi in read_evaluation(run).seal.criteria.kpis}
        sheets = scoring_sheet.write_times(run, sample=options.sample)
        if not sheets or agreed & _SCORED:
            sheets += scoring_sheet.write_sheet(run, sample=options.sample)
        lines += [f"記入するシート: {shown(path)}" for path in sheets]
    progress, compared = _progress(run), []
    lines += [f"{sheet} {rater}: {planned} 件のうち {done} 件が済んでいます。" for sheet, rater, done, planned in progress]
    with suppress(RunError):  # only 実務記録 was handed out
        compared = [agreement for agreement in raters.agreement(run) if agreement.n]
    lines += map(str, compared)
    lines.append(f"記入したシートの取り込み: kit score {run} --sheet FILE　判定への反映: kit decide {run}")
    facts = {
        "sheets": [shown(path) for path in sheets],
        "scored": [dict(zip(("sheet", "rater", "done", "planned"), line, strict=True)) for line in progress],
        "agreement": [{"raters": a.raters, "n": a.n, "agreed": a.agreed, "kappa": a.kappa, "interval": a.interval} for a in compared],
    }
    return facts, "\n".join(lines)


def _by_model(run: str, url: str) -> tuple[Any, str]:
    """Let the model of a server judge the answers, and say how far it agrees with people."""
    with connect(url) as chat:
        found = judge_run(run, chat, progress=Bar("採点"))
    measured = calibration(scores.read(run), read_evaluation(run).arms[-1])
    told = measured.refusal or f"人の採点 {measured.n} 件との一致率 {measured.agreement[0]:.1%}（κ 係数 {measured.kappa[0]:.2f}）。"
    facts = {"judge": found.by, "planned": found.planned, "errors": found.errors, "unjudged": found.unjudged, "labels": measured.n}
    return facts, "\n".join((*found.facts, told, f"採点シートの書き出し: kit score {run}　判定への反映: kit decide {run}"))


def _progress(run: str) -> list[tuple[str, str, int, int]]:
    """Return sheet, rater, rows done, rows planned."""
    evaluation, found = read_evaluation(run), []
    said = {(score.key, score.by) for score in scores.read(run) if score.note != scoring_sheet.DRAWN}
    for sheet, (metrics, _) in scoring_sheet.scored(evaluation).items():
        with suppress(RunError):  # not drawn
            drawing = scoring_sheet.drawn(evaluation, sheet)
            for rater in drawing.terms["raters"]:
                keys = [(item.case.id, item.arms[0], metric) for item in drawing.of(rater) for metric in metrics]
                found.append((sheet, rater, sum((key, rater) in said for key in keys), len(keys)))
    return found


def score_answers(run: str | Path, *, rater: str = "", sample: int = 0) -> Any:
    """Show a run's answers one at a time, blind to the arm, with a button for each verdict; each press is kept at once.

    It goes on where the rater stopped, in the same drawing as 採点シート. Headless it is only drawn.

    Args:
        run: The folder of a finished run.
        rater: Who scores: one of the names of the drawing; "" for the first.
        sample: Questions to draw where nothing was drawn so far; 0 takes all.
    """
    evaluation = read_evaluation(run)
    drawing = scoring_sheet.draw(evaluation, DEFAULTS | {"sample": sample})
    who = rater or drawing.terms["raters"][0]
    items = drawing.of(who)
    said = {s.key: s.value for s in scores.read(run) if s.by == who and s.note != scoring_sheet.DRAWN}
    verdicts = {item.id: said[key] for item in items if (key := (item.case.id, item.arms[0], METRIC)) in said}
    at = next((place for place, item in enumerate(items) if item.id not in verdicts), len(items))

    def press(name: str) -> str:
        nonlocal at
        if name == _BACK:
            at = max(0, at - 1)
        elif name and at < len(items):
            scores.append(run, scoring_sheet.say(items[at], who, VERDICTS[name]), "widget")
            verdicts[items[at].id] = VERDICTS[name]
            at += 1
        if at == len(items):
            return views.paragraphs(f"{who}: {len(items)} 件の採点が終わりました。判定への反映: kit decide {run}")
        return _card(items[at], f"{who}　{at + 1} / {len(items)} 件目", verdicts)

    return deck(press, (*VERDICTS, _BACK))


def _card(item: Item, place: str, verdicts: dict[str, float | None]) -> str:
    names = {value: name for name, value in VERDICTS.items()}
    before = (("いまの判定", names[verdicts[item.id]]),) if item.id in verdicts else ()
    rows = (("質問", item.case.question), ("正解", item.gold), ("回答", item.answer), ("回答が示した出典", item.source), *before)
    return views.table(("項目", "内容"), rows, place)
