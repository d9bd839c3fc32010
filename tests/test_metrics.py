"""Metrics of whole rows, worked out by hand, and what they must agree with."""

import hashlib
import math
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from sklearn.metrics import ndcg_score

from kit.evaluation import metrics
from kit.evaluation.metrics import METRICS, cites, first_rank, measure, ndcg, refusal_precision, right
from kit.records import Case, Evidence, Place
from tests.evaluations import make_row


def one(*words):
    return (words,)


CASE = Case("1", "締め日は", one("20日"), (Evidence("規程.docx"),))
NONE = Case("2", "社長の血液型は")
TWO = Case("3", "両方は", (("10日",), ("20日",)), (Evidence("甲.docx"), Evidence("乙.docx")))


def test_a_right_answer():
    assert measure(CASE, make_row(CASE, yen=2.0)) == {
        "right": 1.0, "wrong_answer": 0.0, "answer_contained": 1.0, "citation": 1.0, "recall_at_5": 1.0,
        "mrr_at_10": 1.0, "exact_match": 1.0, "character_f1": 1.0, "latency_p95": 0.25, "error_rate": 0.0,
        "yen_per_right": 1.0, "rubric": 1.0, "quantity_match": 1.0, "citation_precision": 1.0, "citation_recall": 1.0,
        "verbatim": 1.0, "wrongly_refused": 0.0, "policy_violation": 0.0, "recall_at_1": 1.0, "recall_at_10": 1.0,
        "ndcg_at_10": 1.0, "edit_similarity": 1.0,
    }  # fmt: skip


def test_a_right_answer_from_another_document_is_wrong():
    got = measure(CASE, make_row(CASE, cited=(Evidence("別.pdf"),)))
    assert (got["right"], got["wrong_answer"], got["answer_contained"], got["citation"]) == (0.0, 1.0, 1.0, 0.0)


def test_an_answer_without_citation_is_wrong():
    got = measure(CASE, make_row(CASE, cited=()))
    assert (got["right"], got["wrong_answer"], got["citation"]) == (0.0, 1.0, 0.0)


def test_an_abstention_is_neither_right_nor_a_wrong_answer():
    got = measure(CASE, make_row(CASE, text="資料に見当たりません。", shown="20日", abstained=True, cited=()))
    assert (got["right"], got["wrong_answer"], got["answer_contained"]) == (0.0, 0.0, 0.0)


def test_abstaining_is_right_where_there_is_no_answer():
    assert measure(NONE, make_row(NONE, abstained=True, cited=())) == {
        "right": 1.0, "wrong_answer": 0.0, "refusal": 1.0, "latency_p95": 0.25, "error_rate": 0.0, "yen_per_right": 1.0,
        "verbatim": 1.0, "policy_violation": 0.0,
    }  # fmt: skip
    got = measure(NONE, make_row(NONE, text="A型", shown="A型", cited=()))
    assert (got["right"], got["wrong_answer"], got["refusal"]) == (0.0, 1.0, 0.0)


def test_a_question_on_two_documents_needs_both():
    both = make_row(TWO, shown="10日と20日")
    assert right(TWO, both) == 1.0
    assert right(TWO, make_row(TWO, shown="10日")) == 0.0
    half = make_row(TWO, shown="10日と20日", cited=TWO.evidence[:1])
    assert (cites(TWO, half), right(TWO, half)) == (False, 0.0)


def test_without_named_evidence_any_citation_will_do():
    case = Case("4", "締め日は", one("20日"))
    assert right(case, make_row(case, cited=())) == 1.0
    assert not METRICS["citation"].applies(case)


def test_ranks():
    hits = tuple(Evidence("規程.docx" if i == 6 else f"{i}.pdf") for i in range(1, 11))
    row = make_row(CASE, retrieved=hits)
    assert [first_rank(CASE, row, depth) for depth in (5, 6, 10)] == [0, 6, 6]
    got = measure(CASE, row)
    assert (got["recall_at_5"], got["mrr_at_10"]) == (0.0, pytest.approx(1 / 6))
    assert measure(CASE, make_row(CASE, retrieved=()))["mrr_at_10"] == 0.0


def test_every_metric_says_what_it_is_valid_for():
    for name, metric in METRICS.items():
        assert metric.label
        assert "リーダー" in metric.valid_for, name


def test_retrieval_to_other_depths():
    row = make_row(CASE, retrieved=(Evidence("別.pdf"), Evidence("規程.docx")))
    got = measure(CASE, row)
    assert (got["recall_at_1"], got["recall_at_5"], got["recall_at_10"]) == (0.0, 1.0, 1.0)
    assert got["ndcg_at_10"] == pytest.approx(1 / math.log2(3))
    tenth = make_row(CASE, retrieved=(*[Evidence("別.pdf")] * 9, Evidence("規程.docx")))
    assert [measure(CASE, tenth)[f"recall_at_{k}"] for k in (1, 5, 10)] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("retrieved", "value"),
    [
        ("甲乙", 1.0),
        ("乙甲", 1.0),
        ("甲丙乙", (1 + 1 / 2) / (1 + 1 / math.log2(3))),
        ("甲甲乙", (1 + 1 / 2) / (1 + 1 / math.log2(3))),  # the second chunk of 甲 finds nothing new
        ("甲", 1 / (1 + 1 / math.log2(3))),
        ("丙丙", 0.0),
        ("", 0.0),
    ],
)
def test_ndcg(retrieved, value):
    row = make_row(TWO, retrieved=tuple(Evidence(f"{name}.docx") for name in retrieved))
    assert ndcg(TWO, row, 10) == pytest.approx(value)


def test_gold_places_that_no_chunk_tells_apart_are_one():
    rows = Case("5", "", one("1"), (Evidence("表.xlsx", Place(row=3)), Evidence("表.xlsx", Place(row=4))))
    assert ndcg(rows, make_row(rows, retrieved=(Evidence("表.xlsx", Place(row=9)),)), 10) == 1.0
    pages = Case("6", "", one("1"), (Evidence("規程"), Evidence("規程.pdf", Place(page=3)), Evidence("規程.pdf", Place(page=4))))
    found = tuple(Evidence("規程.pdf", Place(page=page)) for page in (4, 3))
    assert ndcg(pages, make_row(pages, retrieved=found), 10) == 1.0


@given(st.lists(st.sampled_from("甲乙丙丁戊"), max_size=10, unique=True), st.sets(st.sampled_from("甲乙丙丁戊"), min_size=1))
def test_ndcg_agrees_with_scikit_learn(ranked, gold):
    case = Case("7", "", one("1"), tuple(Evidence(f"{name}.pdf") for name in sorted(gold)))
    row = make_row(case, retrieved=tuple(Evidence(f"{name}.pdf") for name in ranked))
    order = [*ranked, *sorted(gold - set(ranked)), "己"]  # what was not found comes after the tenth
    truth = [name in gold for name in order[: len(ranked)]] + [0] * (10 - len(ranked)) + [name in gold for name in order[len(ranked) :]]
    assert ndcg(case, row, 10) == pytest.approx(ndcg_score([truth], [range(len(truth), 0, -1)], k=10))


def test_citations_are_counted_by_document():
    cited = (Evidence("甲.docx"), Evidence("甲.docx", Place(page=2)), Evidence("丙.pdf"), Evidence("丁.pdf"))
    got = measure(TWO, make_row(TWO, cited=cited))
    assert (got["citation_precision"], got["citation_recall"], got["citation"]) == (pytest.approx(1 / 3), 0.5, 0.0)
    none = measure(TWO, make_row(TWO, cited=()))
    assert (none["citation_precision"], none["citation_recall"]) == (0.0, 0.0)


def test_rubric_counts_parts():
    assert measure(TWO, make_row(TWO, shown="10日"))["rubric"] == 0.5
    assert measure(TWO, make_row(TWO, shown="10日と20日", abstained=True))["rubric"] == 0.0


def test_quantities_are_read_from_the_text_alone():
    assert measure(CASE, make_row(CASE, text="毎月二十日です"))["quantity_match"] == 1.0
    assert measure(CASE, make_row(CASE, text="月末", shown="月末\n20日規程"))["quantity_match"] == 0.0
    assert measure(CASE, make_row(CASE, abstained=True))["quantity_match"] == 0.0
    assert "quantity_match" not in measure(Case("8", "誰", one("部長")), None)


def test_verbatim():
    values = [
        measure(CASE, make_row(CASE, **fields))["verbatim"]
        for fields in ({}, {"misquoted": 1}, {"cited": ()}, {"cited": (), "abstained": True})
    ]
    assert values == [1.0, 0.0, 0.0, 1.0]


def test_refusals():
    kept = make_row(CASE, abstained=True)
    assert (measure(CASE, kept)["wrongly_refused"], "refusal" in measure(CASE, kept)) == (1.0, False)
    rows = [kept, make_row(NONE, abstained=True), make_row(TWO)]
    assert refusal_precision((CASE, NONE, TWO), rows) == 0.5
    assert refusal_precision((CASE, NONE, TWO), rows[2:]) is None
    assert refusal_precision((NONE,), [make_row(NONE, abstained=True, state="timeout")]) is None


def test_an_answer_on_the_second_attempt_counts_as_an_error():
    assert measure(CASE, make_row(CASE, first_state="timeout", attempts=2))["error_rate"] == 1.0
    assert measure(CASE, make_row(CASE, attempts=2))["error_rate"] == 0.0


def test_what_did_not_end_in_an_answer_has_no_score():
    for row in (None, make_row(CASE, state="timeout"), make_row(CASE, state="infrastructure_error")):
        values = measure(CASE, row).values()
        assert len(values) > 15
        assert all(map(math.isnan, values))


def test_costly_metrics_only_where_a_kpi_names_them():
    costly = {name for name, metric in METRICS.items() if metric.costly}
    assert costly == {"rouge_1", "rouge_2", "rouge_l", "bleu"}
    assert not costly & set(measure(CASE, make_row(CASE)))
    assert costly & set(measure(CASE, make_row(CASE), {"bleu", "right_by_people"})) == {"bleu"}


def test_people_and_judges_score_by_hand():
    by_hand = {name: metric.scored_by for name, metric in METRICS.items() if metric.scored_by != "kit"}
    assert by_hand == {
        "right_by_people": "people", "first_contact": "people", "minutes_saved": "people", "edit_saved": "people",
        "right_by_judge": "judge",
    }  # fmt: skip
    assert {name for name, metric in METRICS.items() if metric.score is None} == set(by_hand)
    assert not set(by_hand) & set(measure(CASE, make_row(CASE), set(by_hand)))


def test_the_hash_covers_every_file_that_scores_come_from():
    folder = Path(metrics.__file__).parent
    judging = ["designs.py", "gate.py", "looks.py", "statistics.py"]
    scoring = ["matching.py", "metrics.py", "metrics.toml", "quantities.py", "units.toml", "violations.py"]
    names = sorted(judging + scoring)
    assert metrics.code_sha256() == hashlib.sha256(b"\0".join((folder / name).read_bytes() for name in names)).hexdigest()
    files = [folder / name for name in scoring if name.endswith(".py")]
    imported = {line.split()[1] for f in files for line in f.read_text(encoding="utf-8").splitlines() if line.startswith("from kit.")}
    assert imported == {"kit.evaluation", "kit.evaluation.matching", "kit.knowledge", "kit.records"}


@given(st.text(max_size=30), st.text(max_size=30), st.booleans())
def test_any_text_has_scores_between_0_and_1(text, gold, abstained):
    case = Case("9", gold, one(gold), (Evidence(gold),))
    found = measure(case, make_row(case, text=text, shown=text, abstained=abstained), set(METRICS))
    assert all(0 <= value <= 1 for value in found.values())
