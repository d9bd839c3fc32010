"""The gateway: against an instant upstream that answers every route, and last with vLLM itself."""

import asyncio
import contextlib
import gzip
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from kit import connect
from kit.errors import ParameterError, RunError, ServerError, SettingsError
from kit.serving import gateway as module, keys as users_of, server
from kit.serving.gateway import Gateway

ALLOWED = {
    ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"), ("GET", "/health"),
}  # fmt: skip
# Every route of vLLM's security guide (docs/usage/security.md), and those the pinned build has besides.
GUIDE = """
/v1/models /v1/chat/completions /v1/chat/completions/batch /v1/chat/completions/render /v1/completions
/v1/completions/render /v1/embeddings /v1/audio/transcriptions /v1/audio/translations /v1/messages
/v1/messages/count_tokens /v1/responses /v1/responses/r1 /v1/responses/r1/cancel /v1/score /v1/rerank
/v1/load_lora_adapter /v1/unload_lora_adapter /inference/v1/generate /v2/embed /v2/rerank
/invocations /generative_scoring /pooling /classify /score /rerank /pause /resume /is_paused /scale_elastic_ep
/is_scaling_elastic_ep /init_weight_transfer_engine /update_weights /get_world_size /abort_requests /tokenize /detokenize
/health /ping /version /load /tokenizer_info /server_info /reset_prefix_cache /reset_mm_cache /reset_encoder_cache /sleep
/wake_up /is_sleeping /collective_rpc /start_profile /stop_profile
/metrics /docs /redoc /openapi.json /v1/realtime /v1/tokenize /weight_info /shutdown_weight_transfer_engine /
"""
ROUTES = GUIDE.split()
SPELLINGS = [
    "{path}/", "/{path}", "{path}//", "/.{path}", "/%2e{path}", "/v1/..{path}", "/v1/%2e%2e{path}", "/v1/models/..%2f..{path}",
    "/v1/chat/completions/../../..{path}", "/v1/models;{path}", "{path};x=1", "{path}?x=1", "/v1/models?{path}", "{path}%20",
    "{path}%00", "{path}.json", "{encoded}", "{slashes}", "{upper}", "http://127.0.0.1{path}", "//127.0.0.1{path}",
    "/\\{path}", "{path}#x", "/health{path}",
]  # fmt: skip
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "こんにちは"}]}
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


class Upstream:
    """Answers every method and path at once with 200, and keeps what came."""

    def __init__(self):
        self.seen, self.dropped, self.reply, self.context = [], 0, None, None
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live(started)))
        self._thread.start()
        assert started.wait(10)

    async def _live(self, started):
        runner = web.ServerRunner(web.Server(self._handle, handler_cancellation=True), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request):
        body = await request.read()
        if "Content-Type" not in request.headers:  # the gateway's own question
            return web.json_response({"data": [{"id": "tiny", "max_model_len": self.context}, {"id": "adapter"}]})
        self.seen.append((request.method, request.raw_path, dict(request.headers), json.loads(body) if body else None))
        try:
            if self.reply:
                return await self.reply(request)
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        return web.json_response({"choices": [{"message": {"content": '"prompt_tokens": 999'}}], "usage": USAGE})

    def close(self):
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()


@pytest.fixture
def upstream():
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def users_file(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_RUNS", str(tmp_path))
    return tmp_path / "gateway" / "users.json"


@pytest.fixture
def keys(users_file):
    return {name: users_of.add(users_file, name) for name in ("田中", "suzuki")}


@pytest.fixture
def opened(upstream, keys, monkeypatch):
    monkeypatch.setenv("KIT_LLM_API_KEY", "upstream-key")
    gateways = []

    def opening(**options):
        gateways.append(Gateway(upstream.url, **options))
        return gateways[-1]

    yield opening
    for gateway in gateways:
        gateway.close()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "kit-gateway"])


def send(gateway, method, path, key="", body=None, headers=(), connection=None):
    """One request with the path as it is spelled; returns status and content."""
    line = connection or http.client.HTTPConnection(*_place(gateway), timeout=20)
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    line.request(method, path, content, {**({"Authorization": f"Bearer {key}"} if key else {}), **dict(headers)}, encode_chunked=True)
    reply = line.getresponse()
    content = reply.read()
    if not connection:
        line.close()
    return reply.status, content


def _place(gateway):
    host, port = gateway.url.removeprefix("http://").removesuffix("/v1").split(":")
    return host, int(port)


def rows(tmp_path):
    return [json.loads(line) for line in (tmp_path / "gateway" / "usage.jsonl").read_text("utf-8").splitlines()]


def until(check):
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def spellings(path):
    encoded = "/" + "".join(f"%{ord(letter):02x}" for letter in path[1:])
    words = {"path": path, "encoded": encoded, "slashes": path.replace("/", "%2F"), "upper": path.upper()}
    return {spelling.format(**words) for spelling in SPELLINGS} - {route for _, route in ALLOWED}


def test_only_five_routes_pass_and_only_with_a_key_however_they_are_spelled(opened, upstream, keys):
    gateway, good = opened(), keys["田中"]
    known = hashlib.sha256(good.encode()).hexdigest()
    bad = ["", "wrong", known, good[:-1], good + "x", good.upper(), "upstream-key"]
    for route in ROUTES:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
            body = HELLO if method == "POST" else None
            for key in bad[:2] if (method, route) not in ALLOWED else bad:
                upstream.seen.clear()
                assert send(gateway, method, route, key, body)[0] == 401, (method, route, key)
                assert not upstream.seen
            status, _ = send(gateway, method, route, good, body)
            if (method, route) not in ALLOWED:
                assert (status, upstream.seen) == (404, []), (method, route)
    assert send(upstream, "POST", "/invocations", "", HELLO)[0] == 200  # it would have answered


def test_no_spelling_of_a_path_reaches_the_upstream(opened, upstream, keys):
    gateway, good = opened(), keys["田中"]
    for route in ROUTES:
        for path in spellings(route):
            for method, body in (("GET", None), ("POST", HELLO)):
                for key in ("", good):
                    status, _ = send(gateway, method, path, key, body)
                    assert status in ({401, 400} if not key else {404, 400}), (method, path, key)
    assert not upstream.seen
    override = {"X-HTTP-Method-Override": "GET", "X-Original-URL": "/metrics", "X-Rewrite-URL": "/metrics"}
    assert send(gateway, "POST", "/v1/models", good, HELLO, override)[0] == 404
    assert send(gateway, "GET", "/v1/models", good, None, override)[0] == 200
    ((method, path, headers, _),) = upstream.seen
    assert (method, path) == ("GET", "/v1/models") and not headers.keys() & override.keys()


def test_a_request_is_made_anew(opened, upstream, keys, tmp_path):
    gateway = opened()
    body = {**HELLO, "cache_salt": "mine"}
    extra = {"X-Request-Id": "a", "X-Session-Id": "b", "Cookie": "c", "X-Data-Parallel-Rank": "1"}
    for name in ("田中", "suzuki", "田中"):
        status, content = send(gateway, "POST", "/v1/chat/completions", keys[name], body, extra)
        assert status == 200 and json.loads(content)["usage"] == USAGE
    for _, path, headers, sent in upstream.seen:
        assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer upstream-key"
        assert not headers.keys() & extra.keys() and "kit-" not in str(headers)
        assert sent == {**HELLO, "max_tokens": 4096, "cache_salt": sent["cache_salt"]}
    salts = [sent["cache_salt"] for *_, sent in upstream.seen]
    assert salts[0] == salts[2] != salts[1] and "mine" not in salts and min(map(len, salts)) == 64
    send(gateway, "POST", "/v1/unknown", keys["suzuki"], body)
    first, *_, last = rows(tmp_path)
    assert first == {
        "time": first["time"], "user": "田中", "route": "/v1/chat/completions", "status": 200, "seconds": first["seconds"],
        "prompt_tokens": 12, "completion_tokens": 3,
    }  # fmt: skip
    assert 0 < first["seconds"] < 5 and (last["user"], last["route"], last["status"]) == ("suzuki", "", 404)
    assert len(rows(tmp_path)) == 4
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(word in everything for word in (b"kit-", "こんにちは".encode(), b"upstream-key", b"unknown"))


def parts(*contents):
    return {"messages": [{"role": "user", "content": list(contents)}]}


def form(schema):
    return {"structured_outputs": {"json": schema}}


DEEP = {"type": "object"}
for _ in range(900):
    DEEP = {"items": DEEP}
REFUSED = {
    "n": {"n": 9}, "n as text": {"n": "9"}, "n in parts": {"n": 2.5}, "n true": {"n": True}, "no n": {"n": 0},
    "tokens": {"max_tokens": 4097}, "tokens as text": {"max_tokens": "9999"}, "tokens below 1": {"max_tokens": -1},
    "other tokens": {"max_completion_tokens": 4097}, "both": {"max_tokens": 1, "max_completion_tokens": 9999},
    "beams": {"use_beam_search": True}, "template": {"chat_template": "{{ 1 }}"}, "embeds": {"prompt_embeds": "x"},
    "priority": {"priority": -1}, "id": {"request_id": "x"}, "media": {"mm_processor_kwargs": {}}, "guided": {"guided_json": {}},
    "hidden template": {"chat_template_kwargs": {"chat_template": "x"}}, "stream as text": {"stream": "true"},
    "stream options": {"stream": True, "stream_options": [1]}, "depth": form(DEEP), "depth 2": {"response_format": {"type": "json_schema", "json_schema": {"schema": DEEP}}},
    "wide": form({"properties": {f"k{i}": {} for i in range(101)}}), "branches": form({"a": {"anyOf": [{}] * 21}}),
    "hidden": form({"properties": {"anyOf": {"properties": {"pattern": {"oneOf": [{}] * 21}}}}}), "nan": {"temperature": float("nan")},
    "image": parts({"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}),
    "image beside text": parts({"type": "text", "text": "a", "image_url": "http://127.0.0.1/"}),
    "untyped": parts({"image_url": "data:,x"}), "text in bits": parts("a"), "messages": {"messages": "text"},
    "message": {"messages": ["text"]}, "audio": {"messages": [{"role": "user", "audio": {"id": "x"}}]}, "regex": {"structured_outputs": {"regex": "a?" * 151}},
    "pattern": form({"pattern": "a?" * 501}), "grammar": {"structured_outputs": {"grammar": "root ::= root"}},
    "structural tag": {"response_format": {"type": "structural_tag"}}, "stops": {"stop": ["a"] * 17}, "long stop": {"stop": "a" * 201},
    "bias": {"logit_bias": {str(i): 1 for i in range(301)}}, "bias value": {"logit_bias": {"1": 1e9}}, "logprobs": {"top_logprobs": -1},
    "all together": {"structured_outputs": {"choice": ["a" * 199 + str(i) for i in range(99)]}}, "temperature": {"temperature": 1e9}, "content": {"messages": [{"role": "user", "content": {"type": "text"}}]},
}  # fmt: skip
NO_JSON = [b"", b"[]", b"{", b'"text"', b"[" * 100_000, b'{"temperature": 1e999}', b'{"seed": ' + b"1" * 5000 + b"}"]
NO_JSON += [b'{"model": "\\ud800"}', b"\xff\xfe", b'{"n": 1}' * 2]


def test_caps(opened, upstream, keys, caplog):
    gateway, key, path = opened(), keys["suzuki"], "/v1/chat/completions"
    for body in [*({**HELLO, **change} for change in REFUSED.values()), *NO_JSON]:
        status, content = send(gateway, "POST", path, key, body)
        error = json.loads(content)["error"]
        assert (status, error["type"], error["code"]) == (400, "invalid_request_error", 400), body
        assert any("ぁ" <= letter <= "ん" for letter in error["message"])
    for change in ({"prompt": ["a"] * 9}, {"prompt": [[1, 2]]}, {"prompt": ["a", 1]}, {"messages": []}):
        assert send(gateway, "POST", "/v1/completions", key, change)[0] == 400
    assert send(gateway, "POST", path, key, b" " * (256 * 1024 + 1))[0] == 413
    assert send(gateway, "POST", path, key, iter([b" " * 100_000] * 3), {"Transfer-Encoding": "chunked"})[0] == 413
    assert not upstream.seen and not caplog.text


def test_what_is_within_the_caps_passes_unchanged(opened, upstream, keys):
    gateway, key = opened(), keys["suzuki"]
    chat = {**HELLO, **parts({"type": "text", "text": "あ"}), "n": 8, "max_completion_tokens": 4096, "temperature": 0}
    chat |= {"chat_template_kwargs": {"enable_thinking": False}, "structured_outputs": {"choice": ["はい"]}, "logprobs": True}
    text = {"model": "tiny", "prompt": ["あ"] * 8, "n": 8}
    tokens = {"model": "tiny", "prompt": list(range(99)), "max_tokens": 9}
    vectors = {"model": "tiny", "input": ["あ"] * 99, "encoding_format": "float"}
    open_end = {"model": "tiny", "prompt": "あ", "max_tokens": None}
    for path, body in (("chat/completions", chat), ("completions", text), ("completions", tokens), ("embeddings", vectors)):
        assert send(gateway, "POST", f"/v1/{path}", key, body)[0] == 200
        sent = upstream.seen[-1][3]
        assert sent.pop("cache_salt") and sent == body
    send(gateway, "POST", "/v1/completions", key, open_end)
    assert "max_tokens" not in upstream.seen[-1][3]  # vLLM takes 16
    send(gateway, "POST", "/v1/chat/completions", key, b'{"n": 9, "n": 2, "messages": []}')
    assert upstream.seen[-1][3]["n"] == 2  # what was checked is what is sent, whatever stood there twice


def event(data):
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data, separators=(",", ":")).encode()) + b"\n\n"


PIECES = [event({"choices": [{"delta": {"content": text}}]}) for text in "あいう"]
COUNT = event({"choices": [], "usage": USAGE})
DONE = event(b"[DONE]")


class Streaming:
    """An upstream's stream that waits for the test before each further piece."""

    def __init__(self, upstream, events, broken=False):
        self._upstream, self._events, self._broken = upstream, events, broken
        self.further = threading.Semaphore(0)
        upstream.reply = self

    async def __call__(self, request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for piece in self._events:
            while not self.further.acquire(blocking=False):
                await asyncio.sleep(0.005)
            await response.write(piece)
        if self._broken:
            request.transport.abort()
        return response


def start_stream(gateway, key, **change):
    line = http.client.HTTPConnection(*_place(gateway), timeout=20)
    body = json.dumps({**HELLO, "stream": True, **change})
    line.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {key}"})
    return line


def test_who_hangs_up_while_pieces_are_written_is_no_failure_of_the_server(opened, upstream, keys, tmp_path):
    flow = Streaming(upstream, [PIECES[0] * 5_000] * 50)
    line = start_stream(opened(), keys["田中"])
    flow.further.release(50)
    line.sock.recv(100)
    line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the line breaks at once
    line.close()
    until(lambda: rows(tmp_path))
    assert [row["status"] for row in rows(tmp_path)] == [499]


@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_passes_piece_by_piece_and_its_tokens_are_counted(opened, upstream, keys, tmp_path, asked):
    flow = Streaming(upstream, [*PIECES, COUNT, DONE])
    line = start_stream(opened(), keys["田中"], **({"stream_options": {"include_usage": True}} if asked else {}))
    flow.further.release()
    reply = line.getresponse()
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    for piece in PIECES:
        assert reply.read(len(piece)) == piece  # it is here, and the next has not been written yet
        flow.further.release()
    flow.further.release()
    assert reply.read() == (COUNT if asked else b"") + DONE
    line.close()
    assert upstream.seen[0][3]["stream_options"] == {"include_usage": True}
    (row,) = rows(tmp_path)
    assert (row["status"], row["prompt_tokens"], row["completion_tokens"]) == (200, 12, 3)


def test_who_hangs_up_frees_the_server(opened, upstream, keys, tmp_path):
    gateway, key = opened(), keys["田中"]
    flow = Streaming(upstream, [*PIECES, COUNT])
    line = start_stream(gateway, key)
    flow.further.release(2)
    reply = line.getresponse()
    reply.read(len(PIECES[0]))
    reply.close()
    line.close()
    until(lambda: upstream.dropped == 1)

    async def forever(_):
        await asyncio.sleep(60)

    upstream.reply = forever
    line = http.client.HTTPConnection(*_place(gateway), timeout=20)
    line.request("POST", "/v1/chat/completions", json.dumps(HELLO), {"Authorization": f"Bearer {key}"})
    until(lambda: len(upstream.seen) == 2)
    line.close()
    until(lambda: upstream.dropped == 2 and len(rows(tmp_path)) == 2)
    assert [(row["status"], row["prompt_tokens"]) for row in rows(tmp_path)] == [(499, None)] * 2
    assert [row["completion_tokens"] for row in rows(tmp_path)][1] == 0 < rows(tmp_path)[0]["completion_tokens"] <= 2


def test_trouble_upstream_is_told_in_openai_shape(opened, upstream, keys, tmp_path):
    gateway, key = opened(), keys["田中"]

    def answer(status, **facts):
        async def reply(_):
            return web.json_response(facts, status=status)

        upstream.reply = reply
        status, content = send(gateway, "POST", "/v1/chat/completions", key, HELLO)
        return status, json.loads(content)["error"]

    assert answer(400, error={"message": "maximum context length is 2048"}) == (400, {"message": "maximum context length is 2048"})
    for status, seen in ((401, 502), (403, 502), (500, 502), (503, 502), (302, 502), (404, 404)):
        got, error = answer(status, detail="Not Found")
        assert got == seen == error["code"] and "モデルサーバー" in error["message"]
    flow = Streaming(upstream, PIECES, broken=True)
    flow.further.release(3)
    line = start_stream(gateway, key)
    *_, last = line.getresponse().read().strip().split(b"\n\n")
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == 502
    line.close()
    upstream.close()
    assert send(gateway, "POST", "/v1/chat/completions", key, HELLO)[0] == 502
    assert [row["status"] for row in rows(tmp_path)] == [400, 502, 502, 502, 502, 502, 404, 502, 502]


def test_a_user_cannot_take_all_places(opened, upstream, keys, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    gateway, release = opened(), threading.Event()

    async def wait(_):
        while not release.is_set():
            await asyncio.sleep(0.005)
        return web.json_response({})

    upstream.reply = wait
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(send, gateway, "POST", "/v1/chat/completions", keys["田中"], HELLO) for _ in range(3)]
        until(lambda: len(upstream.seen) == 2)
        other = pool.submit(send, gateway, "POST", "/v1/chat/completions", keys["suzuki"], HELLO)
        until(lambda: len(upstream.seen) == 3)
        salts = [sent["cache_salt"] for *_, sent in upstream.seen]
        assert salts[0] == salts[1] != salts[2] and not asked[2].done()  # the third waits, the other user does not
        release.set()
        assert [one.result()[0] for one in (*asked, other)] == [200] * 4


def test_what_it_refuses_to_open(upstream, keys, opened, monkeypatch, tmp_path):
    for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example"):
        with pytest.raises(ParameterError, match="暗号化"):
            Gateway(upstream.url, host=host)
    for options in ({"port": 65_536}, {"port": -1}, {"cert": str(tmp_path / "none.pem")}):
        with pytest.raises(ServerError, match="公開できません"):
            Gateway(upstream.url, **options)
    with pytest.raises(SettingsError):
        Gateway("http://8.8.8.8/v1")
    with pytest.raises(ServerError, match="ありません"):
        Gateway()
    first = opened()
    with pytest.raises(ServerError, match="公開できません"):
        opened(port=_place(first)[1])
    first.close()
    first.close()
    with pytest.raises(ConnectionRefusedError):
        send(first, "GET", "/health", keys["田中"])


@pytest.mark.parametrize(("context", "filled"), [(2048, 2048), (4096, 4096), (32_768, 4096), (None, 4096)])
def test_what_is_filled_in_is_within_the_models_context(opened, upstream, keys, context, filled):
    upstream.context = context
    assert send(opened(), "POST", "/v1/chat/completions", keys["田中"], HELLO)[0] == 200
    assert upstream.seen[-1][3]["max_tokens"] == filled


def test_it_follows_a_restarted_server_and_tells_nobody_else(upstream, keys, tmp_path, monkeypatch):
    """The server that kit.serve started: a process of its own, whose port is another one's when it has gone."""

    def started(url, key):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
        ticks, log = server._stat(Path(f"/proc/{child.pid}"))[2], tmp_path / "servers" / "server.log"
        facts = {"sha256": "", "started": ticks, "key": key, "scratch": tmp_path / "scratch", "ready": True}
        server._write(server.Server(url, "tiny", tmp_path, 2048, 1, 0.5, False, child.pid, log, **facts))
        return child

    monkeypatch.setenv("KIT_LLM_API_KEY", "of another server")
    other, first = Upstream(), started(upstream.url, "first-key")
    with contextlib.closing(other), contextlib.closing(Gateway()) as gateway:
        ask = partial(send, gateway, "POST", "/v1/chat/completions", keys["田中"], HELLO)
        assert ask()[0] == 200 and upstream.seen[-1][3]["max_tokens"] == 2048
        first.communicate(b"\n")
        status, content = ask()
        assert status == 502 and "動いていません" in json.loads(content)["error"]["message"]
        assert len(upstream.seen) == 1  # somebody still listens there
        second = started(other.url, "second-key")
        assert ask()[0] == 200
        told = [seen[2]["Authorization"] for seen in (*upstream.seen, *other.seen)]
        assert told == ["Bearer first-key", "Bearer second-key"]
        second.communicate(b"\n")


def test_refusals_are_readable_as_they_are(opened):
    assert "鍵（APIキー）がない".encode() in send(opened(), "GET", "/v1/models")[1]


@pytest.mark.parametrize("damage", [b"{", b"[1]", b'{"a": 1}', '{"a": "あ"}'.encode(), b"[" * 100_000])
def test_a_damaged_list_lets_nobody_in(opened, upstream, keys, users_file, damage):
    gateway, good = opened(), users_file.read_bytes()
    users_file.write_bytes(damage)
    status, content = send(gateway, "GET", "/v1/models", keys["田中"])
    assert status == 503 and "利用者の一覧を読めない" in json.loads(content)["error"]["message"] and not upstream.seen
    users_file.write_bytes(good)
    assert send(gateway, "GET", "/v1/models", keys["田中"])[0] == 200


def test_a_full_disk_lets_nobody_in_unrecorded(opened, upstream, keys, tmp_path):
    gateway = opened()
    whole = gateway._rows
    with Path("/dev/full").open("ab", buffering=0) as gateway._rows:
        assert send(gateway, "GET", "/v1/models", keys["田中"])[0] == 200  # nobody could know; its row waits
        for _ in range(2):
            status, content = send(gateway, "GET", "/v1/models", keys["suzuki"])
            assert status == 503 and "利用記録" in json.loads(content)["error"]["message"]
    gateway._rows = whole
    assert len(upstream.seen) == 1 and send(gateway, "GET", "/v1/models", keys["suzuki"])[0] == 200
    assert [row["user"] for row in rows(tmp_path)] == ["田中", "suzuki"]


def test_a_folder_that_cannot_be_written_is_told_in_three_lines(users_file):
    users_file.parent.write_text("not a folder")
    for change in (users_of.add, users_of.remove):
        with pytest.raises(RunError, match="書き込めません") as caught:
            change(users_file, "田中")
        assert len(str(caught.value).splitlines()) == 3


def test_localhost_is_loopback(opened):
    assert opened(host="localhost").url.startswith("http://127.0.0.1:")


def test_who_is_taken_off_the_list_is_out_at_once(opened, keys, users_file):
    gateway = opened()
    assert send(gateway, "GET", "/v1/models", keys["田中"])[0] == 200
    users_of.remove(users_file, "田中")
    later = users_of.add(users_file, "佐藤")
    assert [send(gateway, "GET", "/v1/models", key)[0] for key in (keys["田中"], keys["suzuki"], later)] == [401, 200, 200]


# --- an attacker's own bytes


def raw(gateway, content, patience_s=5):
    """Send bytes as they are; returns all that comes back until the server closes or is silent for a while."""
    with socket.create_connection(_place(gateway), timeout=patience_s) as line:
        line.sendall(content)
        answer = b""
        with suppress(TimeoutError, ConnectionResetError):
            while piece := line.recv(65536):
                answer += piece
    return answer


BODY = json.dumps(HELLO).encode()
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
HIDDEN = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
MALFORMED = {
    "length and chunks": f"Content-Length: {len(CHUNKED)}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + CHUNKED,
    "two lengths": f"Content-Length: {len(BODY)}\r\nContent-Length: {len(BODY) + 9}\r\n\r\n".encode() + BODY,
    "length with a sign": f"Content-Length: +{len(BODY)}\r\n\r\n".encode() + BODY,
    "unknown coding": b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "folded": b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "space before the colon": b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKED,
    "one huge header": b"X-A: " + b"a" * 20_000 + b"\r\n\r\n",
    "many headers": b"X-A: b\r\n" * 500 + b"\r\n",
    "chunk size": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n",
    "no chunk": b"Transfer-Encoding: chunked\r\n\r\n" + "秘密の質問".encode() * 9,  # aiohttp would log a piece of it
    "compressed": f"Content-Encoding: gzip\r\nContent-Length: {len(gzip.compress(BODY))}\r\n\r\n".encode() + gzip.compress(BODY),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_request_goes_nowhere(opened, upstream, keys, caplog, kind):
    answer = raw(opened(), HEAD.format(key=keys["田中"]).encode() + MALFORMED[kind] + HIDDEN, 1)
    assert re.match(rb"HTTP/1.[01] 400 ", answer) and b" 200 " not in answer
    assert not upstream.seen and not caplog.text


def test_what_follows_a_request_needs_a_key_of_its_own(opened, upstream, keys):
    whole = HEAD.format(key=keys["田中"]).encode() + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    answer = raw(opened(), whole + HIDDEN, 1)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"401"]
    assert [path for _, path, *_ in upstream.seen] == ["/v1/chat/completions"]


def test_a_key_counts_only_in_its_header(opened, upstream, keys):
    gateway, key = opened(), keys["田中"]
    for path in (f"/v1/models?key={key}", f"/v1/models?api_key={key}", f"/{key}/v1/models"):
        assert send(gateway, "GET", path)[0] == 401
    others = {"X-Api-Key": key, "Api-Key": key, "Cookie": f"key={key}", "Proxy-Authorization": f"Bearer {key}"}
    assert send(gateway, "GET", "/v1/models", headers=others)[0] == 401
    assert send(gateway, "GET", "/v1/models", headers={"Authorization": f"Basic {key}"})[0] == 401
    assert not upstream.seen


def test_slow_ones_and_idle_strangers_are_cut_off(opened, upstream, keys, monkeypatch, caplog):
    monkeypatch.setattr(module, "_UPLOAD_S", 0.3)
    gateway, head = opened(), HEAD.format(key=keys["田中"]).encode()
    assert b" 408 " in raw(gateway, head + b"Content-Length: 100\r\n\r\n{", 1)
    with socket.create_connection(_place(gateway), timeout=5) as torn:  # a body that breaks off badly after its headers
        torn.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        time.sleep(0.1)
        torn.sendall("秘密の質問".encode() * 9)
        assert b" 408 " in torn.recv(65536)
    for begun in (b"", b"GET /v1/models HTT", b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"):
        with socket.create_connection(_place(gateway), timeout=5) as stranger:
            stranger.sendall(begun)
            while stranger.recv(65536):  # until the gateway closes; a time-out fails
                pass
    line = http.client.HTTPConnection(*_place(gateway), timeout=20)
    for _ in range(2):
        assert send(gateway, "GET", "/v1/models", keys["田中"], connection=line)[0] == 200
        time.sleep(1)  # who has shown a key may be idle
    line.close()
    with contextlib.ExitStack() as idle:
        for _ in range(200):
            idle.enter_context(socket.create_connection(_place(gateway)))
        assert send(gateway, "GET", "/v1/models", keys["suzuki"])[0] == 200
    assert not caplog.text


def test_it_is_opened_to_others_only_with_a_certificate(opened, upstream, keys, tmp_path):
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("openssl is not installed: no certificate to listen with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=gateway"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)]
    subprocess.run([openssl, *made], check=True, capture_output=True)
    gateway = opened(host="0.0.0.0", cert=str(cert), key=str(key))
    assert gateway.url.startswith("https://0.0.0.0:")
    url = gateway.url.replace("0.0.0.0", "127.0.0.1")
    asked = f"import kit; print(kit.connect({url!r}, model='tiny').ask('?').text)"
    variables = {**os.environ, "KIT_LLM_API_KEY": keys["田中"], "SSL_CERT_FILE": str(cert)}
    upstream.reply = scripted_reply
    done = subprocess.run([sys.executable, "-c", asked], env=variables, capture_output=True, text=True, check=False)
    assert done.stdout == "はい\n", done.stderr[-2000:]
    plain = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    assert not raw(types.SimpleNamespace(url=url.replace("https", "http")), plain).startswith(b"HTTP/1.1 200")


async def scripted_reply(request):
    if request.method == "GET":
        return web.json_response({"data": [{"id": "tiny"}]})
    message = {"role": "assistant", "content": "はい"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return web.json_response({"model": "tiny", "choices": [choice], "usage": USAGE})


# --- the chat client, and vLLM itself


def test_the_chat_client_speaks_through_it(opened, upstream, keys, monkeypatch):
    gateway = opened()
    upstream.reply = scripted_reply
    monkeypatch.setenv("KIT_LLM_API_KEY", keys["田中"])
    with connect(gateway.url) as chat:
        schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}}
        assert chat.ask("?", schema=schema, system="s", n=2, logprobs=3, seed=1).text == "はい"
        sent = upstream.seen[-1][3]
        assert sent["response_format"]["json_schema"]["schema"] == schema and (sent["n"], sent["top_logprobs"]) == (2, 3)
        assert chat.ask("?", choice=["はい", "いいえ"]).text == "はい"
        assert chat.ask("?", regex="は.").text == "はい"
        thinking = {"chat_template_kwargs": {"enable_thinking": False}}
        assert chat.ask("?", extra=thinking).text == "はい"


@pytest.mark.server
def test_vllm_behind_the_gateway(vllm_server, keys, tmp_path, monkeypatch):
    key, schema = keys["田中"], {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    with contextlib.closing(Gateway(vllm_server.url)) as gateway:
        monkeypatch.setenv("KIT_LLM_API_KEY", key)
        with connect(gateway.url) as chat:
            assert chat.model == vllm_server.model
            form = "[0-9]{3}-[0-9]{4}"  # what random weights would write freely may be nothing at all
            whole = chat.ask("こんにちは", max_tokens=32, regex=form)
            stream = chat.stream("こんにちは", max_tokens=32, regex=form)
            assert "".join(stream) == stream.reply.text
            assert re.fullmatch(form, whole.text) and re.fullmatch(form, stream.reply.text)
            answer = chat.ask("はい？", max_tokens=32, schema={**schema, "additionalProperties": False})
            assert isinstance(json.loads(answer.text)["ok"], bool)
        text = {"model": chat.model, "prompt": "昔々", "stream": True, "max_tokens": 4, "temperature": 0}
        status, content = send(gateway, "POST", "/v1/completions", key, text)
        assert status == 200 and b'"usage":{' not in content and content.endswith(b"data: [DONE]\n\n")
        unnamed = send(gateway, "POST", "/v1/chat/completions", key, {**HELLO, "model": chat.model, "stop": ["。"]})
        assert unnamed[0] == 200  # what is filled in is no more than the context; the server cuts it to what the prompt leaves
        assert send(gateway, "GET", "/health", key)[0] == 200
        assert send(gateway, "GET", "/health")[0] == 401
        status, content = send(gateway, "POST", "/v1/embeddings", key, {"model": chat.model, "input": "あ"})
        assert (status, json.loads(content)["error"]["code"]) == (404, 404)
        status, content = send(gateway, "POST", "/v1/chat/completions", key, {**HELLO, "model": "other"})
        assert status == 404 and "other" in json.loads(content)["error"]["message"]
        assert send(gateway, "POST", "/invocations", key, {**HELLO, "max_tokens": 1})[0] == 404
    local = http.client.HTTPConnection("127.0.0.1", int(vllm_server.url.split(":")[2].split("/")[0]), timeout=60)
    asked = {**HELLO, "model": vllm_server.model, "max_tokens": 1}
    assert send(None, "POST", "/invocations", "", asked, {"Content-Type": "application/json"}, local)[0] == 404  # its guard
    local.close()
    counted = [row for row in rows(tmp_path) if row["prompt_tokens"]]
    assert [row["completion_tokens"] for row in counted][:2] == [
        whole.completion_tokens, stream.reply.completion_tokens
    ]
    assert [row["completion_tokens"] for row in counted][3] == 4
