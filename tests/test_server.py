"""The chat client, its bench and the LLM reader on a real vLLM server with a tiny random-weight model."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
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


@pytest.mark.parametrize("n", [1, 2])
def test_a_choice_and_a_pattern(chat, n):
    for seed in range(3):
        said = {"temperature": 1.0, "seed": seed, "max_tokens": 32, "n": n}
        reply = chat.ask("日当は出ますか", choice=["はい", "いいえ", "規程にない"], **said)
        assert reply.text in ("はい", "いいえ", "規程にない") and (reply.state, reply.finish) == ("answered", "stop")
        reply = chat.ask("郵便番号は", regex=r"[0-9]{3}-[0-9]{4}", **said)
        assert len(reply.text) == 8 and (reply.state, len(reply.others)) == ("answered", n - 1)


def test_a_field_that_the_server_ignores_is_noticed_by_the_form(chat):
    """vLLM takes the old guided_choice without a word and writes what it likes."""
    ignored = chat.ask(
        "日当は出ますか", max_tokens=4, choice=["はい"], extra={"structured_outputs": None, "guided_choice": ["はい"]}
    )
    assert ignored.state != "answered"


def test_logprobs(chat):
    reply = chat.ask("日当は", max_tokens=6, logprobs=3, seed=1)
    assert len(reply.logprobs) == reply.completion_tokens == 6
    for token in reply.logprobs:
        written, *others = token.values()
        assert 1 <= len(token) <= 3 and written <= 0 and written >= max(others, default=-math.inf)  # at temperature 0
    assert "".join(next(iter(token)) for token in reply.logprobs if "�" not in token)[:1] in reply.text


def test_several_texts_differ_and_are_repeated_by_their_seed(chat):
    one, again = (chat.ask("日当は", max_tokens=8, temperature=1.0, seed=4, n=3) for _ in range(2))
    texts = [choice.text for choice in (one, *one.others)]
    assert len(set(texts)) > 1 and texts == [choice.text for choice in (again, *again.others)]
    assert one.completion_tokens == 24 and one.state == "model_error"  # all three were cut


def test_what_every_reply_says(chat):
    reply = chat.ask("日当は", max_tokens=4)
    assert reply.fingerprint.startswith("vllm-0.32.0-") and not reply.fingerprint.endswith("nohash")
    assert reply.yen > 0 and reply.thinking_tokens == 0 and reply.state == "model_error"


def test_a_stream_is_the_same_reply_in_pieces(chat):
    said = {"max_tokens": 24, "temperature": 1.0, "seed": 3, "logprobs": 2}
    stream, whole = chat.stream("日当は", **said), chat.ask("日当は", **said)
    pieces = list(stream)
    assert len(pieces) > 4 and "".join(pieces) == stream.reply.text == whole.text
    for fact in ("finish", "state", "prompt_tokens", "completion_tokens", "fingerprint", "model", "logprobs"):
        assert getattr(stream.reply, fact) == getattr(whole, fact), fact


def test_leaving_a_stream_frees_the_server(chat):
    for number, _ in enumerate(
        chat.stream("長い話をして", max_tokens=3000, temperature=1.0, extra={"ignore_eos": True})
    ):
        if number == 3:
            break
    end = time.monotonic() + 5
    while _running(chat.url) > 0:
        assert time.monotonic() < end
        time.sleep(0.05)


def _running(url):
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running{"))


def test_a_stream_that_cannot_begin(chat):
    with pytest.raises(ChatError, match="maximum context length") as caught:
        list(chat.stream("日当" * 20_000))
    assert caught.value.state == "model_error"
    with pytest.raises(ChatError) as caught:
        list(chat.stream("?", regex="(?=a)b"))  # Python knows it, the grammar does not
    assert caught.value.state == "model_error"


def test_many_at_once_in_an_event_loop(chat):
    async def cell():
        return await asyncio.gather(*(chat.ask_async(f"質問{i}", max_tokens=4) for i in range(64)))

    assert [reply.model for reply in asyncio.run(cell())] == ["tiny"] * 64


def test_without_the_key_nothing_is_answered(vllm_server, monkeypatch, tmp_path):
    monkeypatch.delenv("KIT_LLM_API_KEY")
    monkeypatch.setenv("KIT_RUNS", str(tmp_path))  # where no server was started
    with pytest.raises(ServerError, match="鍵"):
        connect(vllm_server.url)


def test_the_server_that_runs_here_is_found_with_its_key(vllm_server, monkeypatch):
    monkeypatch.setenv("KIT_LLM_API_KEY", "sk-of-another-server")
    monkeypatch.setenv("KIT_RUNS", str(vllm_server.log.parents[1]))
    with connect() as chat:
        assert (chat.url, chat.model) == (vllm_server.url, "tiny")
        assert chat.ask("?", max_tokens=1).completion_tokens == 1


@pytest.mark.slow
def test_the_bench_in_short_form(vllm_url):
    bench = Path(__file__).parent / "bench" / "serving.py"
    short = ["--concurrency", "1,8", "--pairs", "1", "--tokens", "8", "--least", "8", "--rounds", "1", "--json"]
    done = subprocess.run(
        [sys.executable, bench, "--url", vllm_url, *short],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(bench.parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["lengths"], row["concurrency"]) for row in rows] == [
        ("fixed", 1), ("fixed", 8), ("natural", 1), ("natural", 8)
    ]  # fmt: skip
    for row in rows:
        assert row["same_tokens"] and row["errors"] == row["vllm_errors"] == 0 and row["ratio"] > 0.2
        assert 0 < row["ours"]["ttft_ms"]["p50"] <= row["ours"]["ttft_ms"]["p99"] <= row["ours"]["whole_ms"]["p99"]


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


def _listening(where):
    """The (address, port) pairs that are listened on by a process, or with ``psutil`` itself on this machine."""
    return {tuple(c.laddr) for c in where.net_connections("inet") if c.status == psutil.CONN_LISTEN}


@pytest.mark.notebooks
@pytest.mark.timeout(900)
def test_a_poc_whose_server_is_killed_goes_on_with_the_same_command(vllm_python, tiny_model, tmp_path):
    small_project(tmp_path / "総務 PoC", repeat=4)  # more samples than one write to the journal holds, on any machine
    command = [sys.executable, "-m", "kit", "poc", "総務 PoC", "--model", str(tiny_model)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    how = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **how)
    while not (journal := next(tmp_path.glob("runs/*/rows.jsonl"), None)) or journal.read_bytes().count(b"\n") < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    server = json.loads((tmp_path / "runs" / "servers" / "server.json").read_bytes())
    family = psutil.Process(process.pid).children(recursive=True)
    (kernel,) = (one for one in family if "ipykernel_launcher" in one.cmdline())
    kernel.suspend()  # looking takes longer than a fast machine needs for the rest of the run
    opened = {f"{one.pid} {' '.join(one.cmdline())}": _listening(one) for one in family}
    measured = journal.read_bytes()
    os.kill(server["pid"], signal.SIGKILL)
    kernel.resume()
    shown, told = process.communicate(timeout=60)

    # What listens is declared in DECISIONS.md: the server's port, the ports of vLLM's worker, one pipe of the kernel.
    assert {address for pairs in opened.values() for address, _ in pairs} == {"127.0.0.1"}
    port = int(server["url"].removesuffix("/v1").rpartition(":")[2])
    roles = {
        role: set().union(*(pairs for name, pairs in opened.items() if role in name))
        for role in (f"{server['pid']} ", "ipykernel_launcher", "VLLM::Worker")
    }
    assert roles[f"{server['pid']} "] == {("127.0.0.1", port)} and len(roles["ipykernel_launcher"]) == 1
    assert set().union(*opened.values()) == set().union(*roles.values())
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not set().union(*roles.values()) & _listening(psutil)
    assert not (tmp_path / "runs" / "servers" / "server.json").exists()

    assert (process.returncode, shown) == (1, "")
    *_, what, ended, status, cause, remedy = told.splitlines()
    assert what.startswith("エラー: 05_evaluate: モデルサーバー") and "件は残っています。" in what
    assert (ended, status) == ("モデルサーバーが終了しました。", "exit status -9") and "SIGKILL" in cause
    assert remedy.endswith(f"/kit poc '総務 PoC' --model {tiny_model}") and "Traceback" not in told
    before = journal.read_bytes()
    states = [json.loads(line)["state"] for line in before.splitlines()]
    assert 4 <= len(states) < 64 and before.startswith(measured)
    assert "infrastructure_error" not in states[: measured.count(b"\n")]  # what broke off with the server, came after
    assert f"測定済みの {len(states)} / 64 件" in what

    again = subprocess.run(command, **how, check=False)
    assert again.returncode == 0, again.stderr
    phases = ("モデルのファイルを検査しています\n", "起動しました\n", f"中断した実行の続き: runs/{journal.parent.name}\n", "05_evaluate")
    assert all(phase in again.stderr for phase in phases) and not (tmp_path / "runs" / "servers" / "server.json").exists()
    assert again.stdout.startswith(("DECISION: NO-GO ", "DECISION: EXTEND "))
    assert journal.read_bytes().startswith(before)
    samples = [(row["case"], row["arm"]) for row in map(json.loads, journal.read_bytes().splitlines())]
    assert len(set(samples)) == len(samples) == 64


def test_an_unknown_model_names_what_is_served(vllm_url):
    with pytest.raises(ServerError, match="tiny"):
        connect(vllm_url, model="llm-jp-4")
