"""The money by hand: each sheet writes out the arithmetic that the functions must give."""

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from kit.errors import ParameterError
from kit.evaluation.statistics import share_bounds
from kit.prices import Prices, read_prices
from kit.records import Criteria, Decision, Kpi, KpiResult, Seal
from kit.reporting import economics as module
from kit.reporting.assumptions import PREFIXES, answered_share
from kit.reporting.economics import (
    PARTS,
    asked_per_month,
    breakeven,
    economics,
    load,
    machines,
    minutes_saved,
    monthly_volumes,
    net_yen,
    payback_months,
    settled_yen,
    worth_yen,
    yearly_parts,
)  # fmt: skip

TABLES = ("machine", "staff", "tokens", "fixed", "usage", "checking", "power", "server", "edge_pc", "cloud_api", "cloud_gpu", "training")
NOTES = {name: "見積り（2026-11-01、確度B）" for name in TABLES}
OWNED = {"yen": 1_200_000, "years": 5, "minimum": 1, "questions_at_once": 4, "slowness": 1, "idle_watts": 100, "load_watts": 500, "pue": 2,
         "space_yen_per_month": 5000, "maintenance_share": 0.1, "operation_hours_per_month": 2}  # fmt: skip
PLAN = {
    "growth_per_year": 0.0, "adoption_start_share": 1.0, "adoption_months": 0.0, "retries_per_question": 0.25, "thinking_tokens_per_answer": 100,
    "prompt_tokens_per_question": 1000, "completion_tokens_per_question": 200, "open_hours_per_month": 160, "target_utilisation": 0.5, "setup_yen": 600_000, "spread": 0.2,
    "evaluations_per_month": 1, "questions_per_evaluation": 100, "audits_per_month": 30, "minutes_per_audit": 4, "yen_per_wrong_answer": 0,
    "yen_per_kwh": 25,
    **{f"server_{key}": value for key, value in OWNED.items()},
    **{f"edge_{key}": value for key, value in OWNED.items()} | {"edge_yen": 200_000, "edge_years": 4, "edge_minimum": 3, "edge_questions_at_once": 1, "edge_slowness": 2},
    "api_yen_per_million_prompt": 300, "api_yen_per_million_completion": 1200, "api_operation_hours_per_month": 1,
    "gpu_yen_per_hour": 400, "gpu_hours_per_month": 200, "gpu_questions_at_once": 4, "gpu_slowness": 1, "gpu_operation_hours_per_month": 2,
    "trainings_per_year": 4, "training_gpu_hours": 40, "training_people_hours": 10, "watts": 100, "pue": 1.5, "kg_co2_per_kwh": 0.4,
}  # fmt: skip
PRICES = Prices(60.0, 3000.0, 0.0, 0.0, 20_000.0, NOTES, PLAN)
FACTS = {
    "planned": 100, "answerable": 80, "unanswerable": 20, "monthly_questions": 400, "minutes_per_question": 15, "day": "2026-11-20",
    "points": {"a": {"right": 0.3}, "b": {"right": 0.6, "refusal": 0.5, "wrong_answer": 0.1, "latency_p95": 36.0}}, "yen": {"a": 10.0, "b": 150.0},
}  # fmt: skip


def decision(arms=("a", "b"), states=None, kpis=(), **facts):
    criteria = Criteria("題", "", "", (), (), 0.05, 0.05, "", 999, 99, "", "", "", 100, (), "")
    seal = Seal(criteria, "0" * 64, 1, "2026-11-20T02:15:00+00:00")
    return Decision("GO", "", kpis, seal, Path("runs/x"), arms, states or {"b": {"answered": 100}}, {**FACTS, **facts})


def use(**changes):
    return economics(decision(), PRICES, **changes).use


# --- worth: 60 right of 100, of which 0.5 x 20 = 10 rightful abstentions, so 50 % answered; 10 % wrong ---------


def test_a_settled_year_by_hand():
    # 400 a month x 12 x (50 % - 10 %) x 15 min = 28,800 min = 480 h; x 3,000 yen = 1,440,000 yen
    made = economics(decision(), PRICES)
    assert answered_share(decision())[1] == 0.5
    assert minutes_saved(made.use) == pytest.approx(6.0)
    assert made.hours.point == pytest.approx(480)
    assert made.value.point == pytest.approx(1_440_000)
    assert made.net.point == pytest.approx(1_440_000 - made.running.point)
    assert (made.run.point, made.run.grade) == (160, "B")
    assert made.per_right.point == pytest.approx(made.running.point / (12 * 400 * 0.6))


def test_a_wrong_answer_costs_its_damage_beside_the_time():
    # 4,800 a year x 10 % = 480 wrong x 500 yen = 240,000 yen less; the hours stay
    made = economics(decision(), PRICES, yen_per_wrong_answer=500)
    assert made.value.point == pytest.approx(1_440_000 - 240_000)
    assert made.hours.point == pytest.approx(480)


def test_the_range_is_that_of_the_measured_share():
    low, high = share_bounds(50, 100, 0.05)
    made = economics(decision(), PRICES)
    assert answered_share(decision()) == (low, 0.5, high)
    assert made.hours.low == pytest.approx(1200 * (low - 0.1))
    assert made.net.high == pytest.approx(3_600_000 * (high - 0.1) - made.running.point)
    set_by_hand = economics(decision(), PRICES, answered_share=0.7)
    assert set_by_hand.value.low == set_by_hand.value.high == pytest.approx(4800 * 0.6 * 0.25 * 3000)


def test_samples_lost_by_infrastructure_open_the_range_upwards_only():
    lost = answered_share(decision(states={"b": {"answered": 90, "infrastructure_error": 6, "not_run": 4, "timeout": 9}}))
    assert lost == (share_bounds(50, 100, 0.05)[0], 0.5, share_bounds(60, 100, 0.05)[1])


def test_handling_times_that_people_took_go_before_the_agreed_ones():
    def timed(low, high):
        kpi = Kpi("minutes_saved", "短縮", 1.0, "", "gate")
        return economics(decision(kpis=(KpiResult(kpi, 40, 5.0, low, high, None, "GO", ""),)), PRICES)

    made = timed(4.0, 7.0)  # 4,800 x 5 min = 400 h; the range is that of the timing, not of the share
    assert (made.hours.low, made.hours.point, made.hours.high) == pytest.approx((320, 400, 560))
    assert timed(-math.inf, 7.0).hours.point == pytest.approx(480)  # an open end is no range
    assert economics(made.decision, PRICES, minutes_per_question=30).hours.point == pytest.approx(960)  # the reader's word counts


# --- cost -------------------------------------------------------------------------------------------------------


def test_a_year_on_premises_by_hand():
    # calls        400 x 1.25 + 1 x 100                            = 600 a month
    # busy         600 x 36 s / 3,600 / 4 at once                  = 1.5 h a month, of 160: 0.009375
    # machines     0.009375 / 0.5 -> 1
    # hardware     1,200,000 / 5                                   = 240,000
    # power        (8,760 h x 100 W + 18 h x 400 W) / 1,000 x 2 x 25 = 883.2 kWh x 50 = 44,160
    # site         12 x 5,000 + 0.1 x 1,200,000                    = 180,000
    # people       12 x (20,000 + 2 h x 3,000)                     = 312,000
    # checking     12 x 30 x 4 / 60 x 3,000                        = 72,000
    assumed = use()
    assert asked_per_month(assumed, 400) == 600
    assert load("on_premises", assumed, 400) == pytest.approx(0.009375)
    assert machines("on_premises", assumed, 400) == 1
    parts = dict(zip(PARTS, yearly_parts("on_premises", assumed, 400), strict=True))
    assert parts == pytest.approx({"setup": 0, "hardware": 240_000, "power": 44_160, "site": 180_000, "usage": 0, "people": 312_000, "checking": 72_000})


def test_a_year_elsewhere_by_hand():
    # API: 12 x 600 calls x (1,000 x 300 + (200 + 100) x 1,200) / 10^6 = 7,200 x 0.66 = 4,752; people 12 x (20,000 + 3,000)
    assert yearly_parts("cloud_api", use(), 400) == pytest.approx((0, 0, 0, 0, 4_752, 276_000, 72_000))
    # GPU: 12 x 1 x 200 h x 400 = 960,000
    assert yearly_parts("cloud_gpu", use(), 400) == pytest.approx((0, 0, 0, 0, 960_000, 312_000, 72_000))
    # edge: 3 PCs; busy 600 x 72 s / 3,600 = 12 h a month; (3 x 876,000 + 144 x 400) / 1,000 x 2 x 25 = 134,280
    assert yearly_parts("edge", use(), 400) == pytest.approx((0, 150_000, 134_280, 240_000, 0, 312_000, 72_000))


def test_more_questions_need_more_machines():
    # 64,000 calls x 36 s / 3,600 / 4 / 160 h = 1.0 busy machine, at most half used: 2
    assumed = use(evaluations_per_month=0.0, retries_per_question=0.0)
    assert load("on_premises", assumed, 64_000) == pytest.approx(1.0)
    assert machines("on_premises", assumed, 64_000) == 2 and machines("on_premises", assumed, 64_001) == 3
    assert machines("cloud_api", assumed, 64_000) == 0
    assert machines("edge", assumed, 64_000) == 16  # twice as slow, one at a time: 8 busy


def test_years_grow_and_begin_with_adoption():
    # start 40 %, + 10 % points a month to 100 % after 6 months; + 50 % a year
    volumes = monthly_volumes(use(adoption_start_share=0.4, adoption_months=6.0, growth_per_year=0.5))
    assert volumes[:7] == pytest.approx([160, 200, 240, 280, 320, 360, 400])
    assert (volumes[11], volumes[12], volumes[59]) == pytest.approx((400, 600, 400 * 1.5**4))
    place = economics(decision(), PRICES).places[0]
    assert place.yearly_yen[0] == pytest.approx(600_000 + 848_160)  # set-up in the first year
    assert place.yearly_yen[1:] == pytest.approx([848_160] * 4)
    assert (place.total_yen(3), place.total_yen()) == pytest.approx((600_000 + 3 * 848_160, 600_000 + 5 * 848_160))


def test_payback_by_hand():
    # paid at once 600,000 + 1,200,000; a month brings 120,000 - (848,160 - 240,000) / 12 = 69,320: 25.97 -> 26 months
    assert payback_months(use()) == 26
    assert payback_months(use(monthly_questions=200.0)) is None
    # edge, whose PCs are bought again after 4 years: 600,000 + 600,000; 120,000 - 758,280 / 12 = 56,810: 21.1 -> 22
    assert payback_months(use(place="edge")) == 22
    made = economics(decision(), PRICES)
    assert made.payback_months[1] == 26 and made.payback_months[0] > 26 > made.payback_months[2]
    assert module._purchase(use(place="edge"), 3, [3.0, 0.0, 0.0, 0.0]) == 600_000


def test_breakeven_by_hand():
    # per question the API costs 12 x 1.25 x 0.66 = 9.9 yen a year, the server 12 x 1.25 x 0.36 s / 3,600 / 4 x 0.4 kW x 50 = 0.0075
    # without questions: API 348,000 + 12 x 100 x 0.66 = 348,792; server 240,000 + 876 kWh x 50 + 180,000 + 384,000 + 0.6 = 847,800.6
    quick = use(seconds_per_question=0.36)
    even = breakeven(quick, "on_premises", "cloud_api")
    assert even == 51_000  # (847,800.6 - 348,792) / (9.9 - 0.0075) = 50,443, rounded up
    assert dict(economics(decision(), PRICES, seconds_per_question=0.36).breakeven)["cloud_api"] == even
    assert breakeven(use(), "on_premises", "cloud_api") is None  # at 36 s each further machine costs more than the API for what it does
    assert breakeven(use(server_yen=1e9), "on_premises", "cloud_gpu") is None
    assert breakeven(use(gpu_yen_per_hour=1e6), "on_premises", "cloud_gpu") == 0.0


def test_training_by_hand():
    assert economics(decision(), PRICES).training_yen_per_year == 4 * (40 * 400 + 10 * 3000)


def test_scenarios_and_sensitivity():
    made = economics(decision(), PRICES)
    assert [case.name for case in made.scenarios] == ["low", "base", "high"]
    assert [case.monthly_questions for case in made.scenarios] == pytest.approx([320, 400, 480])
    base = made.scenarios[1]
    assert base.value_yen - base.cost_yen == pytest.approx(net_yen(made.use)) == pytest.approx(5 * 1_440_000 - made.places[0].total_yen())
    swings = [abs(effect.net_yen[1] - effect.net_yen[0]) for effect in made.sensitivity]
    assert swings == sorted(swings, reverse=True) and len(swings) == 8
    found = {effect.field: effect for effect in made.sensitivity}
    assert found["monthly_questions"].ends == pytest.approx((320, 480))
    assert found["answered_share"].ends == answered_share(decision())[::2]  # what was measured: to its bounds
    # 20 % dearer staff: worth + 1,440,000, operation and checks - (72,000 + 72,000) a fifth each, over five years
    assert found["staff_yen_per_hour"].net_yen[1] - net_yen(made.use) == pytest.approx(1_440_000 - 144_000)


# --- where figures come from --------------------------------------------------------------------------------------


def test_tokens_and_place_follow_the_run():
    counted = economics(decision(tokens={"b": [200_000, 30_000]}), PRICES).use
    assert (counted.prompt_tokens_per_question, counted.completion_tokens_per_question, counted.thinking_tokens_per_answer) == (2000, 300, 0)
    assert (counted.place, use().place) == ("on_premises", "on_premises")
    assert economics(decision(tokens={"b": [0, 0]}), PRICES).use.place == "edge"  # it calls no model
    assert economics(decision(external=True), PRICES).use.place == "cloud_api"
    assert economics(decision(points={"a": {}, "b": FACTS["points"]["b"] | {"latency_p95": None}}), PRICES).use.seconds_per_question == 60


def test_a_figure_is_as_sure_as_its_weakest_input():
    def graded(name, **changes):
        return economics(decision(), dataclasses.replace(PRICES, notes=NOTES | {name: "仮置き（2026-11-01、確度C）"}), **changes)

    assert (graded("server").hours.grade, graded("server").value.grade, graded("server").net.grade) == ("B", "B", "C")
    assert [place.grade for place in graded("power").places] == ["C", "B", "B", "C"]
    assert graded("staff").value.grade == "C" and graded("checking").value.grade == "B"  # no damage is assumed there
    assert graded("checking", yen_per_wrong_answer=9).value.grade == "C"
    assert economics(decision(), PRICES, monthly_questions=800).hours.grade == "C"
    known = dataclasses.replace(PRICES, notes=NOTES | {"machine": "実績（2026-11-01、確度A）", "tokens": "出典の記載なし"})
    assert economics(decision(), known).run.grade == "A"  # tokens cost nothing here, so their grade does not matter
    assert economics(decision(), dataclasses.replace(known, prompt_yen_per_million=1.0)).run.grade == "C"


@pytest.mark.parametrize("missing", ["monthly_questions", "minutes_per_question"])
def test_without_an_agreed_volume_or_time_nothing_is_claimed_of_it(missing):
    made = economics(decision(**{missing: 0}), PRICES)
    assert made.hours is made.value is made.net is made.payback_months is None
    assert made.run.point == 160
    if missing == "monthly_questions":
        assert made.places == () and made.per_right.point == 2.5  # 150 yen / 60 right
    assert economics(decision(**{missing: 0}), PRICES, **{missing: 10}).net is not None


def test_no_right_answer_has_no_cost_per_right_answer():
    made = economics(decision(points={"b": {"right": 0.0, "refusal": 0.0, "wrong_answer": 0.2, "latency_p95": 1.0}}), PRICES)
    assert made.per_right is None and made.hours.point == pytest.approx(-240)  # wrong answers alone cost time
    assert made.net.high > made.net.point  # nothing seen in 100 does not prove nothing


@pytest.mark.parametrize("change", [{"server_prize": 1}, {"monthly_questions": -1}, {"server_years": 0}, {"answered_share": 1.1},
                                    {"yen_per_kwh": math.nan}, {"place": "moon"}, {"place": []}, {"monthly_questions": "400"}])  # fmt: skip
def test_an_assumption_that_cannot_be_is_refused_by_name(change):
    with pytest.raises(ParameterError) as caught:
        economics(decision(), PRICES, **change)
    assert next(iter(change)) in caught.value.what


def test_a_share_is_varied_up_to_one_and_no_further():
    made = economics(decision(), PRICES, wrong_share=0.9)
    assert {effect.field: effect.ends for effect in made.sensitivity}["wrong_share"] == pytest.approx((0.72, 1.0))


def test_changed_assumptions_come_back_from_the_file_they_are_written_to(tmp_path):
    made = economics(decision(), PRICES, yen_per_kwh=31.5, staff_yen_per_hour=4000.0, monthly_questions=800, place="edge")
    (tmp_path / "prices.toml").write_text(made.export_toml(), encoding="utf-8")
    back = read_prices(tmp_path / "prices.toml")
    assert (back.plan["yen_per_kwh"], back.staff_yen_per_hour) == (31.5, 4000)
    assert back.notes["power"] == "見積り。試算で変更: yen_per_kwh（2026-11-20、確度C）" and back.notes["server"] == NOTES["server"]
    assert "# monthly_questions = 800" in made.export_toml() and "# place = edge" in made.export_toml()
    assert economics(decision(), back, monthly_questions=800, place="edge").net == made.net


def test_a_run_whose_prices_plan_nothing_takes_the_plan_in_force():
    made = economics(decision(), dataclasses.replace(PRICES, plan={}))
    assert made.use.server_yen == read_prices(Path(__file__).parents[1] / "data" / "prices.toml").plan["server_yen"]
    assert made.use.staff_yen_per_hour == 3000


# --- laws ---------------------------------------------------------------------------------------------------------

volumes = st.floats(1, 1e6)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*PREFIXES]), volumes, volumes)
def test_more_questions_never_cost_less(place, one, other):
    low, high = sorted((one, other))
    assert settled_yen(place, USE, low) <= settled_yen(place, USE, high) * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["server_yen", "yen_per_kwh", "staff_yen_per_hour", "seconds_per_question", "retries_per_question", "server_pue"]), st.floats(1, 4), volumes)
def test_a_higher_price_or_need_never_costs_less(field, factor, volume):
    dearer = USE.but(**{field: USE.values[field] * factor})
    assert settled_yen("on_premises", dearer, volume) >= settled_yen("on_premises", USE, volume) * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), volumes)
def test_more_right_answers_are_never_worth_less(one, other, volume):
    low, high = sorted((one, other))
    assert worth_yen(USE.but(answered_share=low), volume) <= worth_yen(USE.but(answered_share=high), volume)


USE = use()
