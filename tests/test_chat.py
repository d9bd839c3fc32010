import asyncio
import gc
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web

from kit.errors import ServerError, SettingsError
from kit.serving import wire
from kit.serving.chat import ChatError, connect
from kit.trust import egress


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(wire, "_BACKOFF_S", 0.01)


@pytest.fixture
def chat(scripted):
    with connect(scripted.url, timeout_s=5) as chat:
        yield chat


async def slow(request):
    await asyncio.sleep(30)


async def drop(request):
    request.transport.abort()
    return web.Response()


async def cut_short(request):
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"mess')
    request.transport.abort()
    return response


async def torn(request):
    return web.Response(body=b'{"choices": [{"message": {"cont', content_type="application/json")


async def nested(request):
    return web.Response(body=b"[" * 200_000, content_type="application/json")


async def no_choices(request):
    return web.json_response({"object": "chat.completion", "choices": []})


async def endless(request):
    choice = {"message": {"content": "はい"}, "finish_reason": "stop"}
    return web.json_response({"choices": [choice], "usage": {"prompt_tokens": float("inf")}})


def test_ask(scripted, chat):
    scripted.actions = ["10日です。"]
    reply = chat.ask("有給は何日？", system="短く", max_tokens=7, temperature=0.5, seed=3)
    assert (reply.text, reply.finish, reply.prompt_tokens, reply.completion_tokens) == ("10日です。", "stop", 12, 3)
    assert reply.model == "tiny" and 0 < reply.seconds < 5
    sent = scripted.seen[0]
    assert sent["messages"] == [{"role": "system", "content": "短く"}, {"role": "user", "content": "有給は何日？"}]
    assert (sent["model"], sent["max_tokens"], sent["temperature"], sent["seed"]) == ("tiny", 7, 0.5, 3)
    assert "response_format" not in sent and "Authorization" not in sent["headers"]


def test_a_schema_is_sent_as_the_protocol_wants_it(scripted, chat):
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}
    chat.ask("?", schema=schema)
    assert scripted.seen[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": schema, "strict": True},
    }
    assert "system" not in {message["role"] for message in scripted.seen[0]["messages"]}


def test_a_reply_that_was_cut_says_so(scripted, chat):
    async def cut(request):
        return scripted.completion("長い", finish="length")

    scripted.actions = [cut]
    assert chat.ask("?").finish == "length"


def test_a_reply_without_text_is_empty(scripted, chat):
    async def silent(request):
        return scripted.completion(None)

    scripted.actions = [silent]
    assert chat.ask("?").text == ""


@pytest.mark.parametrize("trouble", [500, 503, 429, drop, cut_short, torn])
def test_a_passing_trouble_is_tried_again(scripted, chat, trouble):
    scripted.actions = [trouble, trouble, "はい"]
    assert (chat.ask("?").text, len(scripted.seen)) == ("はい", 3)


@pytest.mark.parametrize(
    ("trouble", "tries", "state"),
    [
        (500, 3, "infrastructure_error"),
        (503, 3, "infrastructure_error"),
        (429, 3, "infrastructure_error"),
        (drop, 3, "infrastructure_error"),
        (cut_short, 3, "infrastructure_error"),
        (torn, 3, "infrastructure_error"),
        (nested, 3, "infrastructure_error"),
        (no_choices, 3, "infrastructure_error"),
        (endless, 3, "infrastructure_error"),
        (400, 1, "model_error"),
        (413, 1, "model_error"),
        (422, 1, "model_error"),
        (401, 1, "infrastructure_error"),
        (404, 1, "infrastructure_error"),
    ],
)
def test_whose_doing_a_lasting_trouble_is(scripted, chat, trouble, tries, state):
    scripted.actions = [trouble]
    with pytest.raises(ChatError) as caught:
        chat.ask("?")
    assert (caught.value.state, len(scripted.seen)) == (state, tries)
    assert len(str(caught.value).splitlines()) == 3


def test_the_servers_own_words_are_passed_on(scripted, chat):
    scripted.actions = [400]
    with pytest.raises(ChatError, match=r"HTTP 400 を返しました.*scripted 400"):
        chat.ask("?")


def test_a_time_out_is_the_candidates_own_and_frees_the_server(scripted):
    scripted.actions = [slow]
    with connect(scripted.url, timeout_s=0.3) as chat:
        begun = time.monotonic()
        with pytest.raises(ChatError, match=r"0\.3 秒以内") as caught:
            chat.ask("?")
        assert time.monotonic() - begun < 2
    assert (caught.value.state, len(scripted.seen)) == ("timeout", 1)
    _until(lambda: scripted.dropped == 1)


def test_a_server_that_vanishes_is_infrastructure(scripted):
    with connect(scripted.url, timeout_s=5) as chat:
        assert chat.ask("?").text == "はい"
        scripted.close()
        with pytest.raises(ChatError) as caught:
            chat.ask("?")
        assert caught.value.state == "infrastructure_error"


def test_ctrl_c_drops_the_request(scripted, chat):
    scripted.actions = [slow]
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        chat.ask("?")
    timer.join()
    _until(lambda: scripted.dropped == 1)
    scripted.actions = ["はい"]
    assert chat.ask("?").text == "はい"


def test_in_a_running_loop_as_in_jupyter(scripted, chat):
    async def cell():
        return chat.ask("?").text

    assert asyncio.run(cell()) == "はい"


def test_from_several_threads_at_once(scripted, chat):
    async def echo(request):
        await asyncio.sleep(0.05)
        return scripted.completion((await request.json())["messages"][0]["content"])

    scripted.actions = [echo]
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(lambda i: chat.ask(f"質問{i}").text, range(64)))
    assert texts == [f"質問{i}" for i in range(64)]
    assert scripted.most_at_once > 8


def test_closing_ends_requests_under_way(scripted, chat):
    scripted.actions = [slow]
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(chat.ask, "?") for _ in range(4)]
        _until(lambda: len(scripted.seen) == 4)
        chat.close()
        errors = [future.exception(timeout=5) for future in waiting]
    assert {error.state for error in errors} == {"infrastructure_error"}
    with pytest.raises(ChatError, match="閉じられ"):
        chat.ask("?")
    chat.close()


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1?x=1"])
def test_the_url_is_completed(scripted, path):
    with connect(f"http://127.0.0.1:{scripted.port}{path}") as chat:
        assert chat.url == scripted.url and chat.model == "tiny"


def test_settings_are_used(scripted, monkeypatch):
    scripted.models = ["other", "tiny"]
    monkeypatch.setenv("KIT_LLM_URL", scripted.url)
    monkeypatch.setenv("KIT_LLM_MODEL", "other")
    monkeypatch.setenv("KIT_LLM_TIMEOUT_S", "7")
    with connect() as chat:
        assert (chat.model, chat.timeout_s) == ("other", 7.0)
    with connect(model="tiny", timeout_s=8) as chat:
        assert (chat.model, chat.timeout_s) == ("tiny", 8)


def test_without_a_url():
    with pytest.raises(SettingsError, match="KIT_LLM_URL"):
        connect()


def test_an_outside_url_is_refused_before_anything_is_sent():
    with pytest.raises(SettingsError, match="allowed_hosts"):
        connect("http://8.8.8.8/v1")


def test_an_unknown_model_names_what_is_served(scripted):
    scripted.models = ["llm-jp", "tiny"]
    with pytest.raises(ServerError, match="llm-jp、tiny"):
        connect(scripted.url, model="llama")
    with pytest.raises(ServerError, match="llm-jp、tiny"):
        connect(scripted.url)
    scripted.models = []
    with pytest.raises(ServerError, match="なし"):
        connect(scripted.url)


def test_the_key_comes_from_the_environment_and_shows_nowhere(scripted, monkeypatch):
    scripted.key = "sk-test-1"
    with pytest.raises(ServerError, match="KIT_LLM_API_KEY"):
        connect(scripted.url)
    monkeypatch.setenv("KIT_LLM_API_KEY", "sk-wrong\n")
    with pytest.raises(ServerError, match="鍵") as caught:
        connect(scripted.url)
    assert "sk-wrong" not in str(caught.value)
    monkeypatch.setenv("KIT_LLM_API_KEY", "sk-test-1\n")
    with connect(scripted.url) as chat:
        chat.ask("?")
        assert "sk-test" not in repr(chat)
    assert scripted.seen[0]["headers"]["Authorization"] == "Bearer sk-test-1"


def test_nothing_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ServerError, match="通信できません") as caught:
        connect(f"http://127.0.0.1:{port}")
    assert f"curl http://127.0.0.1:{port}/v1/models" in str(caught.value)


def test_a_wrong_path(scripted):
    with pytest.raises(ServerError, match="/v1 まで"):
        connect(f"http://127.0.0.1:{scripted.port}/api")


def test_redirects_are_not_followed(scripted, chat):
    async def redirect(request):
        raise web.HTTPTemporaryRedirect(f"{scripted.url}/chat/completions")

    scripted.actions = [redirect]
    with pytest.raises(ChatError, match="307") as caught:
        chat.ask("?")
    assert caught.value.state == "infrastructure_error"


def test_proxies_are_not_used(scripted, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    with connect(scripted.url) as chat:
        assert chat.ask("?").text == "はい"


def test_the_address_that_was_checked_is_the_one_that_is_called(scripted, monkeypatch):
    real, asked = socket.getaddrinfo, []

    def rebinding(host, *args, **kwargs):
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "8.8.8.8", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with connect(f"http://llm.corp.example:{scripted.port}") as chat:
        assert chat.ask("?").text == "はい"
    assert asked == ["llm.corp.example"]
    assert scripted.seen[0]["headers"]["Host"] == f"llm.corp.example:{scripted.port}"


def test_a_named_outside_host_may_be_called(scripted, monkeypatch):
    monkeypatch.setattr(egress, "_INSIDE", ())
    monkeypatch.setenv("KIT_ALLOWED_HOSTS", "127.0.0.1")
    with connect(scripted.url) as chat:
        assert chat.ask("?").text == "はい"


def test_errors_can_be_pickled():
    error = ChatError("何が", "なぜ", "次に", "timeout")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.state) == (str(error), "timeout")


@pytest.mark.parametrize("ending", ["", "del chat, reply; gc.collect()", "chat.close()", "raise SystemExit(3)"])
def test_nothing_is_left_behind(scripted, ending):
    """A chat that nobody closed leaves no warning, no thread that hangs, no open socket."""
    code = f"import gc; from kit.serving.chat import connect; chat = connect({scripted.url!r}); reply = chat.ask('?')"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", "default::ResourceWarning", "-c", f"{code}; {ending}"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[1],
    )
    assert (done.returncode, done.stdout, done.stderr) == (3 if "3" in ending else 0, "", "")


def test_a_forgotten_chat_ends_its_thread(scripted):
    before = threading.active_count()
    chat = connect(scripted.url)
    chat.ask("?")
    assert threading.active_count() == before + 1
    del chat
    gc.collect()
    _until(lambda: threading.active_count() == before)


def _until(condition, limit_s=5):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
