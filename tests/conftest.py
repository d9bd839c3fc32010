"""What the tests share: ``--require``, real files beside the checkout, programs, a scripted and a real model server."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from aiohttp import web

ROOT = Path(__file__).parents[1]
REQUIRABLE = {"vllm", "shared", "chromium", "libreoffice"}
MODEL = "tiny"


def pytest_addoption(parser):
    parser.addoption(
        "--require",
        default="",
        help=f"comma list of {', '.join(sorted(REQUIRABLE))}: a skip for want of one of these becomes a failure",
    )


def pytest_configure(config):
    # A background shell starts its jobs deaf to Ctrl-C; tests that press it, here and in children, must hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    unknown = _required(config) - REQUIRABLE
    if unknown:
        raise pytest.UsageError(
            f"--require: unknown {', '.join(sorted(unknown))}; one of {', '.join(sorted(REQUIRABLE))}"
        )


def _required(config):
    return {name.strip() for name in config.getoption("--require").split(",") if name.strip()}


def _missing(request, name, reason):
    if name in _required(request.config):
        pytest.fail(f"{reason} (--require={name})", pytrace=False)
    pytest.skip(reason)


def _program(request, name, *candidates):
    for candidate in candidates:
        if found := shutil.which(candidate):
            return found
    _missing(request, name, f"{candidates[0]} is not installed: bash tools/apt.sh")


@pytest.fixture(scope="session")
def shared(request):
    """The real files beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        _missing(request, "shared", f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def chromium(request):
    return _program(request, "chromium", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def soffice(request):
    return _program(request, "libreoffice", "soffice", "libreoffice")


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    """No setting of the person who runs the tests may reach a model server from here."""
    for name in ("KIT_LLM_URL", "KIT_LLM_MODEL", "KIT_LLM_TIMEOUT_S", "KIT_LLM_API_KEY", "KIT_ALLOWED_HOSTS"):
        monkeypatch.delenv(name, raising=False)


class ScriptedServer:
    """An OpenAI-compatible server that does what the test says: one action per request, the last one again and again.

    An action is a reply's text, an HTTP status, or a coroutine function that takes the request and returns a response.
    """

    def __init__(self):
        self.actions = ["はい"]
        self.models = [MODEL]
        self.key = ""
        self.seen = []
        self.most_at_once = 0
        self.dropped = 0
        self._now = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()))
        self._thread.start()
        assert self._started.wait(10)

    async def _live(self):
        app = web.Application(client_max_size=8 << 20)
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    def close(self):
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    async def _list(self, request):
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return web.json_response({"object": "list", "data": [{"id": name} for name in self.models]})

    async def _complete(self, request):
        self.seen.append({"headers": dict(request.headers), **await request.json()})
        action = self.actions.pop(0) if len(self.actions) > 1 else self.actions[0]
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._act(action, request)
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        finally:
            self._now -= 1

    async def _act(self, action, request):
        if isinstance(action, int):
            return web.json_response({"error": {"message": f"scripted {action}"}}, status=action)
        if isinstance(action, str):
            return completion(action)
        return await action(request)


def completion(text, finish="stop", model=MODEL):
    """A whole reply as vLLM would send it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    return web.json_response({"object": "chat.completion", "model": model, "choices": [choice], "usage": usage})


@pytest.fixture
def scripted():
    server = ScriptedServer()
    server.completion = completion
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a tiny model with random weights."""
    folder = tmp_path_factory.mktemp("model") / MODEL
    subprocess.run([sys.executable, ROOT / "tests" / "tiny_model.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def vllm_url(request, tmp_path_factory):
    """A real vLLM server (CPU build) with the tiny model; one per session."""
    python = ROOT / ".venv-server" / "bin" / "python"
    if not python.exists():
        _missing(request, "vllm", f"{python} is not there: make server")
    model = request.getfixturevalue("tiny_model")
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                python,
                *f"-m vllm.entrypoints.launchers.api_server.entry --host 127.0.0.1 --port {port}".split(),
                *f"--model {model} --served-model-name {MODEL} --dtype float32".split(),
                *["--max-model-len", "4096", "--enforce-eager", "--distributed-executor-backend", "uni"],
                # Without the flag random weights write blanks without end; it works only with a backend that is named.
                "--structured-outputs-config",
                '{"backend": "xgrammar", "disable_any_whitespace": true}',
            ],
            cwd=log.parent,
            env=os.environ
            | {
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "HF_HUB_OFFLINE": "1",
                "VLLM_NO_USAGE_STATS": "1",
                "TORCHDYNAMO_DISABLE": "1",
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process less to start: fine for tests, not for load
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}/v1"
        _wait_until_it_answers(url, process, log)
        yield url
    finally:
        _kill_group(process)


def _wait_until_it_answers(url, process, log, limit_s=400):
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "あ"}], "max_tokens": 1}).encode()
    request = urllib.request.Request(url + "/chat/completions", body, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    begun = time.monotonic()
    while time.monotonic() < begun + limit_s:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), opener.open(request, timeout=60) as response:
            json.load(response)
            return
        time.sleep(0.5)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    pytest.fail(f"vLLM ended with {process.poll()} or did not answer in {limit_s} s:\n{last}", pytrace=False)


def _kill_group(process):
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
    process.wait()
