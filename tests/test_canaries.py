"""Fifty canaries that most users may not read: never in a hit, a prompt, a trace, a page, a map, a log or an error of theirs.

Every test also looks where they must be seen, by those who may read them: else it would watch the wrong place.
"""

import hashlib
import json
import logging
import re
import shutil

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from kit.answering import adaptive
from kit.answering.adaptive import OTHER_WORDS, REMAINDER, Adaptive, by_model
from kit.answering.llm import LLMReader
from kit.answering.rag import KeywordSearch, Rag
from kit.errors import DataError, KitError
from kit.evaluation.arms import arms
from kit.evaluation.evaluate import ask
from kit.evaluation.failures import KINDS, Failure, answers
from kit.improving.synonyms import propose
from kit.interface.shown import show
from kit.knowledge.atlas import corpus_map
from kit.knowledge.store import Store
from kit.records import EVERYONE, Block, Case, Document, Evidence, Place
from kit.reporting.charts import map_chart, trace_chart
from kit.serving.chat import connect
from kit.trust.durable import to_json
from tests.evaluations import make_row, sealed_run

CANARY = re.compile(r"カナリア")
NUMBERED = re.compile(r"カナリア\d+号")
STRANGERS = ("", "everyone", "h", "hrx", "nobody")
SAME = "役員報酬の改定案は三月に極秘で審議する"
ROOMS = ("会議室", "講堂", "食堂")
QUESTIONS = ("役員報酬の改定案はいつ審議しますか", "極秘の見直し案を取締役会で決めるのはいつですか、あと担当課はどこですか", "秘密の鳥の名前は何号ですか")


def document(name, text, readers=(EVERYONE,), date="", title=""):
    content = hashlib.sha256(f"{name}{text}".encode()).hexdigest()
    return Document(content, name, title, (Block(text, Place(page=1, headings=(title,))),), readers, date=date)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Fifty canaries, in name, title, heading and text, that hr or nobody may read, among texts for everyone that say nearly the same."""
    store = Store(tmp_path_factory.mktemp("guarded"))
    public = [document(f"公開/{n}.txt", f"{SAME}。公開{n}、{ROOMS[n % 3]}。", date=f"2023-04-{n + 1:02}", title="議事") for n in range(30)]
    canaries = []
    for n in range(50):  # some are older editions of what everyone may read
        text, year = (f"{SAME}、カナリア{n}号。", 2024) if n > 9 else (f"{SAME}。公開{n}、{ROOMS[n % 3]}。", 2022)
        title, readers = f"議事カナリア{n}号", ("hr",) if n % 2 else ()
        canaries.append(document(f"極秘/カナリア{n}号.txt", text, readers, f"{year}-04-{n % 28 + 1:02}", title))
    store.add([*canaries, *public])
    return store


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- hits ------------------------------------------------------------------------------------------------------------


def texts(hits):
    """Everything that a hit hands out, what is folded under it included."""
    return [piece for hit in hits for part in (hit, *hit.also) for piece in (repr(part), str(part))]


ATTACK = st.sampled_from(["'", '"', "%", "_", "|", "\n", "\\", ";", "--", ")", " OR ", "hr", "everyone", "|hr|", "*", "[!x]", "\x00", "a", "極秘/"])
HOSTILE = st.text(max_size=70) | st.lists(ATTACK, min_size=1, max_size=5).map("".join)
DAYS = HOSTILE | st.dates().map(str)


def assert_no_canary(guarded, user, documents, since, until, query="役員報酬の改定案 カナリア7号"):
    try:
        found = texts(guarded.search(query, k=50, as_user=user, documents=documents, since=since, until=until))
    except KitError as error:
        assert isinstance(error, DataError), error
        found = []
    if not user or re.fullmatch(r"[A-Za-z0-9_.@-]{1,64}", user):
        found += texts(guarded.keyword_search(query, k=70, as_user=user))
        assert found
    if user != "hr":
        assert not [text for text in found if CANARY.search(text)]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE, HOSTILE, DAYS, DAYS)
def test_no_name_or_filter_opens_a_restricted_text(guarded, user, documents, since, until):
    assert_no_canary(guarded, user, documents, since, until)
    assert len(guarded) == 80


@pytest.mark.long
@pytest.mark.timeout(0)
@settings(deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE, HOSTILE, DAYS, DAYS)
def test_ten_thousand_names_and_filters_open_no_restricted_text(guarded, user, documents, since, until):
    assert_no_canary(guarded, user, documents, since, until)
    assert len(guarded) == 80


def test_fifty_canaries_stay_with_those_who_may_read_them(guarded):
    for number in range(50):
        for user in STRANGERS:
            assert_no_canary(guarded, user, "極秘/*" if number % 3 == 0 else "", "", "", f"役員報酬の改定案 カナリア{number}号")
    seen = {name for text in texts(guarded.search("カナリア", k=100, as_user="hr", fold=False)) for name in NUMBERED.findall(text)}
    assert seen == {f"カナリア{number}号" for number in range(1, 50, 2)}


def test_what_is_folded_under_a_hit_is_as_guarded_as_the_hit(guarded):
    for user in (*STRANGERS, "hr"):
        hits = [hit for n in range(10) for hit in guarded.search(f"{SAME}。公開{n}", k=20, as_user=user)]
        assert bool(CANARY.search(repr([hit.also for hit in hits]))) == (user == "hr")


# --- prompts, traces, pages, logs ------------------------------------------------------------------------------------


def pages(answer, question):
    """An answer as data, as the pages of notebook 03, as the picture of its hops."""
    shown = [show(part, query=question).data for part in (answer, answer.hits, answer.trace)]
    return [json.dumps(to_json(answer), ensure_ascii=False), repr(answer), *shown, trace_chart(answer.trace).svg]


@pytest.mark.parametrize("user", [*STRANGERS, "hr"])
def test_no_prompt_trace_page_or_log_holds_a_canary(guarded, scripted, monkeypatch, caplog, capfd, user):
    monkeypatch.setattr(adaptive, "MARGIN", 99.0)  # every question is in doubt
    caplog.set_level(logging.DEBUG)
    query = json.dumps({"text": f"{SAME}号の一覧"}, ensure_ascii=False)
    reply = {"found": True, "answer": "三月です。", "sources": [{"number": 1, "quote": SAME}]}
    said, names = [], []
    with connect(scripted.url, timeout_s=9) as chat:
        hops = (OTHER_WORDS, REMAINDER, by_model(chat, "rewrite"), by_model(chat, "hyde"))
        rag = Rag(guarded, LLMReader(chat, top=50), adaptive=Adaptive(hops, searches=4, seconds=99))
        for question in QUESTIONS:
            scripted.actions = [query, query, json.dumps(reply, ensure_ascii=False)]
            for system in (rag, Rag(guarded), KeywordSearch(guarded)):
                answer = system(question, user=user)
                said += pages(answer, question)
                names += [step.name for step in answer.trace]
    prompts = [json.dumps(request, ensure_ascii=False) for request in scripted.seen]
    assert len(prompts) == 9 and {hop.name for hop in hops} <= set(names), "all hops were tried"
    logs = [caplog.text, *capfd.readouterr()]
    found = [bool(CANARY.search("\n".join(place))) for place in (prompts, said, logs)]
    assert found == ([True, True, False] if user == "hr" else [False] * 3)


@pytest.mark.parametrize("user", ["", "hrx", "hr"])
def test_no_record_of_an_evaluation_holds_a_canary(guarded, tmp_path, user):
    cases = [Case(f"q{n}", question, (("三月",),), (Evidence("公開/1.txt"),), user=user) for n, question in enumerate(QUESTIONS)]
    evaluation = sealed_run(tmp_path / "runs", cases, arms(guarded))
    kept = [path.read_text(encoding="utf-8") for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    shown = [answers(evaluation, kind=kind)._repr_html_() for kind in KINDS]
    assert len(kept) >= 5 and "rows.jsonl" in {path.name for path in evaluation.folder.iterdir()}
    assert bool(CANARY.search("\n".join(kept + shown))) == (user == "hr")


# --- the map, synonyms, errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", [*STRANGERS, "hr"])
def test_no_map_holds_a_canary(guarded, user):
    found = corpus_map(guarded, user=user)
    chart = map_chart(found)
    drawn = f"{found!r}{chart.svg}{chart.alt}"
    assert bool(CANARY.search(drawn)) == (user == "hr")
    assert ("極秘/" in repr(found)) == (user == "hr") and len(found.dots) >= 30


@pytest.mark.parametrize("user", ["", "hr"])
def test_no_synonym_is_made_of_a_text_that_not_everyone_may_read(guarded, user):
    """Synonyms are searched for, and stand in the trace, whoever asks."""
    case = Case("q", "見直し案はいつ決めますか", (("三月",),), (Evidence("極秘/カナリア17号.txt"),), user=user)
    open_case = Case("o", case.question, case.answers, (Evidence("公開/7.txt"),))
    rows = [Failure(one, make_row(one), "not_retrieved") for one in (case, open_case)]
    assert propose(rows[:1], guarded) == []
    assert propose(rows[1:], guarded)


def test_no_error_of_a_damaged_store_holds_a_canary(guarded, tmp_path):
    said = []
    for number in range(12):
        copy = tmp_path / str(number)
        shutil.copytree(guarded.path, copy)
        for path in (copy / "chunks.lance" / "data").glob("*.lance"):
            content = bytearray(path.read_bytes())
            start = len(content) * number // 12
            content[start : start + 400] = bytes(255 - byte for byte in content[start : start + 400])
            path.write_bytes(content)
        try:
            store = Store(copy)
            said += [repr(ask(system, Case("q", QUESTIONS[0], user="hrx"), "arm")) for system in (Rag(store), KeywordSearch(store))]
            said.append(str(store.verify()))
        except KitError as error:
            said.append(str(error))
    assert [text for text in said if "infrastructure_error" in text or "操作できません" in text], "some damage was met"
    assert not [text for text in said if CANARY.search(text)]
