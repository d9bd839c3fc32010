"""Every metric can be written out, in every role that the criteria allow, wherever people read it."""

import dataclasses
import math
import re

import pytest

from kit.evaluation.metrics import METRICS
from kit.evaluation.planning import plan
from kit.interface.shown import show
from kit.prices import Prices
from kit.records import Kpi, KpiResult, Seal
from kit.reporting import wording
from kit.reporting.agreement import write_agreement
from kit.reporting.charts import kpi_chart
from kit.reporting.charts_evaluation import operating_chart
from kit.reporting.export import write_summary
from tests.evaluations import make_cases, make_criteria
from tests.test_summary import decision

CASES = make_cases(200, 60)
COMPARED = [name for name, metric in METRICS.items() if metric.kind in ("share", "mean")]
ROLES = [(name, role) for name in METRICS for role in ("gate", "guardrail", "info") if role != "guardrail" or name in COMPARED]
LATE = {"p95": 3.0, "yen_per_right": 100.0, "amount": 5.0}


def kpi_of(name, role):
    return Kpi(name, METRICS[name].label, LATE.get(METRICS[name].kind, 0.1), "理由", role)


def judged(kpi):
    high = math.inf if METRICS[kpi.metric].kind in ("p95", "amount") else 0.3
    return KpiResult(kpi, 60, 0.2, 0.1, high, 0.15, None if kpi.role == "info" else "EXTEND", "理由")


@pytest.mark.parametrize(("name", "role"), ROLES)
def test_every_metric_is_written_out_before_and_after_the_run(name, role):
    kpi = kpi_of(name, role)
    agreed = make_criteria(CASES, kpi)
    result = judged(kpi)
    assert METRICS[name].label in show(agreed).data
    texts = [wording.bar(result, "ja"), wording.measured(result, result.point, "ja"), wording.interval(result, "ja")]
    assert all(re.search(r"\d", text) for text in texts)
    english = (wording.label(result, "en"), wording.bar(result, "en"), wording.interval(result, "en"))
    assert not re.search(r"[ぁ-んァ-ヶ一-龠]", "".join(english))
    planned = plan(agreed, CASES)
    assert role == "info" or METRICS[name].label in str(planned)
    assert operating_chart(planned).alt
    chart = kpi_chart([result])
    assert (chart is not None) == (METRICS[name].kind in ("share", "judged") and role != "guardrail")


@pytest.mark.parametrize("role", ["gate", "guardrail", "info"])
def test_every_metric_stands_in_summary_and_agreement(tmp_path, role):
    kpis = [kpi_of(name, given) for name, given in ROLES if given == role]
    made = dataclasses.replace(decision("EXTEND"), kpis=tuple(map(judged, kpis)))
    prices = Prices(60.0, 3500.0, 0.0, 0.0, 30000.0, {})
    for lang in ("ja", "en"):
        (page,) = write_summary(made, to=tmp_path, formats=("html",), lang=lang, prices=prices)
        text = page.read_text(encoding="utf-8")
        assert all(wording.bar(result, lang) in text for result in made.kpis)
    for start in range(0, len(kpis), 10):  # as many as the page lists
        part = kpis[start : start + 10]
        sealed = Seal(make_criteria(CASES, *part), "0" * 64, 1, "2026-11-21T15:30:00+00:00")
        html = write_agreement(sealed, CASES, tmp_path)[1].read_text(encoding="utf-8")
        assert all(wording.bar(judged(kpi), "ja") in html for kpi in part)


def test_minutes_and_a_judges_share_have_units():
    minutes, share = judged(kpi_of("minutes_saved", "gate")), judged(dataclasses.replace(kpi_of("right_by_judge", "gate"), bar=0.7))
    assert (wording.bar(minutes, "ja"), wording.bar(minutes, "en")) == ("5分以上", "at least 5 min")
    assert wording.interval(minutes, "ja") == "0.1分以上"
    assert (wording.bar(share, "ja"), wording.interval(share, "ja")) == ("70%以上", "10.0〜30.0%")


def test_free_text_hides_nothing_and_has_an_end():
    assert wording.plain("a\u202eb\u061cc\u200bd\u2028e\ufefff\U000e0041\x1b[31m") == "abcdef[31m"
    assert len(wording.plain("あ" * 10_000)) == 2001 and wording.plain("あ" * 10_000).endswith("…")
    assert wording.plain("あ" * 2000) == "あ" * 2000
