"""Where a search looks: the days it is narrowed to, as people write them."""

import datetime
import re
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from kit.errors import DataError
from kit.knowledge.dates import era_date
from kit.knowledge.retrieval import Scope
from kit.knowledge.store import Store
from tests.evaluations import make_document

DAYS = st.dates(datetime.date(1900, 1, 1), datetime.date(2099, 12, 31))
WAYS = {
    "iso": str, "basic": "{:%Y%m%d}".format, "slashes": lambda day: f"{day.year}/{day.month}/{day.day}", "era": era_date,
    "short": lambda day: f"{day.year}-{day.month}-{day.day}", "dots": lambda day: f"{day.year}.{day.month:02}.{day.day:02}",
    "letters": lambda day: f" {day.year}年 {day.month}月 {day.day}日\n",
    "full-width": lambda day: "".join(chr(ord(c) + 0xFEE0) for c in f"{day.year}/{day.month}/{day.day}"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@given(day=DAYS, other=DAYS)
def test_a_day_is_read_however_it_is_written(way, day, other):
    first, last = sorted((day, other))
    scope = Scope(since=WAYS[way](first), until=WAYS[way](last))
    assert (scope.since, scope.until) == (str(first), str(last))


@given(st.text(max_size=30) | st.from_regex(r"[0-9〇一二R令和年月日/. -]{1,14}", fullmatch=True), st.sampled_from(["since", "until"]))
def test_whatever_else_is_written_is_a_day_or_no_limit_or_refused_never_silently_nothing(text, end):
    try:
        read = getattr(Scope(**{end: text}), end)
    except DataError as error:
        assert end in error.what and error.cause and error.remedy
    else:
        assert str(datetime.date.fromisoformat(read)) == read if text.strip() else read == ""


@pytest.mark.parametrize(
    "text",
    ["2025-13-40", "2025-02-29", "yesterday", "昨日", "令和7年4月", "2025年", "2025/4", "令和5年2月30日", "2025/4/1から", "2025/4-1", "250401", "4月1日", "2024-04-01〜2025-03-31"],
)
def test_what_is_not_one_day_is_refused(text):
    with pytest.raises(DataError, match=f"日付「{re.escape(text)}」を読み取れません（until）"):
        Scope(until=text)


def test_days_the_wrong_way_round_are_refused():
    with pytest.raises(DataError, match='since="2024-04-01", until="2025-04-01"'):
        Scope(since="令和7年4月1日", until="2024/4/1")
    assert Scope(since="2025/4/1", until="2025-04-01").until == "2025-04-01"


def test_documents_are_named_as_in_acl_csv(tmp_path):
    store = Store(tmp_path)
    named = ["総務人事/旅費.txt", "[社外秘]旅費.TXT", "ＡＢ/旅費.txt"]
    store.add(make_document(name, f"{name}: 出張の日当を定める。") for name in named)
    store.add([replace(make_document("役員/極秘.txt", "出張の日当の極秘の定め。"), readers=("hr",))])

    def found(pattern, user=""):
        return {hit.chunk.document for hit in store.search("出張の日当", documents=pattern, as_user=user, fold=False)}

    for pattern, expected in (("総務人事", 0), ("総務人事/", 0), ("総務*", 0), ("[社外秘]*", 1), ("［社外秘］*.txt", 1), ("ab/*", 2)):
        assert found(pattern) == {named[expected]}
    assert found("役員", "hr") == {"役員/極秘.txt"}
    for pattern in ("総務人亊", "役員", "役員/極秘.txt"):
        with pytest.raises(DataError, match="当てはまる文書がありません") as caught:
            found(pattern)
        assert pattern != "総務人亊" or "（近い名前: 総務人事" in caught.value.what
        assert "極秘.txt" not in str(caught.value).replace(f"「{pattern}」", "")


def test_a_search_finds_by_any_way_of_writing_and_does_not_find_what_lies_outside(tmp_path):
    store = Store(tmp_path)
    store.add(replace(make_document(f"{year}.txt", f"出張の日当は{year}円とする。"), date=f"{year}-04-01") for year in (2023, 2024, 2025))

    def found(**days):
        return {hit.chunk.date[:4] for hit in store.search("出張の日当", fold=False, **days)}

    assert found(since="令和6年4月1日") == found(since="2024/4/1") == {"2024", "2025"}
    assert found(since="2024-4-2") == {"2025"}
    assert found(until="２０２４／４／１") == {"2023", "2024"}
    assert found(since="R5.4.2", until="20250331") == {"2024"}
    with pytest.raises(DataError, match="yesterday"):
        store.search("出張の日当", since="yesterday")


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("rules"))
    texts = ["年次有給休暇は4月に付与する。", "労働時間は8時間とする。", "消費税率は10%とする。"]
    store.add([make_document(f"{i}.txt", text) for i, text in enumerate(texts)])
    store.add([replace(make_document("hr.txt", "役員の年次有給休暇は別に定める。"), readers=("hr",))])
    return store


@pytest.mark.parametrize(
    ("query", "found"), [("有給休暇", "0.txt"), ("年休", "0.txt"), ("労働", "1.txt"), ("消費税", "2.txt")], ids=str
)
def test_a_word_is_found_in_longer_words_and_by_its_synonyms(rules, query, found):
    assert [hit.chunk.document for hit in rules.search(query)] == [found]


def test_marks_are_not_words(rules):
    assert rules.search("+有給 #1293") == rules.search("有給 1293")
    assert rules.statistics().idf("w:有給") == rules.statistics().idf("")


def test_the_baseline_finds_words_as_they_are(rules):
    assert rules.keyword_search("年休") == []
    assert [hit.chunk.document for hit in rules.keyword_search("年次有給休暇")] == ["0.txt"]
