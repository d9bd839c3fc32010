import dataclasses
import functools
import math
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from kit.errors import ParameterError
from kit.evaluation.metrics import METRICS
from kit.prices import Prices
from kit.records import Criteria, Decision, Kpi, KpiResult, Seal
from kit.reporting import findings, outlook, verdict, wording
from kit.reporting.economics import economics
from kit.reporting.export import write_summary
from kit.reporting.summary import summarise

PRICES = Prices(60.0, 3500.0, 0.0, 0.0, 30000.0, {
    "machine": "業務用PCの償却と電力（2026-11-01、確度C）", "staff": "年間総人件費 630万円÷1,800時間（2026-11-01、確度B）",
    "tokens": "社内で動かすため従量課金なし（2026-11-01、確度C）", "fixed": "運用担当者 月8.5時間（2026-11-01、確度C）",
})
GATE = (
    Kpi("right", "正しく対応できた割合", 0.70, "月420件の7割が窓口に来なければ月73時間が浮き、窓口の兼任1名を本来業務に戻せる。"),
    Kpi("wrong_answer", "誤った回答を示した割合", 0.15, "15%を超えると、確かめ直しで削減効果の3割近くが消える。"),
    Kpi("latency_p95", "応答時間（95%点、秒）", 3.0, "3秒を超えると「電話した方が早い」と言われ、使われなくなる。"),
    Kpi("right", "正しく対応できた割合", 0.05, "いまの社内検索より悪くなるなら、乗り換える理由がない。", "guardrail"),
    Kpi("citation", "出典が正しい割合", 0.80, "根拠文書にたどり着ければ、自分で確かめられる。", "info"),
    Kpi("refusal", "答えのない質問で回答を控えた割合", 0.80, "「見当たりません」と言えないと、信用を失う。", "info"),
    Kpi("yen_per_right", "正しい対応1件あたりの変動費（円）", 100, "窓口対応1件の人件費は875円。", "info"),
)
# outcome → per KPI: point, low, high, baseline, outcome, reason, needed
FIGURES = {
    "GO": [
        (0.785, 0.7315, 0.8319, 0.425, "GO", "", 0), (0.095, 0.0634, 0.1362, 0.31, "GO", "", 0),
        (0.084, 0.071, 0.098, 0.021, "GO", "", 0), (0.36, 0.2951, 0.4249, 0.425, "GO", "", 0),
        (0.853, 0.7972, 0.8986, 0.553, None, "", 0), (0.74, 0.6181, 0.8392, 0.0, None, "", 0),
        (0.0021, 0.0019, 0.0023, 0.0009, None, "", 0),
    ],
    "NO-GO": [
        (0.545, 0.4842, 0.6047, 0.425, "NO-GO", "区間の上限60.5%でも基準に届かない", 0),
        (0.21, 0.1637, 0.2632, 0.31, "NO-GO", "区間の下限16.4%でも基準に届かない", 0),
        (0.084, 0.071, 0.098, 0.021, "GO", "", 0), (0.12, 0.0551, 0.1849, 0.425, "GO", "", 0),
        (0.62, 0.5502, 0.6866, 0.553, None, "", 0), (0.34, 0.2292, 0.4657, 0.0, None, "", 0),
        (0.0031, 0.0028, 0.0036, 0.0009, None, "", 0),
    ],
    "EXTEND": [
        (0.74, 0.6841, 0.7903, 0.425, "EXTEND", "区間の下限68.4%が基準に届かず、まだ決められない", 337),
        (0.125, 0.0883, 0.1701, 0.31, "EXTEND", "区間の上限17.0%が基準に届かず、まだ決められない", 636),
        (2.41, 2.2, 3.42, 0.021, "EXTEND", "区間の上限3.42秒が基準に届かず、まだ決められない", 0),
        (0.315, 0.2451, 0.3849, 0.425, "GO", "", 0), (0.81, 0.7497, 0.8607, 0.553, None, "", 0),
        (0.7, 0.5753, 0.8053, 0.0, None, "", 0), (4.12, 3.91, math.inf, 0.0009, None, "", 0),
    ],
}
REASONS = {
    "GO": "すべての基準を、最も不利に見積もっても満たしています。",
    "NO-GO": "「正しく対応できた割合」、「誤った回答を示した割合」が、最も有利に見積もっても基準に届きません。",
    "EXTEND": "「正しく対応できた割合」、「誤った回答を示した割合」、「応答時間（95%点、秒）」は、この質問数では基準を満たすとも満たさないとも"
    "言い切れません。いまの実測値が実力なら、約636問で決着します。",
}


def example(question, shown, gold, citation):
    return {"question": question, "gold": gold, "shown": shown, "citation": citation}


EXAMPLES = {
    "good": [
        example("半日休暇は年に何回まで取れますか", "半日単位の年次有給休暇は、1年度につき12回を限度として取得できる。", "12回",
                "総務人事/就業規則.docx 第4章 休暇"),
        example("出張の日当は課長だといくら?", "日当は、課長職 2,800円、一般職 2,200円とする。", "2,800円",
                "経理購買/旅費規程.xlsx シート「日当」4行目"),
        example("旋盤の潤滑油の交換間隔は", "主軸潤滑油は稼働2,000時間または1年のいずれか早い時期に交換する。", "2,000時間または1年",
                "製造品質/NC旋盤取扱説明書.pdf 12頁"),
    ],
    "bad": [
        example("在宅勤務の通信費補助はいくら", "在宅勤務手当は1日あたり200円とする。", "（文書に答えなし）",
                "総務人事/在宅勤務規程.docx"),
        example("10万円の備品を買うときの承認者は誰", "購買金額が5万円以上の場合は、部門長の承認を要する。", "部門長 ＋ 経理課長",
                "経理購買/購買規程（2023年版）.docx"),
        example("ヒヤリハットの報告期限は", "資料に見当たりません", "発生当日", ""),
    ],
}


def decision(outcome="GO", **changes):
    criteria = Criteria(
        "社内規程・手順の問い合わせ対応PoC", "社員の問い合わせの大半は、社内文書から出典つきで答えられ、窓口の手を借りずに片付く。", "総務部 総務課",
        ("総務部長", "情報システム部長"), GATE, 0.05, 0.05, "", 420, 15, "text", "questions.jsonl", "c" * 64, 200, (), "d" * 64,
    )
    kpis = tuple(
        KpiResult(kpi, {"citation": 150, "refusal": 50}.get(kpi.metric, 200), point, low, high, base, result, why, needed)
        for kpi, (point, low, high, base, result, why, needed) in zip(GATE, FIGURES[outcome], strict=True)
    )
    lost = {"GO": {}, "NO-GO": {"timeout": 2}, "EXTEND": {"timeout": 3, "infrastructure_error": 2}}[outcome]
    failed = sum(lost.values())
    facts = {
        "planned": 200, "arm_labels": {"baseline": "キーワード検索の先頭1文", "candidate": "抽出型リーダー"},
        "points": {
            "baseline": {"right": 0.425, "refusal": 0.0, "wrong_answer": 0.575, "yen_per_right": 0.0009},
            "candidate": {"right": kpis[0].point, "refusal": kpis[5].point, "wrong_answer": kpis[1].point,
                          "yen_per_right": kpis[6].point},
        },
        "answerable": 150, "unanswerable": 50,
        "yen": {"baseline": 0.08, "candidate": round(kpis[6].point * 200 * kpis[0].point, 6)},
        "monthly_questions": 420, "minutes_per_question": 15, "documents": 34, "chunks": 1268,
        "calibration": "開発用の質問60問", "notes": ["読み取れなかったファイルが2件あります（準備の画面に理由を示しています）。"],
        "external": False, "repeat": 1, "day": "2026-11-21", "spent_yen": 1.0,
        "look": {"kind": "demonstration", "number": 1, "of": 1, "alpha": 0.05, "pooled": [], "abandoned": 0}, "finished": "2026-11-21T13:41:07+00:00",
        "causes": {
            "baseline": {"根拠は見つけたが読み取れなかった": 80, "答えがないのに回答した": 35},
            "candidate": {"根拠が検索に出なかった": 24, "答えがないのに回答した": 13, "根拠は見つけたが回答を控えた": 6},
        },
        "slices": [
            {"by": "document", "name": "PDF", "n": 40, "hits": 22, "low": 0.3849, "high": 0.7074, "difference": -0.29, "p": 0.004},
            {"by": "document", "name": "その他", "n": 160, "hits": 135, "low": 0.7783, "high": 0.8963, "difference": 0.29, "p": 0.004},
            {"by": "kind", "name": "数値", "n": 30, "hits": 20, "low": 0.4719, "high": 0.8271, "difference": -0.14, "p": 0.9},
        ],
        "ledger_head": "4f" * 32, "rows_sha256": "9a" * 32, "scope": "見本データによる実演（架空の会社）", "examples": EXAMPLES,
        "versions": {"lancedb": "0.40.0", "sudachipy": "0.7.1", "scipy": "1.17.1", "statsmodels": "0.15.0"},
    }
    states = {"baseline": {"answered": 200}, "candidate": {"answered": 200 - failed, **lost}}
    seal = Seal(criteria, "7c1e90ab" * 8, 1, "2026-11-20T02:15:00+00:00")
    made = Decision(
        outcome, REASONS[outcome], kpis, seal, Path("runs/20261121-224002-poc"), ("baseline", "candidate"), states, facts
    )
    return dataclasses.replace(made, **changes)


class Page(HTMLParser):
    """Visible text, tags and attributes of a page."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.tags, self.attributes, self.skipped = [], set(), [], 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.skipped += tag in ("style", "svg", "title")

    def handle_endtag(self, tag):
        self.skipped -= tag in ("style", "svg", "title")

    def handle_data(self, data):
        if not self.skipped:
            self.texts.append(data)


@functools.cache
def shown(name, lang="ja"):
    """Return HTML and Markdown of a variant, written once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder), VARIANTS[name](), lang)


def write(tmp_path, made, lang="ja"):
    html, md = (path.read_text(encoding="utf-8") for path in write_summary(made, to=tmp_path, formats=("html", "md"), lang=lang, prices=PRICES))
    return html, md


def figures(text):
    return sorted(re.findall(r"[+−]?\d[\d,]*(?:\.\d+)?", text))


def numbers_of_markdown(md):
    return figures(re.sub(r"(?m)^\d+\. ", "", re.sub(r"\\(.)", r"\1", md)))


def facts_of(outcome="GO", **changes):
    return decision(outcome).facts | changes


HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\u202e|`*_[a](https://evil.example)😀\n## 見出し " + "長い" * 300


def hostile():
    made = decision("EXTEND")
    kpis = tuple(
        dataclasses.replace(r, kpi=dataclasses.replace(r.kpi, label=HOSTILE, reason=HOSTILE), reason=HOSTILE) for r in made.kpis
    )
    criteria = dataclasses.replace(
        made.seal.criteria, title=HOSTILE, hypothesis=HOSTILE, approvers=(HOSTILE,), kpis=tuple(r.kpi for r in kpis)
    )
    bad = [dict.fromkeys(("question", "gold", "shown", "citation"), HOSTILE)] * 3
    facts = made.facts | {
        "notes": [HOSTILE] * 3, "scope": HOSTILE, "calibration": HOSTILE, "versions": {HOSTILE: HOSTILE},
        "arm_labels": {"baseline": HOSTILE, "candidate": HOSTILE}, "examples": {"good": bad, "bad": bad},
    }
    return dataclasses.replace(
        made, reason=HOSTILE, kpis=kpis, seal=dataclasses.replace(made.seal, criteria=criteria), facts=facts
    )


def void():
    """Return a run in which nothing was measured."""
    made = decision("EXTEND", reason="実行できなかった質問が100.0%あり、許容した5.0%を超えました。")
    nothing = {"right": 0.0, "refusal": 0.0, "wrong_answer": 0.0, "yen_per_right": None}
    kpis = tuple(
        dataclasses.replace(r, point=math.nan, low=-math.inf if i in (2, 3) else 0.0, high=math.inf if i in (2, 3) else 1.0)
        for i, r in enumerate(made.kpis)
    )
    facts = made.facts | {"points": {"baseline": nothing, "candidate": nothing}}
    states = {"baseline": {"not_run": 200}, "candidate": {"infrastructure_error": 200}}
    return dataclasses.replace(made, kpis=kpis, facts=facts, states=states)


def one_arm():
    made = decision("GO", arms=("candidate",))
    kpis = tuple(dataclasses.replace(r, baseline=None) for r in made.kpis if r.kpi.role != "guardrail")
    return dataclasses.replace(made, kpis=kpis)


VARIANTS = {
    "GO": decision, "NO-GO": lambda: decision("NO-GO"), "EXTEND": lambda: decision("EXTEND"), "one arm": one_arm,
    "void": void, "hostile": hostile,
}


@pytest.mark.parametrize("lang", ["ja", "en"])
@pytest.mark.parametrize("name", VARIANTS)
def test_html_and_markdown_show_the_same_figures(name, lang):
    html, md = shown(name, lang)
    alts = [value for tag, key, value in Page(html).attributes if (tag, key) == ("svg", "aria-label")][1:]  # the first is a table
    found = figures(" ".join([*Page(html).texts, *alts]))
    assert found == numbers_of_markdown(md)
    assert len(found) > 60


@pytest.mark.parametrize("lang", ["ja", "en"])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_page_is_self_contained_and_runs_nothing(name, lang):
    html, _ = shown(name, lang)
    page = Page(html)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "embed", "image", "base", "form", "a"}
    assert not [a for a in page.attributes if a[1] in ("src", "srcset", "action") or a[1].startswith("on")]
    assert all(value.startswith("#") for _, key, value in page.attributes if key.endswith("href"))
    markup = re.sub(r">[^<]*<", "><", re.sub(r'(aria-label|content)="[^"]*"', "", html))
    assert not re.search(r"https?://|src=|@import|url\((?!#)", markup)
    assert not re.search(r"@import|url\(", re.search(r"<style>(.*?)</style>", html, re.S)[1])
    assert "None" not in md_free(html)


def md_free(html):
    return " ".join(Page(html).texts)


def test_redrawing_gives_the_same_bytes(tmp_path):
    assert write(tmp_path, VARIANTS["EXTEND"]()) == shown("EXTEND")


@pytest.mark.parametrize(("outcome", "badge"), [("GO", "○ 導入を進める"), ("NO-GO", "× 見送る"), ("EXTEND", "△ 追加検証")])
def test_each_outcome_says_what_it_means(outcome, badge):
    html, md = shown(outcome)
    assert f"<b>{outcome}</b><span>{badge}</span>" in html
    assert md.startswith(f"# {outcome}　{badge}\n")
    assert REASONS[outcome] in html
    assert REASONS[outcome] in md


def test_the_kpi_table():
    lines = summed("EXTEND").kpis
    shown = [(k.mark, k.word, k.value, k.interval, k.bar, k.baseline, k.n) for k in lines]
    assert shown[0] == ("△", "未確定", "74.0%", "68.4〜79.0%", "70%以上", "42.5%", "200")
    assert shown[1][3:5] == ("8.8〜17.0%", "15%以下")
    assert shown[2][2:5] == ("2.41秒", "2.20〜3.42秒", "3秒以下")
    assert shown[3] == ("○", "達成", "+31.5ポイント", "+24.5〜+38.5ポイント", "−5ポイント以内", "42.5%", "200")
    assert shown[5] == ("－", "参考", "70.0%", "57.5〜80.5%", "80%以上", "0.0%", "50")
    assert shown[6][2:6] == ("4.1円", "3.9円以上", "100円以下", "0.01円未満")
    assert lines[3].label == "正しく対応できた割合：安全条件（比較対象との差）"


def test_failures_are_counted_openly():
    assert verdict.failures(decision(), "ja") == "失敗した質問はありません。"
    assert verdict.failures(decision("EXTEND"), "ja").startswith(
        "失敗した質問: 候補5問（基盤の障害 2、時間切れ 3）。"
    )


def section(made, key):
    return next(section for section in made.sections if section.key == key)


@functools.cache
def summed(outcome="GO", lang="ja"):
    """Return the summary of an outcome, computed once for all tests: the charts take their time."""
    return summarise(VARIANTS[outcome](), PRICES, lang)


def talk_and_plan(made, lang="ja"):
    """Return plan and talk of a decision without drawing anything."""
    known = outlook.figures(made, economics(made, PRICES), lang)
    return outlook.plan(made, known, lang), outlook.talk(made, known, lang)


def texts(section):
    """Return all texts of a section, block by block."""
    found = [section.title, section.lead]
    for block in section.blocks:
        found += [getattr(block, "title", ""), getattr(block, "note", ""), getattr(block, "text", "")]
        found += [item.text for item in getattr(block, "items", ())]
        found += [*getattr(block, "header", ()), *(cell for row in getattr(block, "rows", ()) for cell in row)]
    return [text for text in found if text]


def all_texts(made):
    """Return the texts of all sections, but for the sources of the prices, which are as the price table has them."""
    parts = [dataclasses.replace(part, blocks=part.blocks[:-1]) if part.key == "appendix" else part for part in made.sections]
    return [text for part in parts for text in texts(part)]


def agreed(made, **changes):
    """Return a decision under other criteria."""
    return dataclasses.replace(made, seal=dataclasses.replace(made.seal, criteria=dataclasses.replace(made.seal.criteria, **changes)))


def test_the_chapters_stand_in_the_order_of_an_executive():
    assert [part.key for part in summed().sections] == ["worth", "cost", "risks", "answers", "plan", "talk", "appendix"]
    assert [part.key for part in summed("void").sections] == ["risks", "answers", "plan", "talk", "appendix"]  # nothing was measured
    assert summed("void").money == ()


def test_the_seal_line_and_the_records():
    made = summed()
    assert made.headline[:3] == ("封印 7c1e90ab7c1e（2026年11月20日）", "承認 総務部長、情報システム部長", "基準の改定なし")
    assert made.headline[-1] == "外部送信なし"
    found = dict(section(made, "appendix").blocks[0].rows)
    assert found["封印"] == "7c1e90ab" * 8
    assert found["封印日時"] == "2026年11月20日 11:15（日本時間）"
    assert found["測定終了"] == "2026年11月21日 22:41（日本時間）"
    assert found["台帳の末尾"] == "4f" * 32
    assert found["予定した質問"] == "200問（答えあり150、答えなし50）"
    assert "両側90%" in made.footnote
    assert any("片側5%" in text for text in texts(section(made, "appendix")))


def test_what_lessens_a_decision_stands_under_the_title():
    amended = dataclasses.replace(decision().seal, parent="ab" * 32)
    made = decision(seal=amended, facts=facts_of(repeat=2, external=True))
    headline = verdict.headline(made, "ja")
    assert headline[2:4] == ("基準の改定あり（改定前 abababababab）", "再確認（2回目）")
    assert headline[-1] == "外部送信あり"
    found = dict(findings.appendix(made, PRICES, "ja").blocks[0].rows)
    assert found["改定前の封印"] == "ab" * 32
    assert found["実行回数"].startswith("再確認（2回目）")
    assert any("外部送信がありました" in text for text in texts(talk_and_plan(made)[1]))


@pytest.mark.parametrize(("low", "high", "said"), [
    (0.01, 0.2, "候補の方がよいと言えます"), (-0.2, -0.01, "候補の方が悪いと言えます"), (-0.01, 0.2, "優劣は言えません"),
    (-math.inf, math.inf, "求められません"),
])  # fmt: skip
def test_better_is_said_only_where_the_interval_leaves_out_nothing(low, high, said):
    kpis = [dataclasses.replace(r, low=low, high=high) if r.kpi.role == "guardrail" else r for r in decision().kpis]
    assert said in verdict.comparison(decision(kpis=tuple(kpis)), "ja")


def test_without_an_agreed_difference_nothing_is_said_to_be_better():
    unpaired = tuple(r for r in decision().kpis if r.kpi.role != "guardrail")
    assert verdict.comparison(decision(kpis=unpaired), "ja") == "比較対象との差は、判定の基準には入れていません（参考の比較は「費用対効果」）。"
    assert verdict.comparison(one_arm(), "ja") == ""


def test_answers_are_cards_with_causes_and_weak_slices():
    long = facts_of(examples={"good": [], "bad": [example("問", "あ" * 300, "答", "")]})
    made = findings.answers(decision(), "ja")
    good, bad, _, causes, weak = made.blocks
    assert good.header == ("", "良い例1", "良い例2", "良い例3")
    assert bad.rows[3] == ("出典", "総務人事/在宅勤務規程.docx", "経理購買/購買規程（2023年版）.docx", "—")
    assert causes.rows[0] == ("根拠が検索に出なかった", "24", "0", "文書の追加と、検索語の手当て")
    assert causes.rows[-1][:3] == ("根拠は見つけたが読み取れなかった", "0", "80")
    assert [row[:4] for row in weak.rows] == [("文書の形式", "PDF", "40", "55.0%（38.5〜70.7%）")]
    assert made.lead.startswith("200問のうち43問は正しく対応できませんでした。最も多い原因は「根拠が検索に出なかった」の24問（55.8%）")
    none, cut, note, *_ = findings.answers(decision(facts=long), "ja").blocks
    assert none.text == "良い例: 該当する回答はありません。"
    assert cut.rows[1][1] == "あ" * 120 + "…"
    assert "120字" in note.text


def test_causes_of_equal_numbers_stand_in_the_same_order_every_time():
    from kit.evaluation.failures import LABELS

    tied = facts_of(causes={"baseline": {}, "candidate": dict.fromkeys(LABELS.values(), 4)})
    rows = findings.answers(decision(facts=tied), "ja").blocks[3].rows
    assert [row[0] for row in rows] == [*LABELS.values()]


def test_every_cause_has_its_words():
    from kit.evaluation.failures import LABELS

    words = wording.words("ja")
    assert {key: words[f"cause_{key}"] for key in LABELS} == LABELS
    assert all(f"mend_{key}" in wording.words("en") for key in LABELS)


def test_the_plan_follows_the_outcome():
    staged = agreed(decision(), scale_up=(("stage", "総務部で3か月"), ("kpi", "月300件減"), ("budget", "80万円")))
    go = talk_and_plan(staged)[0].blocks[0].rows
    assert ("2026年12月21日まで", "総務部で3か月", "担当部門", "月300件減", "80万円") in go
    assert any("切り戻し" in row[1] for row in go)
    assert any("1部門で本番利用" in row[1] for row in talk_and_plan(decision())[0].blocks[0].rows)
    assert any("kit stop" in row[1] for row in talk_and_plan(decision("NO-GO"))[0].blocks[0].rows)
    wait = talk_and_plan(agreed(decision("EXTEND"), deadline="2027-03-31"))[0].blocks[0].rows
    # 636 questions x 15 min x 3,500 yen/h = 556,500 yen
    assert ("まだ使っていない質問を約636問用意し、正解を付ける", "人件費 約55.6万円（確度C、1問15分の仮置き）") in [(row[1], row[4]) for row in wait]
    assert "2027年3月31日" in [row[0] for row in wait]


def test_a_second_look_needs_only_what_the_first_left():
    pooled = facts_of("EXTEND", look=decision().facts["look"] | {"kind": "look", "of": 2})
    assert any("約436問" in text for text in texts(talk_and_plan(decision("EXTEND", facts=pooled))[0]))
    assert "全部で約636問（今回の200問を含む）" in outlook.next_steps(decision("EXTEND", facts=pooled))[0]


def test_what_is_said_in_the_meeting_is_true_of_the_run():
    said = {outcome: texts(section(summed(outcome), "talk")) for outcome in REASONS}
    assert any("200問のうち19問では、誤った回答を示しました" in text for text in said["GO"])
    assert any("200問のうち42問は、誤った回答か、回答の失敗でした" in text for text in said["NO-GO"])  # 2 timed out
    assert any("約636問で、指標ごとに8割の確率で決着する見込みです。ただし「応答時間（95%点、秒）」" in text for text in said["EXTEND"])
    assert any("有利な側の端でも基準（70%以上）を満たさない" in text for text in said["NO-GO"])
    for outcome in REASONS:
        questions = [row[0] for row in section(summed(outcome), "talk").blocks[1].rows]
        assert len(questions) == len({*questions}) == 8
    lost = texts(section(summed("void"), "talk"))
    assert not any("決着する見込み" in text or "誤った回答を示しました" in text or "差引" in text for text in lost)


def test_a_go_that_may_not_pay_says_so_first():
    made = decision()
    known = outlook.figures(made, economics(made, PRICES), "ja")
    paid = known | {"not_gain": ""}
    assert outlook.steps(made, known | {"not_gain": "yes"}, "ja")[0].startswith("始める前に、費用の前提を確かめる。いまの前提では、差引は年")
    assert outlook.steps(made, paid, "ja") == outlook.next_steps(made)


def test_next_steps():
    assert len(outlook.next_steps(decision())) == 3
    assert "試験用のサーバーと文書ストアを止める" in outlook.next_steps(decision("NO-GO"))[0]
    steps = outlook.next_steps(decision("EXTEND"))
    assert "「正しく対応できた割合」約337問（今回200問）、「誤った回答を示した割合」約636問（今回200問）" in steps[0]
    assert "「応答時間（95%点、秒）」は見積もれませんでした" in steps[0]
    assert outlook.next_steps(void())[0].startswith("実行できなかった質問の原因を除き")  # too much lost: no plan from it
    assert verdict.reason(void(), "en").startswith("Too many questions could not be run.")
    used = decision("EXTEND", kpis=decision("GO").kpis)  # every bar is met, but with questions judged by before
    assert outlook.next_steps(used)[0] == "まだ使っていない質問を用意し、同じ基準で測り直す。"
    assert verdict.reason(used, "en") == "These questions were judged under other criteria before: GO needs unused ones."
    late = agreed(decision("NO-GO", kpis=decision("GO").kpis), deadline="2026-11-20")
    assert verdict.reason(late, "en") == "The agreed deadline (2026-11-20) has passed."


def broken():
    """Return a run in which only the guardrail fails, and surely."""
    kpis = list(decision("GO").kpis)
    kpis[3] = dataclasses.replace(kpis[3], point=-0.12, low=-0.18, high=-0.07, outcome="EXTEND")
    return decision("EXTEND", reason="「正しく対応できた割合」が悪い。", kpis=tuple(kpis), states=decision("GO").states)


def test_a_broken_guardrail_is_no_matter_of_too_few_questions():
    made, english = summarise(broken(), PRICES), summarise(broken(), PRICES, "en")
    assert (made.outcome, made.kpis[3].mark, made.kpis[3].word) == ("EXTEND", "×", "未達")
    assert made.evidence.startswith("「正しく対応できた割合：安全条件（比較対象との差）」は−12.0ポイント")
    assert made.steps[0].startswith("候補が比較対象より明らかに悪い原因")
    assert "問" not in made.steps[0].replace("質問", "")
    assert "More questions will not change that" in english.reason
    assert "mend" in english.steps[0]


def test_english_has_no_japanese_of_its_own():
    japanese = re.compile("[\u3040-\u30ff\u4e00-\u9fff、。「」（）〜]")
    for outcome in REASONS:
        bare = dataclasses.replace(decision(outcome), facts=facts_of(outcome, examples={"good": [], "bad": []}, calibration="", arm_labels={"baseline": "A", "candidate": "B"}, slices=[]))
        bare = dataclasses.replace(bare, seal=dataclasses.replace(bare.seal, criteria=dataclasses.replace(bare.seal.criteria, title="T", owner="O", approvers=("P",))))
        bare = dataclasses.replace(bare, kpis=tuple(dataclasses.replace(r, kpi=dataclasses.replace(r.kpi, label=METRICS[r.kpi.metric].label, reason="")) for r in bare.kpis))
        plain_prices = dataclasses.replace(PRICES, notes=dict.fromkeys(PRICES.notes, "source (2026-11-01)"))
        made = summarise(bare, plain_prices, "en")
        texts = [made.reason, made.evidence, made.comparison, made.footnote, made.failures, made.assumption, *made.steps, *made.headline, *all_texts(made)]
        texts += [x for k in made.kpis for x in (k.label, k.word, k.value, k.interval, k.bar, k.baseline)]
        texts += [x for m in made.money for x in (m.label, m.value, m.span)]
        assert not [text for text in texts if japanese.search(text)]
    assert summed("EXTEND", "en").kpis[6].bar == "at most ¥100"


def test_both_languages_have_every_word():
    from kit.reporting.wording import _table

    for key, entry in [*_table()["words"].items(), *_table()["units"].items()]:
        if not key.startswith("reason_") and key != "incomplete":
            assert set(entry) == {"ja", "en"}, key


def test_no_word_stands_in_two_files():
    import tomllib

    folder = Path(wording.__file__).parent / "templates" / "words"
    keys = [key for file in folder.glob("*.toml") for key in tomllib.loads(file.read_text(encoding="utf-8")).get("words", {})]
    assert sorted({key for key in keys if keys.count(key) > 1}) == []


def test_hostile_text_stays_text():
    html, md = shown("hostile")
    assert "&lt;script&gt;" in html
    assert "\u202e" not in html + md
    assert "<script" not in md.replace("\\<script", "")
    assert not re.search(r"(?m)^## 見出し", md)
    rows = [line for line in md.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {8, 6, 5, 4, 3}  # no cell was split


def test_markdown_is_read_back_as_written():
    from markdown_it import MarkdownIt

    _, md = shown("NO-GO")
    html = MarkdownIt("commonmark").enable("table").render(md)
    assert html.count("<table>") == len(re.findall(r"(?m)^\|[-:|]+\|$", md)) > 6
    assert "<strong>" + REASONS["NO-GO"] + "</strong>" in html
    assert figures(re.sub(r"<[^>]*>|&#?\w+;", " ", html)) == numbers_of_markdown(md)


def test_files_and_formats(tmp_path):
    made = write_summary(decision(), to=tmp_path / "new" / "folder", formats=("md",), lang="en", prices=PRICES)
    assert made == [tmp_path / "new" / "folder" / "summary.en.md"]
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["summary.en.md"]
    with pytest.raises(ParameterError) as error:
        write_summary(decision(), to=tmp_path, formats=("docx",), prices=PRICES)
    assert str(error.value).splitlines()[0] == "サマリーの形式「docx」か言語「ja」は使えません。"
    assert len(str(error.value).splitlines()) == 3
    with pytest.raises(ParameterError):
        write_summary(decision(), to=tmp_path, lang="fr", prices=PRICES)


def test_the_price_table_of_the_settings_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write_summary(decision(), to=tmp_path, formats=("html",))[0].stat().st_size < 800_000


def printed(pdf):
    """Return the text of each page, without the spaces that setting may add."""
    import pypdfium2

    return [page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(pdf)]


@pytest.mark.browser
@pytest.mark.parametrize(("name", "lang"), [*((name, "ja") for name in VARIANTS), ("EXTEND", "en")])
def test_the_page_as_a_picture(tmp_path, chromium, name, lang):
    from playwright.sync_api import sync_playwright

    path = tmp_path / "summary.html"
    path.write_text(shown(name, lang)[0], encoding="utf-8")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (1280, 700):
            page = browser.new_page(viewport={"width": width, "height": 900})
            messages = []
            page.on("console", lambda message: messages.append(message.text))  # noqa: B023
            page.on("request", lambda request: messages.append(request.url))  # noqa: B023
            page.goto(path.as_uri())
            picture = page.screenshot(path=tmp_path / f"{width}.png")
            assert len(picture) > 20_000
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert messages == [path.as_uri()]
            if name != "hostile":
                box = page.locator(".decision").bounding_box()
                assert box["y"] + box["height"] < 900
            if name in REASONS and lang == "ja" and width == 1280:
                last = page.locator(".columns").bounding_box()
                assert last["y"] + last["height"] < 900
        page.set_viewport_size({"width": 703, "height": 1032})  # A4 less its margins
        page.emulate_media(media="print")
        wide = "[...document.querySelectorAll('table')].filter(t => t.scrollWidth > t.parentElement.clientWidth + 1).length"
        assert page.evaluate(wide) == 0
        if name in REASONS or name in ("void", "one arm"):
            assert page.locator(".first").bounding_box()["height"] < 1032
            page.locator("summary").first.click()  # what is folded prints all the same
            texts = printed(page.pdf(path=tmp_path / "print.pdf", prefer_css_page_size=True))
            assert len(texts) <= 8
            words = wording.words(lang)
            assert words["next"] in texts[0]
            assert words["answers_title"] not in texts[0]
            assert all(any(title in text for text in texts) for title in (words["answers_title"], words["cause_table"], words["appendix"]))
        browser.close()


def a_look(**changes):
    """Return an EXTEND at the first of two looks of 40 questions each."""
    made = agreed(decision("EXTEND", facts=facts_of("EXTEND", look=facts_of()["look"] | {"kind": "look", "of": 2})), looks=2, per_look=40)
    return dataclasses.replace(made, **changes)


def test_where_the_looks_are_sealed_the_next_one_asks_for_no_more_than_agreed():
    made = a_look()
    first, more, *_ = outlook.next_steps(made)
    assert first == "次の判定（2回目）が最後。取り決めた新しい質問40問で、同じ基準のまま行う。決着しなければ撤退する。"
    assert "全部で約337問" in more
    assert "40問より多く使うには、基準の改定（per_look）への合意が要る" in more
    told = " ".join(text for part in talk_and_plan(made) for text in texts(part))
    assert "まだ使っていない質問を40問用意し" in told
    assert "新たに約436問" in told
    assert "取り決めた40問" in told


def test_a_go_that_may_not_pay_says_so_in_its_box_and_takes_the_stage_agreed():
    made = agreed(decision(), scale_up=(("stage", "2部門へ広げる"), ("kpi", "正答75%"), ("budget", "50万円")))
    money = {"net": "−57.3万円", "net_span": "−70〜−40万円", "net_grade": "C", "not_gain": "yes"}
    known = outlook.figures(made, economics(made, PRICES), "ja") | {"gain": "", "even": ""} | money
    assert "費用が効果を上回ります（年−57.3万円、幅 −70〜−40万円、確度C）" in outlook.but(made, known | {"loss": "yes"}, "ja")
    assert "言い切れません" in outlook.but(made, known | {"loss": "", "even": "yes"}, "ja")
    assert outlook.but(made, known | {"loss": "", "gain": "yes"}, "ja") == ""
    assert outlook.but(decision("NO-GO"), known | {"loss": "yes"}, "ja") == ""
    assert outlook.steps(made, known, "ja")[1] == "取り決めた次の段階に進む: 2部門へ広げる（KPI: 正答75%、予算: 50万円）。"
    assert not any("1部門" in text for text in (*outlook.steps(made, known, "ja"), outlook.plan(made, known, "ja").lead))


def test_money_says_what_it_covers_and_what_it_leaves_out():
    assert summed().money[0][:2] == ("今回の計算費", "1円未満")
    assert "正しく控えた分で、時間を省けないため" in summed().notes[-1]
    assert section(summed("NO-GO"), "worth").lead.startswith("判定は見送りです。参考の試算では、")
    assert section(summed("NO-GO"), "worth").lead.endswith("この金額を導入の理由にはできません。")
    assert any("1,000円あたりの品質" in text for text in wording.words("ja")["qpd_money"].splitlines())


def test_kinds_of_questions_are_named_in_the_language_of_the_report():
    cut = {"by": "kind", "name": "two_documents", "n": 40, "hits": 22, "low": 0.3849, "high": 0.7074, "difference": -0.29, "p": 0.004}
    made = findings.answers(decision(facts=facts_of(slices=[cut])), "ja")
    assert "複数文書" in texts(made)
    assert "two_documents" not in texts(made)
