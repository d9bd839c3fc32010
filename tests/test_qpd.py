"""Quality per money: what is divided by what, which arms are efficient, and what is said of it."""

import dataclasses
import json
import math

import pytest

from kit.evaluation.gate import Sample, point
from kit.records import Kpi
from kit.reporting.qpd import qpd, section
from kit.trust.durable import to_json
from tests.test_summary import decision

PRICES = {
    "machine_yen_per_hour": 60.0, "staff_yen_per_hour": 3500.0, "prompt_yen_per_million": 0.0, "completion_yen_per_million": 0.0,
    "fixed_yen_per_month": 4200.0, "plan": {"watts": 100.0, "pue": 1.5, "kg_co2_per_kwh": 0.4},
    "notes": {name: f"見積り（2026-11-01、確度{grade}）" for name, grade in (("machine", "B"), ("staff", "C"), ("tokens", "B"), ("fixed", "A"))},
}


def sample(number, right, yen=2.0, metric="right", state="answered"):
    return Sample(f"q{number}", state, 1.5, yen, {metric: float(right)}, f"文書{number % 25}\n1頁")


def made(folder, arms, **facts):
    """A decision whose samples lie in its folder."""
    found = decision("GO", folder=folder, arms=tuple(arms), states={})
    labels = {arm: f"方式{arm}" for arm in arms}
    kept = dataclasses.replace(found, facts=found.facts | {"arm_labels": labels, "prices": PRICES, **facts})
    folder.mkdir(exist_ok=True)
    (folder / "decision.json").write_text(json.dumps({"samples": {arm: to_json(items) for arm, items in arms.items()}}), encoding="utf-8")
    return kept


def share(hits, n=100, **fields):
    return [sample(number, number < hits, **fields) for number in range(n)]


def test_money_is_what_was_metered_and_a_share_of_the_fixed_cost(tmp_path):
    found = qpd(made(tmp_path / "r", {"baseline": share(30), "candidate": share(60, yen=5.0)}))
    base, candidate = found.routes
    assert found.fixed_yen == 10.0  # 4,200 yen over 420 inquiries
    assert (base.yen.point, candidate.yen.point) == (12.0, 15.0)
    assert base.qpd.point == pytest.approx(1000 * 0.3 / 12) and candidate.qpd.point == pytest.approx(1000 * 0.6 / 15)
    assert found.difference.point == pytest.approx(40 - 25) and found.difference.low > 0
    assert (found.metric, found.questions, found.grade) == ("right", 100, "B")


def test_a_failed_question_keeps_its_cost_and_brings_nothing(tmp_path):
    failed = [sample(number, math.nan, state="timeout") for number in range(50)]
    alone = qpd(made(tmp_path / "r", {"candidate": [*failed, *share(100, 150)[50:]]}, monthly_questions=0))
    assert alone.routes[0].qpd.point == pytest.approx(1000 * 50 / (150 * 2)) and alone.difference is None and alone.fixed_yen == 0


def test_the_inverse_is_a_metric_that_can_be_gated(tmp_path):
    items = share(40, yen=7.0)
    found = qpd(made(tmp_path / "r", {"candidate": [dataclasses.replace(s, scores=s.scores | {"yen_per_right": s.scores["right"]}) for s in items]}, monthly_questions=0))
    inverse = [dataclasses.replace(s, scores={"yen_per_right": s.scores["right"]}) for s in items]
    assert found.routes[0].qpd.point == pytest.approx(1000 / point("yen_per_right", inverse))
    assert Kpi("yen_per_right", "QPD の逆数", 100.0, "理由").role == "gate"


def test_the_quality_is_the_sealed_one(tmp_path):
    arms = {"baseline": share(10, metric="first_contact"), "candidate": share(90, metric="first_contact")}
    found = made(tmp_path / "r", arms)
    criteria = dataclasses.replace(found.seal.criteria, kpis=(Kpi("right", "", 0.7, ""), Kpi("first_contact", "", 0.7, "")))
    found = dataclasses.replace(found, seal=dataclasses.replace(found.seal, criteria=criteria))
    assert qpd(found).metric == "first_contact"  # nobody scored the other


@pytest.mark.parametrize(
    ("arms", "efficient"),
    [
        ({"a": (30, 2.0), "b": (60, 20.0)}, [True, True]),
        ({"a": (30, 2.0), "b": (60, 2.05)}, [False, True]),  # 12 yen and 12.05 are the same money
        ({"a": (70, 2.0), "m": (60, 9.0), "b": (80, 20.0)}, [True, False, True]),
        ({"a": (50, 2.0), "b": (50, 2.0)}, [True, True]),
    ],
)
def test_an_arm_is_efficient_if_none_is_as_good_for_no_more(tmp_path, arms, efficient):
    found = qpd(made(tmp_path / "r", {arm: share(hits, yen=yen) for arm, (hits, yen) in arms.items()}))
    assert [route.efficient for route in found.routes] == efficient
    assert all((route.stays > 0.5) == route.efficient for route in found.routes)


def test_where_nothing_varies_the_bounds_still_do(tmp_path):
    found = qpd(made(tmp_path / "r", {"baseline": share(100), "candidate": share(100)}))
    assert found.routes[1].quality.low < 0.98 and found.difference.low < 0 < found.difference.high


def test_without_samples_or_cost_there_is_none(tmp_path):
    free = made(tmp_path / "r", {"candidate": share(5, 9, yen=0.0)}, monthly_questions=0)
    assert qpd(free) is None and section(free) is None
    assert section(decision("GO", folder=tmp_path)) is None


def test_the_chapter_says_what_the_interval_carries(tmp_path):
    better, unsure, worse = (
        section(made(tmp_path / name, {"baseline": share(50), "candidate": share(hits)})).lead
        for name, hits in (("b", 80), ("u", 52), ("w", 20))
    )
    assert "1,000円あたりの正しい対応が66.7件" in better and "比較対象より25.0件多く" in better
    assert "差があるとは言い切れません" in unsure and "25.0件少なく" in worse
    english = section(made(tmp_path / "e", {"baseline": share(50), "candidate": share(80)}), "en")
    assert english.lead.startswith("Candidate: right responses per ¥1,000 66.7")
    assert "月420件で割った10.0円" in section(made(tmp_path / "b", {"baseline": share(50), "candidate": share(80)})).blocks[0].text
