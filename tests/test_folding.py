"""Folding: the newest edition stands on top, what only the older one says stays, and parts of one document are left alone."""

import pytest

from kit.knowledge.folding import folded
from kit.records import Chunk, Hit, Place

# --- editions

LONG, OTHER = "パスワードは十二文字以上とし定期的な変更は求めない", "可搬媒体の使用は原則として禁止し承認を受けたときに限り貸与する"


def hit(document, date, score, text=LONG, heading="", title="", ordinal=0):
    place = Place(headings=(heading,) if heading else ())
    return Hit(Chunk(f"{document}{ordinal}", document, document, title, text, place, ordinal, (), date), score, 0)


def shown(hits, question="変更は何日ごとですか", today="2026-11-22"):
    found = folded(sorted(hits, key=lambda hit: -hit.score), question, today)
    return [(hit.chunk.id, hit.score, [chunk.id for chunk in hit.also]) for hit in found]


OLD = ("規程_第4版_2022.docx", "2022-04-01")
NEW = ("規程_第5版_2025.pdf", "2025-10-01")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"heading": "第8条（パスワード）"}, {"heading": "第15条(パスワード)", "text": OTHER}),
        ({}, {"text": LONG.replace("十二", "八").replace("求めない", "九十日ごとに行う")}),
        ({}, {"text": OTHER, "score": 0.5}),
    ],
    ids=["same heading", "like text", "as good an answer"],
)
def test_an_older_edition_stands_under_the_newer_one_which_takes_its_place(old, new):
    assert shown([hit(*OLD, 1.0, **old), hit("b.md", "", 0.9, "別の文書"), hit(*NEW, **{"score": 0.1, **new})]) == [
        (NEW[0] + "0", 1.0, [OLD[0] + "0"]),
        ("b.md0", 0.9, []),
    ]


def test_what_the_newer_edition_does_not_say_stays():
    hits = [hit(*OLD, 1.0, heading="別表2"), hit(*NEW, 0.3, OTHER, heading="第2条")]
    assert shown(hits) == [(OLD[0] + "0", 1.0, []), (NEW[0] + "0", 0.3, [])]


def test_three_editions_stand_under_the_newest():
    hits = [hit("規程_2021年版.md", "2021-04-01", 1.0), hit("規程_2023年版.md", "2023-04-01", 0.9), hit("規程_2025年版.md", "2025-04-01", 0.8)]
    assert shown(hits) == [("規程_2025年版.md0", 1.0, ["規程_2023年版.md0", "規程_2021年版.md0"])]


@pytest.mark.parametrize("question", ["第4版の変更は何日ごとですか", "２０２２年の変更は", "令和4年には", "旧版では何日ごとですか", "昨年度は何日ごとでしたか", "2022と2025でどう違いますか"])
def test_an_edition_that_is_asked_for_stays(question):
    assert OLD[0] + "0" in [name for name, *_ in shown([hit(*OLD, 1.0), hit(*NEW, 0.9)], question)]


def test_an_edition_not_in_force_yet_yields_to_the_one_that_is():
    hits = [hit("規程_第5版.md", "2027-04-01", 1.0), hit("規程_第4版.md", "2025-04-01", 0.9)]
    assert shown(hits, today="2026-11-22")[0][0] == "規程_第4版.md0"
    assert shown(hits, today="2027-04-01")[0][0] == "規程_第5版.md0"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("規程_R6.4.1改定.docx", "規程_R7.4.1改定.docx"),
        ("旅費規程ver1.docx", "旅費規程 v2.0.docx"),
        ("旅費規程（第２版）.docx", "旅費規程【第3版】.pdf"),
        ("旅費規程_旧.docx", "旅費規程.docx"),
        ("価格表_2024年度版.xlsx", "価格表_2025年度版.xlsx"),
        ("会議室利用規程_2024.docx", "会議室利用規程_2025.docx"),
        ("情報セキュリティ規程_第1.2版.docx", "情報セキュリティ規程_第1.3版.docx"),
        ("20240401_要領.docx", "要領_250401.docx"),
        ("就業規則（令和6年4月1日施行）.pdf", "就業規則.docx"),
    ],
)
def test_names_of_editions(name, other):
    assert len(shown([hit(name, "2024-04-01", 1.0), hit(other, "2025-04-01", 0.9, OTHER)])) == 1


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("a/規程_2024.docx", "b/規程_2025.docx"),
        ("議事録_2024年9月.txt", "議事録_2024年10月.txt"),
        ("売上2024年9月.xlsx", "売上2024年10月.xlsx"),
        ("様式第1号.docx", "様式第2号.docx"),
        ("451-8-1_調達.docx", "451-8-2_調達.docx"),
        ("新館案内.docx", "旧館案内.docx"),
        ("2024年版.pdf", "2025年版.pdf"),
        ("AP-200取扱説明書.md", "AP-300取扱説明書.md"),
        ("V10取扱説明書.md", "V20取扱説明書.md"),
        ("手順書_XR2010.md", "手順書_XR2011.md"),
        ("XR2010-11手順書.md", "XR2010-12手順書.md"),
        ("手順書_100234.md", "手順書_100567.md"),
        ("契約書_青空商事_2024.md", "契約書_青空商事_2025.md"),
        ("Windows 2019手順書.md", "Windows 2022手順書.md"),
        ("別表1_20230401.md", "別表2_20250401.md"),
        ("2025年度予算_20240401改定.md", "2026年度予算.md"),
        ("東京支店就業規則.md", "大阪支店就業規則.md"),
    ],
)
def test_names_of_other_documents(name, other):
    assert len(shown([hit(name, "2024-04-01", 1.0), hit(other, "2025-04-01", 0.9, OTHER)])) == 2


def test_parts_of_one_document_and_editions_without_days_of_their_own_are_not_folded():
    assert len(shown([hit(*NEW, 1.0), hit(*NEW, 0.9, ordinal=1)])) == 2
    assert len(shown([hit("規程_第4版.md", "", 1.0), hit("規程_第5版.md", "2025-04-01", 0.9, OTHER)])) == 2
    assert len(shown([hit("規程_第4版.md", "2025-04-01", 1.0), hit("規程_第5版.md", "2025-04-01", 0.9, OTHER)])) == 2


def test_near_duplicates_of_other_documents_are_folded_and_keep_what_is_under_them():
    hits = [hit(*OLD, 1.0), hit(*NEW, 0.9), hit("写し.md", "", 0.8)]
    assert shown(hits) == [(NEW[0] + "0", 1.0, [OLD[0] + "0", "写し.md0"])]


def test_what_was_asked_for_in_a_name_keeps_near_duplicates_apart():
    hits = [hit("東京/就業規則.md", "2021-04-01", 2.8, "始業時刻は午前9時とする。" + LONG), hit("大阪/就業規則.md", "2025-04-01", 1.9, "始業時刻は午前8時とする。" + LONG)]
    assert len(shown(hits, "東京支店の始業時刻は")) == 2
    assert shown(hits, "始業時刻は")[0][0] == "東京/就業規則.md0"  # the newer one fits much worse


def test_without_two_days_the_better_one_stands_on_top():
    assert shown([hit("a/規則.md", "", 1.0), hit("b/規則.md", "2020-04-01", 0.95)]) == [("a/規則.md0", 1.0, ["b/規則.md0"])]
    assert shown([hit("a/規則.md", "2019-04-01", 1.0), hit("b/規則.md", "2020-04-01", 0.95)]) == [("b/規則.md0", 1.0, ["a/規則.md0"])]
