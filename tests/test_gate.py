"""The gate: exact probabilities of a false GO, how failures count, and every sentence it can say."""

import dataclasses
import gc
import math

import numpy as np
import pytest
from scipy.stats import binom

from kit.evaluation import designs, statistics
from kit.evaluation.gate import Sample, is_broken, judge, point, score, values
from kit.evaluation.metrics import METRICS
from kit.records import OPEN_STATES, Case, Evidence, Kpi, Place
from kit.trust.durable import to_json
from tests.evaluations import RIGHT, make_cases, make_criteria, make_row

OWN_FAILURES = ("wrong_format", "model_error", "timeout")
WRONG = Kpi("wrong_answer", "誤答", 0.15, "理由")
FAST = Kpi("latency_p95", "応答時間", 3.0, "理由")
F1 = Kpi("character_f1", "文字F1", 0.7, "理由")
CHEAP = Kpi("yen_per_right", "費用", 2.0, "理由")
TODAY = "2026-11-21"


@pytest.fixture(autouse=True, scope="module")
def _little_to_collect():
    """Holm's procedure of statsmodels collects garbage at every call: spare it all that other tests have loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


def sample(right=1.0, state="answered", seconds=0.5, yen=1.0, **scores):
    known = {"right": right, "wrong_answer": 1 - right, "character_f1": right, "yen_per_right": right,
             "latency_p95": 0.0, "error_rate": 0.0}  # fmt: skip
    found = known | scores
    return Sample("1", state, seconds, yen, found if state == "answered" else dict.fromkeys(found, math.nan))


def run(*counts):
    """Samples from (number, sample) pairs."""
    return [one for number, one in counts for _ in range(number)]


def gate(samples, *kpis, baseline=None, today=TODAY, **changes):
    criteria = make_criteria((), *kpis, **changes)
    arms = ({"baseline": baseline} if baseline is not None else {}) | {"candidate": samples}
    return judge(criteria, arms, today)


def outcome(samples, *kpis, **how):
    return gate(samples, *kpis, **how)[1]


# --- false GO -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "bar"), [(14, 0.8), (20, 0.7), (59, 0.95), (80, 0.7), (100, 0.9)])
@pytest.mark.parametrize("metric", ["right", "wrong_answer"])
def test_quality_at_the_bar_goes_at_most_alpha_of_the_time(n, bar, metric):
    """Exact enumeration over the number of right answers, for a share to be high and one to be low."""
    kpi = Kpi(metric, "", bar if metric == "right" else 1 - bar, "")
    outcomes = np.array([outcome(run((k, sample(1.0)), (n - k, sample(0.0))), kpi) for k in range(n + 1)])
    chances = binom.pmf(np.arange(n + 1), n, bar)
    assert chances[outcomes == "GO"].sum() <= 0.05
    assert chances[outcomes == "NO-GO"].sum() <= 0.05
    assert list(dict.fromkeys(outcomes)) == ["NO-GO", "EXTEND", "GO"]  # in this order as quality rises


@pytest.mark.parametrize("rho", [0, 1])
def test_several_gates_at_the_bar_go_no_more_often(rho):
    """GO asks all gates at alpha each: two independent ones pass together far less, two equal ones as often as one."""
    n, bar, chance = 40, 0.8, 0.0
    second = Kpi("citation", "", bar, "")
    passing = {k for k in range(n + 1) if statistics.share_bounds(k, n, 0.05)[0] >= bar}
    for k in range(n + 1):
        for other in [k] if rho else [min(passing), min(passing) - 1]:
            samples = [sample(float(i < k), citation=float(i < other)) for i in range(n)]
            found = outcome(samples, Kpi("right", "", bar, ""), second)
            assert (found == "GO") == (k in passing and other in passing)
            if rho and found == "GO":
                chance += binom.pmf(k, n, bar)
    assert chance <= 0.05


@pytest.mark.parametrize("state", [*OWN_FAILURES, *sorted(OPEN_STATES)])
@pytest.mark.parametrize("failed", [0.1, 0.3, 0.42, 0.5])
def test_failing_the_hard_questions_never_leads_to_go(state, failed):
    """True quality .70 at a bar of .80: of what was scored nearly all is right, of what was planned it is not."""
    n = 400
    lost = round(failed * n)
    right = min(round(0.7 * n), n - lost)
    samples = run((lost, sample(state=state)), (n - lost - right, sample(0.0)), (right, sample(1.0)))
    assert outcome(samples, Kpi("right", "", 0.8, "")) != "GO"
    assert outcome(samples, Kpi("right", "", 0.8, ""), error_budget=0.5) != "GO"


def test_not_one_question_is_no_evidence():
    for kpi in (RIGHT, WRONG, F1, FAST, CHEAP):
        (result,), found, _ = gate([], kpi)
        assert (found, result.outcome, result.n) == ("EXTEND", "EXTEND", 0)
        assert math.isnan(result.point)


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_one_question_decides_nothing(right):
    for kpi in (RIGHT, WRONG, F1, FAST, CHEAP):
        found = outcome([sample(right)], kpi)
        assert found == ("NO-GO" if (kpi, right) == (RIGHT, -1) else "EXTEND"), kpi.metric


# --- how failures count ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", OWN_FAILURES)
@pytest.mark.parametrize(("name", "bad"), [("right", 0.0), ("wrong_answer", 1.0), ("character_f1", 0.0),
                                           ("error_rate", 1.0), ("yen_per_right", 0.0), ("latency_p95", math.inf)])  # fmt: skip
def test_the_candidates_own_failures_count_against_it_in_both_cases(state, name, bad):
    failed = [sample(state=state)]
    assert [values(METRICS[name], name, failed, best=best) for best in (False, True)] == [[bad], [bad]]


@pytest.mark.parametrize("state", sorted(OPEN_STATES))
@pytest.mark.parametrize(("name", "worst", "best"), [("right", 0.0, 1.0), ("wrong_answer", 1.0, 0.0), ("character_f1", 0.0, 1.0),
                                                     ("error_rate", 1.0, 0.0), ("yen_per_right", 0.0, 1.0), ("latency_p95", math.inf, 0.0)])  # fmt: skip
def test_open_states_count_against_it_in_the_worst_case_and_for_it_in_the_best(state, name, worst, best):
    failed = [sample(state=state)]
    assert values(METRICS[name], name, failed, best=False) == [worst]
    assert values(METRICS[name], name, failed, best=True) == [best]


def test_open_states_widen_the_interval_to_both_sides_and_own_failures_only_lower_it():
    whole = gate(run((80, sample(1.0)), (20, sample(0.0))), RIGHT)[0][0]
    own = gate(run((80, sample(1.0)), (10, sample(0.0)), (10, sample(state="timeout"))), RIGHT)[0][0]
    opened = gate(run((80, sample(1.0)), (10, sample(0.0)), (10, sample(state="not_run"))), RIGHT)[0][0]
    assert (own.low, own.high, own.point) == (whole.low, whole.high, 0.8)
    assert (opened.low, opened.point) == (whole.low, 0.8)
    assert opened.high == statistics.share_bounds(90, 100, 0.05)[1] > whole.high


def test_a_question_without_row_was_not_run():
    cases = make_cases(2, 1)
    samples = score(cases, {"a1": make_row(cases[0], yen=3.0), "a2": make_row(cases[1], state="timeout", seconds=9.0)})
    assert [(s.case, s.state) for s in samples] == [("a1", "answered"), ("a2", "timeout"), ("u1", "not_run")]
    assert (samples[0].scores["right"], samples[0].seconds, samples[0].yen) == (1.0, 0.25, 3.0)
    assert math.isnan(samples[1].scores["right"])
    assert set(samples[2].scores) == {
        "right", "wrong_answer", "refusal", "latency_p95", "error_rate", "yen_per_right", "verbatim", "policy_violation",
    }  # fmt: skip
    assert point("right", samples) == pytest.approx(1 / 3)


def test_a_system_that_fails_is_not_cheaper():
    sound = run((50, sample(1.0)), (50, sample(0.0)))
    failing = run((50, sample(1.0)), (50, sample(state="timeout", yen=1.0)))
    assert point("yen_per_right", sound) == point("yen_per_right", failing) == 2.0
    assert gate(failing, CHEAP)[0][0].high == gate(sound, CHEAP)[0][0].high > 2.0
    assert point("yen_per_right", run((9, sample(0.0)))) is None
    assert outcome(run((100, sample(state="timeout"))), CHEAP) == "NO-GO"


# --- error budget, deadline, several KPIs -----------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(OPEN_STATES))
def test_the_error_budget_is_compared_with_the_observed_share(state):
    within = run((95, sample()), (5, sample(state=state)))
    beyond = run((94, sample()), (6, sample(state=state)))
    assert outcome(within, RIGHT) == "GO"
    assert gate(beyond, RIGHT)[1:] == (
        "EXTEND",
        "実行できなかった質問が6.0%あり、許容した5.0%を超えたため、原因を除いてやり直す必要があります。",
    )


def test_the_candidates_own_failures_use_up_no_error_budget():
    assert outcome(run((80, sample()), (20, sample(state="timeout"))), Kpi("right", "", 0.7, "")) == "GO"


def test_a_miss_is_a_miss_whatever_the_error_budget():
    samples = run((80, sample(0.0)), (20, sample(state="not_run")))
    assert outcome(samples, RIGHT) == "NO-GO"


@pytest.mark.parametrize(("today", "found"), [("2026-11-20", "GO"), ("2026-11-21", "GO"), ("2026-11-22", "NO-GO")])
def test_after_the_deadline_there_is_no_go(today, found):
    judged = gate(run((100, sample())), RIGHT, deadline="2026-11-21", today=today)
    assert judged[1] == found
    if found == "NO-GO":
        assert judged[2] == "判定の期限（2026-11-21）を過ぎたため、事前の取り決めにより撤退とします。"


def test_holm_over_the_gates_for_no_go():
    n, right = 100, 61  # P(X <= 61 | .7) = .034: under .05, but not under .05 / 2
    samples = [sample(float(i < right), citation=float(i < 75)) for i in range(n)]
    second = Kpi("citation", "出典", 0.7, "")
    assert outcome(samples, RIGHT) == "NO-GO"
    assert outcome(samples, RIGHT, second) == "EXTEND"
    assert outcome(samples, RIGHT, dataclasses.replace(second, role="info")) == "NO-GO"
    both = [sample(float(i < 58), citation=float(i < right)) for i in range(n)]  # .007 goes first, then .034 stands alone
    assert [result.outcome for result in gate(both, RIGHT, second)[0]] == ["NO-GO", "NO-GO"]


def test_gates_without_p_value_are_tested_at_their_part_of_alpha():
    slow = run((100, sample(seconds=9.0)))
    assert outcome(slow, FAST) == "NO-GO"
    assert [r.outcome for r in gate(slow, RIGHT, FAST)[0]] == ["GO", "NO-GO"]
    poor = run((60, sample(character_f1=0.5)), (40, sample(character_f1=0.6)))
    assert outcome(poor, F1) == "NO-GO"


def test_the_part_of_alpha_shrinks_with_the_number_of_gates():
    samples = [sample(seconds=float(i)) for i in range(1, 101)]
    at = [statistics.quantile_bounds(range(1, 101), 0.95, alpha)[0] for alpha in (0.05, 0.025)]
    slow = dataclasses.replace(FAST, bar=at[1])
    assert at[1] < at[0]
    assert outcome(samples, slow) == "NO-GO"
    assert [result.outcome for result in gate(samples, slow, RIGHT)[0]] == ["EXTEND", "GO"]


def test_info_never_decides():
    samples = run((100, sample(1.0, citation=0.0)))
    results, found, _ = gate(samples, RIGHT, Kpi("citation", "出典", 0.9, "", "info"))
    assert found == "GO"
    assert (results[1].outcome, results[1].point, results[1].reason) == (None, 0.0, "判定には使いません")


# --- latency --------------------------------------------------------------------------------------------


def test_p95_with_failures():
    four = run((196, sample(seconds=1.0)), (4, sample(state="timeout")))
    five = run((195, sample(seconds=1.0)), (5, sample(state="timeout")))
    (held,), found, _ = gate(four, FAST)
    assert (found, held.point, held.high) == ("GO", 1.0, 1.0)
    (open_,), found, _ = gate(five, FAST)
    assert (found, open_.high, open_.point) == ("EXTEND", math.inf, 1.0)
    assert open_.reason == "質問が足りないか失敗が多いため区間の上限が求められず、まだ決められない"
    (lost,), found, _ = gate(run((100, sample(seconds=1.0)), (100, sample(state="timeout"))), FAST)
    assert (found, lost.low) == ("NO-GO", math.inf)
    assert math.isnan(lost.point)


def test_the_p95_of_a_sample_is_its_smallest_value_that_95_percent_do_not_exceed():
    assert [point("latency_p95", [sample(seconds=float(i)) for i in range(1, n + 1)]) for n in (1, 20, 30)] == [1, 19, 29]
    assert point("latency_p95", run((9, sample()), (1, sample(state="timeout")))) is None


# --- guardrail ------------------------------------------------------------------------------------------

GUARD = Kpi("right", "今より悪くしない", 0.05, "", "guardrail")


def test_a_guardrail_compares_with_the_baseline_question_by_question():
    baseline = run((100, sample(1.0)), (100, sample(0.0)))
    better = run((150, sample(1.0)), (50, sample(0.0)))
    results, found, _ = gate(better, dataclasses.replace(RIGHT, bar=0.5), GUARD, baseline=baseline)
    assert (found, results[1].outcome, results[1].point, results[1].baseline) == ("GO", "GO", 0.25, 0.5)
    assert results[1].low == pytest.approx(0.25 - 1.645 * math.sqrt(0.25 * 0.75 / 200), abs=0.01)
    worse = run((80, sample(1.0)), (120, sample(0.0)))
    (result,), found, _ = gate(worse, GUARD, baseline=baseline)
    assert (found, result.outcome, result.point) == ("EXTEND", "EXTEND", pytest.approx(-0.1))


def test_a_guardrail_of_a_share_to_be_low_turns_the_sign():
    guard = dataclasses.replace(GUARD, metric="wrong_answer")
    baseline, better = run((150, sample(0.0)), (50, sample(1.0))), run((50, sample(0.0)), (150, sample(1.0)))
    (result,), found, _ = gate(better, guard, baseline=baseline)
    assert (found, result.outcome, result.point) == ("GO", "GO", 0.5)
    (result,), found, _ = gate(baseline, guard, baseline=better)
    assert (result.outcome, result.point) == ("EXTEND", -0.5)


def test_the_baselines_open_failures_do_not_help_the_candidate():
    candidate = run((200, sample(1.0)))
    lost = run((180, sample(1.0)), (20, sample(state="not_run")))
    (result,), _, _ = gate(candidate, GUARD, baseline=lost)
    assert result.low == pytest.approx(-(1 - 0.05 ** (1 / 200)))  # as if the baseline had been right throughout
    assert result.high > 0.1


def test_a_guardrail_needs_a_baseline_and_questions():
    (result,), found, _ = gate(run((100, sample())), GUARD)
    assert (found, result.outcome, result.reason) == ("EXTEND", "EXTEND", "比較する方式がない")
    refusal = dataclasses.replace(GUARD, metric="refusal")
    (result,), found, _ = gate(run((100, sample())), refusal, baseline=run((100, sample())))
    assert (found, result.n, result.reason) == ("EXTEND", 0, "この指標を測れる質問がない")


# --- sentences ------------------------------------------------------------------------------------------


def test_what_a_kpi_says():
    samples = run((70, sample(1.0, seconds=4.0)), (30, sample(0.0)))
    poor = run((40, sample(1.0, seconds=9.0)), (60, sample(0.0, seconds=9.0)))
    good = run((100, sample(1.0)))
    said = [
        [result.reason for result in gate(given, RIGHT, WRONG, FAST, F1, baseline=good)[0]]
        for given in (samples, poor, good)
    ]
    assert said == [
        [
            "区間の下限61.6%が基準に届かず、まだ決められない",
            "区間の下限22.5%でも基準を超える",
            "区間の下限4.00秒でも基準を超える",
            "区間の下限0.620が基準に届かず、まだ決められない",
        ],
        [
            "区間の上限48.7%でも基準に届かない",
            "区間の下限51.3%でも基準を超える",
            "区間の下限9.00秒でも基準を超える",
            "区間の上限0.490でも基準に届かない",
        ],
        [
            "区間の下限97.0%が基準を満たす",
            "区間の上限3.0%が基準を満たす",
            "区間の上限0.50秒が基準を満たす",
            "区間の下限0.970が基準を満たす",
        ],
    ]
    edge = gate(run((85, sample(1.0)), (15, sample(0.0))), WRONG)[0][0].reason
    assert edge == "区間の上限22.2%が基準を超え、まだ決められない"


def test_an_interval_past_its_bar_that_holm_does_not_reject_says_so():
    """13 of 26: the 95 % upper bound misses .70, but not at the level that two criteria ask for."""
    samples = run((13, sample(1.0)), (13, sample(0.0)))
    alone, both = gate(samples, RIGHT)[0][0], gate(samples, RIGHT, FAST)[0][0]
    assert alone.high == both.high < RIGHT.bar
    assert (alone.outcome, both.outcome) == ("NO-GO", "EXTEND")
    assert both.reason == "区間は基準を外れるが、複数の基準を同時に見る分を割り引くと（Holm法）、まだ決められない"


def test_what_a_guardrail_says():
    baseline = run((100, sample(1.0)), (100, sample(0.0)))
    said = [gate(given, GUARD, baseline=baseline)[0][0].reason for given in (baseline, baseline[::-1])]
    assert said == [
        "比較対象との差の下限−1.5ポイントが許容範囲にある",
        "比較対象との差の下限−12.1ポイントが許容範囲を外れ、まだ決められない",
    ]


def test_a_guardrail_that_is_surely_broken_is_not_called_open():
    """In its best case, too, the candidate is worse than allowed: more questions would not mend that."""
    baseline = run((200, sample(1.0)))
    poor = run((160, sample(1.0)), (40, sample(0.0)))
    results, found, why = gate(poor, dataclasses.replace(RIGHT, bar=0.5), GUARD, baseline=baseline)
    guard = results[1]
    assert (results[0].outcome, found, guard.outcome) == ("GO", "EXTEND", "EXTEND")
    assert guard.high < -GUARD.bar and is_broken(guard) and not is_broken(results[0])
    assert guard.reason == "比較対象との差の上限−15.6ポイントでも許容範囲を外れ、安全条件を満たしていない"
    assert why == (
        "「今より悪くしない：安全条件（比較対象との差）」（区間 −25.3ポイント〜−15.6ポイント、許容は−5.0ポイントまで）が、"
        "最も有利に見積もっても許容範囲を超えて悪い結果です。"
        "質問を増やしても変わらないため、候補を直し、まだ使っていない質問で測り直す必要があります。"
    )
    opened = run((160, sample(1.0)), (40, sample(state="not_run")))  # they may all have been right
    result = gate(opened, GUARD, baseline=baseline, error_budget=0.5)[0][0]
    assert not is_broken(result) and result.reason.endswith("まだ決められない")
    wrong = dataclasses.replace(GUARD, metric="wrong_answer")
    assert is_broken(gate(poor, wrong, baseline=baseline)[0][0])


def test_an_open_guardrail_is_not_taken_for_the_kpi_that_it_guards():
    """Both often have one label; the reason to withdraw once named a measure that was met."""
    guard = dataclasses.replace(GUARD, label=RIGHT.label)
    samples = {"baseline": run((200, sample(1.0))), "candidate": run((192, sample(1.0)), (8, sample(0.0)))}
    results, found, why = judge(make_criteria((), RIGHT, guard), samples, TODAY, last=True)
    assert ([r.outcome for r in results], found) == (["GO", "EXTEND"], "NO-GO")
    assert "「正しさ」" not in why
    assert f"「正しさ：安全条件（比較対象との差）」（区間 {METRICS['right'].show(results[1].low, signed=True)}〜" in why
    assert "、許容は−5.0ポイントまで）は、今回の結果からは基準を満たすとも満たさないとも言い切れません" in why


def test_what_the_outcome_says():
    go = gate(run((100, sample(1.0))), RIGHT)
    assert go[1:] == ("GO", "すべての基準を、最も不利に見積もっても満たしています。")
    no = gate(run((100, sample(0.0))), RIGHT, WRONG)
    assert no[1:] == ("NO-GO", "「正しさ」、「誤答」が、最も有利に見積もっても基準を満たしません。")
    wait = gate(run((75, sample(1.0)), (25, sample(0.0))), RIGHT)
    assert wait[1:] == (
        "EXTEND",
        "「正しさ」は、今回の結果からは基準を満たすとも満たさないとも言い切れません"
        "（いまの実測値が実力なら、全部で約530問あれば、8割の確率でGOに決着します）。",
    )
    edge = gate(run((70, sample(1.0)), (30, sample(0.0))), RIGHT)
    assert edge[2] == "「正しさ」は、今回の結果からは基準を満たすとも満たさないとも言い切れません。"


def test_the_questions_needed_have_the_power_they_promise():
    (result,), _, _ = gate(run((85, sample(1.0)), (15, sample(0.0))), Kpi("right", "", 0.8, ""))
    assert (result.point, result.needed) == (0.85, 398)
    fewest = next(k for k in range(320, 399) if outcome(run((k, sample(1.0)), (398 - k, sample(0.0))), result.kpi) == "GO")
    assert 0.8 <= binom.sf(fewest - 1, 398, 0.85) <= 0.85  # in steps: 397 questions have less than .80
    (low,), _, _ = gate(run((85, sample(1.0)), (15, sample(0.0))), Kpi("wrong_answer", "", 0.2, ""))
    assert low.needed == 398


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("right", 0.7154, "71.5%"), ("latency_p95", 3.456, "3.46秒"), ("yen_per_right", 1234.5, "1,234.50円"),
        ("character_f1", 0.83249, "0.832"), ("right", math.nan, "求められません"), ("latency_p95", math.inf, "求められません"),
    ],
)  # fmt: skip
def test_figures_as_a_japanese_reader_expects_them(name, value, text):
    assert METRICS[name].show(value) == text


def test_signed_figures():
    assert METRICS["right"].show(0.012, signed=True) == "+1.2ポイント"
    assert METRICS["right"].show(-0.012, signed=True) == "−1.2ポイント"


def test_results_are_plain_json_whatever_the_figures():
    results = gate([], RIGHT, FAST, CHEAP, GUARD)[0]
    assert to_json(results)[1]["high"] == "inf"
    assert to_json(results)[0]["point"] == "nan"


# --- a judge, corrected by people


JUDGED = Kpi("right_by_judge", "LLMの判定", 0.8, "理由")


def labelled(count, label, verdict=1.0):
    """Answers with a verdict of the judge and, where drawn, what people say: NaN for a blank."""
    return count, Sample("1", "answered", 0.5, 1.0, {"right_by_judge": verdict} | ({} if label is None else {"right_by_people": label}))


def test_a_label_that_was_drawn_and_left_blank_counts_at_its_worst():
    """The judge says right of all; people fill in 240 of 400 drawn labels and leave out the 160 that are wrong."""
    blank, told = run(labelled(240, 1.0), labelled(160, math.nan)), run(labelled(240, 1.0), labelled(160, 0.0))
    (found,), result, _ = gate(blank, JUDGED)
    assert result == "EXTEND" and found.point == 0.6 and found.low < 0.6 and found.high > 0.95
    assert outcome(told, JUDGED) == "NO-GO"
    assert found.low == gate(told, JUDGED)[0][0].low
    assert outcome(run(labelled(240, 1.0), labelled(160, None)), JUDGED) == "GO", "not drawn: no label"


def test_only_settled_labels_make_up_the_hundred_and_fifty():
    def told(settled, blank):
        return gate(run(labelled(settled, 1.0), labelled(blank, math.nan), labelled(200, None)), JUDGED)[0][0]

    assert told(149, 60).reason == "人の採点が150件に満たず、LLMの判定だけでは決められない"
    assert (told(149, 60).low, told(149, 60).high) == (0.0, 1.0)
    assert told(150, 60).low > 0.5
# --- questions that have something in common ------------------------------------------------------------


def on(documents, size, hits, name="right", places=False, judged=False, **fields):
    """Samples on documents of ``size`` questions each, the first ones of each right: as many as ``hits`` says."""
    found = []
    for number in range(documents * size):
        value = float(number % size < hits[number // size])
        scores = {name: value} | ({"right_by_people": value} if judged else {})
        seconds = 1.0 if value else 9.0
        found.append(Sample(str(number), "answered", seconds, 1.0, scores, f"d{number // size}\n{number if places else ''}"))
    return found


@pytest.mark.parametrize("kpi", [Kpi("right", "正しさ", 0.8, "理由"), Kpi("right_by_judge", "判定", 0.8, "理由"), FAST])
def test_whole_documents_right_or_wrong_prove_less_than_scattered_questions(kpi):
    """Of 200 questions 180 (of the quantile 198) are right; on 20 documents those of 2 are not, or each document lacks one."""
    lacking = 1 if kpi is FAST else 2
    judged = kpi.metric == "right_by_judge"
    apart = [dataclasses.replace(s, group="") for s in on(20, 10, [10] * 18 + [10 - lacking // 2] * 2, kpi.metric, judged=judged)]
    hits = [0] * 2 + [10] * 18 if kpi is not FAST else [10] * 20
    (alone,), (together,) = (gate(samples, kpi)[0] for samples in (apart, on(20, 10, hits, kpi.metric, judged=judged)))
    assert alone.outcome == "GO"
    assert together.outcome == "EXTEND"


@pytest.mark.parametrize("name", ["rubric", "character_f1"])
def test_places_stand_beside_a_few_documents_never_instead_of_them(name):
    """Pages of their own do not make nineteen documents a hundred and ninety."""
    hits = [10] * 16 + [3] * 3
    kpi = Kpi(name, "", 0.8, "")
    (paged,), (plain,) = (gate(on(19, 10, hits, name, places=places), kpi)[0] for places in (True, False))
    assert (paged.low, paged.high) == (plain.low, plain.high)


def test_groups_are_those_of_all_questions_that_are_judged_together():
    """Two looks of fifteen documents each are thirty documents: what places there are does not count."""
    cases = [Case(str(i), f"Q{i}", (("x",),), (Evidence(f"d{i // 4}", Place(page=i)),)) for i in range(120)]
    looks = [score(part, {case.id: make_row(case) for case in part}) for part in (cases[:60], cases[60:])]
    whole = score(cases, {case.id: make_row(case) for case in cases})
    assert [*looks[0], *looks[1]] == whole
    assert designs.groupings([s.group for s in whole])[0] == [[f"d{i // 4}" for i in range(120)]]


def test_few_documents_are_named_in_the_reason():
    (one,), outcome, _ = gate(on(4, 50, [50] * 4, places=True), Kpi("right", "", 0.8, ""))
    assert outcome == "GO"
    assert "文書が4件しかないので、ほかの文書でも同じ結果になるとは言えません" in one.reason
    (wide,), outcome, _ = gate(on(4, 50, [50] * 4), Kpi("right", "", 0.8, ""))
    assert outcome == "EXTEND"
    assert "質問表に根拠の頁を書いてください" in wide.reason


@pytest.mark.parametrize("name", ["minutes_saved", "yen_per_right"])
def test_too_few_questions_for_what_has_no_limits(name):
    """Ninety-nine questions that all went well decide nothing; a hundred do."""
    kpi = Kpi(name, "", 1.0 if name == "minutes_saved" else 3.0, "")
    samples = [Sample(str(i), "answered", 1.0, 1.0, {name: 3.0 + i % 2 if name == "minutes_saved" else 1.0}) for i in range(100)]
    (short,), outcome, _ = gate(samples[1:], kpi)
    assert outcome == "EXTEND"
    assert "99件で、この指標の判定に必要な100件に満たず" in short.reason
    assert gate(samples, kpi)[1] == "GO"


def test_seldom_losses_that_were_not_drawn_leave_a_guardrail_open():
    kpi = Kpi("rubric", "", 0.044, "", "guardrail")
    arms = [[Sample(str(i), "answered", 1.0, 1.0, {"rubric": value + (i % 2) * more}) for i in range(59)] for value, more in ((0.9, 0.0), (0.9, 0.01))]
    assert gate(arms[1], kpi, baseline=arms[0])[0][0].outcome == "EXTEND"
