"""Looking through answers, by kind."""

import dataclasses

import pytest

from kit.evaluation.failures import KINDS, answers
from tests.evaluations import ABSTAINED, Oracle, make_answer, make_cases, sealed_run

CASES = make_cases(6, 2)


def twice(answer):
    """An answer of two sentences of one place."""
    return dataclasses.replace(answer, citations=answer.citations * 2)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    replies = {
        "Q1": make_answer("1日", confidence=0.9),
        "Q2": make_answer("2日", confidence=0.95),
        "Q3": make_answer("99日", confidence=0.3),
        "Q4": twice(make_answer("4日", "別.pdf", confidence=0.7)),
        "Q5": ABSTAINED,
        "Q6": make_answer("6日", state="timeout", error="60秒で打ち切り", confidence=0.0),
        "U2": make_answer("作り話", confidence=0.8),
    }
    arms = {"baseline": Oracle(CASES), "candidate": Oracle(CASES, replies)}
    return sealed_run(tmp_path_factory.mktemp("runs"), CASES, arms)


def ids(found):
    return [row[0] for row in found.rows]


def test_every_answer_has_one_kind(evaluation):
    found = {kind: answers(evaluation, kind=kind, number=99) for kind in KINDS}
    assert {kind: ids(listed) for kind, listed in found.items()} == {
        "誤った回答": ["u2", "a4", "a3", "a6"],  # the surest first; what failed is no right answer whatever its text
        "控えた回答": ["a5", "u1"],
        "正しい回答": ["a2", "a1"],
    }


def test_a_row_shows_question_gold_answer_and_source(evaluation):
    wrong = answers(evaluation)
    assert wrong.rows[0] == ("u2", "U2", "（文書に答えなし）", "作り話", "規程.docx", "答えがないのに回答した")
    assert wrong.rows[1] == ("a4", "Q4", "4日", "4日", "別.pdf", "出典を誤った")


def test_no_more_than_asked_for(evaluation):
    two = answers(evaluation, number=2)
    assert (ids(two), two.found) == (["u2", "a4"], 4)
    assert "誤った回答: 4 件のうち 2 件" in two._repr_html_()
    assert answers(evaluation, number=0).rows == ()


def test_an_unknown_kind(evaluation):
    with pytest.raises(ValueError, match="誤った回答"):
        answers(evaluation, kind="wrong")


def test_questions_without_row_are_passed_over(evaluation):
    none = dataclasses.replace(evaluation, rows=())
    assert answers(none).found == 0


def test_abstentions_say_whether_they_were_wrong(evaluation):
    assert [(row[0], row[5]) for row in answers(evaluation, kind="控えた回答").rows] == [
        ("a5", "根拠が検索に出なかった"), ("u1", "")
    ]  # fmt: skip
    assert {row[5] for row in answers(evaluation, kind="正しい回答").rows} == {""}


def test_whatever_an_answer_says_is_shown_as_text(tmp_path):
    cases = make_cases(1)
    run = sealed_run(tmp_path, cases, {"a": Oracle(cases, {"Q1": make_answer("<script>alert(1)</script>", "<b>.pdf")})})
    html = answers(run)._repr_html_()
    assert "<script>" not in html
    assert "<b>.pdf" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;b&gt;.pdf" in html
