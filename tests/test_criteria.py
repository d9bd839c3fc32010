"""Reading criteria: what is agreed comes through whole, and what cannot be meant is refused by key and line."""

import math
from pathlib import Path

import pytest

from kit.errors import DataError
from kit.evaluation import criteria as criteria_module, metrics, statistics
from kit.evaluation.cases import cases_sha256, read_cases
from kit.evaluation.criteria import cases_path, questions_to_show, read_criteria
from kit.evaluation.metrics import METRICS
from kit.records import Kpi

HEAD = "title: 題\ncases: 質問.csv\n"
GATE = "  - {metric: right, bar: 0.7, reason: 理由}\n"


def write(folder, text, *, answered=60, unanswered=20, evidence=True, encoding="utf-8"):
    rows = [f"質問{i},正解,{'a.pdf' if evidence else ''}" for i in range(answered)]
    rows += [f"答えのない質問{i},," for i in range(unanswered)]
    (folder / "質問.csv").write_text("\n".join(["質問,正解,根拠文書", *rows]), encoding="utf-8")
    (folder / "criteria.yaml").write_text(text, encoding=encoding)
    return folder / "criteria.yaml"


def refusal(path):
    with pytest.raises(DataError) as caught:
        read_criteria(path)
    assert "\n" not in caught.value.cause + caught.value.remedy
    return caught.value.what


def kpi(text):
    return f"{HEAD}kpis:\n  - {{{text}}}\n"


def test_everything_agreed_comes_through(tmp_path):
    text = """\
# 注釈
title: 社内QA
hypothesis: 仮説
owner: 総務部長
approvers: [A, B]
cases: 質問.csv
alpha: 0.025
error_budget: 0.02
deadline: 2026-12-31
monthly_questions: 420
minutes_per_question: 12.5
kpis:
  - metric: right
    role: gate
    bar: 0.70
    reason: 理由1
  - {metric: right, role: guardrail, bar: 0.05, reason: 理由2, label: 比較}
  - {metric: latency_p95, role: info, bar: 3}
"""
    path = write(tmp_path, text)
    found = read_criteria(str(path))
    cases = read_cases(tmp_path / "質問.csv")
    assert (found.title, found.hypothesis, found.owner, found.approvers) == ("社内QA", "仮説", "総務部長", ("A", "B"))
    assert (found.alpha, found.error_budget, found.deadline) == (0.025, 0.02, "2026-12-31")
    assert (found.monthly_questions, found.minutes_per_question) == (420.0, 12.5)
    assert found.kpis == (
        Kpi("right", METRICS["right"].label, 0.7, "理由1", "gate"),
        Kpi("right", "比較", 0.05, "理由2", "guardrail"),
        Kpi("latency_p95", METRICS["latency_p95"].label, 3.0, "", "info"),
    )
    assert found.text == text
    assert (found.cases_name, found.cases_count, found.cases_sha256) == ("質問.csv", 80, cases_sha256(cases))
    assert found.metrics_sha256 == metrics.code_sha256()
    assert len({found.metrics_sha256, found.prompts_sha256, found.prices_sha256}) == 3


def test_a_seal_covers_the_prices_that_meter_a_run_and_no_others(tmp_path, monkeypatch):
    shipped = (Path(__file__).parents[1] / "data" / "prices.toml").read_text(encoding="utf-8")
    monkeypatch.setenv("KIT_PRICES", str(tmp_path / "prices.toml"))

    def sealed(old="", new="", text=shipped):
        assert old in text
        (tmp_path / "prices.toml").write_text(text.replace(old, new), encoding="utf-8")
        return criteria_module.prices_sha256()

    assert sealed() == sealed("server_yen = 2500000", "server_yen = 9") == sealed("growth_per_year = 0.05", "growth_per_year = 1")
    assert sealed() == sealed("yen_per_hour = 60.0", "yen_per_hour = 60  # 同じ値")
    assert sealed() == sealed(text=shipped.partition("\n[exchange]\n")[0])  # as runs of earlier versions had it
    assert sealed() != sealed("yen_per_hour = 60.0", "yen_per_hour = 61")
    assert sealed() != sealed("年間総人件費 630万円", "年間総人件費 640万円")
    dollars = shipped.replace("[tokens] ", '[tokens]\ncurrency = "USD" ').replace("\nyen_per_million_", "\nusd_per_million_").replace("prompt = 0.0", "prompt = 1")
    assert sealed(text=dollars) != sealed("yen_per_usd = 156.0", "yen_per_usd = 140", dollars)  # there the rate meters, too


def test_looks_withdrawal_and_what_follows_a_go_come_through(tmp_path):
    text = HEAD + """\
scope: commercial
looks: 3
per_look: 20
budget_yen: 30000
safety_hits: 0
model: Swallow-8B
judge: Qwen3-32B
scale_up:
  stage: 全支店
  budget: 年600万円
kpis:
""" + GATE
    found = read_criteria(write(tmp_path, text))
    assert (found.scope, found.looks, found.per_look, found.model, found.judge) == ("commercial", 3, 20, "Swallow-8B", "Qwen3-32B")
    assert (found.budget_yen, found.safety_hits) == (30000.0, 0)
    assert found.scale_up == (("stage", "全支店"), ("budget", "年600万円"))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("scope: 社内", "「社内」は使えません"),
        ("scope: internal\nlooks: 5", "5 は使えません。1 から 4"),
        ("scope: internal\nlooks: 1.5", "1.5 は使えません。整数"),
        ("looks: 2", "判定を重ねられません"),
        ("scope: internal\nper_look: 81", "質問は 80 問しかありません"),
        ("scale_up:\n  段階: 全社", "知らない項目です"),
    ],
)
def test_mistakes_in_looks_and_scope_are_told(tmp_path, lines, told):
    assert told in refusal(write(tmp_path, f"{HEAD}{lines}\nkpis:\n{GATE}"))


def test_what_may_be_left_out_has_its_default(tmp_path):
    found = read_criteria(write(tmp_path, HEAD + "owner:\nkpis:\n" + GATE))
    assert (found.owner, found.approvers, found.alpha, found.error_budget) == ("", (), 0.05, 0.05)
    assert (found.deadline, found.monthly_questions, found.minutes_per_question) == ("", 0.0, 0.0)
    assert found.kpis[0].role == "gate"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp932"])
def test_criteria_saved_by_an_editor_on_windows_are_read(tmp_path, encoding):
    assert read_criteria(write(tmp_path, HEAD + "kpis:\n" + GATE, encoding=encoding)).title == "題"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + "ownr: A\nkpis:\n" + GATE, "3行目「ownr」: 知らない項目です。「owner」の書き間違い"),
        (HEAD + "予算: 1\nkpis:\n" + GATE, "3行目「予算」: 知らない項目です。使えるもの: title、"),
        (HEAD + "title: 二つ目\nkpis:\n" + GATE, "3行目「title」: 同じ項目が2回"),
        (HEAD + "owner: [A]\nkpis:\n" + GATE, "3行目「owner」: 文字列で書きます"),
        (HEAD + "approvers: [a: b]\nkpis:\n" + GATE, "3行目「approvers」: 文字列のリスト"),
        (HEAD + "alpha: 5%\nkpis:\n" + GATE, "3行目「alpha」: 数値で書きます（例: 70% は 0.70）。今の値: 5%"),
        (HEAD + "alpha: 0.5\nkpis:\n" + GATE, "3行目「alpha」: 0.5 は使えません。0.001 から 0.2"),
        (HEAD + "alpha: .nan\nkpis:\n" + GATE, "3行目「alpha」: 数値で書きます"),
        (HEAD + "error_budget: -1\nkpis:\n" + GATE, "3行目「error_budget」: -1 は使えません"),
        (HEAD + "monthly_questions: true\nkpis:\n" + GATE, "3行目「monthly_questions」: 数値で書きます"),
        (HEAD + "deadline: 12月末\nkpis:\n" + GATE, "3行目「deadline」: 「12月末」は日付として読めません"),
        (HEAD + "deadline: 2026-13-45\nkpis:\n" + GATE, "3行目「deadline」: 「2026-13-45」は日付として読めません"),
        ("cases: 質問.csv\nkpis:\n" + GATE, "1行目「title」: 空です"),
        ("title: 題\nkpis:\n" + GATE, "1行目「cases」: 空です"),
        (HEAD, "1行目「kpis」: KPI を"),
        (HEAD + "kpis: right\n", "3行目「kpis」: KPI を"),
        (HEAD + "kpis:\n  - right\n", "4行目「kpis[1]」: 「項目: 値」の形"),
        ("", "1行目: 「項目: 値」の形"),
        ("# だけ\n", "1行目: 「項目: 値」の形"),
        ("title：題\n", "1行目: 「項目: 値」の形で書きます（コロンは半角"),
        (HEAD + "kpis:\n  - {metric: right, role: info, bar: 0.7}\n", "3行目「kpis」: 判定に使う KPI（role: gate）は 1〜5 個にします。今は 0 個"),
        (HEAD + "kpis:\n" + "".join(f"  - {{metric: {name}, bar: 0.5, reason: 理由}}\n" for name in list(METRICS)[:6]), "今は 6 個"),
        (kpi("metric: righ, bar: 0.7, reason: r"), "4行目「kpis[1].metric」: 知らない指標「righ」です。「right」の書き間違い"),
        (kpi("metric: 売上, bar: 0.7, reason: r"), "使えるもの: right、wrong_answer、"),
        (kpi("metric: right, role: gates, bar: 0.7, reason: r"), "4行目「kpis[1].role」: 知らない役割「gates」です。「gate」の"),
        (kpi("metric: right, bar: 0.7, reson: r"), "4行目「kpis[1].reson」: 知らない項目です。「reason」の"),
        (kpi("metric: right, bar: 0.7, reason: ''"), "4行目「kpis[1].reason」: 空です"),
        (kpi("metric: right, reason: r"), "4行目「kpis[1].bar」: 数値で書きます（例: 70% は 0.70）。今の値: なし"),
        (kpi("metric: right, bar: 70, reason: r"), "4行目「kpis[1].bar」: 70 は使えません。0.001 から 0.999 の数値で書きます（70% は 0.70）。"),
        (kpi("metric: right, bar: 1.0, reason: r"), "1.0 は使えません"),
        (kpi("metric: wrong_answer, bar: 0, reason: r"), "0 は使えません"),
        (kpi("metric: latency_p95, bar: 0, reason: r"), "0 は使えません。0.001 から 1000000 の数値で書きます。"),
        (kpi("metric: latency_p95, bar: 3000, reason: r"), "3,000秒＝50分です。ミリ秒ではありませんか。"),
        (kpi("metric: yen_per_right, bar: -3, reason: r"), "-3 は使えません。0.001 から"),
        (kpi("metric: yen_per_right, bar: inf, reason: r"), "inf は使えません"),
        (kpi("metric: right, role: guardrail, bar: 0.6, reason: r"), "0.6 は使えません。0.001 から 0.5"),
        (kpi("metric: right, role: guardrail, bar: 0, reason: r"), "0 は使えません。0.001 から 0.5"),
        (kpi("metric: latency_p95, role: guardrail, bar: 1, reason: r"), "guardrail に使えません"),
        (kpi("metric: first_contact, role: guardrail, bar: 0.05, reason: r"), "比較対象でも測る、割合か平均の指標に"),
        (kpi("metric: right, role: info, bar: 1.5"), "1.5 は使えません。0 から 1 の"),
    ],
)  # fmt: skip
def test_mistakes_are_told_by_key_and_line(tmp_path, text, told):
    assert told in refusal(write(tmp_path, text))


def test_all_mistakes_are_told_at_once(tmp_path):
    lines = refusal(write(tmp_path, "title:\nownr: A\ncases: 質問.csv\nalpha: 1\nkpis:\n  - {metric: x, bar: y}\n")).split("\n")
    assert lines[0] == "criteria.yaml に直すところが 6 か所あります。"
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        (kpi("metric: right, bar: 0.7, reason: r"), dict(answered=8, unanswered=0), "4行目「kpis[1].bar」: 「正しく対応できた割合」（基準 0.7）には、質問が 9 問以上必要です（今は 8 問）。質問を足すか、基準を緩めるか、role を info（参考）にするか、この KPI を外します。"),
        (kpi("metric: wrong_answer, bar: 0.15, reason: r"), dict(answered=18, unanswered=0), "19 問以上必要です（今は 18 問）"),
        (kpi("metric: latency_p95, bar: 3, reason: r"), dict(answered=58, unanswered=0), "質問が 59 問以上必要です（今は 58 問）"),
        (kpi("metric: refusal, bar: 0.8, reason: r"), dict(unanswered=13), "文書に答えのない質問が 14 問以上必要です（今は 13 問）"),
        (kpi("metric: answer_contained, bar: 0.9, reason: r"), dict(answered=28), "答えのある質問が 29 問以上必要です（今は 28 問）"),
        (kpi("metric: mrr_at_10, bar: 0.9, reason: r"), dict(answered=28), "根拠文書を書いた質問が 29 問以上必要です（今は 28 問）"),
        (kpi("metric: refusal, bar: 0.8, reason: r"), dict(unanswered=0), "文書に答えのない質問が 14 問以上必要です（今は 0 問）"),
        (kpi("metric: citation, bar: 0.8, reason: r"), dict(evidence=False), "根拠文書を書いた質問が 14 問以上必要です（今は 0 問）"),
        (HEAD + "kpis:\n" + GATE + "  - {metric: refusal, role: info, bar: 0.8}\n", dict(unanswered=0), "答えのない質問が 1 問以上必要です"),
    ],
)  # fmt: skip
def test_a_bar_that_these_questions_can_never_show_is_refused(tmp_path, text, options, told):
    assert told in refusal(write(tmp_path, text, **options))


def test_too_few_questions_are_told_as_a_matter_of_both_files(tmp_path):
    path = write(tmp_path, kpi("metric: refusal, bar: 0.8, reason: r"), unanswered=13)
    with pytest.raises(DataError) as caught:
        read_criteria(path)
    assert caught.value.what.startswith("質問.csv か criteria.yaml に直すところが 1 か所あります。\n")
    assert caught.value.remedy == f"{tmp_path / '質問.csv'} か {path} の上の箇所を直して保存し、もう一度実行してください。"


@pytest.mark.parametrize(
    ("name", "bar", "alpha", "needed"),
    [("right", 0.8, 0.05, 14), ("right", 0.9, 0.05, 29), ("right", 0.95, 0.05, 59), ("right", 0.99, 0.05, 299),
     ("wrong_answer", 0.05, 0.05, 59), ("latency_p95", 3.0, 0.05, 59), ("latency_p95", 3.0, 0.01, 90),
     ("character_f1", 0.9, 0.05, 29), ("mrr_at_10", 0.95, 0.05, 59), ("yen_per_right", 9.0, 0.05, 0)],
)  # fmt: skip
def test_the_fewest_questions_are_those_the_gate_itself_needs(name, bar, alpha, needed):
    metric = METRICS[name]
    assert questions_to_show(metric, bar, alpha) == needed
    for n in (needed - 1, needed) if needed else ():
        if metric.kind == "p95":
            passes = math.isfinite(statistics.quantile_bounds([1.0] * n, 0.95, alpha)[1])
        elif metric.kind == "mean":
            passes = statistics.mean_bounds([1.0] * n, alpha)[0] >= bar
        elif metric.higher_is_better:
            passes = statistics.share_bounds(n, n, alpha)[0] >= bar
        else:
            passes = statistics.share_bounds(0, n, alpha)[1] <= bar
        assert passes == (n == needed)


def test_enough_questions_are_accepted(tmp_path):
    text = HEAD + "kpis:\n" + GATE + "  - {metric: latency_p95, bar: 3, reason: r}\n"
    assert len(read_criteria(write(tmp_path, text, answered=39)).kpis) == 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("title: [", "YAML ファイルとして読めません"),
        ("title: a\n\tb: c\n", "の 2 行目あたりを YAML ファイルとして"),
        ("title: a: b\n", "の 1 行目あたりを YAML ファイルとして"),
        ("a: 1\n---\nb: 2\n", "YAML ファイルとして"),
        ("[" * 1200, "YAML ファイルとして"),
    ],
)
def test_a_broken_file_gives_three_lines(tmp_path, content, what):
    path = write(tmp_path, content)
    assert what in refusal(path)
    assert "\n" not in refusal(path)
    with pytest.raises(DataError):
        cases_path(path)


def test_nothing_in_the_file_is_executed(tmp_path):
    text = "title: !!python/object/apply:os.system [touch made]\ncases: 質問.csv\nkpis:\n" + GATE
    assert "1行目「title」: 文字列で書きます" in refusal(write(tmp_path, text))


def test_wrong_questions_are_told_by_their_own_place(tmp_path):
    path = write(tmp_path, HEAD + "kpis:\n" + GATE)
    (tmp_path / "質問.csv").write_text("質問,正解\n,a\n", encoding="utf-8")
    assert "質問.csv に直すところが 1 か所" in refusal(path)
    (tmp_path / "質問.csv").unlink()
    assert "質問.csv を読めません" in refusal(path)


def test_the_file_of_questions_is_named_without_reading_it(tmp_path):
    (tmp_path / "criteria.yaml").write_text("cases: ../q/質問表.xlsx\n", encoding="utf-8")
    assert cases_path(tmp_path / "criteria.yaml") == tmp_path / "../q/質問表.xlsx"
    (tmp_path / "criteria.yaml").write_text("title: a\n", encoding="utf-8")
    with pytest.raises(DataError, match="「cases」: 空です"):
        cases_path(tmp_path / "criteria.yaml")


def test_the_sample_is_agreed_upon():
    sample = Path(criteria_module.__file__).parents[2] / "data" / "sample" / "criteria.yaml"
    assert read_criteria(sample).cases_count == 200
