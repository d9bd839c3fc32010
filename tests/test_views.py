import re
from html.parser import HTMLParser

from kit import views

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(1)>&\''


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not {name for name, _ in attrs} - {"style"}

    def handle_data(self, data):
        self.text.append(data)


def test_table_escapes_header_cells_and_caption():
    page = Tags(views.table((HOSTILE,), [(HOSTILE,)], HOSTILE))
    assert page.tags == ["p", "b", "table", "tr", "th", "tr", "td"]
    assert page.text == [HOSTILE] * 3


def test_table_shows_any_value_and_no_empty_caption():
    page = Tags(views.table(("名前", "値"), [("回数", 3), ("無し", None)]))
    assert page.tags.count("p") == 0
    assert page.text == ["名前", "値", "回数", "3", "無し", "None"]


def test_a_short_cell_is_never_torn():
    assert [cell.count("nowrap") for cell in views.table((), [("× 載らない", "長い文は折り返します")]).split("</td>")] == [1, 0, 0]


def test_a_table_without_rows_keeps_its_header():
    assert Tags(views.table(("名前",), [])).text == ["名前"]


def test_paragraphs_escape_and_keep_line_breaks():
    html = views.paragraphs(HOSTILE, "一行目\n二行目")
    page = Tags(html)
    assert page.tags == ["p", "p"]
    assert page.text == [HOSTILE, "一行目\n二行目"]
    assert "pre-wrap" in html


def test_only_what_was_made_here_is_html():
    made = views.html("<b>", views.link(HOSTILE, '../a" onclick="x'), views.marked(f"a{HOSTILE}", [(0, 3)]))
    assert "<script" not in made and "<img" not in made and 'onclick="' not in made
    assert made.startswith('&lt;b&gt;<a href="../a&quot; onclick=&quot;x">&lt;script') and "<mark>a&lt;s</mark>cript" in made
    assert made in views.table(("列",), [(made,)]) and made in views.paragraphs(made)
    assert type(made + "<i>") is str and "&lt;a" in views.html(made + ""), "joined to other text it is text again"
    assert views.link("<a>", "") == "&lt;a&gt;" and " download>" in views.link("a", "b.docx", download=True)


def test_marks_at_both_ends_and_none():
    assert views.marked("abcd", [(0, 1), (3, 4)]) == "<mark>a</mark>bc<mark>d</mark>"
    assert views.marked("<", []) == "&lt;"


def test_a_bar_and_its_key_have_the_same_colours():
    colours = re.findall("background:(#[0-9A-F]{6})", views.stack([0.5, 0.25]))
    assert colours == re.findall("color:(#[0-9A-F]{6})", views.key("単語", "<b>")) and len(set(colours)) == 2
    assert "width:65px" in views.stack([0.5, 0.25]) and "&lt;b&gt;" in views.key("単語", "<b>")


def test_a_page_in_a_frame_cannot_leave_it():
    framed = views.frame(f'<h1 class="a">{HOSTILE}</h1>', HOSTILE)
    (attributes,) = re.findall(r"<iframe ([^>]*)>", framed)
    assert attributes.startswith("sandbox ") and "allow" not in attributes
    assert re.findall("<[a-z]+", framed) == ["<div", "<iframe"]
