"""Project folders: what ``kit init`` makes, what is found again, and what is missing."""

import io
import json
import os
import re
import shutil
import zipfile

import openpyxl
import pytest
import yaml

from kit.errors import DataError, RunError
from kit.evaluation import criteria as criteria_module
from kit.evaluation.cases import read_cases
from kit.evaluation.criteria import read_criteria
from kit.evaluation.matching import same_document
from kit.evaluation.metrics import METRICS
from kit.evaluation.sheets import COLUMNS
from kit.interface.project import SAMPLE, find_project, init
from kit.interface.steps import seal_project
from kit.knowledge.files import load
from tests.projects import small_project

FILES = {"documents", "criteria.yaml", "質問表.xlsx", "使い方.md"}
HEADINGS = ["番号", "質問", "正解", "根拠文書", "頁", "分類", "質問者"]


@pytest.fixture
def folder(tmp_path):
    return init(tmp_path / "PoC 総務").folder


def fill_in(folder, questions=61, development=()):
    book = openpyxl.load_workbook(folder / "質問表.xlsx")
    for row in range(questions):
        book["質問表"].cell(row + 3, 2, f"質問{row}")
        book["質問表"].cell(row + 3, 3, "答え")
    for row, question in enumerate(development, 3):
        book["開発用"].cell(row, 2, question)
    book.save(folder / "質問表.xlsx")
    (folder / "documents" / "規程.txt").write_text("答え", encoding="utf-8")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- kit init


def test_init_makes_the_four_things_and_nothing_else(tmp_path):
    project = init(str(tmp_path / "a" / "b"))
    assert {path.name for path in project.folder.iterdir()} == FILES
    assert not list(project.documents.iterdir())
    assert set(project.made) == FILES - {"documents"}
    assert project.kept == ()


def test_init_again_changes_nothing_and_names_what_it_kept(folder):
    fill_in(folder)
    (folder / "criteria.yaml").write_text("title: 書きかけ\ncases: 質問表.xlsx\n", encoding="utf-8")
    before = contents(folder)
    project = init(folder)
    assert contents(folder) == before
    assert (project.made, set(project.kept)) == ((), FILES - {"documents"})
    (folder / "使い方.md").unlink()
    assert init(folder).made == ("使い方.md",)


def test_init_where_a_file_stands_or_nothing_may_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match="作れません"):
            init(path)


def test_the_workbook_is_ready_to_be_filled_in(folder):
    book = openpyxl.load_workbook(folder / "質問表.xlsx")
    assert book.sheetnames == ["質問表", "開発用", "記入例"]
    for name in ("質問表", "開発用"):
        sheet = book[name]
        assert [cell.value for cell in sheet[2]] == HEADINGS
        assert sheet.freeze_panes == "C3"
        assert all(cell.font.bold and cell.fill.fgColor.rgb.endswith("1F3A5F") for cell in sheet[2])
        (choices,) = sheet.data_validations.dataValidation
        assert "人事・労務" in choices.formula1
        assert len(choices.formula1) <= 255  # more, and Excel calls the file broken
        assert not choices.showErrorMessage  # free text is welcome
        assert sheet["F2"].value == "分類"
        assert "F3" in choices.sqref
        assert "F302" in choices.sqref
        assert sheet.column_dimensions["B"].alignment.wrap_text
        assert sheet.column_dimensions["B"].width > 30
        assert sheet.column_dimensions["E"].number_format == "@"
    assert "調整" in book["開発用"]["A1"].value


def test_the_shipped_workbook_is_what_its_tool_builds(monkeypatch):
    monkeypatch.syspath_prepend(SAMPLE.parents[1] / "tools")
    from build_workbook import WORKBOOK, question_workbook

    def parts(file):
        with zipfile.ZipFile(file) as book:  # but for the time of saving
            return {name: book.read(name) for name in book.namelist() if name != "docProps/core.xml"}

    assert parts(WORKBOOK) == parts(io.BytesIO(question_workbook()))


def test_the_examples_explain_every_column_and_are_good_questions_themselves(folder, tmp_path):
    sheet = openpyxl.load_workbook(folder / "質問表.xlsx")["記入例"]
    explained, *examples = sheet.iter_rows(min_row=3, max_col=7, values_only=True)
    assert all(text.startswith(("必須。", "推奨。", "任意。")) for text in explained)
    assert len(sheet.row_dimensions) == sheet.max_row
    book = openpyxl.Workbook()
    for row in (HEADINGS, *examples):
        book.active.append(row)
    book.save(tmp_path / "examples.xlsx")
    two_parts, alternatives, unanswerable = read_cases(tmp_path / "examples.xlsx")
    assert len(two_parts.answers) == len(two_parts.evidence) == 2
    assert (len(alternatives.answers), len(alternatives.answers[0])) == (1, 3)
    assert not unanswerable.answerable


def test_nothing_in_a_fresh_workbook_counts_as_a_question(folder):
    (folder / "documents" / "a.txt").write_text("a", encoding="utf-8")
    project = find_project(folder)
    assert project.development() == []
    with pytest.raises(DataError, match="質問がまだ1問もありません"):
        project.cases()
    with pytest.raises(DataError, match="質問がまだ1問もありません"):
        read_criteria(project.criteria)


def test_the_criteria_template_is_valid_once_questions_are_there(folder):
    fill_in(folder)
    assert [kpi.role for kpi in read_criteria(folder / "criteria.yaml").kpis] == ["gate", "gate", "gate", "guardrail"]


def test_the_criteria_template_explains_every_key_and_metric(folder):
    text = (folder / "criteria.yaml").read_text(encoding="utf-8")
    off = set(re.findall(r"^# (\w+):", text, re.MULTILINE))  # what only some need stands there, ready to be switched on
    assert set(yaml.safe_load(text)) | off >= set(criteria_module.KEYS)
    assert set(yaml.safe_load(text)) <= set(criteria_module.KEYS)
    explained = dict(re.findall(r"^#   (\w+) +(.+)$", text, re.MULTILINE))
    assert set(METRICS) <= set(explained)
    for role in criteria_module.ROLES:
        assert re.search(rf"^#( role)? +{role} ", text, re.MULTILINE)
    for key in criteria_module.KPI_KEYS:
        assert re.search(rf"^# {key} ", text, re.MULTILINE)


def test_the_guide_is_not_read_as_a_document(folder):
    fill_in(folder)
    assert [document.name for document in load(find_project(folder).documents)] == ["規程.txt"]


# --- finding a project


def test_a_filled_in_folder_is_found_with_all_its_parts(folder, monkeypatch):
    fill_in(folder, development=["開発の質問"])
    project = find_project(folder)
    assert (project.name, project.folder) == ("PoC 総務", folder)
    assert (project.documents, project.criteria) == (folder / "documents", folder / "criteria.yaml")
    assert project.store == folder / ".kit" / "store"
    assert project.cases_file == project.development_file == folder / "質問表.xlsx"
    assert (len(project.cases()), [case.question for case in project.development()]) == (61, ["開発の質問"])
    assert project.scope == ""
    assert "PoC 総務" in project._repr_html_() and "リンク" in project._repr_html_()
    (folder / "kit.toml").touch()
    monkeypatch.chdir(folder)
    assert "リンク" not in project._repr_html_()


def test_development_questions_that_are_judged_by_are_refused(folder):
    fill_in(folder, development=["質 問７"])
    with pytest.raises(DataError, match="番号 1 = 判定用の番号 8"):
        find_project(folder).cases()


def let_read(folder, *readers):
    text = "".join(f"人事/*,{names}\n" for names in readers)
    (folder / "documents" / "acl.csv").write_text("パス,閲覧者\n" + text, encoding="utf-8")


@pytest.mark.parametrize(("sheet", "row"), [("質問表", 5), ("開発用", 3)])
def test_an_asker_whom_acl_csv_does_not_know_is_told_by_sheet_row_and_column(folder, sheet, row):
    fill_in(folder, development=["開発の質問"])
    book = openpyxl.load_workbook(folder / "質問表.xlsx")
    book[sheet].cell(row, 7, "jinnji")
    book.save(folder / "質問表.xlsx")
    let_read(folder, "jinji;keiri", "yakuin")
    with pytest.raises(DataError) as caught:
        find_project(folder).cases()
    assert f"・シート「{sheet}」 {row}行目 「質問者」列: 「jinnji」は acl.csv にない閲覧者名です。「jinji」の" in caught.value.what
    (folder / "documents" / "acl.csv").unlink()
    with pytest.raises(DataError, match="使えるもの: everyone"):
        find_project(folder).cases()
    let_read(folder, "jinnji")
    assert len(find_project(folder).cases()) == 61


def test_evidence_that_its_asker_may_not_read_is_refused(tmp_path):
    folder = small_project(tmp_path / "p")
    question = {"id": "r", "question": "役員報酬の月額はいくらですか", "answers": [["120万円"]], "evidence": [{"document": "役員報酬.md"}]}
    sheet = folder / "questions.jsonl"
    asked = sheet.read_text(encoding="utf-8")
    sheet.write_text(asked + json.dumps(question) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"読むことのできない根拠文書.*番号 r: 役員報酬\.md（質問者「」）"):
        find_project(folder).cases()
    sheet.write_text(asked + json.dumps(question | {"user": "executives"}) + "\n", encoding="utf-8")
    assert find_project(folder).cases()[-1].user == "executives"


def test_everyone_and_all_of_acl_csv_may_ask(tmp_path):
    folder = small_project(tmp_path / "p")
    questions = folder / "questions.jsonl"
    asked = '{"question": "常勤役員の報酬月額は", "answers": [["120万円"]], "user": "%s"}\n'
    questions.write_text("".join(asked.replace("報酬", name) % name for name in ("executives", "everyone")), encoding="utf-8")
    assert [case.user for case in find_project(folder).cases()] == ["executives", "everyone"]
    questions.write_text(asked % "executive", encoding="utf-8")
    with pytest.raises(DataError, match=r"1行目 「user」: 「executive」は acl\.csv にない閲覧者名です。「executives」の"):
        seal_project(find_project(folder))


def test_the_guide_says_what_a_reader_may_be_called(folder):
    assert "半角の英数字" in (folder / "使い方.md").read_text(encoding="utf-8")


def test_a_development_file_beside_the_criteria_is_used(folder):
    fill_in(folder)
    (folder / "development.jsonl").write_text('{"question": "d", "answers": []}\n', encoding="utf-8")
    assert [case.question for case in find_project(folder).development()] == ["d"]


def test_a_csv_of_questions_has_no_development_questions(folder):
    (folder / "documents" / "a.txt").touch()
    (folder / "q.csv").write_text("質問,正解\nq,a\n", encoding="utf-8")
    (folder / "criteria.yaml").write_text("cases: q.csv\n", encoding="utf-8")
    project = find_project(folder)
    assert project.development_file is None
    assert (len(project.cases()), project.development()) == (1, [])


def test_a_relative_path_is_taken_from_here_and_else_from_the_root(folder, tmp_path, monkeypatch):
    fill_in(folder)
    (tmp_path / "kit.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_project("PoC 総務").folder == folder
    monkeypatch.chdir(tmp_path / "notebooks")
    assert find_project("PoC 総務").folder == folder
    shutil.copytree(folder, tmp_path / "notebooks" / "PoC 総務")
    assert find_project("PoC 総務").folder == tmp_path / "notebooks" / "PoC 総務"


@pytest.mark.parametrize("missing", ["", "documents", "criteria.yaml"])
def test_what_is_missing_is_named_and_init_is_the_remedy(folder, missing):
    fill_in(folder)
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError) as caught:
        find_project(folder)
    assert str(path) in caught.value.what
    assert "kit init" in caught.value.remedy


def test_missing_questions_are_told_when_they_are_needed(folder):
    fill_in(folder)
    (folder / "質問表.xlsx").unlink()
    with pytest.raises(DataError, match="を読めません") as caught:
        read_criteria(find_project(folder).criteria)
    assert "kit init" in caught.value.remedy


def test_documents_without_a_document_are_refused(folder):
    for name in (".gitkeep", "~$a.docx", "acl.csv"):
        (folder / "documents" / name).touch()
    (folder / "documents" / "empty").mkdir()
    with pytest.raises(DataError, match="文書がありません"):
        find_project(folder)
    (folder / "documents" / "empty" / "a.pdf").touch()
    assert find_project(folder)


def test_the_sample_is_a_project_and_says_that_it_is_a_demonstration():
    project = find_project(os.path.relpath(SAMPLE))
    assert "見本" in project.scope
    assert (len(project.cases()), len(project.development())) == (200, 60)


# --- real input


def build(name, folder, shared):
    from tests.real_input import build_project

    return getattr(build_project, name)(folder, shared)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "documents", "questions", "development"), [("build_jsquad", 1145, 300, 60), ("build_government", 69, 30, 0)]
)
def test_real_files_become_projects_whose_evidence_is_there(shared, tmp_path, name, documents, questions, development):
    project = find_project(build(name, tmp_path / "real", shared))
    names = [path.relative_to(project.documents).as_posix() for path in project.documents.rglob("*") if path.is_file()]
    cases = project.cases()
    assert (len(names), len(cases), len(project.development())) == (documents, questions, development)
    assert read_criteria(project.criteria).cases_count == questions
    for evidence in (evidence for case in cases for evidence in case.evidence):
        assert sum(same_document(name, evidence.document) for name in names) == 1


@pytest.mark.real
def test_building_a_real_project_twice_gives_the_same_files(shared, tmp_path):
    assert contents(build("build_jsquad", tmp_path / "a", shared)) == contents(build("build_jsquad", tmp_path / "b", shared))


def test_the_template_names_the_columns_that_are_read():
    assert [COLUMNS[field][0] for field in ("id", "question", "answers", "document", "place", "category", "user")] == HEADINGS
