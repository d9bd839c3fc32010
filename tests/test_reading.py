"""The report of what became of each file."""

import json

from kit.knowledge import reading
from kit.knowledge.reading import FileReading, ReadingReport
from kit.records import Block, Document, Place
from kit.trust.durable import to_json

READ = Document("1", "a/規程.DOCX", "規程", (Block("12345", Place()), Block("678", Place())), date="2025-04-01")
DOUBTFUL = Document("2", "b.pdf", "b", (Block("1", Place()),), doubts=("2頁は画像です。", "<i>"))
CLOSED = Document("3", "c.pdf", "c", problem="パスワードが必要です <script>。")
BARE = Document("4", "memo", "memo", (Block("1" * 2000, Place()),))
REPORT = ReadingReport(tuple(map(FileReading.of, (READ, DOUBTFUL, CLOSED, BARE))))


def test_a_document_becomes_a_line():
    assert REPORT.files[0] == FileReading("a/規程.DOCX", 2, 8, "", (), "2025-04-01")
    assert [(file.mark, file.type) for file in REPORT.files] == [("○", "DOCX"), ("△", "PDF"), ("×", "PDF"), ("○", "（拡張子なし）")]


def test_a_report_survives_its_file():
    assert ReadingReport.from_json(json.loads(json.dumps(to_json(REPORT)))) == REPORT
    assert ReadingReport.from_json({"unreadable": []}) == ReadingReport(())


def test_the_table_counts_by_type_and_begins_with_what_wants_a_look(monkeypatch):
    html = REPORT._repr_html_()
    assert html.index("c.pdf") < html.index("b.pdf") < html.index("規程.DOCX")
    assert "2,009" in html and "日付の分かる文書 1 件" in html and "2頁は画像です。" in html
    assert "<script" not in html and "<i>" not in html
    monkeypatch.setattr(reading, "_MOST_ROWS", 2)
    assert "規程.DOCX" not in REPORT._repr_html_() and "ほか 2 件" in REPORT._repr_html_()
    assert "記録がありません" in ReadingReport(())._repr_html_()
