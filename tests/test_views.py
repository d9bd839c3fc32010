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
