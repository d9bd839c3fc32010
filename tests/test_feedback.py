"""What people said of answers: rows that come back as they went, appended, never sent."""

import json

import pytest

from kit.errors import DataError, RunError
from kit.improving import feedback
from kit.improving.feedback import give_feedback, read_feedback
from kit.records import Answer, Citation, Place

CITED = Citation("規程.pdf", "規程", Place(page=3, headings=("第5条",)), "日当は3,000円", "c-1")
ANSWER = Answer("日当は3,000円です。", (CITED,), 0.9, reader="抽出型")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "project" / ".kit" / "feedback.jsonl"


def test_rows_come_back_as_they_went(path):
    first = give_feedback(path, "日当は?", ANSWER, "bad", " 4,000円\n(2026年から) ", reader="id", user="hr")
    second = give_feedback(path, "日当は?", ANSWER, "good")
    assert read_feedback(path).rows == (first, second)
    assert (first.correction, first.reader, first.user, first.citations) == ("4,000円\n(2026年から)", "id", "hr", (CITED,))
    assert (second.correction, second.reader, second.user) == ("", "抽出型", "")
    assert first.at.endswith("+00:00")


@pytest.mark.parametrize("verdict", [None, "meh", "", ["good"]])
def test_a_verdict_that_is_none_is_refused_before_anything_is_written(path, verdict):
    with pytest.raises(DataError, match='使えません'):
        give_feedback(path, "日当は?", ANSWER, verdict)
    assert not path.exists()


def test_a_row_is_a_line_of_plain_json_for_its_owner_only(path):
    give_feedback(path, "日当は?", ANSWER, "good")
    (line,) = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    assert (row["verdict"], row["citations"][0]["place"]["page"]) == ("good", 3)
    assert path.stat().st_mode & 0o077 == 0


def test_what_a_kill_left_half_written_is_cut_off(path):
    give_feedback(path, "一", ANSWER, "good")
    with path.open("a", encoding="utf-8") as file:
        file.write('{"question": "半')
    assert [row.question for row in read_feedback(path).rows] == ["一"]
    give_feedback(path, "二", ANSWER, "bad")
    assert [row.question for row in read_feedback(path).rows] == ["一", "二"]


def test_a_damaged_file_and_a_forbidden_place_are_errors_with_a_remedy(path, tmp_path):
    give_feedback(path, "一", ANSWER, "good")
    path.write_text("x\n", encoding="utf-8")
    with pytest.raises(RunError, match="1 行目を読めません"):
        read_feedback(path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="書き込めません"):
        give_feedback(tmp_path / "file" / "feedback.jsonl", "一", ANSWER, "good")


def test_the_table_is_newest_first_escaped_and_says_where_the_rows_lie(path, monkeypatch):
    assert "まだありません" in read_feedback(path)._repr_html_() and str(path) in read_feedback(path)._repr_html_()
    for number in range(3):
        give_feedback(path, f"問{number}<script>", ANSWER, "good" if number else "bad", "<b>")
    html = read_feedback(path)._repr_html_()
    assert html.index("問2") < html.index("問1") < html.index("問0")
    assert "👍 役に立った 2 件、👎 誤り・不足 1 件" in html and "規程 3頁 第5条（規程.pdf）" in html and "全員" in html
    assert "<script" not in html and "<b></" not in html and str(path) in html
    monkeypatch.setattr(feedback, "_MOST_ROWS", 2)
    html = read_feedback(path)._repr_html_()
    assert "問0" not in html and "新しいものから 2 件" in html
