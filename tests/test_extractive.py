import dataclasses

import pytest
from hypothesis import given, settings, strategies as st

from kit.answering.extractive import CHUNK, FITS, NOT_FOUND, SHIPPED, Calibration, ExtractiveReader, Signs, find
from kit.knowledge import japanese
from kit.knowledge.ranking import coverage
from kit.records import Chunk, Hit, Parts, Place
from tests.corpora import statistics_of

ALWAYS = ExtractiveReader(Calibration(0.0, 0.0, 0.0, ""))
SCOPE = "この規程は出張の旅費を定める。"
ALLOWANCE = "課長職の日当は2,800円とする。"
LODGING = "宿泊費は1泊10,000円を上限とする。"
LEAVE = "半日休暇は年12回まで取れる。"
IDF = statistics_of([japanese.union(japanese.normalise(text)) for text in (SCOPE, ALLOWANCE, LODGING, LEAVE)]).idf


def hit(*sentences, number=1, score=0.0, title="題", headings=()):
    chunk = Chunk(f"c{number}", "0", f"{number}.txt", title, "".join(sentences), Place(headings=headings), 0, ("everyone",))
    return Hit(chunk, score, number)


def test_two_sentences_stand_in_the_order_of_the_text():
    answer = ALWAYS.read("課長職の日当と宿泊費", [hit(SCOPE, LODGING, ALLOWANCE)], IDF)
    assert answer.text == f"{LODGING}\n{ALLOWANCE}"
    answer = ALWAYS.read("課長職の日当と宿泊費", [hit(ALLOWANCE, LODGING, SCOPE)], IDF)
    assert answer.text == f"{ALLOWANCE}\n{LODGING}"


def test_citations_are_the_sentences_best_first():
    answer = ALWAYS.read("課長職の日当はいくらか", [hit(LODGING, ALLOWANCE, number=7)], IDF)
    assert [citation.quote for citation in answer.citations] == [ALLOWANCE, LODGING]
    assert {(c.document, c.title, c.chunk_id) for c in answer.citations} == {("7.txt", "題", "c7")}
    assert (answer.abstained, answer.state, answer.reader, answer.prompt) == (False, "answered", "抽出型", "")


def test_sentences_of_different_texts_stand_by_score():
    hits = [hit(LODGING, number=1, score=1.0), hit(ALLOWANCE, number=2, score=1.0)]
    answer = ALWAYS.read("課長職の日当はいくらか", hits, IDF)
    assert answer.text == f"{ALLOWANCE}\n{LODGING}"
    assert [citation.chunk_id for citation in answer.citations] == ["c2", "c1"]


def test_the_score_of_a_text_counts_for_its_sentences():
    hits = [hit(ALLOWANCE, number=1), hit(LODGING, number=2, score=1000.0)]
    assert find("課長職の日当はいくらか", hits, IDF)[0][0].text == LODGING


def test_one_sentence_is_enough():
    answer = ALWAYS.read("課長職の日当", [hit(ALLOWANCE)], IDF)
    assert (answer.text, len(answer.citations)) == (ALLOWANCE, 1)


def test_the_same_sentence_is_not_shown_twice():
    answer = ALWAYS.read("課長職の日当", [hit(ALLOWANCE, ALLOWANCE), hit(ALLOWANCE, number=2)], IDF)
    assert (answer.text, len(answer.citations)) == (ALLOWANCE, 1)
    answer = ALWAYS.read("課長職の日当", [hit(ALLOWANCE), hit(ALLOWANCE, LODGING, number=2)], IDF)
    assert answer.text == f"{ALLOWANCE}\n{LODGING}"


def test_a_sentence_that_only_repeats_the_headings_is_not_an_answer():
    headed = hit("■ 課長職の日当\n", ALLOWANCE, headings=("課長職の日当",))
    assert ALWAYS.read("課長職の日当", [headed], IDF).text == ALLOWANCE
    alone = hit("課長職の日当", title="課長職の日当")
    assert ALWAYS.read("課長職の日当", [alone], IDF).text == "課長職の日当"


def test_only_the_first_hits_are_read():
    hits = [hit(LODGING, number=number) for number in range(1, 4)] + [hit(ALLOWANCE, number=4)]
    assert ALLOWANCE not in ExtractiveReader(ALWAYS.calibration, top=3).read("課長職の日当", hits, IDF).text
    assert ALLOWANCE in ExtractiveReader(ALWAYS.calibration, top=4).read("課長職の日当", hits, IDF).text


def test_no_hits_are_an_abstention():
    answer = ALWAYS.read("課長職の日当", [], IDF)
    assert (answer.text, answer.abstained, answer.confidence) == (NOT_FOUND, True, 0.0)
    assert (answer.citations, answer.hint, answer.state) == ((), "", "answered")


@pytest.mark.parametrize(("threshold", "abstained"), [(0.5, False), (0.500001, True), (0.0, False), (1.0, True)])
def test_abstention_is_below_the_threshold(threshold, abstained):
    answer = ExtractiveReader(Calibration(0.0, 0.0, threshold, "")).read("課長職の日当", [hit(ALLOWANCE)], IDF)
    assert (answer.confidence, answer.abstained) == (0.5, abstained)
    assert answer.text == (NOT_FOUND if abstained else ALLOWANCE)
    assert bool(answer.citations) == (not abstained)


def test_confidence_is_the_logistic_curve_of_the_evidence():
    calibration = Calibration(-3.0, 6.0, 0.5, "")
    assert [calibration.confidence(evidence) for evidence in (0.0, 0.5, 1.0)] == pytest.approx([0.0474, 0.5, 0.9526], abs=1e-4)
    evidence = find("課長職の日当", [hit(ALLOWANCE)], IDF)[1].evidence
    assert ALWAYS.read("課長職の日当", [hit(ALLOWANCE)], IDF).confidence == 0.5
    reader = ExtractiveReader(calibration)
    assert reader.read("課長職の日当", [hit(ALLOWANCE)], IDF).confidence == calibration.confidence(evidence)


def test_every_sign_speaks_for_the_answer():
    none = Signs(0.0, 0.0, 0.0)
    assert all(dataclasses.replace(none, **{name: 1.0}).evidence > none.evidence for name in ("chunk", "sentence", "margin"))
    assert none.evidence < 0 < Signs(1.0, 1.0, 1.0).evidence


def test_the_sentence_covers_with_its_title_and_headings():
    question = "旅費規程の第2章にある課長職の日当"
    plain, headed = hit(ALLOWANCE, LODGING), hit(ALLOWANCE, LODGING, title="旅費規程", headings=("第2章",))
    assert find(question, [plain], IDF)[1].sentence < find(question, [headed], IDF)[1].sentence
    tokens = japanese.union(japanese.normalise(f"題\n{ALLOWANCE}"))  # the other sentence of the chunk does not count
    assert find(question, [plain], IDF)[1].sentence == pytest.approx(coverage(japanese.query(question), tokens, IDF))


def test_the_chunks_sign_is_its_bm25_by_the_questions_weight():
    asked = japanese.query("課長職の日当")
    words = sum(IDF(token) for token in set(asked) if token.startswith("w:"))
    grams = sum(IDF(token) for token in set(asked) if not token.startswith("w:"))
    found = dataclasses.replace(hit(ALLOWANCE), parts=Parts(words, grams / 2, 0.0, 0.0))
    assert find("課長職の日当", [found], IDF)[1].chunk == pytest.approx(0.75)
    covered = coverage(asked, japanese.union(japanese.normalise(f"題\n{ALLOWANCE}")), IDF)
    assert find("課長職の日当", [hit(ALLOWANCE)], IDF)[1].chunk == pytest.approx(covered)  # hits of elsewhere have no parts


def test_the_sign_of_the_margin_is_that_of_the_hits():
    hits = [hit(ALLOWANCE, score=2.0), hit(LODGING, number=2, score=1.5)]
    assert find("課長職の日当", hits, IDF)[1].margin == pytest.approx(0.25)
    assert find("課長職の日当", hits[:1], IDF)[1].margin == 1.0
    assert find("課長職の日当", [], IDF) == ([], Signs(0.0, 0.0, 0.0))


def test_unknown_words_make_the_reader_abstain():
    reader = ExtractiveReader()
    hits = [hit(SCOPE, ALLOWANCE)]
    assert not reader.read("課長職の日当は", hits, IDF).abstained
    answer = reader.read("火星探査船の燃料補給の手順は", hits, IDF)
    assert answer.abstained
    assert answer.confidence < reader.read("課長職の日当は", hits, IDF).confidence


def test_the_scale_of_the_scores_moves_nothing():
    readings = [
        find("課長職の日当", [hit(ALLOWANCE, score=scale), hit(LODGING, number=2, score=scale / 2)], IDF)
        for scale in (0.01, 1.0, 1e6)
    ]
    assert len({signs.evidence for _, signs in readings}) == 1
    assert readings[0][0][0].score == pytest.approx(readings[2][0][0].score)


def test_a_sentence_with_what_was_asked_for_comes_first():
    said, dated = "改定は毎年検討する。", "改定は2026年4月1日とする。"
    best, _ = find("改定はいつですか", [hit(said, dated)], IDF)
    assert [sentence.text for sentence in best] == [dated, said]
    assert FITS < CHUNK  # it decides among near equals only


def test_words_that_search_added_are_read_for_too():
    hits = [hit(SCOPE, LODGING, ALLOWANCE)]
    assert ALLOWANCE not in ALWAYS.read("ホテル代の上限", hits[:1], IDF).citations[0].quote
    assert ALWAYS.read("手当", hits, IDF, also="日当").citations[0].quote == ALLOWANCE


def test_the_hint_is_a_span_of_the_best_sentence():
    answer = ALWAYS.read("課長職の日当はいくらですか", [hit(LODGING, ALLOWANCE)], IDF)
    assert answer.hint == "2,800円"


def test_identity_changes_whenever_the_answers_could():
    identities = {
        ExtractiveReader(dataclasses.replace(SHIPPED, **{name: value}), top=top).identity
        for name, value, top in (
            ("source", "別", 5), ("intercept", 1.0, 5), ("slope", 1.0, 5), ("threshold", 0.9, 5), ("source", "別", 6)
        )
    }  # fmt: skip
    assert len(identities) == 5
    assert ExtractiveReader().identity == ExtractiveReader(dataclasses.replace(SHIPPED, source="別")).identity


SENTENCES = st.sampled_from([SCOPE, ALLOWANCE, LODGING, LEAVE, "「はい。」と言う。", "改行\n", "\n", " ", "3.5%！", "終わりなし"])
HITS = st.lists(st.lists(SENTENCES, min_size=1, max_size=6), max_size=4).map(
    lambda texts: [hit(*text, number=number, score=number % 2) for number, text in enumerate(texts, 1)]
)


@settings(deadline=None, max_examples=100)
@given(HITS, st.sampled_from(["課長職の日当は", "宿泊費の上限", "", "。", "火星", "\ud800"]))
def test_what_is_shown_stands_word_for_word_in_the_cited_text(hits, question):
    answer = ALWAYS.read(question, hits, IDF)
    texts = {one.chunk.id: one.chunk.text for one in hits}
    assert answer.abstained == (not any(text.strip() for text in texts.values()))
    assert len(answer.citations) <= 2
    for citation in answer.citations:
        assert citation.quote in texts[citation.chunk_id]
    if not answer.abstained:
        assert sorted(answer.text.split("\n")) == sorted(citation.quote for citation in answer.citations)
    if len({citation.chunk_id for citation in answer.citations}) == 1:
        positions = [texts[answer.citations[0].chunk_id].index(line) for line in answer.text.split("\n")]
        assert positions == sorted(positions)
