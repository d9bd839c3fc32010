import dataclasses
from pathlib import Path

import pytest

from kit.evaluation.statistics import share_bounds
from kit.prices import Prices
from kit.records import Criteria, Decision, Seal
from kit.reporting.cost import Figure, cost
from kit.reporting.scenario import Scenario, answered_share, scenario

NOTES = {name: "見積り（2026-11-01、確度B）" for name in ("machine", "staff", "tokens", "fixed")}
PRICES = Prices(60.0, 3000.0, 0.0, 0.0, 20000.0, NOTES)
FACTS = {
    "planned": 100, "answerable": 80, "unanswerable": 20, "monthly_questions": 400, "minutes_per_question": 15,
    "points": {"a": {"right": 0.3}, "b": {"right": 0.6, "refusal": 0.5, "wrong_answer": 0.1}}, "yen": {"a": 10.0, "b": 150.0},
}


def decision(arms=("a", "b"), states=None, **facts):
    criteria = Criteria("題", "", "", (), (), 0.05, 0.05, "", 999, 99, "", "", "", 100, (), "")
    seal = Seal(criteria, "0" * 64, 1, "2026-11-20T02:15:00+00:00")
    return Decision("GO", "", (), seal, Path("runs/x"), arms, states or {"b": {"answered": 100}}, {**FACTS, **facts})


def test_a_year_by_hand():
    # 400 questions x (50 % right - 10 % wrong) x 15 min = 2,400 min = 40 h a month, 480 h a year; x 3,000 yen = 1,440,000 yen.
    # Machine 12 x 400 x 1.5 = 7,200 yen; fixed 12 x 20,000 = 240,000 yen.
    made = scenario(decision(), PRICES)
    assert made == Scenario(400, 15, 0.5, 0.1, 3000.0, 1.5, 20000.0)
    assert (made.hours, made.value_yen, made.machine_yen, made.fixed_yen) == pytest.approx((480, 1_440_000, 7_200, 240_000))
    assert (made.running_yen, made.net_yen) == pytest.approx((247_200, 1_192_800))
    assert "省ける時間: 年480時間（誤った回答の手戻りを差し引き後）" in made._repr_html_()


def test_assumptions_of_the_reader_replace_the_sealed_ones():
    made = scenario(decision(), PRICES, monthly_questions=800, minutes_per_question=30, staff_yen_per_hour=1000)
    assert (made.hours, made.value_yen, made.machine_yen) == pytest.approx((1920, 1_920_000, 14_400))


def test_a_run_by_hand():
    made = cost(decision(), PRICES)
    assert made.run == Figure(160, 160, 160, "B")
    assert made.per_right.point == pytest.approx(247_200 / (12 * 400 * 0.6))  # a year, its fixed cost included
    # 60 right, of which 0.5 x 20 = 10 are rightful abstentions that save no time: 50 answered of 100 planned.
    assert answered_share(decision())[1] == 0.5
    assert made.hours_per_year.point == pytest.approx(480)
    assert made.value_per_year.point == pytest.approx(1_440_000)
    assert made.running_per_year.point == pytest.approx(247_200)
    assert made.net_per_year.point == pytest.approx(1_192_800)


def test_the_range_is_that_of_the_measured_share():
    low, high = share_bounds(50, 100, 0.05)
    made = cost(decision(), PRICES)
    assert answered_share(decision()) == (low, 0.5, high)
    assert made.hours_per_year.low == pytest.approx(1200 * (low - 0.1))
    assert made.net_per_year.high == pytest.approx(3_600_000 * (high - 0.1) - 247_200)
    assert made.running_per_year.low == made.running_per_year.high


def test_samples_lost_by_infrastructure_open_the_range_upwards_only():
    lost = answered_share(decision(states={"b": {"answered": 90, "infrastructure_error": 6, "not_run": 4, "timeout": 9}}))
    assert lost == (share_bounds(50, 100, 0.05)[0], 0.5, share_bounds(60, 100, 0.05)[1])


def test_a_figure_is_as_sure_as_its_weakest_input():
    made = cost(decision(), PRICES)
    assert (made.hours_per_year.grade, made.net_per_year.grade) == ("B", "B")
    assumed = dataclasses.replace(PRICES, notes=NOTES | {"fixed": "仮置き（2026-11-01、確度C）"})
    made = cost(decision(), assumed)
    assert (made.value_per_year.grade, made.running_per_year.grade, made.net_per_year.grade) == ("B", "C", "C")
    known = dataclasses.replace(PRICES, notes=NOTES | {"machine": "実績（2026-11-01、確度A）", "tokens": "出典の記載なし"})
    assert cost(decision(), known).run.grade == "A"  # tokens cost nothing here, so their grade does not matter
    metered = dataclasses.replace(known, prompt_yen_per_million=1.0)
    assert cost(decision(), metered).run.grade == "C"


def test_no_right_answer_has_no_cost_per_right_answer():
    made = cost(decision(points={"b": {"right": 0.0, "refusal": 0.0, "wrong_answer": 0.2}}), PRICES)
    assert made.per_right is None
    assert made.hours_per_year.point == pytest.approx(-240)  # wrong answers alone cost time
    assert made.net_per_year.point == pytest.approx(-720_000 - 247_200)
    assert made.net_per_year.high > made.net_per_year.point  # nothing seen in 100 does not prove nothing


@pytest.mark.parametrize("missing", ["monthly_questions", "minutes_per_question"])
def test_without_an_agreed_volume_nothing_is_claimed_of_a_year(missing):
    made = cost(decision(**{missing: 0}), PRICES)
    assert made.hours_per_year is made.running_per_year is made.net_per_year is None
    assert (made.run.point, made.per_right.point) == (160, 2.5)  # 150 yen / 60 right
    assert [line.label for line in made.lines()] == ["今回の測定", "正しい対応1件あたり"]


def test_the_notebook_shows_each_figure_with_range_and_grade():
    made = cost(decision(), PRICES)
    assert made.lines()[2] == ("省ける時間（年）", "480時間", "376〜584時間", "B")
    assert "<td" in made._repr_html_()
    assert "376〜584時間" in made._repr_html_()


def test_one_arm():
    made = cost(decision(arms=("b",), yen={"b": 150.0}), PRICES)
    assert made.run.point == 150
    assert made.per_right.point == pytest.approx(247_200 / 2_880)
