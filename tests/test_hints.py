import pytest
from hypothesis import given, settings, strategies as st

from kit.answering.hints import find_span


@pytest.mark.parametrize(
    ("question", "sentence", "span"),
    [
        ("始業は何時ですか", "始業は午前8時30分、終業は午後5時とする。", "午前8時30分"),
        ("申請の締切はいつですか", "申請は毎月20日までに行う。", "毎月20日"),
        ("改定はいつですか", "本規程は2026年4月1日に改定した。", "2026年4月1日"),
        ("設立はいつですか", "当社は1987年に設立した。", "1987年"),
        ("締切はいつですか", "2026年度の申請は4月1日までとする。", "4月1日"),
        ("提出の期限は", "帰着後5営業日以内に提出する。", "5営業日"),
        ("いつまでに返事が来ますか", "受付から3日以内に回答する。", "3日以内"),
        ("日当はいくらですか", "課長職の日当は2,800円とする。", "2,800円"),
        ("費用の上限は", "上限は10万円とする。", "10万円"),
        ("保証は何年間ですか", "保証は購入日から3年間とする。", "3年間"),
        ("どれくらいかかりますか", "審査には約2週間かかる。", "2週間"),
        ("割引は何%ですか", "定価の12.5%を割り引く。", "12.5%"),
        ("不良率の目標は", "目標は0.3％以下とする。", "0.3％"),
        ("パスワードは何文字以上ですか", "パスワードは12文字以上とする。", "12文字"),
        ("半休は何回取れますか", "半日休暇は年１２回を限度とする。", "１２回"),
        ("総務課の内線は", "総務課（内線2105）に連絡する。", "2105"),
        ("電話番号を教えて", "電話は03-1234-5678である。", "03-1234-5678"),
        ("申請は誰が承認しますか", "申請は製造部長が承認する。", "製造部長"),
        ("どこに連絡しますか", "情報システム課に連絡する。", "情報システム課"),
        ("経緯を教えてください", "設備は2026年4月に3,000円で更新した。", ""),  # no rule for the question
        ("日当はいくらですか", "日当は別表のとおりとする。", ""),  # nothing in the sentence fits
        ("", "2,800円", ""),
        ("いくら", "", ""),
    ],
)
def test_rules(question, sentence, span):
    assert find_span(question, sentence) == span


ASKED = st.text("何時いつ日円誰どこ内線率期間%回", max_size=12)
SAID = st.text("0１2,.年月日時分円万回%部課長午前毎ア-", max_size=40)


@settings(deadline=None, max_examples=200)
@given(ASKED, SAID)
def test_a_span_is_part_of_the_sentence(question, sentence):
    assert find_span(question, sentence) in sentence


@pytest.mark.timeout(20)
@pytest.mark.parametrize("sentence", ["1," * 800, "部" * 1600, "毎月1" * 400])
def test_the_longest_sentence_takes_no_time(sentence):
    """Chunks cut a text without any full stop at 1,600 characters; the rules are quadratic beyond that."""
    assert find_span("いつ、誰が、いくらで、何時に、何人、何日、率、内線", sentence) in sentence
