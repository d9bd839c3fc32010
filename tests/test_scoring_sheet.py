"""採点シート: drawn once, blind, and read back with everything that is wrong in it told at once."""

import subprocess
from collections import Counter

import openpyxl
import pytest

from kit.errors import DataError, RunError, SealError
from kit.evaluation import scores, scoring_sheet
from kit.evaluation.evaluate import evaluate
from kit.evaluation.scoring_sheet import DEFAULTS, FORM, METRIC, TIMES, draw, drawn, read_sheet, write_sheet
from kit.records import Kpi
from kit.trust import ledger
from kit.trust.seal import seal
from tests.evaluations import RIGHT, Oracle, make_answer, make_cases, make_criteria, sealed_run

CASES = make_cases(8, 2)
FAILED = {"Q3": make_answer("", state="timeout")}


@pytest.fixture
def made(tmp_path):
    """Ten questions; the arms agree on half of them, and the candidate failed on one."""
    weak = {f"Q{i}": make_answer(f"=1+{i}\x07年", "別.pdf") for i in (1, 2, 3, 4)}
    arms = {"baseline": Oracle(CASES, weak | {"U1": make_answer("作り話")}), "candidate": Oracle(CASES, FAILED)}
    return sealed_run(tmp_path / "runs", CASES, arms)


def sheet_of(path):
    return openpyxl.load_workbook(path)["採点"]


def cells(path):
    """Row number → texts, of what was handed out."""
    return {row[0].row: [cell.value for cell in row] for row in sheet_of(path).iter_rows(min_row=4)}


def fill(path, entries, column=6):
    """Enter something into rows; ``entries`` is by row number."""
    book = openpyxl.load_workbook(path)
    for row, value in entries.items():
        book["採点"].cell(row, column).value = value
    book.save(path)
    return path


def said(run, by):
    return [score for score in scores.read(run) if score.by == by and score.note != "drawn"]


def test_every_answer_is_a_row_and_the_same_answer_of_two_arms_is_one(made):
    first, second = write_sheet(made.folder)
    rows = cells(first)
    assert [row[0] for row in rows.values()] == [f"{number:03d}" for number in range(1, 15)]
    assert sorted(row[1] for row in rows.values()) == sorted(
        ["Q1", "Q1", "Q2", "Q2", "Q3", "Q4", "Q4", "Q5", "Q6", "Q7", "Q8", "U1", "U1", "U2"]
    )
    assert {tuple(row) for row in cells(second).values()} == {tuple(row) for row in rows.values()}, "few rows: all twice"
    assert [*cells(second).values()] != [*rows.values()], "in another order"
    by_answer = {(row[1], row[3]): row for row in rows.values()}
    assert by_answer["Q5", "5日"][2:5] == ["5日\n〔根拠〕規程.docx", "5日", "規程.docx"]
    assert by_answer["U2", "資料に見当たりません。"][2:5] == ["（文書に答えなし）", "資料に見当たりません。", None]


def test_nothing_in_the_workbook_names_an_arm_and_no_text_is_a_formula(made):
    path = write_sheet(made.folder)[0]
    book = openpyxl.load_workbook(path)
    found = [cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.value is not None]
    assert not [cell.value for cell in found if "candidate" in cell.value or "baseline" in cell.value]
    assert {cell.data_type for cell in found} == {"s"}
    assert "=1+4年" in {cell.value for cell in found}, "as a text, without the invisible letter"


def test_only_what_is_to_be_filled_in_is_open(made):
    sheet = sheet_of(write_sheet(made.folder)[0])
    assert sheet.protection.sheet
    assert [cell.protection.locked for cell in sheet[17]] == [True] * 5 + [False] * 2
    (rule,) = sheet.data_validations.dataValidation
    assert (rule.formula1, "F17" in rule.sqref) == ('"正しい,誤り,判断できない"', True)
    assert (sheet.freeze_panes, sheet.print_title_rows, sheet.page_setup.orientation) == ("C4", "$1:$3", "landscape")
    assert sheet["D17"].alignment.wrap_text and sheet.row_dimensions[17].height > 20


def test_what_was_drawn_counts_from_then_on_even_where_nobody_can_read_it(made):
    write_sheet(made.folder)
    drawn_now = scores.read(made.folder)
    assert len(drawn_now) == 20, "ten questions of two arms, the one that timed out too"
    assert {(score.value, score.by, score.note) for score in drawn_now} == {(None, "採点者A", "drawn")}
    kinds = [entry.kind for entry in ledger.entries(made.folder.parent / ledger.NAME)]
    assert kinds[-2:] == ["drawn", "scores"]
    write_sheet(made.folder)
    assert scores.read(made.folder) == drawn_now


def test_a_sample_is_drawn_once_and_for_both_arms(made):
    write_sheet(made.folder, sample=4)
    keys = scores.final(scores.read(made.folder))
    assert len(keys) == 8 and len({case for case, _, _ in keys}) == 4
    assert write_sheet(made.folder) == write_sheet(made.folder, sample=4), "what is drawn is drawn"
    for other in ({"sample": 5}, {"raters": ("佐藤",)}, {"overlap": 0.5}):
        with pytest.raises(SealError, match="すでに抽選"):
            write_sheet(made.folder, **other)
    assert scores.final(scores.read(made.folder)) == keys


def test_the_lots_hang_on_the_end_of_the_run_which_nobody_chooses(tmp_path):
    drawings = set()
    for number in range(4):
        run = sealed_run(tmp_path / str(number), CASES, {"candidate": Oracle(CASES)}).folder
        write_sheet(run, sample=3)
        drawings.add(frozenset(case for case, _, _ in scores.final(scores.read(run))))
    assert len(drawings) > 1


def test_every_question_is_as_likely_to_be_drawn(made, monkeypatch):
    counts = Counter()
    for number in range(500):
        monkeypatch.setattr(scoring_sheet, "_seed", lambda evaluation, number=number: str(number))
        counts.update(scoring_sheet._questions(made, {"sample": 3}))
    assert len(counts) == 10 and all(105 <= count <= 195 for count in counts.values()), "150 ± 4.4 standard deviations"


@pytest.mark.slow
def test_a_sheet_saved_by_libreoffice_is_read(made, soffice, tmp_path):
    first = write_sheet(made.folder)[0]
    fill(first, dict.fromkeys(cells(first), "正しい"))
    command = [soffice, f"-env:UserInstallation=file://{tmp_path}/profile", "--headless", "--convert-to", "xlsx:Calc MS Excel 2007 XML"]
    subprocess.run([*command, "--outdir", tmp_path / "saved", first], check=True, capture_output=True, timeout=120)
    assert "14 件のうち 14 件" in read_sheet(tmp_path / "saved" / first.name, made.folder)


def test_the_second_rater_scores_at_least_fifty_else_the_share(tmp_path):
    cases = make_cases(300)
    made = sealed_run(tmp_path, cases, {"candidate": Oracle(cases)})
    write_sheet(made.folder, raters=("佐藤", "鈴木", "田中"), to=tmp_path)
    drawing = drawn(made)
    assert [len(drawing.of(name)) for name in ("佐藤", "鈴木", "田中")] == [300, 60, 60]
    assert {item.id for item in drawing.of("鈴木")} == {item.id for item in drawing.of("田中")}
    with pytest.raises(DataError, match="採点者ではありません"):
        drawing.of("高橋")


@pytest.mark.parametrize(
    "terms", [{"raters": ()}, {"raters": ("A", "A")}, {"raters": ("../A",)}, {"raters": ("judge:x",)}, {"overlap": 2}, {"sample": -1}]
)
def test_terms_that_cannot_be_used_draw_nothing(made, terms):
    with pytest.raises(DataError, match="採点の条件"):
        write_sheet(made.folder, **terms)
    assert scores.read(made.folder) == []


def test_an_unfinished_run_is_not_drawn_from(tmp_path):
    sealed = seal(make_criteria(CASES), tmp_path / ledger.NAME)
    with pytest.raises(KeyboardInterrupt):
        evaluate({"candidate": Oracle(CASES, {"Q2": KeyboardInterrupt()})}, CASES, seal=sealed, run=tmp_path / "r")
    with pytest.raises(RunError, match="評価が終わっていない"):
        write_sheet(tmp_path / "r")


def test_a_sheet_that_is_there_is_not_written_over(made):
    path = write_sheet(made.folder)[0]
    before = fill(path, {4: "正しい"}).read_bytes()
    write_sheet(made.folder)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("metric", "least"), [("right_by_people", 50), ("edit_saved", 50), ("minutes_saved", 100), ("right_by_judge", 150)]
)
def test_too_few_questions_to_decide_on_are_not_drawn(tmp_path, metric, least):
    cases = make_cases(160)
    made = sealed_run(tmp_path, cases, {"candidate": Oracle(cases)}, Kpi(metric, "", 0.5, ""))
    form = FORM if metric in (METRIC, "right_by_judge") else TIMES
    with pytest.raises(DataError, match="少なすぎます") as caught:
        draw(made, DEFAULTS | {"sample": least - 1}, form=form)
    assert f"--sample {least}" in caught.value.remedy and not ledger.find(tmp_path / ledger.NAME, "drawn")
    draw(made, DEFAULTS | {"sample": least}, form=form)
    assert len(scores.final(scores.read(made.folder))) == least


def test_of_few_questions_all_are_drawn_and_for_information_any_number(tmp_path):
    few = [sealed_run(tmp_path / role, CASES, {"candidate": Oracle(CASES)}, RIGHT, Kpi(METRIC, "", 0.5, "", role)) for role in ("gate", "info")]
    with pytest.raises(DataError, match="10 問以上"):
        write_sheet(few[0].folder, sample=9)
    for made, sample in zip(few, (10, 4), strict=True):
        write_sheet(made.folder, sample=sample)
        assert len(scores.final(scores.read(made.folder))) == sample


# --- reading back


def test_verdicts_come_back_for_every_arm_that_gave_the_answer(made):
    path = write_sheet(made.folder)[0]
    rows = cells(path)
    shared = next(number for number, row in rows.items() if row[1] == "Q5")
    own = next(number for number, row in rows.items() if (row[1], row[3]) == ("Q1", "1日"))
    fill(fill(path, {shared: "正しい", own: "誤り"}), {own: "資料が古い"}, 7)
    assert read_sheet(path, made.folder) == "採点者A: 14 件のうち 2 件の判定を読みました（新しい記録 3 件）。空欄 12 件は、あとから続きを取り込めます。"
    assert {(s.case, s.arm): (s.value, s.note) for s in said(made.folder, "採点者A")} == {
        ("a5", "baseline"): (1.0, ""), ("a5", "candidate"): (1.0, ""), ("a1", "candidate"): (0.0, "資料が古い"),
    }  # fmt: skip
    final = scores.final(scores.read(made.folder))
    assert final["a5", "candidate", METRIC] == 1.0
    assert final["a2", "candidate", METRIC] is None, "drawn and blank"


def test_a_sheet_is_completed_and_corrected_later_and_read_twice_adds_nothing(made):
    path = fill(write_sheet(made.folder)[0], {4: "正しい"})
    read_sheet(path, made.folder)
    before = len(scores.read(made.folder))
    read_sheet(path, made.folder)
    assert len(scores.read(made.folder)) == before
    read_sheet(fill(path, {4: "判断できない", 5: "正しい"}), made.folder)
    assert [s.value for s in said(made.folder, "採点者A")][-1] == 1.0
    read_sheet(fill(path, {4: None}), made.folder)
    assert not [s for s in said(made.folder, "採点者A") if s.note == "drawn"], "a blank takes nothing back"
    write_sheet(made.folder)
    assert len({s.key for s in said(made.folder, "採点者A")}) >= 2, "writing again takes nothing back either"


def test_the_second_raters_word_does_not_count(made):
    first, second = write_sheet(made.folder)
    read_sheet(fill(second, dict.fromkeys(cells(second), "正しい")), made.folder)
    assert {*scores.final(scores.read(made.folder)).values()} == {None}
    read_sheet(fill(first, dict.fromkeys(cells(first), "誤り")), made.folder)
    assert {*scores.final(scores.read(made.folder)).values()} == {0.0, None}, "None: what timed out"


def test_all_that_is_wrong_is_told_at_once(made):
    path = write_sheet(made.folder)[0]
    book = openpyxl.load_workbook(path)
    sheet = book["採点"]
    sheet["F4"] = "まる"
    sheet["D5"] = "書き換えた"
    sheet["A6"] = "999"
    sheet["A8"] = sheet["A7"].value
    sheet["F9"] = 1
    sheet["C10"] = "=1+1"
    book.save(path)
    with pytest.raises(DataError) as caught:
        read_sheet(path, made.folder)
    told = caught.value.what
    for line in (
        "6 か所", "シート「採点」 4行目 「判定」列: 「まる」は使えません。正しい、誤り、判断できない から選んでください。",
        "5行目 「回答」列: 配ったときの文", "6行目 「番号」列: 「999」は、配ったシートにない番号", "8行目 「番号」列: 「004」が7行目と重なって",
        "9行目 「判定」列: 「1」は使えません", "10行目 「正解」列",
    ):  # fmt: skip
        assert line in told
    assert said(made.folder, "採点者A") == []


@pytest.mark.parametrize("heading", ["F3", "A3"])
def test_a_missing_column_is_told_and_nothing_is_read(made, heading):
    path = write_sheet(made.folder)[0]
    book = openpyxl.load_workbook(path)
    name, book["採点"][heading] = book["採点"][heading].value, "x"
    book.save(path)
    with pytest.raises(DataError, match=f"「{name}」列: 見出しがありません"):
        read_sheet(path, made.folder)


def test_a_sheet_of_another_run_or_none_of_ours_is_refused(made, tmp_path):
    other = sealed_run(tmp_path / "other", CASES, {"candidate": Oracle(CASES)})
    with pytest.raises(RunError, match="まだ抽選されていません"):
        read_sheet(write_sheet(made.folder)[0], other.folder)
    with pytest.raises(DataError, match="この実行のシートではありません"):
        read_sheet(write_sheet(other.folder)[0], made.folder)
    book = openpyxl.Workbook()
    book.save(tmp_path / "空.xlsx")
    with pytest.raises(DataError, match="配ったシートではありません"):
        read_sheet(tmp_path / "空.xlsx", made.folder)


def test_a_drawing_that_the_rows_do_not_give_is_refused(made, monkeypatch):
    path = write_sheet(made.folder)[0]
    monkeypatch.setattr("kit.evaluation.scoring_sheet.NOT_FOUND", "見当たらない")
    with pytest.raises(SealError, match="台帳にある抽選と一致しません"):
        read_sheet(path, made.folder)
