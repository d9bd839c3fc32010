"""The chat client and the LLM reader on a real vLLM server with a tiny random-weight model."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.answering.llm import SCHEMA, LLMReader
from kit.answering.rag import Rag
from kit.errors import ServerError
from kit.evaluation.runs import read_evaluation
from kit.interface.poc import poc
from kit.knowledge.store import Store
from kit.records import Block, Chunk, Document, Hit, Place
from kit.serving.chat import ChatError, connect
from tests.projects import small_project

pytestmark = pytest.mark.server

TEXTS = {
    "旅費規程": "国内出張の日当は1日3,000円とする。宿泊費は1泊12,000円を上限とする。",
    "就業規則": "年次有給休暇は、入社6か月後に10日付与する。",
    "購買規程": "10万円以上の購入は課長の承認を要する。",
}


def hits():
    return [
        Hit(Chunk(f"c{n}", "0" * 64, f"{title}.md", title, text, Place(page=n), 0, ("everyone",)), 1.0 / n, n)
        for n, (title, text) in enumerate(TEXTS.items(), 1)
    ]


@pytest.fixture(scope="module")
def chat(vllm_url):
    with connect(vllm_url, timeout_s=60) as chat:
        yield chat


def test_connect_finds_the_model(vllm_url):
    with connect(vllm_url.removesuffix("/v1")) as chat:
        assert (chat.model, chat.url) == ("tiny", vllm_url)


def test_ask(chat):
    reply = chat.ask("日当はいくらですか", system="短く答える", max_tokens=8)
    assert reply.model == "tiny" and reply.finish in ("stop", "length")
    assert reply.prompt_tokens > 8 and 1 <= reply.completion_tokens <= 8 and reply.seconds > 0


def test_a_seed_repeats_the_reply(chat):
    texts = [chat.ask("日当は", max_tokens=16, temperature=1.0, seed=seed).text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_reply_is_cut_at_max_tokens(chat):
    reply = chat.ask("あ", max_tokens=3, temperature=1.0, seed=5)
    assert (reply.finish, reply.completion_tokens) == ("length", 3)


@pytest.mark.parametrize("seed", range(6))
def test_replies_follow_the_schema(chat, seed):
    reply = chat.ask("日当はいくらですか", max_tokens=2048, temperature=float(seed > 0), seed=seed, schema=SCHEMA)
    assert reply.finish == "stop"
    data = json.loads(reply.text, strict=False)  # xgrammar lets bare control characters through in bounded strings
    assert set(data) == {"found", "answer", "sources"} and isinstance(data["found"], bool)
    assert len(data["answer"]) <= 200 and len(data["sources"]) <= 3
    assert all(isinstance(source["number"], int) and len(source["quote"]) <= 120 for source in data["sources"])


def test_reading_end_to_end(chat):
    answer = LLMReader(chat).read("国内出張の日当はいくらですか", hits(), lambda token: 1.0)
    assert answer.state in ("answered", "model_error", "wrong_format"), answer.error
    assert bool(answer.error) == (answer.state != "answered")
    assert answer.prompt_tokens > 100 and answer.completion_tokens > 1
    assert "> 本文: 国内出張の日当は1日3,000円とする。" in answer.prompt
    stands = [citation.quote in TEXTS[citation.title] for citation in answer.citations]
    assert all(stands) and (answer.citations or not answer.confidence)  # noise is never given as certain


def test_rag_over_a_store(chat, tmp_path):
    store = Store(tmp_path / "store")
    documents = [
        Document(f"{n:064d}", f"{title}.md", title, (Block(text, Place()),))
        for n, (title, text) in enumerate(TEXTS.items())
    ]
    store.add(documents)
    answer = Rag(store, LLMReader(chat))("日当はいくらですか")
    assert answer.state in ("answered", "model_error", "wrong_format"), answer.error
    assert answer.hits and answer.hits[0].chunk.title == "旅費規程" and answer.yen >= 0.0


def test_a_prompt_too_long_is_the_models_error(chat):
    with pytest.raises(ChatError, match="maximum context length") as caught:
        chat.ask("日当" * 20_000)
    assert caught.value.state == "model_error"
    long = [Hit(Chunk("c", "0" * 64, "d", "題", "日当はいくら。\n" * 8_000, Place(), 0, ("everyone",)), 1.0, 1)]
    answer = LLMReader(chat).read("日当は", long, lambda token: 1.0)
    assert answer.state == "model_error" and "maximum context length" in answer.error


def test_a_bad_schema_is_the_requests_own(chat):
    with pytest.raises(ChatError) as caught:
        chat.ask("?", schema={"type": "nonsense"})
    assert caught.value.state == "model_error"


def test_odd_text_does_not_break_the_server(chat):
    for text in ("", "\x00", "\ud83d", "<|im_end|>", "🍜" * 100):
        answer = LLMReader(chat, max_tokens=16).read(text, hits(), lambda token: 1.0)
        assert answer.state == "model_error" and "途切れ" in answer.error  # cut, not refused
    assert chat.ask("?", max_tokens=1).completion_tokens == 1


def test_a_time_out_frees_the_server(vllm_url, chat):
    with connect(vllm_url, timeout_s=0.5) as hasty, pytest.raises(ChatError) as caught:
        hasty.ask("長い話をして", max_tokens=3000, temperature=1.0)
    assert caught.value.state == "timeout"
    begun = time.monotonic()
    assert chat.ask("?", max_tokens=1).completion_tokens == 1
    assert time.monotonic() - begun < 20


def test_many_at_once(chat):
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda i: chat.ask(f"質問{i}", max_tokens=4), range(24)))
    assert all(reply.completion_tokens >= 1 for reply in replies)


@pytest.mark.notebooks
def test_a_poc_with_the_server_as_candidate(vllm_url, tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("KIT_LLM_URL", raising=False)
    decision = poc(small_project(tmp_path / "総務PoC", repeat=1), url=vllm_url)
    assert "KIT_LLM_URL" not in os.environ  # the next poc in this process must not find it
    rows = [row for row in read_evaluation(decision.folder).rows if row.arm == "candidate"]
    assert len(rows) == 8 and sum(row.prompt_tokens > 100 for row in rows) >= 6  # without a hit nobody is asked
    assert not {row.state for row in rows} & {"infrastructure_error", "not_run"}
    assert decision.outcome in ("NO-GO", "EXTEND")  # a random model is never good enough
    page = (decision.folder / "summary.html").read_text(encoding="utf-8")
    assert "tiny" in page and "外部送信あり" not in page


def test_an_unknown_model_names_what_is_served(vllm_url):
    with pytest.raises(ServerError, match="tiny"):
        connect(vllm_url, model="llm-jp-4")
