import dataclasses
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings, strategies as st

from kit.knowledge.chunks import CHUNK_CHARACTERS, SECTION_CHARACTERS, split
from kit.knowledge.japanese import sentences
from kit.records import Block, Document, Place

PLACES = st.builds(
    Place, page=st.integers(0, 2), sheet=st.sampled_from(["", "表"]), row=st.integers(0, 3), slide=st.integers(0, 1),
    headings=st.sampled_from([(), ("章",), ("章", "節")]),
)  # fmt: skip
PIECE = st.sampled_from(["あ" * 30 + "。", "短い。", "い" * 399, "う" * 401, "え" * 1700, "改行\n", "\n", " ", "　", "「か。」", ""])
TEXT = st.lists(PIECE, max_size=6).map("".join)
DOCUMENTS = st.lists(st.builds(Block, TEXT, PLACES), max_size=10).map(lambda blocks: document(*blocks))


def document(*blocks, **more):
    return Document("ab" * 32, "a.txt", "題", blocks, **more)


def bare(text):
    return "".join(text.split())


def region(place):
    return dataclasses.replace(place, row=0)


@settings(deadline=None, max_examples=150)
@given(DOCUMENTS)
def test_chunks_keep_all_text_in_order(doc):
    assert "".join(bare(chunk.text) for chunk in split(doc)) == bare(doc.text)


@settings(deadline=None, max_examples=150)
@given(DOCUMENTS)
def test_offsets_point_to_the_chunk_s_text_and_do_not_overlap(doc):
    chunks = split(doc)
    assert all(doc.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert all(left.end <= right.start for left, right in pairwise(chunks))


@settings(deadline=None, max_examples=150)
@given(DOCUMENTS)
def test_sections_are_runs_of_chunks_within_a_sheet_or_slide_and_not_too_long(doc):
    sections = [list(group) for _, group in groupby(split(doc), key=lambda chunk: chunk.parent)]
    assert [section[0].id for section in sections] == [section[0].parent for section in sections]
    for section in sections:
        assert len({(chunk.place.sheet, chunk.place.slide) for chunk in section}) == 1
        assert len(section) == 1 or section[-1].end - section[0].start <= SECTION_CHARACTERS


def test_an_article_stays_whole_and_small_ones_are_widened_to_their_chapter_only():
    def article(number, sentences, chapter="第1章"):
        return [Block("あ" * 299 + "。", Place(headings=(chapter, f"第{number}条"))) for _ in range(sentences)]

    blocks = [*article(1, 2), *article(2, 2), *article(3, 4), *article(4, 1), *article(5, 1, "第2章"), *article(6, 9, "第2章")]
    chunks = split(document(*blocks))
    sections = [list(group) for _, group in groupby(chunks, key=lambda chunk: chunk.parent)]
    assert [[chunk.place.headings[1] for chunk in section] for section in sections] == [
        ["第1条"] * 2 + ["第2条"] * 2, ["第3条"] * 4 + ["第4条"], ["第5条"], ["第6条"] * 6, ["第6条"] * 3,
    ]  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(DOCUMENTS)
def test_no_chunk_is_blank_or_too_long(doc):
    for chunk in split(doc):
        assert chunk.text.strip() == chunk.text != ""
        if len(chunk.text) > CHUNK_CHARACTERS:  # then it is one sentence, or a part of one
            assert len(sentences(chunk.text)) == 1
            assert len(chunk.text) <= 4 * CHUNK_CHARACTERS


@settings(deadline=None, max_examples=150)
@given(DOCUMENTS)
def test_no_chunk_crosses_a_page_sheet_slide_or_heading(doc):
    blocks = [(bare(block.text), block.place) for block in doc.blocks if bare(block.text)]
    for chunk in split(doc):
        left = bare(chunk.text)
        assert chunk.place == blocks[0][1]  # the place is where its text begins
        while left:
            text, place = blocks.pop(0)
            assert region(place) == region(chunk.place)
            if len(text) > len(left):
                blocks.insert(0, (text[len(left) :], place))
            assert text.startswith(left) or left.startswith(text)
            left = left[len(text) :]


def test_short_blocks_of_one_place_are_joined_by_lines():
    place = Place(page=1)
    (chunk,) = split(document(Block("一行目", place), Block("二行目", place), Block("三行目", place)))
    assert chunk.text == "一行目\n二行目\n三行目"


def test_a_table_row_is_a_chunk_of_its_own_so_that_a_citation_names_it():
    blocks = [Block(f"部署: 第{row}課", Place(sheet="表", row=row)) for row in range(2, 5)]
    assert [(chunk.place.row, chunk.text) for chunk in split(document(*blocks))] == [
        (2, "部署: 第2課"), (3, "部署: 第3課"), (4, "部署: 第4課"),
    ]  # fmt: skip


def test_a_long_block_is_cut_after_sentences():
    first, second, third = "あ" * 299 + "。", "い" * 99 + "。", "う" * 50 + "。"
    texts = [chunk.text for chunk in split(document(Block(first + second + third, Place())))]
    assert texts == [first + second, third]


def test_a_long_sentence_stays_whole_and_an_endless_one_is_cut():
    long = "あ" * 900 + "。"
    assert [c.text for c in split(document(Block("短い。" + long + "短い。", Place())))] == ["短い。", long, "短い。"]
    assert [len(c.text) for c in split(document(Block("い" * 4000, Place())))] == [1600, 1600, 800]


def test_chunks_carry_their_document_and_number():
    doc = document(*(Block("文。", Place(page=page)) for page in (1, 2, 3)), readers=("hr", "keiri"))
    chunks = split(doc)
    assert [chunk.ordinal for chunk in chunks] == [0, 1, 2]
    assert {(c.document_id, c.document, c.title, c.readers) for c in chunks} == {("ab" * 32, "a.txt", "題", ("hr", "keiri"))}


@pytest.mark.parametrize("change", [{"id": "cd" * 32}, {"name": "b.txt"}])
def test_ids_are_stable_and_differ_by_content_name_and_number(change):
    doc = document(*(Block("文。", Place(page=page)) for page in (1, 2, 3)))
    ids = [chunk.id for chunk in split(doc)]
    assert ids == [chunk.id for chunk in split(doc)]
    others = [chunk.id for chunk in split(dataclasses.replace(doc, **change))]
    assert len({*ids, *others}) == 6


def test_a_region_that_comes_back_is_a_chunk_of_its_own():
    pages = [1, 2, 1]
    chunks = split(document(*(Block("文。", Place(page=page)) for page in pages)))
    assert [chunk.place.page for chunk in chunks] == pages
    assert all(left.id != right.id for left, right in pairwise(chunks))


@pytest.mark.parametrize("blocks", [(), (Block("", Place()),), (Block(" \n　", Place()), Block("", Place(page=2)))])
def test_a_document_without_text_has_no_chunks(blocks):
    assert split(document(*blocks)) == []
