"""The reading of real and of hostile files beside the checkout: every one yields exactly one document, in time."""

import time

import pytest

from kit.knowledge.files import load
from kit.knowledge.texts import share_readable
from kit.knowledge.worker import PARSE_SECONDS

pytestmark = pytest.mark.real

READABLE_BAD = {  # damaged, but something can be read
    "office/protected_sample.docx", "office/xlsx-corrupted.xlsx", "pdf/Pages-tree-refs.pdf", "pdf/base.pdf",
    "pdf/issue9105_reduced.pdf", "pdf/poppler-67295-0.pdf", "pdf/poppler-91414-0-54.pdf", "pdf/xref_command_missing.pdf",
}  # fmt: skip
REASONS = {
    "office/51921-Word-Crash067.doc": "旧形式",
    "office/60320-protected.xlsx": "パスワード",
    "office/bug53475-password-is-pass.docx": "パスワード",
    "office/protected_agile.docx": "パスワード",
    "office/poc-xmlbomb-empty.xlsx": "不正なXML",
    "office/yaizu_broken.xlsx": "0バイト",
    "office/~$9_メタデータ導入実践ガイドブック.docx": "一時ファイル",
    "office/invalid.xlsx": "壊れて",
    "pdf/aes-256-m.pdf": "パスワード",
    "pdf/rc4-40.pdf": "パスワード",
    "pdf/empty_protected.pdf": "文字情報なし: OCRが必要",
}


def read_all(folder, names=None):
    """Documents by name; asserts that each came within the limit."""
    documents, before = {}, time.monotonic()
    for document in load(folder):
        assert document.name not in documents
        assert bool(document.problem) != bool(document.blocks), document.name
        assert time.monotonic() - before < 3 * PARSE_SECONDS + 5, document.name
        documents[document.name] = document
        before = time.monotonic()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert len(documents) == len(files)
    return documents


def assert_readable(document, japanese=True):
    assert document.problem == "", document.name
    assert document.blocks
    assert document.title
    assert share_readable(document.text) > 0.95, document.name
    if japanese:
        letters = sum("\u3041" <= letter <= "\u9fff" for letter in document.text)
        assert letters > 0.05 * len(document.text), document.name


def assert_refused(document):
    assert not document.blocks
    assert document.problem.endswith("。")
    assert "\n" not in document.problem


def test_gif_office(shared):
    for document in read_all(shared / "gif_office").values():
        assert_readable(document, japanese="core_data_model_overview" not in document.name)
        ending = document.name.rsplit(".", 1)[1]
        for block in document.blocks:
            where = {"pdf": block.place.page, "pptx": block.place.slide, "xlsx": block.place.row and block.place.sheet}
            assert where.get(ending, True), document.name
        if ending == "docx" and not document.name.startswith("492-1"):
            assert any(block.place.headings for block in document.blocks), document.name


@pytest.mark.parametrize(
    ("name", "place", "text"),
    [
        ("438_コアデータモデル_DMD.xlsx", {"sheet": "個人", "row": 4, "headings": ("基礎項目",)}, "項目名: 氏 / 必須"),
        (
            "431_コアデータモデル解説書_個人.docx",
            {"headings": ("1 個人のデータモデル", "1.1 個人データモデルの項目")},
            "項目名: 国籍 / 説明: 国籍名",
        ),
        ("430_コアデータモデル全体概要.docx", {"headings": ("1 はじめに", "1.1 背景")}, "注: https://www.niem.gov/"),
        ("GIF研修シリーズDSS L01 社会におけるデータ.pptx", {"slide": 18}, "2025年には175ZB"),
    ],
)
def test_known_places_of_gif_office(shared, name, place, text):
    (document,) = load(shared / "gif_office" / name)
    found = [block.place for block in document.blocks if text in block.text]
    assert found, document.text[:500]
    assert {key: getattr(found[0], key) for key in place} == place


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("gif_office/491-2_コード_コード一覧_20240814.xlsx", "2024-08-14"),
        ("gif_office/444_コアデータパーツ_地理座標.docx", "2022-03-31"),
        ("gif_office/GIF研修シリーズDSS L02 データを読む説明する.pptx", "2023-03-31"),
        ("gov_pdf/10.pdf", "2024-07-05"),
        ("gov_pdf/20210830_2.pdf", "2021-08-30"),
        ("gov_pdf/staff24.pdf", "2022-04-22"),
        ("gov_pdf/000761091.pdf", "2020-12-15"),
    ],
)
def test_known_editions(shared, name, day):
    (document,) = load(shared / name)
    assert document.date == day


def test_gov_pdf(shared):
    documents = read_all(shared / "gov_pdf")
    assert "対応していない形式" in documents.pop("index.json").problem
    for document in documents.values():
        assert_readable(document)
        assert all(block.place.page for block in document.blocks)


@pytest.mark.parametrize(
    ("name", "page", "text"),
    [
        ("staff24.pdf", 3, "非金融法人企業の資産としての預貯金は128兆円増加しており"),
        ("kouri_toriatsukaiyouryou.pdf", 9, "ホテル、旅館等 6.5"),
        ("10.pdf", 11, "高齢者世帯(万円) 300.5 297.3 308.1 318.6 334.9 312.6"),
        ("keshouhin-standard.pdf", 5, "ホウ砂 0.76g(ミツロウ及びサラシミツロウの 1/2以下の配合量である場合に限る。)"),
        ("FILP_Report2022.pdf", 15, "いわゆるペイシェント・キャピタルであることが特徴です。"),
        ("000467835.pdf", 16, "監査の頻度は初回監査結果からリスクに応じて1-3年/回に設定すること"),
        ("000843318.pdf", 3, "設定不備が全体のおよそ17.7%で第3位となり"),
    ],
)
def test_known_sentences_of_gov_pdf(shared, name, page, text):
    (document,) = load(shared / "gov_pdf" / name)
    assert any(text in block.text and block.place.page == page for block in document.blocks)


def test_laws_in_shift_jis(shared, tmp_path):
    for path in sorted((shared / "laws" / "sjis_html").iterdir())[:20]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    documents = read_all(tmp_path)
    assert len(documents) == 20
    for document in documents.values():
        assert_readable(document)
        assert "\ufffd" not in document.text
        assert document.title not in document.name
    assert sum(any(b.place.headings for b in document.blocks) for document in documents.values()) >= 18


def test_yaizu_csv(shared):
    for document in read_all(shared / "yaizu_csv").values():
        assert_readable(document, japanese=False)
        assert not document.doubts
        assert all(block.place.row > 1 and ": " in block.text for block in document.blocks), document.name


def test_bad_files(shared):
    documents = read_all(shared / "bad_files")
    assert {name for name, document in documents.items() if document.blocks} == READABLE_BAD
    for name, document in documents.items():
        if name not in READABLE_BAD:
            assert_refused(document)
            assert REASONS.get(name, "") in document.problem, (name, document.problem)
