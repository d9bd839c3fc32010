"""The verbs of the command line that lead to a decision: plan, seal, decide, summarise."""

import argparse
from pathlib import Path

from kit import settings
from kit.evaluation import planning
from kit.evaluation.criteria import read_criteria
from kit.evaluation.decide import decide_again, read_decision
from kit.interface.cli import Result
from kit.interface.poc import shown
from kit.interface.project import find_project
from kit.interface.steps import seal_project
from kit.prices import read_prices
from kit.reporting.agreement import write_agreement
from kit.reporting.export import write_summary
from kit.reporting.wording import label, moment
from kit.trust import ledger
from kit.trust.durable import to_json
from kit.trust.seal import approvals


def plan(options: argparse.Namespace) -> Result:
    """Tell what the agreed criteria can show with the questions there are; exit code 1 where no result could lead to GO."""
    project = find_project(options.folder)
    planned = planning.plan(read_criteria(project.criteria), project.cases(), truth=options.truth, power=options.power)
    return {"ok": not planned.problems, "power": planned.power, **to_json(planned)}, str(planned)


def seal(options: argparse.Namespace) -> Result:
    """Seal a project's criteria and write the 判定基準書."""
    project, runs = find_project(options.folder), settings.load().runs
    sealed = seal_project(project)
    signed = approvals(runs / ledger.NAME, sealed.sha256)
    written = [shown(path) for path in write_agreement(sealed, project.cases(), Path(options.to or runs), signed)]
    text = f"封印しました（台帳 {sealed.sequence} 行目、{moment(sealed.at, 'ja')}）\nSHA-256: {sealed.sha256}"
    if sealed.parent:
        text += f"\n注意: 前の基準（{sealed.parent[:12]}…）からの変更として記録されました。"
    text += "\n判定基準書（承認の署名欄つき、A4 1枚）:\n" + "\n".join(written)
    facts = {"sha256": sealed.sha256, "sequence": sealed.sequence, "at": sealed.at, "parent": sealed.parent, "written": written}
    return facts, text


def decide(options: argparse.Namespace) -> Result:
    """Judge a finished run."""
    decision = decide_again(options.run)
    lines = [f"判定: {decision.outcome}", decision.reason]
    lines += [f"- {label(r, 'ja')}: {r.word}（{r.reason}）" for r in decision.kpis]
    return to_json(decision), "\n".join(lines)


def summary(options: argparse.Namespace) -> Result:
    """Write the summary of a decided run, or of several."""
    formats = tuple(part.strip() for part in options.formats.split(",") if part.strip())
    decisions = [read_decision(run) for run in options.runs]
    prices = read_prices(Path(options.prices)) if options.prices else None
    written = write_summary(decisions, to=options.to, formats=formats, lang=options.lang, prices=prices)
    paths = [shown(path) for path in written]
    return paths, "\n".join(paths)

