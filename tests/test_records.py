import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from kit import records
from kit.records import (
    Answer,
    Block,
    Case,
    Chunk,
    Citation,
    Criteria,
    Decision,
    Document,
    Evaluation,
    Evidence,
    Hit,
    Kpi,
    KpiResult,
    Place,
    Row,
    Seal,
    Step,
    place_from_json,
)
from kit.trust.durable import canonical, to_json

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
COUNT = st.integers(0, 10**9)
PLACES = st.builds(Place, page=COUNT, sheet=TEXT, row=COUNT, slide=COUNT, headings=st.lists(TEXT, max_size=3).map(tuple))
EVIDENCE = st.lists(st.builds(Evidence, TEXT, PLACES), max_size=3).map(tuple)
NUMBER = st.floats(allow_nan=False)
ROWS = st.builds(
    Row, TEXT, TEXT, st.sampled_from(["answered", "timeout", "not_run"]), TEXT, TEXT, st.booleans(), NUMBER, EVIDENCE,
    EVIDENCE, NUMBER, COUNT, COUNT, NUMBER, TEXT,
)  # fmt: skip
CRITERIA = Criteria(
    "題", "仮説", "責任者", ("部長", "室長"), (Kpi("right", "正しさ", 0.7, "理由"),), 0.05, 0.05, "2026-12-31", 420, 10, "本文",
    "質問表.xlsx", "ab", 200, ("12ab", "34cd"), "cd",
)  # fmt: skip


def stored(record):
    return json.loads(canonical(to_json(record)))


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_a_row_comes_back_from_the_journal_as_it_went(row):
    again = Row.from_json(stored(row))
    assert again == row
    assert canonical(to_json(again)) == canonical(to_json(row))  # its hash is in the ledger


def test_a_row_with_whole_numbers_keeps_its_hash():
    row = Row("1", "candidate", "answered", "", "", False, 1, (), (), 2, 0, 0, 0)  # an arm may give 1 for 1.0
    assert canonical(to_json(Row.from_json(stored(row)))) == canonical(to_json(row))


def test_a_seal_comes_back_with_its_criteria():
    seal = Seal(CRITERIA, "ef" * 32, 3, "2026-11-21T00:00:00.000+00:00", "01" * 32)
    assert Seal.from_json(stored(seal)) == seal


@settings(deadline=None, max_examples=30)
@given(PLACES)
def test_a_place_comes_back(place):
    assert place_from_json(stored(place)) == place


@pytest.mark.parametrize(
    ("place", "label"),
    [
        (Place(), ""),
        (Place(page=3), "3頁"),
        (Place(sheet="日当", row=4), "シート「日当」 4行目"),
        (Place(slide=2, headings=("目的",)), "スライド2 目的"),
        (Place(headings=("第4章", "休暇")), "第4章 > 休暇"),
    ],
)
def test_a_place_reads_as_japanese(place, label):
    assert place.label == label


def test_to_json_spells_what_json_cannot():
    value = {1: (math.inf, -math.inf, math.nan), "場所": Path("a") / "b", "点": Place(page=1)}
    assert to_json(value) == {
        "1": ["inf", "-inf", "nan"],
        "場所": "a/b",
        "点": {"page": 1, "sheet": "", "row": 0, "slide": 0, "headings": []},
    }


def test_every_record_is_frozen_and_has_slots():
    types = [t for t in vars(records).values() if dataclasses.is_dataclass(t)]
    assert len(types) > 15
    for record in types:
        assert record.__dataclass_params__.frozen, record
        assert hasattr(record, "__slots__"), record


def test_a_citation_names_title_place_and_file():
    assert Citation("規程/旅費.docx", "旅費規程", Place(page=3), "文。", "c").label == "旅費規程 3頁（規程/旅費.docx）"
    assert Citation("旅費.txt", "旅費規程", Place(), "文。", "c").label == "旅費規程（旅費.txt）"


def test_shown_is_what_the_asker_sees():
    cited = Citation("a.docx", "旅費規程", Place(page=3), "引用。", "c")
    assert Answer("文。", (cited,), hint="手がかり").shown == "文。\n旅費規程 3頁（a.docx）"


def test_answerable_means_that_there_is_a_gold_answer():
    assert Case("1", "問", (("答",),)).answerable
    assert not Case("2", "問").answerable


def test_a_document_is_its_blocks_in_order():
    document = Document("0", "a.txt", "題", (Block("一", Place()), Block("二", Place(page=2))))
    assert document.text == "一\n二"


def test_rows_of_one_arm():
    rows = [Row(case, arm, "answered", "", "", False, 1.0, (), (), 0.1, 0, 0, 0.0) for case in "12" for arm in "ab"]
    evaluation = Evaluation(Path("r"), Seal(CRITERIA, "", 1, ""), (), ("a", "b"), tuple(rows))
    assert evaluation.of("b") == {"1": rows[1], "2": rows[3]}


def test_a_source_cited_twice_is_shown_once():
    first, second = Citation("a.docx", "規程", Place(page=3), "文。", "c"), Citation("b.docx", "手順", Place(), "別。", "d")
    html = Answer("文。\n別。\n文。", (second, first, second))._repr_html_()
    assert [line.split("（")[0] for line in html.split("出典: ")[1:]] == ["手順", "規程 3頁"]


def test_big_records_are_short_as_text():
    """Jupyter keeps the plain text beside the table: the notebook of 200 questions would be a megabyte."""
    rows = (Row("1", "a", "answered", "", "", False, 1.0, (), (), 0.1, 0, 0, 0.0),) * 400
    sealed = Seal(dataclasses.replace(CRITERIA, text="基準" * 5000), "", 1, "")
    chunk = Chunk("c", "0", "a", "a", "文。" * 500, Place(), 0, ("everyone",))
    for big in (
        Evaluation(Path("r"), sealed, (Case("1", "問"),) * 200, ("a",), rows),
        Decision("GO", "", (), sealed, Path("r"), ("a",), {}, {"examples": ["例" * 5000]}),
        Answer("文。", hits=(Hit(chunk, 1.0, 1),), prompt="文。" * 500),
        Document("0", "a.txt", "題", (Block("文。" * 500, Place()),)),
    ):
        assert len(repr(big)) < 400


BAD = "<script>alert(1)</script>"
CHUNK = Chunk("c", "0", BAD, BAD, BAD, Place(headings=(BAD,)), 0, ("everyone",))
ROW = Row(BAD, BAD, "timeout", BAD, BAD, False, 0.0, (), (), 0.0, 0, 0, 0.0)


@pytest.mark.parametrize(
    "shown",
    [
        Document("0", BAD, BAD, (Block(BAD, Place(sheet=BAD)),)),
        Document("0", BAD, BAD, problem=BAD),
        Answer(BAD, (Citation(BAD, BAD, Place(), BAD, ""),), hint=BAD, reader=BAD, hits=(Hit(CHUNK, 1.0, 1),),
               trace=(Step(BAD, BAD, 0.0),)),
        Evaluation(Path(BAD), Seal(CRITERIA, "", 1, ""), (), (BAD,), (ROW,)),
        Decision("EXTEND", BAD, (KpiResult(Kpi(BAD, BAD, 0.7, BAD), 1, 0.5, 0.4, math.inf, None, None, BAD),),
                 Seal(CRITERIA, "", 1, ""), Path(BAD), (BAD,), {}, {}),
    ],
)  # fmt: skip
def test_what_a_notebook_shows_is_escaped(shown):
    html = shown._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script" not in html
