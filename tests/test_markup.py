"""Markdown and HTML."""

import re

import pytest

from kit.knowledge.worker import parse


def lines(reading):
    return [block.text for block in reading.blocks]


def paths(reading):
    return [(block.text, block.place.headings) for block in reading.blocks]


# --- Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown():
    source = """---
title: 無視される
---
# 経費の手引き

経費は**月末**までに[申請](https://example.invalid/)する。

## 上限

| 区分 | 金額 |
|---|---|
| 昼食 | 1,000円 |

- 領収書
- 稟議書

1. 書く
2. 出す

```
# 見出しではない
```
"""
    reading = parse("a.md", source.encode())
    assert reading.title == "経費の手引き"
    assert paths(reading) == [
        ("経費の手引き", ("経費の手引き",)),
        ("経費は月末までに申請する。", ("経費の手引き",)),
        ("上限", ("経費の手引き", "上限")),
        ("区分: 昼食 / 金額: 1,000円", ("経費の手引き", "上限")),
        ("領収書", ("経費の手引き", "上限")),
        ("稟議書", ("経費の手引き", "上限")),
        ("1. 書く", ("経費の手引き", "上限")),
        ("2. 出す", ("経費の手引き", "上限")),
        ("# 見出しではない", ("経費の手引き", "上限")),
    ]


def test_markdown_joins_wrapped_lines_and_keeps_short_ones():
    long = "この文は原稿の都合で途中で折り返されているだけであって、意味のうえでは\n一つの文である。"
    reading = parse("a.md", f"{long}\n\n住所: 東京都\n電話: 03-0000-0000\n".encode())
    assert lines(reading) == [long.replace("\n", ""), "住所: 東京都", "電話: 03-0000-0000"]


# --- HTML -------------------------------------------------------------------------------------------------------------

HTML = """<!doctype html><html><head><meta charset="{}"><title>休暇の手引き</title><style>p {{}}</style></head>
<body><nav>目次</nav><header>社内限り</header><h1>休暇</h1><div role="banner">社名</div><p>年次有給休暇は
年20日です。<!-- 秘密 --><script>alert(1)</script><span style="display:none">隠し</span></p>
<table><tr><th rowspan="2">区分</th><th colspan="2">日数</th></tr><tr><th>本年</th><th>翌年</th></tr>
<tr><td>慶弔</td><td>5</td><td>6</td></tr></table><h2></h2>
<ruby>有給<rt>ゆうきゅう</rt></ruby><br>以上<footer>著作権</footer></body></html>"""


@pytest.mark.parametrize("charset", ["utf-8", "shift_jis", "euc-jp"])
def test_html(charset):
    reading = parse("a.html", HTML.format(charset).encode(charset))
    assert reading.title == "休暇の手引き"
    assert paths(reading) == [
        ("休暇", ("休暇",)),
        ("年次有給休暇は年20日です。", ("休暇",)),
        ("区分: 慶弔 / 日数 本年: 5 / 日数 翌年: 6", ("休暇",)),
        ("有給", ("休暇",)),
        ("以上", ("休暇",)),
    ]


def test_html_with_a_wrong_charset_is_still_read():
    assert lines(parse("a.html", '<meta charset="utf-8"><p>年20日です。</p>'.encode("cp932"))) == ["年20日です。"]


def test_html_signs_of_our_own_do_no_harm():
    assert lines(parse("a.html", "<p>\x02見出し\x01でない\x03。</p>".encode())) == ["見出しでない。"]


def test_html_layout_tables_keep_the_table_inside():
    inner = "<table><tr><th>品名</th><th>単価</th></tr><tr><td>ボルト</td><td>12</td></tr></table>"
    reading = parse("a.html", f"<table><tr><td>左の案内</td><td>説明。{inner}</td></tr></table>".encode())
    assert lines(reading) == ["左の案内", "説明。", "品名: ボルト / 単価: 12"]


def test_html_header_of_an_article_is_text():
    source = "<header>社名</header><main><article><header><h1>休暇</h1></header><p>年20日。</p></article></main>"
    assert paths(parse("a.html", source.encode())) == [("休暇", ("休暇",)), ("年20日。", ("休暇",))]


def test_html_navigation_by_class_id_or_role_is_left_out_and_named():
    source = """<div class="nav menu"><a>製品</a></div><div id="breadcrumb">ホーム > 規程</div><p>本文だけです。</p>
    <aside><a>関連ページ</a></aside><ul class="pager"><li><a>次へ</a></li></ul><div role="navigation"><a>目次</a></div>"""
    reading = parse("a.html", source.encode())
    assert lines(reading) == ["本文だけです。"]
    assert reading.doubts == ("ナビゲーションとみて本文から除きました: 「製品」「ホーム > 規程」「関連ページ」「次へ」。",)


@pytest.mark.parametrize(
    "kept",
    [
        '<div class="sidebar">連絡先 内線1234</div>',  # no link
        '<div id="footer"><p>本社は東京です。</p><a>地図</a></div>',  # a sentence
        '<aside>前日までに出す<a>様式</a></aside>',  # more text than link
        '<ul class="submenus"><li><a>様式</a></li></ul>',  # a word of its own
    ],
)
def test_html_text_under_a_name_of_navigation_stays(kept):
    with_it = parse("a.html", f"<p>本文。</p>{kept}".encode())
    assert "".join(lines(with_it)) == "本文。" + "".join(re.findall(r">([^<]+)<", kept))
    assert with_it.doubts == ()


def test_html_page_that_is_nothing_but_links_keeps_them():
    source = '<body class="menu"><h1>様式集</h1><ul class="menu"><li><a>旅費</a></li><li><a>休暇</a></li></ul></body>'
    assert lines(parse("a.html", source.encode())) == ["様式集", "旅費", "休暇"]


def test_html_article_stays_apart_from_its_text_where_the_source_breaks_before_a_full_width_space():
    source = "<div>（目的）</div><div><b>第一条</b>\n<a></a>\n　この規則は、手当を\n定める。</div>"
    reading = parse("a.html", source.encode())
    assert paths(reading)[-1] == ("第一条 この規則は、手当を定める。", ("第一条(目的)",))


def test_a_list_with_blank_lines_keeps_its_numbers_beside_the_text():
    assert lines(parse("a.md", "1. 申請する。\n\n   控えを残す。\n\n2. 待つ。\n".encode())) == ["1. 申請する。", "控えを残す。", "2. 待つ。"]
    assert lines(parse("a.html", "<ol><li>申請<p>控え</p></li></ol>".encode())) == ["1. 申請", "控え"]
