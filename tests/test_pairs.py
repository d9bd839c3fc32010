"""What was gained and lost, question by question."""

from dataclasses import replace

import pytest

from kit.evaluation.comparisons import compare
from kit.evaluation.decide import decide
from kit.records import Evidence, Kpi, Place
from tests.evaluations import GOLD, Oracle, make_answer, make_cases, sealed_run

RIGHT = Kpi("right", "正しさ", 0.7, "理由")
GUARD = Kpi("right", "悪くならない", 0.05, "理由", "guardrail")
WRONG = Kpi("wrong_answer", "誤り", 0.15, "理由")
SLOW = Kpi("latency_p95", "時間", 3.0, "理由", "info")


def wrong_on(cases, *numbers):
    """An arm that errs on some questions, by number from 1."""
    return Oracle(cases, {f"Q{n}": make_answer("99年", "別.pdf") for n in numbers})


def test_questions_are_counted_by_who_did_well_on_them(tmp_path):
    cases = make_cases(30)
    arms = {"baseline": wrong_on(cases, 1, 2, 3, 4, 5), "candidate": wrong_on(cases, 4, 5, 6)}
    found = compare(sealed_run(tmp_path, cases, arms, RIGHT, GUARD, WRONG, SLOW))
    assert [p.result.kpi.label for p in found.pairs] == ["正しさ", "誤り"], "a metric once, in the order of the criteria"
    for pair in found.pairs:  # less is better in the second: more than 0 still speaks for the candidate
        assert (pair.both, pair.gained, pair.lost, pair.neither) == (24, 3, 1, 2)
        assert pair.result.point == pytest.approx(2 / 30)
        assert -0.2 < pair.result.low < 2 / 30 < pair.result.high < 0.3
    assert "+6.7ポイント" in found._repr_html_()


def test_the_interval_is_that_of_the_gate_also_in_the_first_of_several_looks(tmp_path):
    cases = tuple(replace(case, evidence=(Evidence(GOLD, Place(page=1 + number // 2)),)) for number, case in enumerate(make_cases(60)))
    arms = {"baseline": wrong_on(cases, 1, 2, 3), "candidate": wrong_on(cases, 3, 9)}
    made = sealed_run(tmp_path, cases, arms, RIGHT, GUARD, scope="internal", looks=2, per_look=60)
    guard = decide(made).kpis[1]
    (pair,) = compare(made.folder).pairs
    assert (pair.result.low, pair.result.high, pair.result.n) == (guard.low, guard.high, 60)
    assert "−" in compare(made)._repr_html_() and "+1.7ポイント" in compare(made)._repr_html_()


def test_one_arm_has_nothing_to_be_compared_with(tmp_path):
    cases = make_cases(30)
    found = compare(sealed_run(tmp_path, cases, {"candidate": Oracle(cases)}, RIGHT))
    assert found.pairs == ()
    assert "比べる相手がない" in found._repr_html_()
