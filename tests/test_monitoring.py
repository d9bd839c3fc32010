"""Monitor runs: the verdict against the first run, control limits from the discordant questions, the A/A noise floor."""

import json
import re

import numpy
import pytest

from kit.errors import DataError, RunError, SealError
from kit.evaluation.decide import decide
from kit.evaluation.designs import mcnemar_p
from kit.evaluation.monitoring import NoiseFloor, limits, noise_floor, right, trend, verdicts
from kit.records import Kpi
from kit.reporting.charts_evaluation import trend_chart
from kit.trust import ledger
from tests.evaluations import ABSTAINED, RIGHT, Oracle, make_answer, make_cases, sealed_run, wrong_arm

CASES = make_cases(40)
WRONG, CITED = Kpi("wrong_answer", "誤り", 0.2, "理由"), Kpi("citation", "出典", 0.7, "理由")


def lost(count, arm=Oracle):
    """An arm that is right but for the first questions."""
    return arm(CASES, {case.question: ABSTAINED for case in CASES[:count]})


def marks(*wrong, n=40):
    return {str(i): int(i not in wrong) for i in range(n)}


@pytest.fixture
def weekly(tmp_path):
    """Decide one run after another under one seal, each with as many wrong answers as given."""

    def run(*wrong):
        for number, count in enumerate(wrong):
            decide(sealed_run(tmp_path, CASES, {"b": wrong_arm(CASES), "c": lost(count)}, run=f"202611{21 + number}-090000-p"))
        return tmp_path

    return run


@pytest.mark.parametrize(
    ("gains", "losses", "p"), [(0, 0, 1.0), (5, 0, 1 / 32), (0, 5, 1.0), (4, 1, 6 / 32), (1, 1, 0.75), (8, 1, 10 / 512)]
)
def test_mcnemar_is_the_sign_test_of_the_discordant_questions(gains, losses, p):
    assert mcnemar_p(gains, losses) == pytest.approx(p)


@pytest.mark.parametrize(
    ("now", "told"), [(marks(), "同等"), (marks(0, 1, 2, 3), "同等"), (marks(0, 1, 2, 3, 4), "劣化")]
)
def test_five_questions_lost_and_none_gained_are_worse(now, told):
    assert verdicts([now], marks()) == [told]
    assert verdicts([marks()], now) == [{"劣化": "改善"}.get(told, told)]


def test_the_weeks_before_make_the_verdict_harder_to_reach():
    five, seven = marks(*range(5)), marks(*range(7))
    assert verdicts([*[marks()] * 3, five], marks())[-1] == "同等", "1/32 is more than .05 / 4"
    assert verdicts([*[marks()] * 3, seven], marks())[-1] == "劣化", "1/128 is less"


def test_other_questions_are_not_compared():
    with pytest.raises(DataError, match="質問が同じではない"):
        verdicts([marks(n=40)], marks(n=41))


def test_the_limits_come_from_the_questions_that_changed_and_not_from_their_number():
    steady = [marks(0, 1, 2, 3)] * 4
    center, low, high = limits(steady)
    assert center == pytest.approx(0.9)
    spread = (1 / 3 / 2 * (1 + 1 / 4)) ** 0.5 / 40
    assert (low, high) == pytest.approx((0.9 - 3 * spread, 0.9 + 3 * spread))
    assert high - low < 0.25 * 6 * (0.9 * 0.1 / 40) ** 0.5, "the binomial limits would see nothing"
    restless = [marks(0, 1, 2, 3), marks(4, 5, 6, 7)] * 2
    assert limits(restless)[1] < low


def test_one_run_alone_has_no_limits_but_from_an_a_a_run():
    assert limits([marks(0)]) == (39 / 40, 0.0, 1.0)
    _, low, high = limits([marks(0)], NoiseFloor(40, 2, 0.0, 0.1))
    assert 0 < low < 39 / 40 <= high == 1.0


def test_an_unchanged_system_is_seldom_outside():
    rng, outside, runs = numpy.random.default_rng(5), 0, 0
    for _ in range(40):
        chance = numpy.where(rng.random(100) < 0.1, rng.random(100), rng.random(100) < 0.8)
        inside = []
        for _ in range(12):
            now = dict(enumerate((rng.random(100) < chance).astype(int).tolist()))
            if len(inside) > 1:
                _, low, high = limits(inside)
                runs, outside = runs + 1, outside + (not low <= sum(now.values()) / 100 <= high)
            inside.append(now)
    assert runs == 400
    assert outside / runs < 0.03


def test_the_trend_of_the_weeks_of_one_seal(weekly):
    found = trend(weekly(2, 2, 3, 2, 15))
    assert [round(week.share * 40) for week in found.weeks] == [38, 38, 37, 38, 25]
    assert [week.outside for week in found.weeks] == [False, False, False, False, True]
    assert [week.verdict for week in found.weeks] == ["同等", "同等", "同等", "同等", "劣化"]
    assert found.questions == 40
    html = found._repr_html_()
    assert html.count("劣化") == html.count("管理限界の外") == 1
    assert "基準とする回" in html


def test_before_three_runs_it_is_said_when_there_will_be_limits(weekly):
    for wrong, left in (((2,), 2), ((2, 2), 1)):
        html = trend(weekly(*wrong))._repr_html_()
        assert f"あと {left} 回で管理限界を計算できます" in html and "範囲内" not in html and "100.0%" not in html
    found = trend(weekly(2, 2, 2))
    assert "あと" not in found._repr_html_() and found._repr_html_().count("範囲内") == 1
    assert trend_chart(found).alt.count("95.0%") == 3


@pytest.mark.parametrize(("kpis", "label"), [((WRONG, CITED, RIGHT), "正しさ"), ((WRONG, CITED), "出典"), ((WRONG,), "正しく対応できた割合")])
def test_it_is_drawn_of_a_share_that_was_agreed_on(tmp_path, kpis, label):
    elsewhere = Oracle(CASES, {"Q1": make_answer("1日", "別.pdf"), "Q2": make_answer("99日")})
    made = sealed_run(tmp_path, CASES, {"b": wrong_arm(CASES), "c": elsewhere}, *kpis)
    digest = decide(made).seal.sha256
    found = trend(tmp_path, digest[:12])
    assert (found.seal, found.label, found.weeks[0].share) == (digest, label, 39 / 40 if label == "出典" else 38 / 40)
    with pytest.raises(RunError, match=r"先頭 12 桁以上"):
        trend(tmp_path, digest[:11])


def test_another_seal_is_another_trend(weekly, tmp_path):
    first = trend(weekly(2, 2))
    decide(sealed_run(tmp_path, CASES, {"b": wrong_arm(CASES), "c": lost(0)}, run="20261201-090000-p", title="別"))
    assert [week.run for week in trend(tmp_path).weeks] == ["20261201-090000-p"]
    assert trend(tmp_path, first.seal) == first


def test_a_run_that_was_not_decided_is_no_week(weekly, tmp_path):
    weekly(2)
    sealed_run(tmp_path, CASES, {"b": wrong_arm(CASES), "c": lost(5)}, run="20261201-090000-p")
    assert len(trend(tmp_path).weeks) == 1
    with pytest.raises(RunError, match="判定済みの実行がありません"):
        trend(tmp_path, "0" * 64)


def test_a_decision_that_was_edited_is_no_week(weekly):
    path = weekly(2) / "20261121-090000-p" / "decision.json"
    assert sum(right(path.parent).values()) == 38
    kept = json.loads(path.read_text(encoding="utf-8"))
    kept["samples"]["c"][0]["scores"]["right"] = 1.0
    path.write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(SealError, match="台帳に記録されたものではありません"):
        trend(path.parents[1])


def test_a_failed_question_is_not_right(tmp_path):
    arm = Oracle(CASES, {CASES[0].question: OSError("切れた")})
    decide(sealed_run(tmp_path, CASES, {"b": wrong_arm(CASES), "c": arm}))
    assert [case for case, hit in right(tmp_path / "20261121-090000-p").items() if not hit] == ["a1"]


def test_the_noise_floor_counts_where_a_system_differs_from_itself(tmp_path):
    found = noise_floor(sealed_run(tmp_path, CASES, {"a": lost(1), "b": lost(3)}))
    assert (found.questions, found.discordant, found.share) == (40, 2, 0.05)
    assert 0 < found.low < 0.05 < found.high < 0.2


def test_two_systems_are_no_noise(tmp_path):
    with pytest.raises(DataError, match=re.escape("A/A")):
        noise_floor(sealed_run(tmp_path, CASES, {"a": lost(1), "b": Oracle(CASES, identity="2")}))
    assert ledger.find(tmp_path / ledger.NAME, "decision") == []
