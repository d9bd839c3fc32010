"""Why an answer was wrong: one question per cause."""

import pytest

from kit.evaluation.failures import LABELS, attribute, causes
from kit.records import OPEN_STATES, Case, Evidence, Place
from tests.evaluations import ABSTAINED, Oracle, make_answer, make_cases, make_row, sealed_run

CASE = Case("1", "締め日は", (("20日",),), (Evidence("規程.pdf", Place(page=3)),))
NONE = Case("2", "社長の血液型は")
BARE = Case("3", "締め日は", (("20日",),))
GOLD = Evidence("規程.pdf", Place(page=3))
OTHER = Evidence("規程.pdf", Place(page=9))
SECOND = Evidence("細則.docx")
TWO = Case("4", "両方は", (("10日",), ("20日",)), (GOLD, SECOND))

CAUSES = [
    ("infrastructure", CASE, {"state": "infrastructure_error"}),
    ("infrastructure", CASE, {"state": "judge_error"}),
    ("infrastructure", NONE, {"state": "not_run"}),
    ("timeout", CASE, {"state": "timeout"}),
    ("wrong_format", CASE, {"state": "wrong_format"}),
    ("model_error", NONE, {"state": "model_error", "abstained": True}),
    ("not_refused", NONE, {"shown": "A型"}),
    ("not_retrieved", CASE, {"shown": "15日", "retrieved": (OTHER,) * 10}),
    ("not_retrieved", CASE, {"abstained": True, "retrieved": ()}),
    ("ranked_low", CASE, {"shown": "15日", "retrieved": (*(OTHER,) * 5, GOLD)}),
    ("ranked_low", CASE, {"abstained": True, "retrieved": (*(OTHER,) * 9, GOLD)}),
    ("wrongly_refused", CASE, {"abstained": True, "retrieved": (*(OTHER,) * 4, GOLD)}),
    ("wrongly_refused", BARE, {"abstained": True}),
    ("not_read", CASE, {"shown": "15日"}),
    ("not_read", CASE, {"shown": "120日", "cited": ()}),
    ("not_read", BARE, {"shown": "15日"}),
    ("citation_wrong", CASE, {"cited": (Evidence("別.pdf"),)}),
    ("citation_wrong", CASE, {"cited": ()}),
    ("citation_wrong", CASE, {"cited": (Evidence("別.pdf"),), "retrieved": (Evidence("別.pdf"),)}),
    ("citation_wrong", TWO, {"cited": (GOLD,)}),
    ("not_retrieved", TWO, {"shown": "10日", "retrieved": (GOLD,)}),
    ("ranked_low", TWO, {"shown": "10日", "retrieved": (GOLD, *(OTHER,) * 4, SECOND)}),
    ("not_read", TWO, {"shown": "10日"}),
    ("wrongly_refused", TWO, {"abstained": True, "shown": "10日と20日"}),
]


@pytest.mark.parametrize(("cause", "case", "fields"), CAUSES)
def test_cause(cause, case, fields):
    (failure,) = attribute([case], {case.id: make_row(case, **fields)}).failures
    assert (failure.cause, failure.case) == (cause, case)


def test_every_cause_is_told_apart_and_has_its_words():
    assert {cause for cause, _, _ in CAUSES} == set(LABELS)
    assert len(set(LABELS.values())) == len(LABELS)
    assert {fields["state"] for cause, _, fields in CAUSES if cause == "infrastructure"} == OPEN_STATES


def test_what_is_right_is_no_failure():
    cases = [CASE, NONE, BARE]
    rows = {"1": make_row(CASE), "2": make_row(NONE, abstained=True), "3": make_row(BARE, cited=())}
    assert attribute(cases, rows).failures == ()
    assert attribute(cases, {}).failures == ()
    assert attribute([], rows).counts() == {}


def test_a_page_of_a_file_without_pages_is_not_held_against_the_search():
    row = make_row(CASE, shown="15日", retrieved=(Evidence("規程.pdf"),))
    assert attribute([CASE], {"1": row}).failures[0].cause == "not_read"


def test_the_depth_of_the_reader_decides_what_is_low():
    row = make_row(CASE, shown="15日", retrieved=(OTHER, GOLD))
    causes = [attribute([CASE], {"1": row}, top=top).failures[0].cause for top in (1, 2)]
    assert causes == ["ranked_low", "not_read"]


def test_counts_the_most_frequent_first():
    cases = [Case(str(i), f"Q{i}", (("20日",),)) for i in range(5)]
    rows = {case.id: make_row(case, shown="15日") for case in cases} | {"4": make_row(cases[4], state="timeout")}
    found = attribute(cases, rows)
    assert list(found.counts().items()) == [("根拠は見つけたが読み取れなかった", 4), ("時間内に回答できなかった", 1)]
    assert "誤り 5 件の内訳" in found._repr_html_()
    assert [failure.case.id for failure in found.failures] == ["0", "1", "2", "3", "4"]


def test_causes_by_arm(tmp_path):
    cases = make_cases(4, 2)
    weak = Oracle(cases, {"Q1": ABSTAINED, "Q2": make_answer("99日"), "U1": make_answer("<b>作り話</b>")})
    strong = Oracle(cases, {"Q1": make_answer("1日", "別.pdf")})
    found = causes(sealed_run(tmp_path, cases, {"<弱い>": weak, "強い": strong}))
    assert found.counts == {
        "<弱い>": {"答えがないのに回答した": 1, "根拠が検索に出なかった": 2},  # the toy arms retrieve nothing
        "強い": {"出典を誤った": 1},
    }
    assert found.refusals == {"<弱い>": 0.5, "強い": 1.0}
    html = found._repr_html_()
    assert "&lt;弱い&gt;" in html
    assert "<弱い>" not in html
    assert html.index("答えがないのに回答した") < html.index("出典を誤った") < html.index("誤りの合計")
    assert "50.0%" in html


def test_causes_of_a_run_without_rows(tmp_path):
    cases = make_cases(2)
    run = sealed_run(tmp_path, cases, {"a": Oracle(cases)})
    found = causes(type(run)(run.folder, run.seal, run.cases, run.arms, ()))
    assert (found.counts, found.refusals) == ({"a": {}}, {"a": None})
    assert "—" in found._repr_html_()
