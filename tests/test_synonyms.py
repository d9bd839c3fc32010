"""One synonym: proposed from a failed question, replayed, kept only if nothing gets worse."""

import pytest

from kit.answering.extractive import Calibration, ExtractiveReader
from kit.answering.rag import Rag
from kit.evaluation.evaluate import rehearse
from kit.evaluation.failures import attribute
from kit.improving.synonyms import Synonym, best_replay, propose
from kit.knowledge.store import Store
from kit.records import Case, Evidence
from tests.evaluations import make_document

TEXTS = {
    "携帯電話": "携帯電話を紛失したときは情報システム課に連絡する。",
    "駐車場": "自動車は北側の駐車場に停める。",
    "名刺": "名刺は総務課に申し込む。",
    "社員証": "社員証を失くしたときは人事課に届け出る。",
    "傘": "傘は玄関の傘立てに置く。",
}
READER = ExtractiveReader(Calibration(0.0, 1.0, 0.6, "試験"))
GOOD, BAD = Synonym("スマホ", "携帯電話"), Synonym("どこ", "携帯電話")


def case(name, question, answer, document):
    return Case(name, question, ((answer,),), (Evidence(f"{document}.txt"),))


PHONE = case("phone", "スマホはどこに連絡しますか", "情報システム課", "携帯電話")
CELL = case("cell", "端末はどこに連絡しますか", "情報システム課", "携帯電話")
CARD = case("card", "名刺はどの課に申し込みますか", "総務課", "名刺")
PASS = case("pass", "どこの課に社員証を届け出ますか", "人事課", "社員証")
NONE = Case("none", "スマホの値段はどうですか")
CASES = (PHONE, CARD, PASS, NONE)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("kaizen") / "store")
    store.add(make_document(f"{name}.txt", text) for name, text in TEXTS.items())
    return store


@pytest.fixture(scope="module")
def make(store):
    return lambda expand: Rag(store, READER, expand=expand)


def test_a_synonym_adds_its_word_only_where_it_applies():
    assert GOOD.expand("スマホはどこ？") == "携帯電話"
    assert GOOD.expand("ｽﾏﾎを失くした") == "携帯電話"
    assert GOOD.expand("電話はどこ？") == ""
    assert GOOD.expand("") == ""


def replay(make, proposals, cases, **limit):
    return best_replay(make, proposals, cases, rehearse(make(None), cases), **limit)


def test_a_synonym_that_repairs_is_kept(make):
    found = replay(make, [GOOD], CASES)
    assert (found.before, found.after, found.planned) == (3, 4, 4)
    assert (found.repaired, found.broken, found.keep) == (("phone",), (), True)
    assert "採用の候補" in found._repr_html_()
    assert "3 → 4 / 4 問" in found._repr_html_()


def test_a_synonym_that_breaks_another_question_is_not(make):
    found = replay(make, [BAD], CASES)
    assert (found.before, found.after) == (3, 3)
    assert (found.repaired, found.broken, found.keep) == (("phone",), ("pass",), False)
    assert "採用しない" in found._repr_html_()


def test_a_synonym_that_does_nothing_is_not(make):
    found = replay(make, [Synonym("マイカー", "自動車")], CASES)
    assert (found.repaired, found.broken, found.keep) == ((), (), False)
    assert replay(make, [GOOD], ()).keep is False


def test_the_best_is_one_that_can_be_kept(make):
    cases = (*CASES, CELL)
    bad = replay(make, [BAD], cases)
    assert (len(bad.repaired), len(bad.broken)) == (2, 1)  # gains as much as the good one, at a cost
    found = replay(make, [BAD, GOOD], cases)
    assert (found.synonym, found.keep, found.planned) == (GOOD, True, 5)


def test_the_best_may_not_be_worth_keeping(make):
    found = replay(make, [BAD], CASES)
    assert (found.synonym, found.keep) == (BAD, False)
    assert replay(make, [], CASES) is None


def test_no_more_than_the_limit_are_tried(make):
    assert replay(make, [BAD, GOOD], CASES, limit=1).synonym == BAD


def failures(make, *cases):
    return attribute(cases, rehearse(make(None), cases)).failures


def test_proposals_pair_the_question_with_its_gold_passage(make, store):
    proposals = propose(failures(make, *CASES), store)
    assert GOOD in proposals
    assert len(set(proposals)) == len(proposals)
    assert {synonym.asked for synonym in proposals} == {"スマホ"}  # not 連絡, which the passage has too, nor どこ
    assert {synonym.written for synonym in proposals} == {"携帯電話", "紛失"}  # not 情報システム課: that is the answer


def test_words_come_from_the_sentence_with_the_answer(tmp_path):
    store = Store(tmp_path / "store")
    store.add([make_document("寮.txt", "門限は午後11時とする。外泊は届け出る。何時でも消灯してよい。")])
    late = case("late", "入口が閉まるのは何時ですか", "午後11時", "寮")
    failed = attribute((late,), rehearse(Rag(store, ExtractiveReader(Calibration(0.0, 0.0, 1.1, ""))), (late,))).failures
    proposals = propose(failed, store)
    assert "門限" in {synonym.written for synonym in proposals}
    assert not {"外泊", "届け出る", "消灯", "午後", "11"} & {synonym.written for synonym in proposals}
    assert {synonym.asked for synonym in proposals} == {"入り口", "閉まる"}


def test_words_that_look_alike_are_tried_first(tmp_path):
    store = Store(tmp_path / "store")
    store.add([make_document("出荷.txt", "年末年始の出荷最終日は12月25日。")])
    last = case("last", "年内最後の出荷は", "12月25日", "出荷")
    failed = attribute((last,), rehearse(Rag(store, ExtractiveReader(Calibration(0.0, 0.0, 1.1, ""))), (last,))).failures
    pairs = [f"{synonym.asked}→{synonym.written}" for synonym in propose(failed, store)]
    assert pairs[:2] == ["最後→最終日", "年内→年末年始"]
    assert len(pairs) == 4


def test_a_real_kaizen_step_from_failure_to_repair(make, store):
    found = replay(make, propose(failures(make, *CASES), store), CASES)
    assert (found.repaired, found.keep) == (("phone",), True)


def test_nothing_is_proposed_where_nothing_can_be_learnt(make, store):
    invented = Case("x", "社長の犬の名前は", (("ポチ",),), (Evidence("携帯電話.txt"),))  # a gold answer that stands nowhere
    elsewhere = case("y", "スマホの色は", "情報システム課", "無い文書")
    assert propose(failures(make, invented, elsewhere), store) == []
    assert propose((), store) == []
    talkative = Rag(store, ExtractiveReader(Calibration(0.0, 0.0, 0.0, "")))
    unanswerable = (Case("z", "スマホの連絡は何色ですか"),)
    failed = attribute(unanswerable, rehearse(talkative, unanswerable)).failures
    assert [failure.cause for failure in failed] == ["not_refused"]
    assert propose(failed, store) == []


def test_every_failure_gets_its_turn(make, store):
    parking = case("car", "マイカーの位置", "北側の駐車場", "駐車場")
    proposals = propose(failures(make, PHONE, parking), store)
    turns = [{"スマホ"} if synonym.asked == "スマホ" else {"マイカー", "位置"} for synonym in proposals]
    assert turns[:4] == [{"スマホ"}, {"マイカー", "位置"}] * 2
