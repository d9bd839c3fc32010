"""What the tests share: ``--require``, real files beside the checkout, programs, a scripted and a real model server."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from aiohttp import web

from kit.serving.server import serve

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
    # The key that signs a ledger's checkpoints lies in the user's configuration: not in that of who runs the tests.
    home = tempfile.TemporaryDirectory()
    config.add_cleanup(home.cleanup)
    os.environ["XDG_CONFIG_HOME"] = home.name
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
def _own_settings(monkeypatch, request):
    """No setting of the person who runs the tests may reach a model server from here."""
    names = {"KIT_LLM_URL", "KIT_LLM_MODEL", "KIT_LLM_TIMEOUT_S", "KIT_LLM_API_KEY", "KIT_ALLOWED_HOSTS"}
    for name in names - ({"KIT_LLM_API_KEY"} if "vllm_server" in request.fixturenames else set()):
        monkeypatch.delenv(name, raising=False)


class ScriptedServer:
    """An OpenAI-compatible server that does what the test says: one action per request, the last one again and again.

    An action is a reply's text, an HTTP status, or a coroutine function that takes the request and returns a response.
    """

    def __init__(self):
        self.actions = ["はい"]
        self.models = [MODEL]
        self.facts = {}
        self.key = ""
        self.seen = []
        self.metrics = ""
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
        app.router.add_get("/metrics", self._tell)
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

    async def die(self, request):
        """An action: the server goes while it is being asked."""
        self._stop.set()
        await asyncio.sleep(30)

    async def _list(self, request):
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        return web.json_response({"object": "list", "data": [{"id": name, **self.facts} for name in self.models]})

    async def _tell(self, request):
        return web.Response(text=self.metrics) if self.metrics else web.Response(status=404)

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
def vllm_python(request):
    """The Python of the server environment: a test that starts a server of its own asks for it."""
    python = ROOT / ".venv-server" / "bin" / "python"
    if not python.exists():
        _missing(request, "vllm", f"{python} is not there: make server")
    return python


@pytest.fixture(scope="session")
def vllm_server(vllm_python, tiny_model, tmp_path_factory):
    """A real vLLM server with the tiny model, started and stopped by the kit; one per session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_RUNS", str(tmp_path_factory.mktemp("serving")))
        server = serve(tiny_model, context=4096)
    with pytest.MonkeyPatch.context() as patch:
        # Tests, their kernels and commands look elsewhere for their runs, and so for the key; see _own_settings.
        patch.setenv("KIT_LLM_API_KEY", server.key)
        yield server
        server.stop()


@pytest.fixture(scope="session")
def vllm_url(vllm_server):
    """Address of the real server; its key is in the environment of a test that asks for it."""
    return vllm_server.url


@pytest.fixture
def plain_model(tmp_path):
    """Folder of a model that passes every check and that nobody loads: two small tensors and their papers."""
    import numpy
    from safetensors.numpy import save_file

    folder = tmp_path / "モデル" / "plain"
    folder.mkdir(parents=True)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64, "hidden_size": 128}
    config = {"architectures": ["LlamaForCausalLM"], "dtype": "float32", "max_position_embeddings": 8192, **shape}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"auto_map": 7}}}', encoding="utf-8")
    (folder / "LICENSE").write_text("Apache-2.0", encoding="utf-8")
    save_file({"a": numpy.ones((4, 4), "float32"), "b": numpy.zeros(8, "float32")}, folder / "model.safetensors")
    return folder
