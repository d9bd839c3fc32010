"""PDF: lines, paragraphs, pages, passwords, damage. The PDFs are written here, glyph by glyph where it matters."""

import pytest
from hypothesis import given, settings, strategies as st

from kit.knowledge import pdf
from kit.knowledge.worker import parse
from kit.records import Place

A4 = (595, 842)


def made(*pages, size=A4, title="", rotate=0, outline=()):
    """A PDF whose pages are lists of (x, y, type size, text); the font is a standard Japanese one, full width."""
    objects = {
        3: "<</Type/Font/Subtype/Type0/BaseFont/HeiseiMin-W3/Encoding/UniJIS-UCS2-H/DescendantFonts[4 0 R]>>",
        4: "<</Type/Font/Subtype/CIDFontType0/BaseFont/HeiseiMin-W3/DW 1000/FontDescriptor 5 0 R"
        "/CIDSystemInfo<</Registry(Adobe)/Ordering(Japan1)/Supplement 2>>>>",
        5: "<</Type/FontDescriptor/FontName/HeiseiMin-W3/Flags 6/FontBBox[0 -120 1000 880]/ItalicAngle 0/Ascent 880"
        "/Descent -120/CapHeight 709/StemV 69>>",
        6: f"<</Title<FEFF{title.encode('utf-16-be').hex()}>>>",
    }
    kids = []
    for index, page in enumerate(pages):
        content = "".join(
            f"BT /F {s} Tf 1 0 0 1 {x} {y} Tm <{text.encode('utf-16-be').hex()}> Tj ET\n" for x, y, s, text in page
        )
        own = 10 + 2 * index
        kids.append(f"{own} 0 R")
        objects[own] = (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size[0]} {size[1]}]/Rotate {rotate}"
            f"/Resources<</Font<</F 3 0 R>>>>/Contents {own + 1} 0 R>>"
        )
        objects[own + 1] = f"<</Length {len(content)}>>stream\n{content}endstream"
    objects[2] = f"<</Type/Pages/Kids[{' '.join(kids)}]/Count {len(kids)}>>"
    marks = [900 + i for i in range(len(outline))]
    for own, text in zip(marks, outline, strict=True):
        following = f"/Next {own + 1} 0 R" if own + 1 in marks else ""
        objects[own] = f"<</Title<FEFF{text.encode('utf-16-be').hex()}>/Parent 899 0 R/Dest[10 0 R/Fit]{following}>>"
    if marks:
        objects[899] = f"<</First {marks[0]} 0 R/Last {marks[-1]} 0 R/Count {len(marks)}>>"
    objects[1] = f"<</Type/Catalog/Pages 2 0 R{'/Outlines 899 0 R' if marks else ''}>>"
    body, offsets = "%PDF-1.7\n", {}
    for own, text in sorted(objects.items()):
        offsets[own] = len(body)
        body += f"{own} 0 obj\n{text}\nendobj\n"
    table = "".join(f"{own} 1\n{offsets[own]:010} 00000 n \n" for own in sorted(offsets))
    return (
        body
        + f"xref\n0 1\n0000000000 65535 f \n{table}trailer<</Root 1 0 R/Info 6 0 R>>\nstartxref\n{len(body)}\n%%EOF"
    ).encode()


def column(*lines, x=80, top=740, size=10, step=16):
    return [(x, top - step * index, size, line) for index, line in enumerate(lines)]


def texts(reading):
    return [block.text for block in reading.blocks]


WRAPPED = ["出張の旅費は、この規程の定めるところによって支給し、その額は別に定め", "る表のとおりとする。"]


def test_a_sentence_broken_by_the_layout_is_whole_again():
    reading = parse("a.pdf", made(column(*WRAPPED, "　二つ目の段落は字下げから始まる。")))
    assert texts(reading) == ["".join(WRAPPED), "二つ目の段落は字下げから始まる。"]
    assert reading.blocks[0].place == Place(page=1)


def test_items_headings_and_table_rows_keep_their_lines():
    lines = [
        "①　国内の出張に係る日当は一日につき三千円とし宿泊費は実費を支給する",
        "②　海外の出張に係る日当は一日につき五千円とし宿泊費は実費を支給する",
    ]
    assert len(texts(parse("a.pdf", made(column(*lines))))) == 2
    row = [
        (80, 700, 10, "ホテル、旅館等"),
        (300, 700, 10, "６．５"),
        (80, 684, 10, "喫茶店等"),
        (300, 684, 10, "６．０"),
    ]
    assert texts(parse("a.pdf", made(row))) == ["ホテル、旅館等 6.5", "喫茶店等 6.0"]


def test_a_cell_of_several_lines_is_joined_in_its_column():
    cells = [
        (80, 700, 10, "旅館"),
        (300, 700, 10, "支給する額は、実際に要した費用とし上限を"),
        (300, 684, 10, "一万円とする。"),
    ]
    assert texts(parse("a.pdf", made(cells))) == ["旅館 支給する額は、実際に要した費用とし上限を一万円とする。"]


def test_letters_set_wide_and_typographic_gaps():
    spread = [(80 + 20 * i, 700, 10, c) for i, c in enumerate("全世帯")]
    assert texts(parse("a.pdf", made(spread))) == ["全世帯"]
    narrow = [(80, 700, 10, "約"), (93, 700, 10, "２"), (106, 700, 10, "割")]  # a quarter of a character between
    assert texts(parse("a.pdf", made(narrow))) == ["約2割"]


def test_a_table_of_contents_is_no_heading_and_its_dots_are_short():
    contents = ["第１章　総則" + "．" * 30 + "１", "第２章　旅費" + "．" * 30 + "３"]
    assert texts(parse("a.pdf", made(column(*contents)))) == ["第1章 総則...... 1", "第2章 旅費...... 3"]
    assert parse("a.pdf", made(column(*contents, "本文。"))).blocks[-1].place.headings == ()


def test_a_number_stays_apart_from_its_heading():
    assert texts(parse("a.pdf", made([(80, 700, 10, "第４章"), (113, 700, 10, "旅費")]))) == ["第4章 旅費"]


def test_a_raised_note_number_does_not_break_its_line():
    pieces = [(80, 700, 10, "貸出が減少し"), (140, 704, 5, "７"), (145, 700, 10, "、また増加した。")]
    assert texts(parse("a.pdf", made(pieces))) == ["貸出が減少し7、また増加した。"]


def test_running_titles_stay_once_page_numbers_go_and_a_sentence_crosses_the_page():
    pages = [[(250, 800, 9, "社内規程集"), *column(*WRAPPED[:1], top=400), (290, 30, 9, str(n))] for n in range(1, 4)]
    pages.append([(250, 800, 9, "社内規程集"), *column(WRAPPED[1], top=740), (290, 30, 9, "4")])
    reading = parse("a.pdf", made(*pages))
    assert texts(reading) == ["ヘッダー: 社内規程集", "".join([WRAPPED[0]] * 3) + WRAPPED[1]]
    assert {block.place.page for block in reading.blocks} == {1}


def test_headings_by_article_and_by_outline():
    data = made(
        column("第1章　総則", "", "(目的)", "第1条　旅費を定める。", "", "別冊の説明", "", "本文である。"),
        outline=("別冊の説明",),
    )
    placed = {block.text: block.place.headings for block in parse("a.pdf", data).blocks}
    assert placed["第1条 旅費を定める。"] == ("第1章 総則", "第1条(目的)")
    assert placed["本文である。"] == ("別冊の説明",)


def test_the_letters_of_a_turned_page_lie_on_it_as_it_is_seen():
    import pypdfium2

    page = pypdfium2.PdfDocument(made(column(*WRAPPED)))[0]
    for rotation, corner in ((0, (0, 1)), (90, (1, 1)), (180, (1, 0)), (270, (0, 0))):
        page.set_rotation(rotation)
        width, height = page.get_size()
        assert (width, height) == pytest.approx(A4 if rotation in (0, 180) else A4[::-1])
        (_, boxes), *_ = pdf._printed(page.get_textpage(), rotation, width, height)
        assert all(0 <= left < right <= width and 0 <= low < high <= height for left, low, right, high in boxes)
        assert (boxes[0][0] > width / 2, boxes[0][1] > height / 2) == corner  # where the text begins


def test_title_is_the_property_the_largest_line_or_the_file_name():
    page = [(80, 700, 20, "旅費規程の手引き"), *column("本文が続くだけの段落である。", top=600)]
    assert parse("t.pdf", made(page)).title == "旅費規程の手引き"
    assert parse("t.pdf", made(page, title="Microsoft Word - 旅費.doc")).title == "旅費規程の手引き"
    assert parse("旅費.pdf", made(column("本文が続くだけの段落である。"), title="雛形")).title == "旅費"


def test_pages_without_text_are_counted_and_a_scan_is_refused():
    assert parse("a.pdf", made(column("本文。"), [])).doubts == ("文字情報なし: OCRが必要な頁: 1頁分、最初は2頁。",)
    assert "文字情報なし: OCRが必要" in parse("a.pdf", made([], [])).problem


def test_garbled_pages_are_left_out_and_a_garbled_file_is_refused():
    odd = column("\ue000\ue001\ue002\ue003\ue004")
    reading = parse("a.pdf", made(column("正しい本文である。"), odd, column("二頁あとの本文である。")))
    assert texts(reading) == ["正しい本文である。", "二頁あとの本文である。"]
    assert reading.doubts == ("文字化けのため除いた頁: 1頁分、最初は2頁。",)
    assert "文字化け" in parse("a.pdf", made(odd)).problem


def test_a_page_of_printable_nonsense_is_doubtful_and_one_of_english_or_figures_is_not():
    nonsense = column(*["/edGj0 #2!kQ ;w9-Zx (p]}7 Bv&" * 2] * 3, size=4)
    english = column(*["The quick brown fox jumps over the lazy dog 2024."] * 3, size=4)
    figures = column(*["12,345 67.8% 2024 1,200 99 31.4 100"] * 4, size=4)
    reading = parse("a.pdf", made(column("本文である。"), nonsense, english, figures))
    assert reading.doubts == ("文字化けの疑いがある頁: 1頁分、最初は2頁。",)


def test_a_page_printed_downwards_reads_from_its_right_column():
    columns = [(500, 740, 12, WRAPPED[0]), (480, 740, 12, WRAPPED[1]), (460, 740, 12, "　二つ目の段落は字下げから始まるものとする。")]
    data = made(columns).replace(b"UniJIS-UCS2-H", b"UniJIS-UCS2-V")
    assert texts(parse("a.pdf", data)) == ["".join(WRAPPED), "二つ目の段落は字下げから始まるものとする。"]


def test_radicals_that_look_like_letters_become_letters():
    assert texts(parse("a.pdf", made(column("⼩規模な⾃治体の⻑は、⺠間に委託する。")))) == ["小規模な自治体の長は、民間に委託する。"]


def test_the_day_of_the_edition_is_in_the_properties_where_nothing_else_tells_it():
    data = made(column("本文である。"), title="題")
    assert parse("a.pdf", data.replace(b"<</Title", b"<</ModDate(D:20230829120000+09'00')/Title")).date == "2023-08-29"
    assert parse("a.pdf", data).date == ""


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_off_files_are_mended_or_refused(share):
    data = made(column("本文である。"))
    reading = parse("a.pdf", data[: int(len(data) * share)])
    assert bool(reading.blocks) != bool(reading.problem)


@given(st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_any_bytes_behind_the_signature(data):
    reading = parse("a.pdf", b"%PDF-1.7\n" + data)
    assert bool(reading.blocks) != bool(reading.problem)
