"""Slices of a run: counts, exact intervals, and a correction for having looked at many."""

import dataclasses

import pytest
from scipy.stats import beta, fisher_exact

from kit.errors import RunError
from kit.evaluation.comparisons import BY, FEWEST, slices
from kit.records import Case, Evidence
from tests.evaluations import Oracle, make_answer, sealed_run


def cases_of(*groups):
    """Answerable questions of (category, document, number) groups, then ten that the documents do not answer."""
    found = [
        Case(f"{category}{i}", f"{category}の質問{i}", ((f"{i + 1}日",),), (Evidence(document),), category, "言い換え")
        for category, document, number in groups
        for i in range(number)
    ]
    return (*found, *(Case(f"u{i}", f"答えのない質問{i}", category="総務") for i in range(10)))


CASES = cases_of(("総務", "規程.docx", 20), ("経理", "料金.xlsx", 12), ("情シス", "手順", 3), ("法務", "契約.pdf", 2))


def replies(case):
    return make_answer(case.answers[0][0] if case.category != "経理" else "99日", case.evidence[0].document)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose candidate is right but for the questions on 経理, and whose baseline is always right."""
    wrong = {case.question: replies(case) for case in CASES if case.answerable}
    good = {case.question: make_answer(case.answers[0][0], case.evidence[0].document) for case in CASES if case.answerable}
    arms = {"baseline": Oracle(CASES, good), "candidate": Oracle(CASES, wrong)}
    return sealed_run(tmp_path_factory.mktemp("runs"), CASES, arms)


def of(found, by):
    return [(s.name, s.n, s.hits) for s in found.slices if s.by == by]


def test_slices_by_size_and_the_small_ones_together(run):
    found = slices(run)
    assert of(found, "category") == [("総務", 30, 30), ("経理", 12, 0), ("その他", 5, 5)]
    assert of(found, "document") == [("DOCX", 20, 20), ("（記載なし）", 13, 13), ("XLSX", 12, 0), ("その他", 2, 2)]
    assert of(found, "answerable") == [("文書に答えあり", 37, 25), ("文書に答えなし", 10, 10)]
    assert of(found, "kind") == [("言い換え", 37, 25), ("（記載なし）", 10, 10)]
    for by in BY:
        assert sum(n for _, n, _ in of(found, by)) == len(CASES)


def test_intervals_are_exact(run):
    accounts = next(s for s in slices(run).slices if s.name == "経理")
    assert (accounts.low, accounts.high) == (0.0, pytest.approx(beta.ppf(0.975, 1, 12)))
    answerable = next(s for s in slices(run).slices if s.name == "文書に答えあり")
    expected = beta.ppf(0.025, 25, 13), beta.ppf(0.975, 26, 12)
    assert (answerable.low, answerable.high) == pytest.approx(expected)


def test_each_is_compared_with_the_rest_and_corrected_for_their_number(run):
    found = slices(run, by=["category"]).slices
    raw = [fisher_exact(((30, 0), (5, 12))).pvalue, fisher_exact(((0, 12), (35, 0))).pvalue, fisher_exact(((5, 0), (30, 12))).pvalue]
    smallest, middle, largest = sorted(raw)
    holm = {smallest: 3 * smallest, middle: max(3 * smallest, 2 * middle), largest: min(1.0, max(2 * middle, largest))}
    assert [s.p for s in found] == pytest.approx([holm[p] for p in raw])
    assert [s.difference for s in found] == pytest.approx([1 - 5 / 17, -1.0, 1 - 30 / 42])


def test_a_slice_that_holds_all_questions_is_no_way_to_cut(run):
    alike = dataclasses.replace(run, cases=CASES[:20])
    assert slices(alike, by=["category"]).slices == ()
    assert "2つ以上の区分に分かれません" in slices(alike)._repr_html_()
    unnamed = dataclasses.replace(run, cases=tuple(dataclasses.replace(case, category="") for case in CASES))
    assert {s.by for s in slices(unnamed).slices} == {"document", "kind", "answerable"}


def test_a_runs_folder_will_do(run):
    assert slices(run.folder) == slices(str(run.folder)) == slices(run)
    with pytest.raises(RunError, match=r"cases\.jsonl"):
        slices(run.folder.parent / "ない")


def test_what_failed_counts_as_wrong_and_the_arm_can_be_chosen(run):
    assert of(slices(dataclasses.replace(run, rows=()), by=["category"]), "category")[0] == ("総務", 30, 0)
    assert of(slices(run, by=["category"], arm="baseline"), "category")[1] == ("経理", 12, 12)
    assert slices(dataclasses.replace(run, cases=())).slices == ()


def test_the_table_is_japanese_and_escaped(run):
    named = tuple(dataclasses.replace(case, category="<b>経理</b>" if case.answerable else "") for case in CASES)
    html = slices(dataclasses.replace(run, cases=named))._repr_html_()
    assert "<b>経理</b>" not in html
    assert "&lt;b&gt;経理&lt;/b&gt;" in html
    assert "判定には使いません" in html and "区分ごとの結果（候補）" in html
    assert "−100.0ポイント" in slices(run)._repr_html_()
    assert FEWEST == 5


@pytest.mark.parametrize("wrong", [{"by": ["部署"]}, {"arm": "ない"}])
def test_unknown(run, wrong):
    with pytest.raises(ValueError, match="unknown"):
        slices(run, **wrong)
