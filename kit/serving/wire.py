"""The asynchronous core of the chat client: HTTP on an event loop in a thread of its own.

One long-lived session; proxies and redirects are never followed: what ``kit.trust.egress`` has checked is what is
called. What went wrong is told apart here, because the evaluation counts it differently (DESIGN §5). aiohttp is
imported at the top: nobody needs this module before a server is to be called.
"""

import asyncio
import concurrent.futures
import json
import os
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from kit.errors import ServerError, reason
from kit.records import State
from kit.trust import egress

RETRIES = 2
"""Further tries after trouble that may pass; never after a time-out, which would only load a slow server more."""
_BACKOFF_S = 0.3
CONNECT_S = 10.0
"""Longest wait for a connection to open; past it the server counts as lost, not as slow."""
_BUSY = (408, 425, 429)
_T = TypeVar("_T")

# Kind of failure → likely cause, next step.
_ADVICE = {
    "closed": ("close() の後か、with ブロックの外で質問しました。", "kit.connect(…) からやり直してください。"),
    "late": ("モデルが遅いか、サーバーが混んでいます。", "待ち時間を延ばすには: export KIT_LLM_TIMEOUT_S=120"),
    "lost": ("サーバーが止まっているか、アドレスが違います。", "起動しているか確かめてください: curl {url}/models"),
    "certificate": ("社内の認証局の証明書が登録されていません。", "渡し方: export SSL_CERT_FILE=/path/to/ca.pem"),
    "unreadable": ("応答が途切れたか、OpenAI 互換ではありません。", "確かめるコマンド: curl {url}/models"),
    "key": ("鍵（APIキー）がないか、違っています。", "鍵は環境変数で渡します: export KIT_LLM_API_KEY=…"),
    "path": ("URL かモデル名が違います（転送には従いません）。", "URL は /v1 まで書きます: curl {url}/models"),
    "server": ("サーバーの中の障害か、混雑です。", "サーバーのログを確かめ、必要なら起動し直してください。"),
    "request": ("モデルの文脈長を超えたか、対応しない指定です。", "渡す資料（top）か max_tokens を減らします。"),
}
_OWN_DOING: dict[str, State] = {"late": "timeout", "request": "model_error"}
_PASSING = ("lost", "unreadable", "server")
"""Kinds that the next try may be spared; a wrong key, path or certificate stays wrong."""


class ChatError(ServerError):
    """A request to the model server that failed.

    Args:
        what: What happened, one sentence.
        cause: The likely cause, one sentence.
        remedy: What to do next.
        state: ``timeout`` and ``model_error`` are the candidate's own doing, ``infrastructure_error`` is not.
        passing: Whether the same request may succeed a moment later.
    """

    def __init__(
        self, what: str, cause: str, remedy: str, state: State = "infrastructure_error", passing: bool = False
    ) -> None:
        super().__init__(what, cause, remedy)
        self.state, self.passing = state, passing


class Wire:
    """The asynchronous core: HTTP on an event loop in a thread of its own. Holds no reference to its Chat."""

    def __init__(self, destination: egress.Destination) -> None:
        self._destination = destination
        self._lock, self._closed = threading.Lock(), False
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="kit-chat", daemon=True)
        self._thread.start()
        self._started.result(30)

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        key = "".join(os.environ.get("KIT_LLM_API_KEY", "").split())
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # An outside host that the user named is looked up afresh each time.
        resolver = _Pinned(self._destination.addresses) if self._destination.inside else None
        connector = aiohttp.TCPConnector(limit=0, resolver=resolver)
        async with aiohttp.ClientSession(connector=connector, headers=headers, trust_env=False) as self._session:
            self._started.set_result(None)
            await self._stop.wait()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    def close(self) -> None:
        """Drop the requests under way, close the session and end the thread; safe to call again."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:  # garbage may be collected anywhere, there included
            self._thread.join()

    def wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop from any other thread; Ctrl-C drops the request, which frees the server."""
        with self._lock:  # what is handed over before close() is cancelled by it, and nothing is handed over after
            if self._closed:
                work.close()
                raise _closed()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    async def request(self, path: str, body: dict[str, Any] | None, timeout_s: float, read: Callable[[Any], _T]) -> _T:
        """Send one request, and again while the trouble may pass; return what ``read`` makes of the decoded reply."""
        for tried in range(RETRIES):
            try:
                return await self._once(path, body, timeout_s, read)
            except ChatError as error:
                if not error.passing:
                    raise
            await asyncio.sleep(_BACKOFF_S * 2**tried * random.uniform(0.5, 1.5))
        return await self._once(path, body, timeout_s, read)

    async def _once(self, path: str, body: dict[str, Any] | None, timeout_s: float, read: Callable[[Any], _T]) -> _T:
        url, method = self._destination.url, "GET" if body is None else "POST"
        limit = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s / 2, CONNECT_S))
        try:
            async with self._session.request(
                method, url + path, json=body, timeout=limit, allow_redirects=False
            ) as response:
                status, content = response.status, await response.read()
        except aiohttp.ConnectionTimeoutError as error:
            raise _lost(url, error) from error
        except TimeoutError as error:
            raise _error("late", f"{timeout_s:g} 秒以内に回答がありませんでした。") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _lost(url, error) from error
        said = " ".join(content.decode("utf-8", "replace").split())[:300]
        if status != 200:
            raise _error(_kind(status), f"モデルサーバー {url} が HTTP {status} を返しました（{said}）。", url)
        try:
            return read(json.loads(content))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise _error("unreadable", f"モデルサーバー {url} の応答を読み取れません: {said}", url) from error


class _Pinned(AbstractResolver):
    """Answers with the addresses that were checked, whatever the name points to by now."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._families = {address: socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        flags = socket.AI_NUMERICHOST
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)
            for address, family in self._families.items()
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _kind(status: int) -> str:
    if status in (401, 403):
        return "key"
    if status == 404 or status < 400:
        return "path"
    return "server" if status >= 500 or status in _BUSY else "request"


def _lost(url: str, error: Exception) -> ChatError:
    kind = "certificate" if "certificate" in str(error).lower() else "lost"
    refused = getattr(error, "os_error", error)
    told = reason(refused) if isinstance(refused, OSError) and refused.errno else str(error) or type(error).__name__
    return _error(kind, f"モデルサーバー {url} と通信できません（{told}）。", url)


def _closed() -> ChatError:
    return _error("closed", "モデルサーバーへの接続は閉じられています。")


def _error(kind: str, what: str, url: str = "") -> ChatError:
    cause, remedy = _ADVICE[kind]
    state = _OWN_DOING.get(kind, "infrastructure_error")
    return ChatError(what, cause, remedy.format(url=url), state, kind in _PASSING)
