"""The arms of a PoC: their order, what they are called, and what they were fitted on."""

import pytest

from kit.answering.extractive import SHIPPED
from kit.errors import KitError
from kit.evaluation.arms import arms
from kit.evaluation.calibration import calibrate
from kit.evaluation.decide import decide
from tests.evaluations import machine_cases, make_store, sealed_run


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("machines") / "store")


def test_keyword_search_against_the_extractive_reader(store):
    made = arms(store)
    assert list(made) == ["baseline", "candidate"]
    assert [arm.name for arm in made.values()] == ["キーワード検索", "抽出型"]
    assert made["candidate"].reader.calibration is SHIPPED
    answers = [arm("旋盤の点検は何日ごとですか") for arm in made.values()]
    assert ["1日" in answer.text for answer in answers] == [True, True]
    assert not made["baseline"]("旋盤の株価は").abstained


def test_only_development_questions_are_fitted_on(store):
    development = machine_cases()
    assert arms(store, development)["candidate"].reader.calibration == calibrate(store, development)
    assert arms(store, development[:29])["candidate"].reader.calibration is SHIPPED


def test_documents_and_calibration_are_part_of_what_an_arm_is(store):
    plain, fitted = arms(store), arms(store, machine_cases())
    assert plain["baseline"].identity == fitted["baseline"].identity == store.fingerprint()
    assert plain["candidate"].identity != fitted["candidate"].identity
    assert store.fingerprint() in plain["candidate"].identity


def test_no_server_no_arms(store):
    with pytest.raises(KitError):
        arms(store, llm=True)


def test_the_extractive_reader_against_a_model(store, scripted, monkeypatch):
    scripted.actions = ['{"found": true, "answer": "1日", "sources": [{"number": 1, "quote": "旋盤の点検は1日ごとに行う。"}]}']
    monkeypatch.setenv("KIT_LLM_URL", scripted.url)
    made = arms(store, machine_cases(), llm=True)
    assert [arm.name for arm in made.values()] == ["抽出型", "LLM（tiny）"]
    answer = made["candidate"]("旋盤の点検は何日ごとですか")
    assert (answer.text, answer.citations[0].document, answer.state) == ("1日", "旋盤.txt", "answered")


def test_real_arms_through_the_gate(store, tmp_path):
    cases = machine_cases()
    decision = decide(sealed_run(tmp_path, cases, arms(store, cases)))  # fitted on what is judged: for a test only
    assert decision.outcome == "GO"
    assert decision.kpis[0].point == 1.0
    assert decision.kpis[0].baseline == pytest.approx(20 / 30)
