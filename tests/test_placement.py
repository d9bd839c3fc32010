"""Where to run: what must stay inside decides first, then time, then cost."""

import dataclasses
from pathlib import Path

import pytest

from kit.prices import read_prices
from kit.records import Kpi
from kit.reporting.economics import economics
from kit.reporting.placement import advice, placement
from tests.test_summary import decision

PRICES = read_prices(Path(__file__).parents[1] / "data" / "prices.toml")
POLICY = Kpi("policy_violation", "根拠のない連絡先を示した割合", 0.02, "理由")
CHEAP_CLOUD = {"api_yen_per_million_prompt": 0.0, "api_yen_per_million_completion": 0.0, "api_operation_hours_per_month": 0.0}


def advised(*, kpis=(), facts=None, p95=0.1, **changes):
    found = decision("GO")
    points = found.facts["points"] | {"candidate": found.facts["points"]["candidate"] | {"latency_p95": p95}}
    criteria = dataclasses.replace(found.seal.criteria, kpis=(*found.seal.criteria.kpis, *kpis))
    seal = dataclasses.replace(found.seal, criteria=criteria)
    return economics(dataclasses.replace(found, seal=seal, facts=found.facts | {"points": points} | (facts or {})), PRICES, **changes)


@pytest.mark.parametrize(
    ("given", "place", "told"),
    [
        ({"kpis": (POLICY,), **CHEAP_CLOUD}, "edge", "示してはならない内容"),
        ({"facts": {"external": True}, **CHEAP_CLOUD}, "cloud_api", "許可された社外のサーバー"),
        (CHEAP_CLOUD, "hybrid", "まだ確かめていません"),
        ({"p95": 2.9, "edge_slowness": 2.0, "kpis": (POLICY,)}, "on_premises", "拠点のPCでは、仮置きの速さで見積もると基準の3.00秒を超えます"),
        ({"p95": 9.0, "kpis": (POLICY,)}, "edge", "基準の3.00秒を超えました"),
    ],
)
def test_the_advice_follows_from_data_time_and_cost(given, place, told):
    found = placement(advised(**given))
    assert found.place == place
    assert any(told in reason.text for reason in found.reasons) and {reason.grade for reason in found.reasons} <= {"A", "B", "C"}


def test_volume_is_told_where_there_is_a_break_even():
    few, many = (" ".join(r.text for r in placement(advised(monthly_questions=volume)).reasons) for volume in (420.0, 1e6))
    assert "まだ届きません" in few and "前提の月100万件は、これを超えています" in many


def test_it_is_as_sure_as_its_weakest_reason_and_in_both_languages():
    lead, reasons = advice(advised(kpis=(POLICY,)), "en")
    assert lead.text == "Where to run it, if introduced: Edge PCs" and lead.grade == max(item.grade for item in reasons.items)
    assert advice(economics(decision("GO"), PRICES, monthly_questions=0.0)) == ()
