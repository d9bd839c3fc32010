"""How hits, answers and other things look: tables, marks, links, and nothing of a document that runs."""

import dataclasses
import os
import re
import urllib.parse

import pytest
from IPython import display

from kit.answering.rag import Rag
from kit.evaluation.criteria import read_criteria
from kit.improving.feedback import read_feedback
from kit.interface.project import find_project
from kit.interface.shown import ask, opened, show
from kit.interface.stores import build_store
from kit.prices import read_prices
from kit.records import Answer, Chunk, Citation, Hit, Kpi, Parts, Place, Step
from kit.reporting.economics import economics
from kit.reporting.export import draw_summary
from kit.serving.chat import Reply, Stream
from kit.settings import load
from tests.projects import small_project
from tests.test_summary import PRICES, decision

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project below the folder where Jupyter was started, seen from a notebook beside it."""
    (tmp_path / "kit.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    return find_project(small_project(tmp_path / "見本 1"))


def chunk(text, document="a.md", place=Place(), **changes):  # noqa: B008 (frozen)
    return dataclasses.replace(Chunk("c", "0" * 64, document, "題", text, place, 0, ("everyone",)), **changes)


def html_of(*arguments, **named):
    return show(*arguments, **named)._repr_html_()


# --- links


def test_a_link_goes_from_the_notebook_to_the_file_and_its_page(project):
    (project.documents / "規程 #1.pdf").touch()
    (project.documents / "下").mkdir()
    (project.documents / "下" / "表.xlsx").touch()
    target, keep = opened(project, "規程 #1.pdf", 3)
    path, _, fragment = target.partition("#")
    assert (os.path.realpath(urllib.parse.unquote(path)), fragment, keep) == (str(project.documents / "規程 #1.pdf"), "page=3", False)
    assert path.isascii() and path.startswith("../") and " " not in path
    target, keep = opened(project, "下/表.xlsx", 3)
    assert target.endswith(urllib.parse.quote("下/表.xlsx")) and keep, "JupyterLab cannot show it, and only a PDF has pages"
    assert opened(project, "規程 #1.pdf/中の文書.docx")[0].endswith("%231.pdf"), "what came out of an archive: the archive"


def test_no_link_leads_out_of_the_documents(project, tmp_path, monkeypatch):
    (tmp_path / "secret.txt").touch()
    for name in ("../../secret.txt", str(tmp_path / "secret.txt"), "無い.txt", "../acl.csv", "", "長" * 99 + ".txt"):
        assert opened(project, name) == ("", False)
    (project.documents / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert opened(project, "link.txt") == ("", False)
    assert opened(None, "旅費規程.md") == ("", False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kit.toml").touch()
    monkeypatch.chdir(tmp_path / "other")  # Jupyter shows nothing above the folder where it was started
    assert opened(project, "旅費規程.md") == ("", False)


def test_an_answer_names_each_source_once_and_links_it(project):
    cited = Citation("旅費規程.md", HOSTILE, Place(page=2), "日当は", "c")
    html = html_of(Answer(f"3,000円です {HOSTILE}", (cited, cited), 0.8, hint="3,000円"), project=project)
    assert html.count("出典: ") == html.count("<a href=") == 1
    assert "documents/" in html and "#page" not in html and "手がかり: 3,000円" in html and "確信度 0.80" in html
    assert "<script" not in html and html.count("&lt;script&gt;") == 2
    assert "<a" not in html_of(Answer("はい", (cited,)))


# --- hits


def test_the_words_of_the_question_are_marked_and_nothing_runs(project):
    text = f"前置き。{HOSTILE}" + "長い前置きが続く。" * 30 + "国内出張の日当は3,000円とする。<img src=x onerror=alert(1)>"
    html = html_of([Hit(chunk(text), 2.0, 1)], query="日当は<b>いくら", project=project)
    assert "<mark>日当</mark>は3,000円" in html, "the excerpt is taken where the words stand"
    assert "<script" not in html and "<img" not in html and "&lt;img" in html
    assert len(re.sub("<[^>]*>", "", html)) < 300


def test_the_bar_is_as_long_as_the_score(project):
    hits = [Hit(chunk("あ"), 2.8, 1, Parts(9, 40, 3, 7)), Hit(chunk("い"), 1.4, 2, Parts(9, 0, 0, 0))]
    first, second = html_of(hits).split("<tr>")[2:]

    def widths(row):
        return [int(width) for width in re.findall(r"width:(\d+)px;background", row)]

    assert len(widths(first)) == len(widths(second)) == 4
    assert (abs(sum(widths(first)) - 130) <= 3, widths(second)) == (True, [65, 0, 0, 0])
    assert "9.0・40.0・10.0<" in first and "意味の近さ" not in html_of(hits)
    assert "意味の近さ" in html_of([Hit(chunk("あ"), 2.8, 1, Parts(9, 40, 3, 7, 0.5))])


def test_folded_editions_are_named_under_their_hit(project):
    older = chunk("古い", "旅費規程.md", title="旧版 <b>")
    html = html_of([Hit(chunk("新しい", date="2025-04-01"), 2.0, 1, also=(older, older))], project=project)
    assert "ほぼ同じ文書・旧版: <a href=" in html and html.count("旧版 &lt;b&gt;") == 2 and "（2025-04-01）" in html


# --- asking and rating


def test_an_answer_is_shown_and_rated_by_a_press(project, monkeypatch):
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    store, _ = build_store(project)
    rag = Rag(store)
    box = ask(project, rag, "国内出張の日当はいくらですか", user="hr")
    assert "3,000円" in shown[0]._repr_html_()
    assert not project.feedback.exists(), "nothing is written before somebody presses"
    correction, row = box.children
    good, bad, told = row.children
    correction.value = " 4,000円 <b>\n"
    bad.click()
    assert "記録しました（👎" in told.value
    (given,) = read_feedback(project.feedback).rows
    assert (given.verdict, given.correction, given.user, given.reader) == ("bad", "4,000円 <b>", "hr", rag.identity)
    assert given.citations[0].document == "旅費規程.md" and "3,000円" in given.answer
    good.click()
    assert [given.verdict for given in read_feedback(project.feedback).rows] == ["bad", "good"]
    assert project.feedback.stat().st_mode & 0o077 == 0, "personal data: for its owner only"


def test_what_cannot_be_written_is_said_in_three_lines(project, monkeypatch):
    monkeypatch.setattr(display, "display", lambda item: None)
    store, _ = build_store(project)
    box = ask(project, Rag(store), "日当は")
    project.feedback.mkdir()
    good, _, told = box.children[1].children
    good.click()
    assert "書き込めません" in told.value and "次にすること" in told.value


# --- tables

def test_hits_and_steps_are_tables_without_markup_of_their_own():
    chunk = Chunk("c", "0" * 64, "a<b>.md", "<script>題</script>", "本文 & <img src=x>" + "長" * 500, Place(page=3), 0, ("everyone",))
    html = show([Hit(chunk, 12.345, 1)])._repr_html_()
    assert html.count("<tr") == 2
    assert all(part in html for part in ("12.3", "3頁", "a&lt;b&gt;.md", "&lt;script&gt;"))
    assert "<script" not in html and "<img" not in html
    assert "長" * 200 not in html
    steps_html = show((Step("検索", "5 断片", 0.0123), Step("抽出", "", 1.0)))._repr_html_()
    assert "12.3 ミリ秒" in steps_html and "1000.0 ミリ秒" in steps_html


def test_criteria_are_shown_with_roles_and_directions(project):
    criteria = dataclasses.replace(
        read_criteria(project.criteria), title="<b>題</b>", owner="", approvers=("部長", "室長"),
        kpis=(
            Kpi("right", "正しく対応できた割合", 0.7, "<i>理由</i>"),
            Kpi("right", "正しく対応できた割合", 0.05, "", "guardrail"),
            Kpi("latency_p95", "応答時間", 3.0, "", "info"),
        ),
    )  # fmt: skip
    html = show(criteria)._repr_html_()
    cells = re.findall("<td[^>]*>([^<]*)</td>", html)
    assert cells[:3] == ["判定", "正しく対応できた割合", "70%以上"]
    assert cells[4:7] == ["安全条件（比較対象との差）", "正しく対応できた割合", "−5ポイント以内"]
    assert cells[8:11] == ["参考", "応答時間", "3秒以下"]
    assert "責任者: 未記入　承認者: 部長、室長" in html
    assert "&lt;b&gt;題" in html and "&lt;i&gt;理由" in html and "<i>" not in html


def test_a_summary_is_shown_as_it_will_look_or_one_chapter_of_it():
    made = draw_summary(decision(), prices=PRICES)
    assert "srcdoc=" in show(made).data and "<iframe" not in show(made, section="talk").data
    assert "会議で使えるフレーズ" in show(made, section="talk").data
    assert "この章はありません" in show(made, section="nowhere").data


def test_money_is_shown_with_all_charts_or_as_a_chapter():
    made = economics(decision(), read_prices(load().prices))
    assert show(made).data.count("<svg role") == 4 and "投資の回収" in show(made).data
    assert show(made, section="cost").data.count("<svg role") == 2
    unplanned = dataclasses.replace(decision(), facts=decision().facts | {"monthly_questions": 0})
    bare = economics(unplanned, read_prices(load().prices))
    assert "今回の計算費" in show(bare).data and "この章はありません" in show(bare, section="worth").data


def test_nothing_found_is_said():
    assert "ありません" in show([])._repr_html_()


class Pieces(Stream):
    """A stream that was scripted."""

    def __init__(self, *pieces, reply=None):
        self._pieces, self.reply = pieces, reply

    def __iter__(self):
        return iter(self._pieces)


def test_a_stream_is_written_as_it_comes_with_its_facts_below(capsys):
    reply = Reply("国内の日当", "length", "", (), (), "model_error", 12, 3, 0, "tiny", "", seconds=1.5)
    html = show(Pieces("国内", "の日当", reply=reply))._repr_html_()
    assert capsys.readouterr().out == "国内の日当"
    assert "2 回に分けて届きました" in html and "× 完全な回答ではありません" in html and "1.50 秒" in html
    assert "国内" not in html, "the text is not shown twice"
    assert "文字は届きませんでした" in show(Pieces())._repr_html_()


def test_parsed_json_and_a_line_are_shown_without_markup_of_their_own():
    html = show({"窓口": "総務", "要約": "<b>", "件数": 3})._repr_html_()
    assert html.count("<tr>") == 4 and "総務" in html and "&lt;b&gt;" in html
    assert "省きました &lt;i&gt;" in show("省きました <i>")._repr_html_()
