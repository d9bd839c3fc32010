"""Runs inside vLLM, as its ``--middleware``: closes the doors that vLLM's own key does not cover.

vLLM 0.32 asks for its key below ``/v1`` only. ``/invocations`` is inference without a key, and where adapters may be
loaded, ``/adapters`` lets anybody on this machine exchange one under its name. This file is copied to where the server
finds it, and so imports nothing of the kit.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = ("/health", "/metrics")
"""What may be asked without the key: they tell how the server is, and take no orders."""


class Guard:
    """An ASGI application around vLLM's."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let through what the key protects, and ``OPEN``; the rest is not there."""
        path = scope.get("path", "")
        if scope["type"] == "lifespan" or (scope["type"] == "http" and (path.startswith("/v1/") or path in OPEN)):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":  # the kit speaks none
            await send({"type": "websocket.close", "code": 1008})
            return
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"detail": "Not Found"}'})
