import dataclasses
import re
from pathlib import Path

import pytest

from kit.errors import SettingsError
from kit.prices import METERING, PLAN, planned, read_prices

TABLE = """
[machine]
yen_per_hour = 60
grade = "B"
source = "見積り"
date = "2026-11-01"

[staff]
yen_per_hour = 3500.0

[tokens]
yen_per_million_prompt = 300
yen_per_million_completion = 1200

[fixed]
yen_per_month = 30000
"""
PRICES = re.findall(r"^yen\w+", TABLE, re.M)


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "prices.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def edited(name, value, which=0):
    """The table with one price changed, or dropped where the value is empty."""
    hits = list(re.finditer(rf"^{name} = .*$", TABLE, re.M))[which]
    return TABLE[: hits.start()] + (f"{name} = {value}" if value else "") + TABLE[hits.end() :]


def test_a_call_costs_machine_time_and_tokens(table):
    prices = read_prices(table(TABLE))
    assert prices.call(3600) == pytest.approx(60)
    assert prices.call(1.5) == pytest.approx(0.025)  # 1.5 s of 60 yen an hour
    assert prices.call(0, 2000, 500) == pytest.approx(0.6 + 0.6)  # 2,000 × 300/1M + 500 × 1,200/1M
    assert prices.call(36, 1_000_000, 1_000_000) == pytest.approx(0.6 + 300 + 1200)
    assert prices.call(0) == 0


def test_every_price_is_where_it_belongs(table):
    prices = read_prices(table(TABLE))
    assert (prices.machine_yen_per_hour, prices.staff_yen_per_hour) == (60, 3500)
    assert (prices.prompt_yen_per_million, prices.completion_yen_per_million) == (300, 1200)
    assert prices.fixed_yen_per_month == 30000


def test_notes_say_where_a_price_comes_from_or_that_nobody_said(table):
    notes = read_prices(table(TABLE)).notes
    assert notes["machine"] == "見積り（2026-11-01、確度B）"
    assert notes["staff"] == "出典の記載なし（日付なし、確度C）"
    assert set(notes) == {"machine", "staff", "tokens", "fixed"}


@pytest.mark.parametrize("value", ["", "-1", "-0.01", "nan", "inf", "-inf", '"60"', "true", "[60]", "1e12"])
@pytest.mark.parametrize("which", range(5))
def test_no_price_may_be_missing_or_impossible(table, which, value):
    name = PRICES[which]
    path = table(edited(name, value, PRICES[:which].count(name)))
    with pytest.raises(SettingsError) as caught:
        read_prices(path)
    assert name in caught.value.what
    assert str(path) in caught.value.remedy


@pytest.mark.parametrize(("value", "told"), [
    ("", "yen_per_hour が書かれていません。"), ('"三千円"', "yen_per_hour の「三千円」は数値ではありません。"),
    ("true", "yen_per_hour の「true」は数値ではありません。"), ("-1", "yen_per_hour の -1 は使えません。"),
])  # fmt: skip
def test_what_is_wrong_with_a_price_is_told_in_words(table, value, told):
    with pytest.raises(SettingsError) as caught:
        read_prices(table(edited("yen_per_hour", value, 1)))
    assert caught.value.what.endswith(told)
    assert caught.value.cause == "0以上999,999,999,999以下の数値が必要です。"


@pytest.mark.parametrize("name", ["machine", "staff", "tokens", "fixed"])
def test_no_table_may_be_missing(table, name):
    with pytest.raises(SettingsError, match=name):
        read_prices(table(TABLE.replace(f"[{name}]", f"[not_{name}]")))


def test_a_table_that_is_a_number_is_refused(table):
    with pytest.raises(SettingsError, match="machine"):
        read_prices(table("machine = 60\n" + TABLE.replace("[machine]", "[other]")))


def test_zero_is_a_price(table):
    assert read_prices(table(edited("yen_per_million_prompt", "0"))).call(0, 10**6) == 0


@pytest.mark.parametrize("content", [b"[machine", "[machine]\nsource = \"見積り\"".encode("cp932")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "prices.toml"
    path.write_bytes(content)
    for wrong in (path, tmp_path / "absent.toml", tmp_path):
        with pytest.raises(SettingsError, match=re.escape(str(wrong))):
            read_prices(wrong)


SHIPPED = Path(__file__).parents[1] / "data" / "prices.toml"


def changed(old, new):
    text = SHIPPED.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    return text.replace(old, new)


def test_dollars_become_yen_at_the_rate_that_the_table_names(table):
    plan = read_prices(table(changed("yen_per_usd = 156.0", "yen_per_usd = 150"))).plan
    assert plan["api_yen_per_million_prompt"] == 2.5 * 150
    assert plan["gpu_yen_per_hour"] == 2.8 * 150
    assert plan["gpu_hours_per_month"] == 176  # what is no money stays as it is
    note = read_prices(SHIPPED).notes["cloud_api"]
    assert "1 USD＝156円で換算" in note and note.endswith("（2025-03-01、確度B）")


@pytest.mark.parametrize(("old", "new", "told"), [
    ("yen_per_usd = 156.0", "", "[exchange] yen_per_usd"),
    ("yen_per_usd = 156.0", "yen_per_usd = 0", "[exchange] yen_per_usd"),  # it would make all dollars free
    ("\n[exchange]\n", "\n[other]\n", "[exchange] yen_per_usd"),
    ("gpu_usd_per_hour", "gpu_yen_per_hour", "[cloud_gpu] gpu_usd_per_hour"),  # which of the two is meant?
    ("server_yen = 2500000", "server_yen = -1", "[server] server_yen"),
    ("server_years = 5", "server_years = 0", "[server] server_years"),
    ("target_utilisation = 0.3", "target_utilisation = nan", "[usage] target_utilisation"),
    ("target_utilisation = 0.3", "target_utilisation = 30", "[usage] target_utilisation"),
    ("[power]", "[not_power]", "[power] yen_per_kwh"),
])
def test_a_plan_with_a_wrong_price_is_refused_by_table_and_key(table, old, new, told):
    with pytest.raises(SettingsError) as caught:
        read_prices(table(changed(old, new)))
    assert told in caught.value.what


def test_other_currencies_go_the_same_way(table):
    euros = TABLE.replace("yen_per_hour = 60\n", 'currency = "EUR"\neur_per_hour = 0.5\n')
    with pytest.raises(SettingsError, match="yen_per_eur"):
        read_prices(table(euros))
    assert read_prices(table(euros + "[exchange]\nyen_per_eur = 160\n")).machine_yen_per_hour == 80


def test_a_table_that_is_written_out_reads_back_the_same(table):
    prices = read_prices(SHIPPED)
    assert read_prices(table(prices.to_toml())) == prices
    assert len({key for keys in PLAN.values() for key in keys}) == sum(map(len, PLAN.values()))  # no key in two tables


def test_a_plan_is_optional_and_comes_from_the_table_in_force(table, monkeypatch):
    old = read_prices(table(TABLE))
    assert old.plan == {} and set(old.notes) == {*METERING}
    now = planned(old)
    assert now.plan == read_prices(SHIPPED).plan and now.notes["machine"] == old.notes["machine"]
    assert planned(now) is now
    before = dataclasses.replace(now, plan={key: 2.0 * value for key, value in now.plan.items() if key != "watts"})
    assert planned(before).plan == before.plan | {"watts": now.plan["watts"]}, "kept by a version that knew fewer keys"


def test_grades(table):
    prices = read_prices(table(TABLE))
    assert (prices.grade("machine"), prices.grade("machine", "staff"), prices.grade("absent")) == ("B", "C", "C")


def test_the_shipped_table_is_whole_and_graded():
    prices = read_prices(SHIPPED)
    assert {*prices.notes} == {*METERING, *PLAN}
    assert prices.staff_yen_per_hour > prices.machine_yen_per_hour > 0
    assert not any("記載なし" in note or "日付なし" in note for note in prices.notes.values())
