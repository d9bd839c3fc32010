"""Which doors of a model server are open: the guard that runs inside vLLM."""

import asyncio

import pytest

from kit.serving.guard import Guard


def knock(scope):
    """What a request reaches behind the guard, and what the guard answers itself."""
    inside, sent = [], []

    async def app(scope, receive, send):
        inside.append(scope.get("path"))

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(app)(scope, None, send))
    return inside, sent


@pytest.mark.parametrize(
    ("path", "open_"),
    [("/v1/models", True), ("/v1/load_lora_adapter", True), ("/health", True), ("/metrics", True), ("/adapters", False),
     ("/adapters/x", False), ("/invocations", False), ("/tokenize", False), ("//v1/models", False), ("/health/x", False)],
)  # fmt: skip
def test_the_guard_knows_the_doors(path, open_):
    inside, sent = knock({"type": "http", "path": path})
    assert inside == ([path] if open_ else []) and [m.get("status") for m in sent] == ([] if open_ else [404, None])


def test_the_guard_lets_the_server_start_and_opens_no_websocket():
    assert knock({"type": "lifespan"}) == ([None], [])
    assert knock({"type": "websocket", "path": "/v1/realtime"}) == ([], [{"type": "websocket.close", "code": 1008}])
