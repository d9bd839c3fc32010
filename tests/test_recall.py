"""Whether search finds the gold document of development questions."""

import dataclasses

import pytest

from kit.evaluation.recall import gold_ranks, measure_recall
from kit.records import Case, Chunk, Evidence, Hit, Place
from tests.evaluations import machine_cases, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("machines") / "store")


def test_the_ranks_are_of_the_document_and_of_the_place():
    chunks = [Chunk(f"{n}", "0" * 64, name, "", "", Place(page=page), 0, ()) for n, (name, page) in enumerate([("b", 1), ("a", 1), ("a", 2)])]
    hits = [Hit(chunk, 1.0, rank) for rank, chunk in enumerate(chunks, 1)]

    def ranks(*gold):
        return gold_ranks(Case("1", "問", evidence=gold), hits)

    assert ranks(Evidence("a", Place(page=2))) == (2, 3)
    assert ranks(Evidence("a", Place(page=9))) == (2, 0)
    assert ranks(Evidence("a"), Evidence("b")) == (1, 1)
    assert ranks(Evidence("z")) == (0, 0)


def test_each_question_with_evidence_counts_once(store):
    cases = machine_cases(4)
    evidenced = [case for case in cases if case.evidence]
    lost = dataclasses.replace(evidenced[0], id="x", evidence=(Evidence("<b>無い.txt"),))
    found = measure_recall(store, [*cases, lost])
    assert len(found.found) == len(evidenced) + 1 < len(cases) + 1
    assert found.counts()["文書"] == [20, 20, 20]
    html = found._repr_html_()
    assert html.count("20 / 21 問（79%〜100%）") == 6
    assert "&lt;b&gt;無い.txt" in html and "<b>無" not in html, "what was not found is named"


def test_without_questions_it_says_what_to_do():
    assert "質問表の「開発用」シート" in measure_recall(None, [Case("1", "答えのない質問")])._repr_html_()
