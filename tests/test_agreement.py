"""The 判定基準書: one page, the same bytes, and what stands on it."""

import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pypdfium2
import pytest

from kit.evaluation.designs import spend
from kit.records import Kpi, Seal
from kit.reporting.agreement import write_agreement
from kit.trust.seal import Approval
from tests.evaluations import make_cases, make_criteria

CASES = make_cases(8, 2)
DIGEST = hashlib.sha256(b"agreed").hexdigest()
RIGHT = Kpi("right", "正しく対応できた割合", 0.7, "7割が窓口に来なければ、兼任を1名減らせる。")
WORSE = Kpi("right", "正しく対応できた割合", 0.05, "いまより悪くならない。", "guardrail")
REFUSAL = Kpi("refusal", "控えた割合", 0.8, "", "info")
LONG = "理由を長々と書く。" * 60
SIGNED = Approval("部長", "ab" * 32, "2026-11-22T08:00:00+00:00")


def made(tmp_path, *kpis, approvals=(), parent="", **changes):
    """Write the page of some criteria: (text of the PDF without blanks, number of its pages, HTML)."""
    sealed = Seal(make_criteria(CASES, *(kpis or (RIGHT, WORSE, REFUSAL)), **changes), DIGEST, 7, "2026-11-21T15:30:00+00:00", parent)
    pdf, page = write_agreement(sealed, CASES, tmp_path, approvals)
    with pypdfium2.PdfDocument(pdf) as document:
        text = "".join(sheet.get_textpage().get_text_bounded() for sheet in document)
        return re.sub(r"\s", "", text), len(document), page.read_text(encoding="utf-8")


def test_the_page_says_what_was_agreed(tmp_path):
    text, pages, html = made(
        tmp_path, scope="internal", looks=3, per_look=4, deadline="2027-03-31", budget_yen=2e6, safety_hits=0,
        hypothesis="社員が自分で調べられる。", owner="総務課", model="org/model-20b", judge="", prompts_sha256="c" * 64,
        prices_sha256="d" * 64, scale_up=(("stage", "全支店"), ("budget", "年 600万円")), parent="e" * 64,
    )  # fmt: skip
    assert pages == 1
    agreed = [
        "社員が自分で調べられる。", "社内利用", "総務課", "10問", "2026年11月22日00:30（日本時間）、台帳7行目", "70%以上", "−5ポイント以内",
        "2問", "7割が窓口に来なければ、兼任を1名減らせる。", "5%以下（片側）", "3回まで、毎回まだ使っていない質問で（1回4問）",
        *(f"第{look}回{alpha:.2%}" for look, alpha in enumerate(spend(0.05, 3), 1)), "期限（2027-03-31）を過ぎた", "200万円を超えた",
        "示してはならない内容を含む回答が0件を超えた", "最後の回でも決着しない", "次の段階:全支店／予算:年600万円", "org/model-20b", "c" * 64,
        "d" * 64, DIGEST, "前の基準（eeeeeeeeeeee…）からの変更です。", "氏名", "印",
    ]  # fmt: skip
    folded = re.sub(r"<[^>]*>|\s", "", html)
    assert [line for line in agreed if line not in text] == []
    assert [line for line in agreed if line not in folded] == []
    assert f"封印{DIGEST[:12]}" in text, "the short form that a summary shows"


def test_a_demonstration_has_no_looks_and_may_have_no_exits(tmp_path):
    text, _, _ = made(tmp_path, approvers=())
    assert "デモ（投資判断には使わない）" in text
    assert "撤退（NO-GO）の条件定めなし" in text
    assert "最後の回" not in text and "前の基準" not in text and "氏名" not in text


def test_who_signed_electronically_needs_no_stamp(tmp_path):
    text, _, html = made(tmp_path, approvals=[SIGNED])
    assert "電子署名済み2026年11月22日" in text and "氏名" not in text
    assert "ab" * 32 in text
    assert "電子署名済み" in html and "氏名" not in html


def test_the_largest_criteria_stay_on_one_page(tmp_path):
    kpis = [Kpi("right", LONG, 0.7, LONG), *[RIGHT] * 4, *[WORSE] * 6, *[REFUSAL] * 6]
    text, pages, html = made(
        tmp_path, *(Kpi(k.metric, LONG, k.bar, LONG, k.role) for k in kpis), title=LONG, hypothesis=LONG, owner=LONG, model=LONG,
        judge="b" * 500, approvers=tuple(f"{LONG}{n}" for n in range(20)), scope="commercial", looks=4, per_look=10**6, budget_yen=1e12,
        safety_hits=10**6, deadline="2027-03-31", scale_up=(("stage", LONG), ("kpi", LONG), ("budget", LONG)), parent="e" * 64,
    )  # fmt: skip
    assert pages == 1
    assert DIGEST in text and "全文は、封印したcriteria.yamlにあります" in text
    assert text.count("判定理由を長々と") == 5, "every gate is there"
    assert len(html) < 30_000


def test_the_same_seal_gives_the_same_bytes_elsewhere_and_later(tmp_path):
    code = (
        "import sys; from tests import test_agreement as t; from pathlib import Path; t.made(Path(sys.argv[1]))"
    )
    made(tmp_path / "here")
    environment = os.environ | {"TZ": "America/New_York", "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "there"], env=environment, check=True)
    files = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert files == [f"判定基準書-{DIGEST[:12]}.html", f"判定基準書-{DIGEST[:12]}.pdf"]
    assert [(tmp_path / "here" / name).read_bytes() for name in files] == [(tmp_path / "there" / name).read_bytes() for name in files]


@pytest.mark.parametrize("text", ['<script>alert(1)</script>', '#read("/etc/passwd") $x$ *a*', "a\x00b\u202ec\ud800", "{{ 1 }}{% if %}"])
def test_texts_stay_texts(tmp_path, text):
    shown, pages, html = made(tmp_path, title=text, hypothesis=text, owner=text, model=text, approvers=(text,))
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)
    parser.feed(html)
    assert pages == 1 and "script" not in tags and "passwd:" not in shown
    assert "\x00" not in html and "\u202e" not in html


def test_nothing_is_loaded_and_no_letter_is_lost_unseen(tmp_path):
    text, _, html = made(tmp_path, owner="𠮷田")
    assert "〓田" in text and "𠮷田" in html
    assert not re.search(r"https?:|src=|href=|@import|url\(", html)


def test_the_page_prints_on_one_sheet(tmp_path, chromium):
    _, _, html = made(tmp_path, scope="internal", looks=4, title="題" * 40, hypothesis=LONG, approvers=tuple("部長室長課長係長"))
    pdf = tmp_path / "printed.pdf"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={pdf}"]
    subprocess.run([chromium, *options, next(tmp_path.glob("*.html")).as_uri()], check=True, capture_output=True)
    with pypdfium2.PdfDocument(pdf) as document:
        assert len(document) == 1
    assert "<footer>" in html
