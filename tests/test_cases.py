"""Reading questions: every spelling a team may use, and every mistake told by its place."""

import json
import unicodedata
from datetime import date

import pytest
from hypothesis import example, given, settings, strategies as st

from kit.errors import DataError
from kit.evaluation.cases import cases_sha256, check_overlap, read_cases, read_squad
from kit.evaluation.sheets import tidy
from kit.records import Case, Evidence, Place
from kit.trust.durable import to_json
from tests.tables import HEADER, refusal, write_csv, write_lines, write_xlsx


def test_missing_numbers_are_filled_without_touching_given_ones(tmp_path):
    rows = [HEADER[:3], ("", "a", "x"), (1, "b", "x"), (), ("", "c", "x"), ("9", "", "")]  # the last row is only numbered
    assert [case.id for case in read_cases(write_xlsx(tmp_path / "q.xlsx", rows))] == ["2", "1", "3"]


def test_json_lines_are_read_as_build_sample_writes_them(tmp_path):
    place = {"page": 2, "headings": ["第1章"]}
    path = write_lines(
        tmp_path / "q.jsonl",
        {"id": "a-1", "question": "q1", "answers": [["5日", "五日"], ["所属長"]], "category": "c", "kind": "k", "user": "u",
         "evidence": [{"document": "a.pdf", "place": place}]},
        {"question": "q2\u2028", "answers": [["x", "y"]], "evidence": [{"document": "b.md"}]},
        {"id": "7", "question": "q3", "answers": []},
    )  # fmt: skip
    assert read_cases(path) == [
        Case("a-1", "q1", (("5日", "五日"), ("所属長",)), (Evidence("a.pdf", Place(page=2, headings=("第1章",))),), "c", "k", "u"),
        Case("1", "q2", (("x", "y"),), (Evidence("b.md"),)),
        Case("7", "q3"),
    ]


SQUAD = {
    "data": [
        {"title": "記事", "paragraphs": [
            {"context": "梅雨 [SEP] 雨の季節。", "qas": [
                {"id": "q1", "question": "何の季節？", "answers": [{"text": "雨"}, {"text": "雨"}], "is_impossible": False},
                {"id": "q2", "question": "いつ終わる？", "answers": [], "is_impossible": True}]},
            {"context": "本文だけ。", "qas": [{"id": "q3", "question": "何の 季節？", "answers": [{"text": "本文"}]}]}]},
        {"title": "A/B", "paragraphs": [{"context": "c", "qas": []}]},
    ]
}  # fmt: skip


def test_squad_paragraphs_become_documents_and_a_recurring_question_is_taken_once(tmp_path):
    path = tmp_path / "valid.json"
    path.write_text(json.dumps(SQUAD), encoding="utf-8")
    assert read_cases(path) == [
        Case("q1", "何の季節？", (("雨",),), (Evidence("0001_梅雨"),), "梅雨"),
        Case("q2", "いつ終わる？", category="梅雨"),
    ]
    assert [(p.name, p.title, p.text) for p in read_squad(path)] == [
        ("0001_梅雨", "梅雨", "雨の季節。"), ("0002_記事", "記事", "本文だけ。"), ("0003_A_B", "A/B", "c"),
    ]  # fmt: skip


def test_endings_and_signs_do_not_make_one_question_two(tmp_path):
    lines = [{"question": f"締め日はいつ{end}", "answers": [["20日"]], "user": user} for end, user in
             (("", ""), ("？", ""), ("!", "hr"), ("・", ""), ("…", ""), ("_", ""))]  # fmt: skip
    told = refusal(write_lines(tmp_path / "q.jsonl", *lines)).what.split("\n")
    assert len(told) == 6 and all("1行目と同じ質問" in line for line in told[1:])
    judged, development = ([Case("1", f"締め日はいつ{end}", (("20日",),))] for end in ("", "？"))
    with pytest.raises(DataError, match="同じです"):
        check_overlap(judged, development)


# --- mistakes


def test_every_mistake_is_told_by_sheet_row_and_column(tmp_path):
    rows = [
        HEADER,
        ("1", "q1", "a"),
        ("1", "", "a"),
        ("2", "Ｑ １", "a", "", "3頁", "", "田中", ""),
        ("3", "q3", date(2026, 4, 1), "a.pdf", ""),
        ("4", "q4", "", "a.pdf", ""),
        ("5", "q5", "a", "a.pdf\nb.pdf", "1\n2\n3"),
    ]
    lines = refusal(write_xlsx(tmp_path / "質問表.xlsx", rows)).what.split("\n")
    assert lines[0] == "質問表.xlsx に直すところが 8 か所あります。"
    assert [line.split(": ")[0] for line in lines[1:]] == [
        "・シート「質問表」 3行目 「質問」列",
        "・シート「質問表」 3行目 「番号」列",
        "・シート「質問表」 4行目 「頁」列",
        "・シート「質問表」 4行目 「質問」列",
        "・シート「質問表」 4行目 「質問者」列",
        "・シート「質問表」 5行目 「正解」列",
        "・シート「質問表」 6行目 「正解」列",
        "・シート「質問表」 7行目 「頁」列",
    ]
    for line, what in zip(
        lines[1:],
        ("質問が空", "「1」が2行目と重なって", "「3頁」に対応する根拠文書がありません", "2行目と同じ質問", "「田中」は使えません",
         "日付・時刻などに変換", "根拠文書があるのに正解が空", "「3」に対応する根拠文書"),
        strict=True,
    ):  # fmt: skip
        assert what in line


def test_ten_mistakes_are_shown_and_the_rest_counted(tmp_path):
    lines = refusal(write_csv(tmp_path / "q.csv", [HEADER[:3], *(("", "", "a") for _ in range(13))])).what.split("\n")
    assert "13 か所" in lines[0]
    assert len(lines) == 12
    assert lines[1].startswith("・2行目 「質問」列: ")
    assert lines[-1] == "・ほか 3 か所"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "JSON として読めません"),
        ("[]", "{ } で囲んだ1問"),
        ('{"question": "q"}', "「answers」がありません"),
        ('{"qestion": "q", "answers": []}', "「qestion」は知らない項目です。「question」の書き間違い"),
        ('{"question": 1, "answers": []}', "「question」は、文字列"),
        ('{"question": "q", "answers": "a"}', "「answers」は、[["),
        ('{"question": "q", "answers": [["a", 1]]}', "「answers」は、[["),
        ('{"question": "q", "answers": [[]]}', "「answers」は、[["),
        ('{"question": "q", "answers": [["a"]], "evidence": [{"place": {"page": 3}}]}', "場所だけでは使えません"),
        ('{"question": "q", "answers": [["a"]], "evidence": [{"document": "d", "place": {"page": "3"}}]}', "「evidence」は、[{"),
        ('{"question": "q", "answers": [["a"]], "evidence": [{"document": "d", "place": {"headings": [1]}}]}', "「evidence」は、[{"),
        ('{"question": " ", "answers": []}', "「question」: 質問が空"),
        ('{"question": "ok", "answers": []}', "「question」: 1行目と同じ質問"),
        ('{"id": "ok", "question": "q", "answers": []}', "「id」: 番号「ok」が1行目と重なって"),
        ('{"question": "q", "answers": [], "user": "a b"}', "「user」: 「a b」は使えません"),
    ],
)
def test_mistakes_in_json_lines_are_told_by_line(tmp_path, line, told):
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "ok", "question": "ok", "answers": []}\n\n' + line + "\n", encoding="utf-8")
    told_at, found = f"・3行目{' ' if '」: ' in told else ': '}", refusal(path).what.split("\n")[1]
    assert found.startswith(told_at)
    assert told in found


@pytest.mark.parametrize(
    ("name", "content", "what", "cause"),
    [
        ("q.xlsx", b"", "Excel ブックとして読めません", "壊れている"),
        ("q.csv", b"", "質問がまだ1問もありません", "空です"),
        ("q.csv", b"  \n", "質問がまだ1問もありません", "空です"),
        ("q.xlsx", b"PK\x03\x04 torn", "Excel ブックとして読めません", "壊れている"),
        ("q.xlsx", "質問,正解".encode(), "Excel ブックとして読めません", "壊れている"),
        ("q.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel ブックとして読めません", "パスワード"),
        ("q.csv", b"PK\x03\x04\0\0\0", "テキストとして読めません", "バイナリ"),
        ("q.csv", '質問,正解\n"a"b,c\n'.encode(), "2 行目あたりを CSV ファイルとして", "引用符"),
        ("q.csv", '質問,正解\n"a,c\n'.encode(), "CSV ファイルとして", "引用符"),
        ("q.json", b"{}", "SQuAD 形式のファイルとして読めません", "中身"),
        ("q.json", b'{"data": [{"title": 1, "paragraphs": [{"context": "c", "qas": [{}]}]}]}', "SQuAD", "中身"),
        ("q.json", b"[" * 100_000, "SQuAD", "中身"),
        ("q.docx", b"x", "Excel ブックとして読めません", ".csv、.jsonl"),
    ],
)
def test_an_unreadable_file_gives_three_lines(tmp_path, name, content, what, cause):
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path / name)
    assert what in error.what
    assert cause in error.cause
    assert str(error).count("\n") == 2


def test_a_missing_file_or_a_folder_gives_three_lines(tmp_path):
    assert "読めません" in refusal(tmp_path / "q.xlsx").what
    (tmp_path / "d.csv").mkdir()
    assert "kit init" in refusal(tmp_path / "d.csv").remedy


def test_development_questions_must_not_be_judged_by(tmp_path):
    judged = [Case("7", "有休は 何日？"), Case("8", "b")]
    check_overlap(judged, [Case("1", "有休は何時間？")])
    with pytest.raises(DataError, match=r"1 問.*\n・開発用の番号 3 = 判定用の番号 7: 有休は何日?"):
        check_overlap(judged, [Case("3", "有休は何日?")])


# --- the hash, and odd strings


def test_the_hash_is_of_the_questions_not_of_the_file(tmp_path):
    rows = [HEADER, ("1", "がぎ", "5日\n部長｜課長", "a.pdf", "3", "c", "u", "k")]
    decomposed = [[unicodedata.normalize("NFD", cell).replace("\n", "\r\n") for cell in row] for row in rows]
    hashes = {
        cases_sha256(read_cases(write_xlsx(tmp_path / "a.xlsx", rows))),
        cases_sha256(read_cases(write_xlsx(tmp_path / "b.xlsx", [[], *decomposed], sheet="Sheet1"))),
        cases_sha256(read_cases(write_csv(tmp_path / "c.csv", rows, "cp932"))),
        cases_sha256(read_cases(write_lines(tmp_path / "d.jsonl", to_json(read_cases(tmp_path / "a.xlsx")[0])))),
    }
    assert len(hashes) == 1
    (case,) = read_cases(tmp_path / "a.xlsx")
    assert cases_sha256([case]) != cases_sha256([Case(case.id, case.question)])


ODD = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff｜|"), max_size=30)
LINE = ODD.map(tidy).filter(lambda text: text and "\n" not in text and unicodedata.normalize("NFKC", text) != "なし")


def assert_round_trip(folder, question, word):
    case = Case("x", tidy(question), ((tidy(word), "別の言い方"), ("二つ目",)), (Evidence("a.pdf", Place(page=1)),))
    cells = ("x", question, f"{word}｜別の言い方\n二つ目", "a.pdf", "1")
    for path in (
        write_xlsx(folder / "q.xlsx", [HEADER[:5], cells]),
        write_csv(folder / "q.csv", [HEADER[:5], cells]),
        write_lines(folder / "q.jsonl", to_json(case)),
    ):
        assert read_cases(path) == [case]


@settings(deadline=None, max_examples=60)
@given(LINE, LINE)
@example("=1+1", "@SUM(A1)")
@example("'quoted", '"a","b"')
@example("_x0041_", "😀が")
@example("　全角　", "１,５００円")
def test_odd_strings_survive_the_way_through_a_file(tmp_path_factory, question, word):
    if unicodedata.normalize("NFKC", question).strip():
        assert_round_trip(tmp_path_factory.mktemp("odd"), question, word)


@pytest.mark.real
def test_naughty_strings_survive_the_way_through_a_file(shared, tmp_path):
    for text in json.loads((shared / "blns" / "blns.json").read_text(encoding="utf-8")):
        line = tidy(text.replace("\n", " ").replace("|", " "))
        if unicodedata.normalize("NFKC", line).strip() and line.isprintable():
            assert_round_trip(tmp_path, line, line)
        path = write_lines(tmp_path / "raw.jsonl", {"question": f"質問 {text}", "answers": [[f"正解 {text}"]]})
        assert read_cases(path)[0].answers == ((tidy(f"正解 {text}"),),)


@pytest.mark.real
def test_bad_and_foreign_files_are_refused_in_japanese(shared):
    files = [*sorted((shared / "bad_files").rglob("*.*")), *sorted((shared / "yaizu_csv").rglob("*.*"))]
    files += sorted((shared / "gif_office").glob("*.xlsx"))
    assert len(files) > 70
    for path in files:
        assert refusal(path).remedy


@pytest.mark.real
def test_jsquad_is_read_whole(shared):
    cases = read_cases(shared / "jsquad" / "valid.json")
    assert len(cases) == 4372  # 4,442 questions, 70 of which repeat another, full stops and the like aside
    assert len({case.evidence[0].document for case in cases}) == 1145
