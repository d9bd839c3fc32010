"""The plan: the notes' tables, the gate's own counts, and every reason why GO cannot be reached."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from kit.errors import DataError
from kit.evaluation.designs import cluster_share_bounds, spend
from kit.evaluation.gate import Sample, judge
from kit.evaluation.planning import LIKENESS, chances, guardrail_chance, plan
from kit.records import Case, Evidence, Kpi, Place
from kit.trust.durable import to_json
from tests.evaluations import RIGHT, make_cases, make_criteria

ACCURACY = Kpi("right", "正しさ", 0.8, "理由")
FAST = Kpi("latency_p95", "応答時間", 3.0, "理由")
TODAY = "2026-11-22"


def planned(*kpis, count=150, cases=None, truth=None, power=0.8, **changes):
    return plan(make_criteria((), *kpis, cases_count=count, **changes), cases, truth=truth, power=power, today=TODAY)


@pytest.mark.parametrize(
    ("truth", "go", "no_go"), [(0.7, 0.0, 0.878), (0.75, 0.001, 0.419), (0.8, 0.037, 0.045), (0.85, 0.42, 0.0), (0.88, 0.813, 0.0), (0.9, 0.956, 0.0)]
)
def test_the_operating_characteristic_of_the_notes(truth, go, no_go):
    found = chances(truth, 0.8, 150, (0.05,))
    assert (found.go, found.no_go, found.finally_go) == pytest.approx((go, no_go, go), abs=5e-4)
    assert found.go + found.extend + found.no_go == pytest.approx(1)


@pytest.mark.parametrize(("truth", "go"), [(0.8, 0.031), (0.85, 0.757), (0.88, 0.994)])
def test_four_looks_of_a_hundred_questions(truth, go):
    assert chances(truth, 0.8, 100, spend(0.05, 4)).finally_go == pytest.approx(go, abs=2e-3)


@pytest.mark.parametrize("gates", [1, 2])
def test_the_counts_are_those_of_the_gate(gates):
    others = [Kpi("citation", "出典", 0.5, "理由")] * (gates - 1)
    outcomes = []
    for right in range(41):
        samples = [Sample(str(i), "answered", 1.0, 1.0, {"right": float(i < right), "citation": 1.0}) for i in range(40)]
        outcomes.append(judge(make_criteria((), ACCURACY, *others), {"candidate": samples}, TODAY)[1])
    passed, missed = outcomes.count("GO"), outcomes.count("NO-GO")
    assert outcomes == ["NO-GO"] * missed + ["EXTEND"] * (41 - missed - passed) + ["GO"] * passed
    found = chances(0.85, 0.8, 40, (0.05,), gates)
    assert found.go == pytest.approx(binom.sf(40 - passed, 40, 0.85))
    assert found.no_go == pytest.approx(binom.cdf(missed - 1, 40, 0.85))


def test_guardrails_hold_more_often_with_more_questions_and_fewer_differences():
    assert guardrail_chance(58, 0.05, 0.0, 0.05) == 0.0
    assert guardrail_chance(59, 0.05, 0.0, 0.05) == pytest.approx(1.0)
    few, many, differing = (guardrail_chance(n, 0.05, d, 0.05) for n, d in ((100, 0.1), (300, 0.1), (300, 0.3)))
    assert few < differing < many


def test_the_chance_of_all_counts_the_guardrails():
    """A plan once promised 71 % for all right under a guardrail whose chance was 20 %."""
    guard = Kpi("right", "守り", 0.05, "理由", "guardrail")
    found = planned(ACCURACY, guard, count=100, truth=0.95)
    gate, held = (kpi.power for kpi in found.kpis)
    assert held == found.kpis[1].held == guardrail_chance(100, 0.05, 0.1, 0.05) < 0.5 < gate
    assert found.power == pytest.approx(gate + held - 1)
    needed = found.kpis[1].needed
    assert guardrail_chance(needed - 1, 0.05, 0.1, 0.05) < 0.8 <= guardrail_chance(needed, 0.05, 0.1, 0.05)
    assert f"見込みは {held:.0%} です。80% にするには、約{needed:,}問が必要です。" in str(found)
    assert f"全体で GO と出る見込みは {found.power:.0%} 以上です。" in str(found)
    assert "【注意】実力が同じでも" in str(found) and "【注意】" not in str(planned(ACCURACY, guard, count=1000))


def test_a_guardrail_is_planned_on_all_looks_together():
    guard = Kpi("right", "守り", 0.05, "理由", "guardrail")
    found = planned(ACCURACY, guard, count=300, looks=3, per_look=100, scope="internal").kpis[1]
    assert found.held == guardrail_chance(300, 0.05, 0.1, spend(0.05, 3)[-1]) < 0.8
    enough = planned(ACCURACY, guard, count=3 * found.needed, looks=3, per_look=found.needed, scope="internal").kpis[1]
    assert enough.held >= 0.8 and enough.needed == 0
    assert f"1回あたり 約{found.needed:,}問が必要です。" in found.notes[0]


def test_what_has_no_chance_is_named_beside_the_chance_of_all():
    text = str(planned(ACCURACY, FAST, Kpi("minutes_saved", "短縮時間", 3.0, "理由")))
    assert "以上です（見込みを出せない「短縮時間」を除く）。" in text


def test_a_plan_says_what_it_takes():
    found = planned(ACCURACY, truth=0.85, count=398)
    (kpi,) = found.kpis
    assert (kpi.needed, kpi.n, kpi.worth) == (398, 398, 398)
    assert 0.8 <= kpi.power < 0.84  # from 398 on it never falls short, in whatever way the counts are rounded
    assert found.problems == ()
    text = str(planned(ACCURACY, truth=0.85))
    assert "「正しさ」（基準 80% 以上、150問）" in text
    assert "実力が 85% なら、GO と出る見込みは 42%、EXTEND 58%、NO-GO 0%。" in text
    assert "実力 85% で 80% の確率で GO にするには、398問が必要です。" in text
    found.require()


def test_several_gates_are_each_planned_for_more():
    five = [Kpi(name, name, 0.8, "理由") for name in ("right", "citation", "recall_at_5", "answer_contained", "refusal")]
    found = planned(*five, truth={kpi.metric: 0.9 for kpi in five}, count=158)
    assert [kpi.needed for kpi in found.kpis] == [158] * 5
    assert found.power >= 0.8
    assert "全体で GO と出る見込みは" in str(found)


def test_bars_at_most_are_mirrored():
    down, up = planned(Kpi("wrong_answer", "誤答", 0.2, "理由"), truth=0.1), planned(ACCURACY, truth=0.9)
    assert down.power == pytest.approx(up.power)
    assert down.kpis[0].needed == up.kpis[0].needed


def test_a_quantile_is_planned_by_the_share_within_its_bar():
    found = planned(FAST, count=200, truth=0.98)
    assert found.power == pytest.approx(chances(0.98, 0.95, 200, (0.05,)).go)
    assert "3秒以内に返る応答の割合" in str(found)


def test_what_is_unbounded_is_told_in_standard_deviations():
    found = planned(Kpi("minutes_saved", "短縮時間", 3.0, "理由"), count=100)
    assert math.isnan(found.kpis[0].power)
    assert found.power == 1.0
    assert "標準偏差の 0.25 倍" in str(found)


def test_questions_on_one_document_count_for_less():
    alone = tuple(Case(f"a{i}", f"Q{i}", (("1日",),), (Evidence(f"{i}.docx", Place()),)) for i in range(150))
    shared = tuple(Case(f"a{i}", f"Q{i}", (("1日",),), (Evidence(f"{i // 5}.docx", Place()),)) for i in range(150))
    apart, together = (planned(ACCURACY, cases=cases, truth=0.88) for cases in (alone, shared))
    assert apart.kpis[0].worth == 150
    assert 80 < together.kpis[0].worth < 100
    assert together.power < apart.power
    assert together.kpis[0].needed > apart.kpis[0].needed
    assert "独立した質問なら約" in str(together)


def on(documents, size, **place):
    return tuple(Case(f"a{i}", f"Q{i}", (("1日",),), (Evidence(f"{i // size}.docx", Place(**place)),)) for i in range(documents * size))


def test_documents_in_common_are_planned_by_the_gates_own_bound():
    """The chance of GO is that of the bound on simulated questions, and the number needed reaches the power."""
    found = planned(ACCURACY, cases=on(20, 10), truth=0.92).kpis[0]
    random, groups, scale = np.random.default_rng(1), np.repeat(np.arange(20), 10), (1 - LIKENESS) / LIKENESS
    drawn = random.random((400, 200)) < np.repeat(random.beta(0.92 * scale, 0.08 * scale, (400, 20)), 10, axis=1)
    passed = np.mean([cluster_share_bounds(values.astype(float), groups, 0.05)[0] >= ACCURACY.bar for values in drawn])
    assert found.power == pytest.approx(passed, abs=0.07)
    assert found.chances[-1].go + found.chances[-1].extend + found.chances[-1].no_go == pytest.approx(1)
    more = planned(ACCURACY, cases=on(-(-found.needed // 10), 10), truth=0.92)
    assert more.power == pytest.approx(0.8, abs=0.05)


def test_few_documents_are_told_and_cannot_lead_to_go():
    found = planned(ACCURACY, cases=on(4, 50))
    assert found.problems
    assert "文書が4件しかないので" in str(found)


def test_a_single_document_without_places_counts_as_unrelated_questions_and_says_so():
    found = planned(ACCURACY, cases=on(1, 150))
    assert found.kpis[0].worth == 150
    assert "文書が1件しかないので" in str(found)


def test_the_plan_says_what_no_bound_of_costs_knows():
    assert "測定に現れないことがあり" in str(planned(Kpi("yen_per_right", "費用", 3.0, "理由"), count=150))


def test_looks_are_planned_on_documents_in_common():
    found = planned(ACCURACY, cases=on(60, 5), truth=0.9, looks=3, per_look=100, scope="internal").kpis[0]
    assert found.chances[-1].finally_go >= found.chances[-1].go


@pytest.mark.parametrize(
    ("kpis", "changes", "told"),
    [
        ((Kpi("right", "正しさ", 0.99, "理由"),), {"count": 298}, "少なくとも 299問"),
        ((FAST,), {"count": 58}, "少なくとも 59問"),
        ((Kpi("right_by_judge", "判定", 0.5, "理由"),), {"count": 149}, "少なくとも 150問"),
        ((Kpi("minutes_saved", "短縮時間", 3.0, "理由"),), {"count": 99}, "少なくとも 100問"),
        ((RIGHT, Kpi("right", "守り", 0.05, "理由", "guardrail")), {"count": 58}, "「守り」（基準 0.05）には、少なくとも 59問"),
        ((RIGHT,), {"looks": 3, "per_look": 60, "scope": "internal"}, "180問が必要ですが、150問"),
        ((RIGHT,), {"deadline": "2026-11-21"}, "期限（2026-11-21）を過ぎています"),
        ((Kpi("right", "正しさ", 0.95, "理由"),), {"looks": 2, "per_look": 30, "scope": "internal"}, "少なくとも 31問が必要です（判定 2 回、1回あたり）"),
    ],
)
def test_criteria_that_cannot_lead_to_go_are_refused(kpis, changes, told):
    found = planned(*kpis, **changes)
    assert len(found.problems) == 1
    assert told in found.problems[0][0]
    assert "この判定基準では GO になりません。" in str(found)
    with pytest.raises(DataError, match="GO になりません"):
        found.require()


def test_all_reasons_are_told_at_once_each_with_its_remedy():
    found = planned(FAST, Kpi("right", "正しさ", 0.99, "理由"), count=20, deadline="2020-01-01")
    with pytest.raises(DataError) as told:
        found.require()
    assert len(found.problems) == 3
    assert told.value.what.count("\n- ") == told.value.remedy.count("\n- ") == 3
    assert all(what in found._repr_html_() for what, _ in found.problems)


def test_one_question_more_and_perfect_results_would_pass():
    for kpi, count in ((Kpi("right", "正しさ", 0.99, "理由"), 299), (FAST, 59)):
        assert planned(kpi, count=count).problems == ()
        samples = [Sample(str(i), "answered", 1.0, 1.0, {kpi.metric: 1.0}) for i in range(count)]
        assert judge(make_criteria((), kpi), {"candidate": samples}, TODAY)[1] == "GO"


@pytest.mark.parametrize("share", [0.0, 1.0, 85.0])
def test_percentages_are_not_shares(share):
    with pytest.raises(DataError, match="0 より大きく 1 より小さい"):
        planned(ACCURACY, truth=share)


def test_a_plan_as_json_and_as_a_table():
    found = planned(ACCURACY, FAST, count=200, looks=2, per_look=100, scope="internal", cases=make_cases(200))
    facts = to_json(found)
    assert facts["problems"] == []
    assert facts["kpis"][0]["chances"][0].keys() == {"truth", "go", "extend", "no_go", "finally_go"}
    assert found._repr_html_().count("<table") == 2
    assert "最後までに GO" in found._repr_html_()
    assert "1回目 0.56%、2回目 4.44%" in str(found)
