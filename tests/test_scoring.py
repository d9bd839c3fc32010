"""`kit score` and the notebook's scoring card, pressed without a browser."""

import argparse
import json

import ipywidgets
import openpyxl
import pytest

from kit.evaluation import scores
from kit.evaluation.metrics import METRICS, Metric
from kit.evaluation.scoring_sheet import write_sheet
from kit.interface import scoring
from kit.interface.cli import main
from kit.interface.scoring import score_answers
from kit.records import Kpi
from tests.evaluations import RIGHT, Oracle, make_cases, sealed_run, wrong_arm

CASES = make_cases(2)


@pytest.fixture
def run(tmp_path):
    return sealed_run(tmp_path / "runs", CASES, {"baseline": wrong_arm(CASES), "candidate": Oracle(CASES)}).folder


def said(run):
    return [(s.value, s.by) for s in scores.read(run) if s.note != "drawn"]


def card(box):
    return box.children[0].value


def press(box, name):
    next(button for button in box.children[1].children if button.description == name).click()
    return card(box)


def test_one_answer_at_a_time_each_press_is_kept(run):
    box = score_answers(run)
    assert isinstance(box, ipywidgets.VBox) and said(run) == [], "only drawn"
    assert [button.description for button in box.children[1].children] == ["正しい", "誤り", "判断できない", "戻る"]
    assert "採点者A　1 / 4 件目" in card(box) and "candidate" not in card(box)
    assert "2 / 4 件目" in press(box, "正しい")
    press(box, "判断できない")
    assert said(run) == [(1.0, "採点者A"), (None, "採点者A")]
    assert "2 / 4 件目" in press(box, "戻る")
    assert "いまの判定" in card(box) and "判断できない" in card(box)
    press(box, "誤り")
    press(box, "正しい")
    assert "4 件の採点が終わりました" in press(box, "誤り")
    assert [value for value, _ in said(run)] == [1.0, None, 0.0, 1.0, 0.0]
    assert "終わりました" in press(box, "正しい") and len(said(run)) == 5, "past the end nothing is scored"


def test_it_goes_on_where_the_rater_stopped_in_the_drawing_of_the_sheets(run):
    press(score_answers(run), "正しい")
    assert "2 / 4 件目" in card(score_answers(run))
    assert "採点者B　1 / 4 件目" in card(score_answers(run, rater="採点者B"))
    path = write_sheet(run)[0]
    assert openpyxl.load_workbook(path)["採点"].max_row == 3 + 4


def test_going_back_from_the_first_stays_there(run):
    box = score_answers(run)
    assert "1 / 4 件目" in press(box, "戻る")


def test_an_error_is_shown_and_the_card_stays(run):
    box = score_answers(run)
    (run / scores.FILE).write_text("{}\n", encoding="utf-8")
    assert "1 / 4 件目" in press(box, "正しい")
    assert "台帳と一致しません" in box.children[2].value


# --- kit score


def test_sheets_are_written_read_and_told_of(run, capsys):
    assert main(["score", str(run), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [name.rpartition("/")[2] for name in facts["sheets"]] == ["採点シート_採点者A.xlsx", "採点シート_採点者B.xlsx"]
    assert facts["scored"][0] == {"sheet": "採点シート", "rater": "採点者A", "done": 0, "planned": 4}
    for rater, last in (("採点者A", "正しい"), ("採点者B", "誤り")):
        path = run / f"採点シート_{rater}.xlsx"
        book = openpyxl.load_workbook(path)
        for row in book["採点"].iter_rows(min_row=4):
            row[5].value = "正しい" if row[0].value != "004" else last
        book.save(path)
        assert main(["score", str(run), "--sheet", str(path)]) == 0
    told = capsys.readouterr().out
    assert "採点者B: 4 件のうち 4 件の判定を読みました" in told
    assert "採点シート 採点者A: 4 件のうち 4 件が済んでいます。" in told
    assert "4 件のうち 3 件（75%）" in told and f"kit decide {run}" in told


def test_the_work_sheet_is_told_from_the_scoring_sheet(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(METRICS, "first_contact", Metric("", "share", lambda case: True, lambda case, row: 0.0))
    run = sealed_run(tmp_path / "runs", CASES, {"candidate": Oracle(CASES)}, RIGHT, Kpi("first_contact", "", 0.5, "")).folder
    facts, _ = scoring.score(argparse.Namespace(run=str(run), judge="", sheet="", sample=0))
    (path,) = facts["sheets"]
    assert path.endswith("実務記録シート.xlsx"), "nobody asked for a scoring sheet"
    book = openpyxl.load_workbook(path)
    book["一次解決"]["D4"] = "解決した"
    book.save(path)
    assert main(["score", str(run), "--sheet", path]) == 0
    assert "実務記録シート 記録者: 2 件のうち 1 件が済んでいます。" in capsys.readouterr().out


def test_a_file_that_is_no_sheet_is_an_error_of_three_lines(run, tmp_path, capsys):
    (tmp_path / "x.xlsx").write_bytes(b"no workbook")
    assert main(["score", str(run), "--sheet", str(tmp_path / "x.xlsx")]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 3
