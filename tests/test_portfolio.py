"""The ranking of parallel PoCs, from their sealed decisions."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kit.errors import RunError, SealError
from kit.evaluation import portfolio as rooms
from kit.evaluation.decide import decide
from kit.evaluation.portfolio import portfolio
from kit.records import Decision, Kpi, KpiResult, Seal
from tests.evaluations import ABSTAINED, RIGHT, Oracle, make_cases, make_criteria, sealed_run, wrong_arm

CASES = make_cases(60)
FACTS = {"finished": "2026-11-21T00:00:00+00:00"}
SECONDS = Kpi("latency_p95", "応答時間", 2.0, "理由")


def made(title, outcome="GO", bounds=(0.75, 0.95), yen=3.0, deadline="", *others):
    """A decision with one share KPI (bar .7), and others as they are."""
    criteria = make_criteria(CASES, title=title, deadline=deadline)
    kpis = (KpiResult(RIGHT, 60, 0.8, *bounds, None, "GO", ""), *others)
    return Decision(outcome, "", kpis, Seal(criteria, title, 1, ""), Path(title), ("c",), {}, FACTS | {"points": {"c": {"yen_per_right": yen}}})


@pytest.fixture
def ranked(monkeypatch):
    """Rank decisions that are given as they are."""

    def rank(*decisions, day="2026-12-01"):
        monkeypatch.setattr(rooms, "read_decision", lambda run: run)
        return [s.decision.folder.name for s in portfolio(decisions, day=day).standings]

    return rank


def test_the_decision_comes_first(ranked):
    names = ranked(made("no", "NO-GO", (0.9, 0.99)), made("more", "EXTEND", (0.69, 0.9)), made("go", "GO", (0.7, 0.9)))
    assert names == ["go", "more", "no"]


def test_then_the_margin_in_widths_of_the_interval_and_not_the_point(ranked):
    lucky, sure = made("lucky", bounds=(0.71, 0.99)), made("sure", bounds=(0.75, 0.80))
    assert ranked(lucky, sure) == ["sure", "lucky"]


def test_a_margin_within_the_noise_leaves_it_to_the_cost(ranked):
    assert ranked(made("dear", bounds=(0.751, 0.95), yen=9.0), made("cheap", bounds=(0.75, 0.95), yen=3.0), made("none", yen=None)) == ["cheap", "dear", "none"]


def test_then_the_time_left(ranked):
    given = [made("past", deadline="2026-11-30"), made("open"), made("soon", deadline="2026-12-03"), made("later", deadline="2027-01-01")]
    assert ranked(*given) == ["later", "soon", "open", "past"]


def test_an_open_one_past_its_deadline_can_become_no_go_only(ranked):
    hopeless = made("hopeless", "EXTEND", (0.69, 0.71), deadline="2026-11-30")
    assert ranked(hopeless, made("open", "EXTEND", (0.4, 0.9)), made("no", "NO-GO", (0.1, 0.2))) == ["open", "hopeless", "no"]


def test_the_least_margin_binds_whatever_its_unit(ranked, monkeypatch):
    slow = KpiResult(SECONDS, 60, 1.5, 1.0, 1.9, None, "GO", "")
    monkeypatch.setattr(rooms, "read_decision", lambda run: run)
    (standing,) = portfolio([made("p", "GO", (0.75, 0.95), 3.0, "", slow)], day="2026-12-01").standings
    assert standing.binding is slow
    assert standing.margin == pytest.approx(0.1 / 0.9)
    endless = replace(slow, high=float("inf"))
    (standing,) = portfolio([made("p", "EXTEND", (0.75, 0.95), 3.0, "", endless)], day="2026-12-01").standings
    assert standing.margin == float("-inf")


def test_of_one_poc_the_run_measured_last_is_ranked(monkeypatch):
    monkeypatch.setattr(rooms, "read_decision", lambda run: run)
    last, other = made("題"), made("別")
    first = replace(last, folder=Path("20261001-090000-題"), seal=replace(last.seal, sha256="前"), facts=last.facts | {"finished": "2026-10-01T00:00:00+00:00"})
    renamed = replace(made("改題"), facts=FACTS | {"finished": "2026-11-22T00:00:00+00:00", "points": {"c": {}}})
    renamed = replace(renamed, seal=replace(renamed.seal, parent="別"))
    same_title = replace(other, folder=Path("20261001-090000-他部署"), seal=replace(last.seal, sha256="他"))
    assert len(portfolio([last, same_title], day="2026-12-01").standings) == 2
    found = portfolio([first, last, other, renamed], day="2026-12-01")
    assert ({s.decision.folder.name for s in found.standings}, found.older) == ({"題", "改題"}, ("別", "20261001-090000-題"))
    assert "同じPoCの古い実行は除きました: 別、20261001-090000-題" in found._repr_html_()


def test_margin_interval_and_yen_are_written_in_their_own_units(monkeypatch):
    monkeypatch.setattr(rooms, "read_decision", lambda run: run)
    slow = KpiResult(SECONDS, 60, 1.5, 1.0, 2.5, None, "EXTEND", "")
    given = [made("安い", bounds=(0.65, 0.95), yen=0.00093), made("遅い", "EXTEND", (0.75, 0.95), 1234.5, "", slow), made("無料", yen=0.0)]
    html = portfolio(given, day="2026-12-01")._repr_html_()
    shown = ("65.0%〜95.0%", "70.0%以上", "−5.0ポイント", "0.00093 円", "1.00秒〜2.50秒", "2.00秒以下", "−0.50秒", "1,234.50 円", ">0 円")
    assert [text for text in shown if text not in html] == []


def test_sealed_runs_are_read_and_shown_in_japanese(tmp_path):
    right, half = Oracle(CASES), Oracle(CASES, {case.question: ABSTAINED for case in CASES[:20]})
    for run, arm in (("20261121-090000-half", half), ("20261121-090000-all", right)):
        decide(sealed_run(tmp_path / run[16:], CASES, {"b": wrong_arm(CASES), "c": arm}, run=run, title=run[16:], deadline="2099-01-01"))
    runs = [tmp_path / "half" / "20261121-090000-half", tmp_path / "all" / "20261121-090000-all"]
    found = portfolio(runs, day="2098-12-31")
    assert [(s.decision.seal.criteria.title, s.decision.outcome, s.days_left) for s in found.standings] == [("all", "GO", 1), ("half", "EXTEND", 1)]
    html = found._repr_html_()
    assert all(word in html for word in ("PoCの一覧", "決め手のKPI", "正しさ", "1 日", "GO"))
    kept = json.loads((runs[0] / "decision.json").read_text(encoding="utf-8"))
    (runs[0] / "decision.json").write_text(json.dumps(kept | {"outcome": "GO"}), encoding="utf-8")
    with pytest.raises(SealError):
        portfolio(runs)
    (runs[1] / "decision.json").unlink()
    with pytest.raises(RunError, match=r"decision\.json"):
        portfolio(runs[1:])
