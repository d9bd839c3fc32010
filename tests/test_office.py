"""Word and PowerPoint files, and the check of every Office package."""

import datetime
import io
import json
import zipfile

import docx
import pptx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Cm

from kit.knowledge import office
from kit.knowledge.worker import parse
from kit.records import Place


def saved(thing):
    buffer = io.BytesIO()
    thing.save(buffer)
    return buffer.getvalue()


def lines(reading):
    return [block.text for block in reading.blocks]


def repacked(data, changes):
    """The same package with some parts replaced or added."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in changes:
                new.writestr(name, old.read(name))
        for name, content in changes.items():
            new.writestr(name, content)
    return buffer.getvalue()


# --- Word -------------------------------------------------------------------------------------------------------------


def test_docx_reads_paragraphs_and_tables_in_their_order_with_heading_paths():
    document = docx.Document()
    document.core_properties.title = "去年の雛形"
    document.add_paragraph("旅費規程", style="Title")
    document.add_heading("総則", 1)
    document.add_paragraph("出張の旅費を定める。")
    document.add_heading("日当", 2)
    table = document.add_table(rows=3, cols=3)
    table.cell(0, 0).merge(table.cell(1, 0)).text = "役職"
    table.cell(0, 1).merge(table.cell(0, 2)).text = "日当"
    for cell, text in zip(table.rows[1].cells[1:], ["国内", "海外"], strict=True):
        cell.text = text
    for cell, text in zip(table.rows[2].cells, ["部長", "3,000円", "5,000円"], strict=True):
        cell.text = text
    document.add_paragraph("以上")
    reading = parse("ryohi.docx", saved(document))
    assert reading.title == "旅費規程"
    assert [(block.text, block.place) for block in reading.blocks] == [
        ("旅費規程", Place()),
        ("総則", Place(headings=("総則",))),
        ("出張の旅費を定める。", Place(headings=("総則",))),
        ("日当", Place(headings=("総則", "日当"))),
        ("役職: 部長 / 日当 国内: 3,000円 / 日当 海外: 5,000円", Place(headings=("総則", "日当"))),
        ("以上", Place(headings=("総則", "日当"))),
    ]


def test_docx_without_heading_styles_takes_articles():
    document = docx.Document()
    for text in ("就業規則", "第1章 総則", "（目的）", "第1条　この規則は就業を定める。"):
        document.add_paragraph(text)
    assert parse("a.docx", saved(document)).blocks[-1].place.headings == ("第1章 総則", "第1条(目的)")


def paragraph(inner):
    return parse_xml(f"<w:p {nsdecls('w', 'wp', 'a')}>{inner}</w:p>")


def test_docx_reads_what_python_docx_leaves_out_and_no_deleted_hidden_or_doubled_text():
    document = docx.Document()
    body = document.element.body
    box = "<w:txbxContent><w:p><w:r><w:t>枠の中の注意</w:t></w:r></w:p></w:txbxContent>"
    mc = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    for inner in (
        "<w:r><w:t>残る</w:t></w:r><w:del><w:r><w:delText>消えた</w:delText></w:r></w:del><w:ins><w:r><w:t>足した</w:t></w:r></w:ins>",
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>見えない</w:t></w:r><w:r><w:t>見える</w:t></w:r>",
        "<w:r><w:ruby><w:rt><w:r><w:t>ゆうきゅう</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>有給</w:t></w:r></w:rubyBase></w:ruby></w:r>",
        f"<w:r><w:t>図</w:t></w:r><w:r><mc:AlternateContent {mc}><mc:Choice Requires='wps'>{box}</mc:Choice>"
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r>",
        "<w:r><w:instrText>PAGE</w:instrText><w:t>一行目</w:t><w:br/><w:t>二行目</w:t></w:r>",
    ):
        body.insert(len(body) - 1, paragraph(inner))
    control = parse_xml(
        f"<w:sdt {nsdecls('w')}><w:sdtContent><w:p><w:r><w:t>部品の中</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    )
    body.insert(len(body) - 1, control)
    assert lines(parse("a.docx", saved(document))) == [
        "残る足した", "見える", "有給", "図", "枠の中の注意", "一行目", "二行目", "部品の中",
    ]  # fmt: skip


def test_docx_footnotes_follow_their_paragraph():
    document = docx.Document()
    body = document.element.body
    body.insert(
        0, paragraph('<w:r><w:t>本文</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r><w:r><w:t>の続き</w:t></w:r>')
    )
    notes = f'<w:footnotes {nsdecls("w")}><w:footnote w:id="2"><w:p><w:r><w:t>出典は総務部。</w:t></w:r></w:p></w:footnote></w:footnotes>'
    data = saved(document)
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        relations = package.read("word/_rels/document.xml.rels").decode()
        types = package.read("[Content_Types].xml").decode()
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
    part = '<Override PartName="/word/footnotes.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"/>'
    data = repacked(
        data,
        {
            "word/footnotes.xml": notes,
            "word/_rels/document.xml.rels": relations.replace(
                "</Relationships>", f'<Relationship Id="rId99" Type="{kind}" Target="footnotes.xml"/></Relationships>'
            ),
            "[Content_Types].xml": types.replace("</Types>", part + "</Types>"),
        },
    )
    assert lines(parse("a.docx", data)) == ["本文の続き", "注: 出典は総務部。"]


def test_the_day_of_a_library_s_template_is_no_edition():
    document = docx.Document()
    document.add_paragraph("日当は三千円とする。")
    assert document.core_properties.modified == datetime.datetime(2013, 12, 23, 23, 15, tzinfo=datetime.UTC)
    assert [parse(name, saved(document)).date for name in ("規程.docx", "規程_2023年版.docx")] == ["", "2023-01-01"]
    slides = pptx.Presentation()
    slides.slides.add_slide(slides.slide_layouts[0]).shapes.title.text = "日当"
    assert parse("a.pptx", saved(slides)).date == ""


def test_docx_headers_footers_and_comments_are_read_once_and_page_numbers_are_not():
    document = docx.Document()
    document.core_properties.modified = datetime.datetime(2024, 7, 5, tzinfo=datetime.UTC)
    document.add_heading("日当", 1)
    run = document.add_paragraph("日当は三千円とする。").runs[0]
    document.add_comment(run, text="根拠を確かめること", author="経理")
    document.add_section()
    for section in document.sections:
        section.header.is_linked_to_previous = section.footer.is_linked_to_previous = False
        section.header.paragraphs[0].text, section.footer.paragraphs[0].text = "社外秘", "- 3 -"
    reading = parse("a.docx", saved(document))
    assert lines(reading) == ["ヘッダー: 社外秘", "日当", "日当は三千円とする。", "コメント: 根拠を確かめること"]
    assert [bool(block.place.headings) for block in reading.blocks] == [False, True, True, True]
    assert reading.date == "2024-07-05"


def test_docx_smartart_is_read_where_it_stands():
    document = docx.Document()
    document.add_paragraph("前")
    drawing = (
        f"<w:p {nsdecls('w')}><w:r><w:drawing><x:relIds xmlns:x='http://schemas.openxmlformats.org/drawingml/2006/diagram' "
        "xmlns:r='http://schemas.openxmlformats.org/officeDocument/2006/relationships' r:dm='rIdD'/></w:drawing></w:r></w:p>"
    )
    document.element.body.insert(1, parse_xml(drawing))
    document.add_paragraph("後")
    data = saved(document)
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        links = package.read("word/_rels/document.xml.rels").decode()
        types = package.read("[Content_Types].xml").decode()
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/diagramData"
    link = f"<Relationship Id='rIdD' Type='{kind}' Target='diagrams/data1.xml'/></Relationships>"
    plain = "<Override PartName='/word/diagrams/data1.xml' ContentType='application/xml'/></Types>"
    diagram = f"<d {nsdecls('a')}><a:p><a:r><a:t>申請</a:t></a:r></a:p><a:p><a:r><a:t>承認</a:t></a:r></a:p></d>"
    changes = {
        "word/_rels/document.xml.rels": links.replace("</Relationships>", link),
        "[Content_Types].xml": types.replace("</Types>", plain),
        "word/diagrams/data1.xml": diagram,
    }
    assert lines(parse("a.docx", repacked(data, changes))) == ["前", "図形: 申請", "図形: 承認", "後"]


def test_docx_prints_automatic_numbers():
    document = docx.Document()
    numbering = document.part.numbering_part.element
    levels = (("第%1条", "decimal"), ("%1.%2", "decimal"), ("(%3)", "aiueo"))
    for element in (
        f'<w:abstractNum {nsdecls("w")} w:abstractNumId="90">'
        + "".join(
            f'<w:lvl w:ilvl="{i}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/><w:lvlText w:val="{text}"/></w:lvl>'
            for i, (text, kind) in enumerate(levels)
        )
        + "</w:abstractNum>",
        f'<w:num {nsdecls("w")} w:numId="91"><w:abstractNumId w:val="90"/></w:num>',
        f'<w:num {nsdecls("w")} w:numId="92"><w:abstractNumId w:val="90"/>'
        '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num>',
    ):
        numbering.append(parse_xml(element))
    for text, level, number in (
        ("目的", 0, 91), ("範囲", 0, 91), ("国内", 1, 91), ("海外", 1, 91), ("甲", 2, 91), ("乙", 2, 91),
        ("附則", 0, 91), ("国内", 1, 91), ("別表", 0, 92), ("終", 0, 92),
    ):  # fmt: skip
        properties = document.add_paragraph(text)._p.get_or_add_pPr().get_or_add_numPr()
        properties.get_or_add_ilvl().val = level
        properties.get_or_add_numId().val = number
    assert lines(parse("a.docx", saved(document))) == [
        "第1条 目的", "第2条 範囲", "2.1 国内", "2.2 海外", "(ア) 甲", "(イ) 乙", "第3条 附則", "3.1 国内", "第5条 別表", "第6条 終",
    ]  # fmt: skip


def test_docx_shaded_first_row_heads_even_two_columns_and_equal_cells_stay():
    document = docx.Document()
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(table.rows[0].cells, ["本標準", "国際標準"], strict=True):
        cell.text = text
        cell._tc.get_or_add_tcPr().append(parse_xml(f'<w:shd {nsdecls("w")} w:fill="D9E2F3"/>'))
    for cell in table.rows[1].cells:
        cell.text = "Agent"
    assert lines(parse("a.docx", saved(document))) == ["本標準: Agent / 国際標準: Agent"]


def test_docx_frame_of_one_cell_is_text_not_a_table():
    document = docx.Document()
    cell = document.add_table(rows=1, cols=1).cell(0, 0)
    cell.text = "注意。"
    cell.add_paragraph("触らない。")
    assert lines(parse("a.docx", saved(document))) == ["注意。", "触らない。"]


def test_docx_with_macros_is_read():
    data = saved_words("手順")
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        types = package.read("[Content_Types].xml").decode()
    plain = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    macro = types.replace(plain, "application/vnd.ms-word.document.macroEnabled.main+xml")
    assert lines(parse("a.docm", repacked(data, {"[Content_Types].xml": macro}))) == ["手順"]


def saved_words(text):
    document = docx.Document()
    document.add_paragraph(text)
    return saved(document)


# --- PowerPoint -------------------------------------------------------------------------------------------------------


def test_pptx():
    deck = pptx.Presentation()
    deck.core_properties.title = "PowerPoint プレゼンテーション"
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "安全の手引き"
    for text, left, top in (("下", 1, 9), ("右上", 9, 5.1), ("左上", 1, 5)):
        slide.shapes.add_textbox(Cm(left), Cm(top), Cm(3), Cm(1)).text_frame.text = text
    table = slide.shapes.add_table(3, 2, Cm(1), Cm(12), Cm(8), Cm(3)).table
    table.cell(1, 0).merge(table.cell(2, 0))
    for (row, column), text in {
        (0, 0): "設備",
        (0, 1): "点検",
        (1, 0): "プレス",
        (1, 1): "毎日",
        (2, 1): "毎月",
    }.items():
        table.cell(row, column).text = text
    slide.notes_slide.notes_text_frame.text = "口頭で補う"
    hidden = deck.slides.add_slide(deck.slide_layouts[5])
    hidden.shapes.title.text = "予備"
    hidden._element.set("show", "0")
    reading = parse("a.pptx", saved(deck))
    assert reading.title == "安全の手引き"
    assert lines(reading) == [
        "安全の手引き", "左上", "右上", "下", "設備: プレス / 点検: 毎日", "設備: プレス / 点検: 毎月", "ノート: 口頭で補う", "予備",
    ]  # fmt: skip
    assert {block.place for block in reading.blocks} == {
        Place(slide=1, headings=("安全の手引き",)), Place(slide=2, headings=("予備",)),
    }  # fmt: skip
    assert reading.doubts == ("非表示のスライドも読みました: 2。",)


def test_pptx_chart_is_read_as_a_table():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    figures = CategoryChartData()
    figures.categories = ["東京", "大阪"]
    figures.add_series("売上", (12.5, None))
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Cm(1), Cm(1), Cm(9), Cm(9), figures)
    assert lines(parse("a.pptx", saved(deck))) == ["東京 / 売上: 12.5", "大阪"]


def test_pptx_groups_and_breaks():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(Cm(1), Cm(1), Cm(3), Cm(1)).text_frame.text = "群の\vの中"
    assert lines(parse("a.pptx", saved(deck))) == ["群のの中"]


# --- the package ------------------------------------------------------------------------------------------------------


def test_an_xml_bomb_is_refused():
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "' + b"x" * 1000 + b'">]><a>' + b"&b;" * 1000 + b"</a>"
    assert "不正なXML" in parse("a.docx", repacked(saved_words("a"), {"word/document.xml": bomb})).problem


def test_a_file_of_the_machine_is_not_disclosed():
    text = '<?xml version="1.0"?>' + " " * 5000 + '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
    document = (
        text + f"<w:document {nsdecls('w')}><w:body><w:p><w:r><w:t>&b;内容</w:t></w:r></w:p></w:body></w:document>"
    )
    reading = parse("a.docx", repacked(saved_words("a"), {"word/document.xml": document}))
    assert "root:" not in "".join(lines(reading)) + reading.problem


def test_a_zip_bomb_is_refused_by_what_it_declares(monkeypatch):
    monkeypatch.setattr(office, "MAX_UNPACKED", 1_000_000)
    assert (
        "大きすぎます" in parse("a.docx", repacked(saved_words("a"), {"word/media/x.bin": b"\0" * 2_000_000})).problem
    )


def test_names_that_leave_the_package_write_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lines(parse("a.docx", repacked(saved_words("内容"), {"../../evil.xml": b"<a/>", "/tmp/evil2": b"x"}))) == [
        "内容"
    ]
    assert list(tmp_path.iterdir()) == []


def test_cut_off_and_foreign_packages():
    data = saved_words("内容")
    assert "壊れ" in parse("a.docx", data[: len(data) // 2]).problem
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w") as package:
        package.writestr("a.txt", "x")
    assert "壊れ" in parse("a.docx", plain.getvalue()).problem


@pytest.mark.real
def test_naughty_strings(shared):
    naughty = json.loads((shared / "blns" / "blns.json").read_text())
    document = docx.Document()
    for text in naughty:
        document.add_paragraph("".join(c for c in f"品名 {text}" if c >= " " and c not in "\ufffe\uffff"))
    reading = parse("a.docx", saved(document))
    assert reading.problem == ""
    assert sum("品名" in line for line in lines(reading)) == len(naughty)
