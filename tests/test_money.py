import dataclasses
import re
from xml.etree import ElementTree

import pytest

from kit.reporting import money, wording
from kit.reporting.blocks import Chart, Section, Table
from kit.reporting.charts_money import even_sentences, tco_chart
from kit.reporting.economics import PARTS, economics
from tests.test_economics import PRICES, decision

LANGUAGES = ("ja", "en")


def chapters(lang="ja", **changes):
    made = economics(decision(), PRICES, **changes)
    found = money.worth(made, lang), money.cost(made, lang)
    assert all(found)
    return found


def table(section: Section, number=0):
    return [block for block in section.blocks if isinstance(block, Table)][number]


def charts(*sections):
    return [block for section in sections for block in section.blocks if isinstance(block, Chart)]


def texts(*sections):
    """All that a reader reads of some chapters."""
    return re.findall(r"'((?:[^'\\]|\\.)*)'", repr(sections))


def test_page_one_in_six_lines():
    lines = money.headline(economics(decision(), PRICES), "ja")
    assert lines[0] == ("今回の計算費", "160円", "", "B")
    assert lines[1][:2] == ("正しい対応1件あたり", "294円")  # 848,160 / 2,880
    assert lines[2] == ("省ける時間と効果（年）", "480時間、144万円", "376〜584時間、113〜175万円", "B")
    assert lines[3] == ("運用費（年、社内サーバー）", "84.8万円", "", "B")
    assert lines[4] == ("差引（年）", "59.2万円", "28.1〜90.3万円", "B")
    assert lines[5] == ("投資の回収", "26か月", "19か月〜42か月", "B")
    assert len(lines) == 6


def test_page_one_claims_no_more_than_the_run_carries():
    assert [line.label for line in money.headline(economics(decision(monthly_questions=0), PRICES))] == ["今回の計算費", "正しい対応1件あたり"]
    never = money.headline(economics(decision(), PRICES, monthly_questions=100), "ja")[-1]
    assert (never.value, never.span) == ("5年以内には回収できない", "")


@pytest.mark.parametrize(("changes", "told"), [
    ({}, "59.2万円の効果が見込めます（幅 28.1〜90.3万円）"),
    ({"monthly_questions": 240}, "まだ言えません"),
    ({"monthly_questions": 40}, "費用が効果を上回ります"),
])
def test_the_lead_says_what_the_range_carries(changes, told):
    facts = {"monthly_questions": changes.get("monthly_questions", 400)}
    made = money.worth(economics(decision(**facts), PRICES), "ja")
    assert told in made.lead and "確度C" not in made.lead
    assumed = dataclasses.replace(PRICES, notes=PRICES.notes | {"server": "仮置き（2026-11-01、確度C）"})
    assert "確度C" in money.worth(economics(decision(**facts), assumed), "ja").lead


def test_the_chapter_on_worth_shows_its_arithmetic():
    worth, _ = chapters()
    rows = [row[1:3] for row in table(worth).rows]
    assert rows[:3] == [("月400件×12", "4,800件"), ("（正しい回答 50.0%−誤った回答 10.0%）×15.0分", "6.0分"), ("件数×1件あたりの時間", "480時間")]
    assert [row[2] for row in table(worth).rows][3:] == ["144万円", "84.8万円", "59.2万円"]
    assert table(worth, 1).rows[1] == ("標準", "6.0分", "400件", "720万円", "484万円", "236万円", "26か月")
    fall = charts(worth)[0].plot
    assert fall.series[0][1][-1] == pytest.approx(sum(fall.series[0][1][:-1])) == pytest.approx(59.184)  # 万円


def test_the_chapter_on_cost_compares_places():
    _, cost = chapters()
    assert [row[0] for row in table(cost).rows] == ["社内サーバー（試算の前提）", "クラウドAPI", "クラウドGPU", "拠点のPC"]
    assert table(cost).rows[0][1:] == ("84.8万円", "314万円", "484万円", "1", "0.9%", "B")
    assert cost.lead == "5年間の費用は、社内サーバーで484万円、最も安いクラウドAPIで236万円です。"
    assert any("試算では、次の前提を変えています: yen_per_kwh = 30" in text for text in texts(*chapters(yen_per_kwh=30)))


def test_charts_hold_the_figures_of_the_tables():
    worth, cost = chapters()
    _, tornado, tco, even = (chart.plot for chart in charts(worth, cost))
    assert [plot.kind for plot in (tornado, tco, even)] == ["tornado", "stacked", "lines"]
    assert sum(values[0] for _, values in tco.series) == pytest.approx((600_000 + 5 * 848_160) / 1e4)
    assert all(len(values) == len(plot.categories) for plot in (tornado, tco, even) for _, values in plot.series)
    assert sum(map(len, ((0, 1), (2, 3), (4,), (5, 6)))) == len(PARTS)  # each kind of cost is drawn once


@pytest.mark.parametrize("lang", LANGUAGES)
def test_charts_are_well_formed_whatever_the_figures(lang):
    drawn = [
        *charts(*chapters(lang)), *charts(*chapters(lang, seconds_per_question=0.36)), *charts(*chapters(lang, gpu_yen_per_hour=1e6, wrong_share=0.9)),
        *charts(*chapters(lang, monthly_questions=1e6, place="edge")), *charts(*chapters(lang, place="cloud_api", monthly_questions=1)),
    ]  # fmt: skip
    for chart in drawn:
        ElementTree.fromstring(chart.svg)
        assert chart.alt and chart.title and "http" not in chart.svg


def test_break_even_is_said_for_each_case():
    changes = ({"seconds_per_question": 0.36}, {"gpu_yen_per_hour": 1e6}, {}, {"place": "edge"}, {"place": "cloud_api"},
               {"place": "edge", "seconds_per_question": 0.36})  # fmt: skip
    said = [even_sentences(made, made.use, "ja") for made in (economics(decision(), PRICES, **each) for each in changes)]
    assert said[0][0] == "社内サーバーは、月約51,000件からクラウドAPIより安くなります（いまの前提は月400件）。"
    assert said[1][1] == "社内サーバーは、件数によらずクラウドGPUより安いか同じです。"
    assert said[2][0] == "社内サーバーがクラウドAPIより安くなる件数は、月1,000万件までにはありません。"
    assert all(sentence.startswith("拠点のPC") for sentence in said[3]) and "クラウドAPI" in said[3][1]  # what is planned is compared
    assert said[4] == said[2]
    assert said[5][2] == "拠点のPCは、いまの前提（月400件）ではクラウドGPUより安いか同じです。件数が大きく増えると逆転します。"


def test_nothing_is_left_untranslated_or_unfilled():
    for lang in LANGUAGES:
        read = texts(*chapters(lang), *chapters(lang, place="edge", yen_per_wrong_answer=500))
        assert read and not [text for text in read if re.search(r"\{\w*\}|money_|\bnan\b|\binf\b", text)]
    assert not [text for text in texts(*chapters("en")) if re.search("[ぁ-んァ-ヶ一-龠]", text) and text != "円"]
    wanted = {"ja", "en"}
    table = wording._table()["words"]
    assert all({*entry} == wanted for key, entry in table.items() if key.startswith("money_"))


def test_without_a_plan_or_a_volume_there_are_no_chapters():
    made = economics(decision(monthly_questions=0), PRICES)
    assert money.worth(made) is None and money.cost(made) is None
    timeless = economics(decision(minutes_per_question=0), PRICES)
    assert money.worth(timeless) is None and money.cost(timeless).key == "cost"


def test_the_same_figures_draw_the_same_bytes():
    made = economics(decision(), PRICES)
    assert tco_chart(made).svg == tco_chart(made).svg
