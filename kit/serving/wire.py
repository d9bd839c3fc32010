"""The asynchronous core of the chat client: HTTP on an event loop in a thread of its own.

One long-lived session; proxies and redirects are never followed: what ``kit.trust.egress`` has checked is what is
called. What went wrong is told apart here, because the evaluation counts it differently (DESIGN §5). aiohttp is
imported at the top: nobody needs this module before a server is to be called.
"""

import asyncio
import concurrent.futures
import json
import random
import re
import socket
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue
from typing import Any, Literal, TypeVar, cast

import aiohttp
from aiohttp import http_exceptions
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from kit.errors import ServerError, SwappedError, UnreachableError, reason
from kit.records import State
from kit.serving.logs import KNOWN
from kit.serving.replies import Merged
from kit.trust import egress

RETRIES = 2
"""Further tries after trouble that may pass; never after a time-out, which would only load a slow server more."""
_BACKOFF_S = 0.3
CONNECT_S = 10.0
"""Longest wait for a connection to open; past it the server counts as lost, not as slow."""
_UNCONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
TROUBLES = (aiohttp.ClientError, http_exceptions.LineTooLong, TimeoutError)
"""What breaks a call off (a line too long: an event longer than aiohttp's buffer)."""
_BUSY = (408, 425, 429)
_LONG = re.compile(r"context[ _](length|size)|max_(completion_)?tokens(=\d+ cannot be greater|」: \d+ まで)|長すぎます")
"""How vLLM, other servers and the gateway say that it was too much."""
_CLOSED = "モデルサーバーへの接続は閉じられています。"
_T = TypeVar("_T")
_R = TypeVar("_R")
Body = dict[str, Any] | None
PASSED: State = "infrastructure_error"
"""How a try ended whose trouble may pass: all that is tried again is of this kind."""


class ChatError(ServerError):
    """A request to the model server that failed.

    Args:
        what: What happened, one sentence.
        cause: The likely cause, one sentence.
        remedy: What to do next.
        state: ``timeout`` and ``model_error`` are the candidate's own doing, ``infrastructure_error`` is not.
        passing: Whether the same request may succeed a moment later.

    Attributes:
        attempts: Times that it was tried.
        first_state: How the first try ended, where it was not the last one; "" otherwise.
    """

    attempts = 1
    first_state: State | Literal[""] = ""

    def __init__(self, what: str, cause: str, remedy: str, state: State = PASSED, passing: bool = False) -> None:
        super().__init__(what, cause, remedy)
        self.state, self.passing = state, passing


class Wire:
    """The asynchronous core: HTTP on an event loop in a thread of its own. Holds no reference to its Chat."""

    def __init__(self, destination: egress.Destination, key: str) -> None:
        self._destination, self._key = destination, key
        self._lock, self._closed = threading.Lock(), False
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._last: weakref.WeakKeyDictionary[ResponseHandler, bytes] = weakref.WeakKeyDictionary()
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="kit-chat", daemon=True)
        self._thread.start()
        self._started.result(30)

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.here():
            self._started.set_result(None)
            await self._stop.wait()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    @asynccontextmanager
    async def here(self) -> AsyncGenerator[None]:
        """Open a session on the running loop: what is asked from it meanwhile needs no second thread."""
        loop = asyncio.get_running_loop()
        async with open_session(self._destination, self._key, response_class=_Response) as self._sessions[loop]:
            try:
                yield
            finally:
                del self._sessions[loop]

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await a coroutine on the running loop where it has a session, else on the wire's own."""
        if asyncio.get_running_loop() not in self._sessions:
            return await asyncio.wrap_future(self.submit(work))
        self._require_open(work)
        return await work

    def close(self) -> None:
        """Drop the requests under way, close the session and end the thread; safe to call again."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stop.set)
        if threading.current_thread() is not self._thread:  # garbage may be collected anywhere, there included
            self._thread.join()

    def submit(self, work: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Start a coroutine on the loop from any other thread; cancelling it frees the server."""
        with self._lock:  # what is handed over before close() is cancelled by it, and nothing is handed over after
            self._require_open(work)
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _require_open(self, work: Coroutine[Any, Any, _T]) -> None:
        if self._closed:
            work.close()
            raise failure("closed", _CLOSED)

    def wait(self, future: concurrent.futures.Future[_T]) -> _T:
        """Return what a coroutine on the loop returns; Ctrl-C drops the request."""
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise failure("closed", _CLOSED) from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    def follow(self, work: Callable[[Callable[[_T], object]], Coroutine[Any, Any, _R]]) -> Generator[_T, None, _R]:
        """Start a coroutine, yield what it tells while it runs, and return its result; leaving the loop cancels it.

        Args:
            work: Makes the coroutine of the function that it tells by.
        """
        told: SimpleQueue[Any] = SimpleQueue()
        end, left, running = object(), threading.Event(), list[asyncio.Task[Any]]()

        async def run() -> _R:
            running.extend(filter(None, [asyncio.current_task()]))
            if left.is_set():
                raise asyncio.CancelledError
            return await work(told.put)

        try:
            future = self.submit(run())
            future.add_done_callback(lambda _: told.put(end))
            while (item := told.get()) is not end:
                yield item
            return self.wait(future)
        finally:  # not by the future: Ctrl-C may come before submit() has returned it
            left.set()
            for task in running:
                with suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(task.cancel)

    async def request(
        self, path: str, body: Body, timeout_s: float, read: Callable[[Any], _T], merged: Merged | None = None
    ) -> tuple[_T, int]:
        """Send one request, and again while the trouble may pass; return the result and how often it was tried.

        Args:
            path: Where to, below the base URL.
            body: What to post; None gets.
            timeout_s: Longest wait for one try, in seconds, of a stream until its end.
            read: Makes the result of the decoded reply.
            merged: Takes the events of a stream; after the first nothing is tried again, it may have been shown.

        Raises:
            UnreachableError: No try came through to a server.
            ChatError: What became of the first try that did, or what no further try would change.
        """
        told: ServerError | None = None
        for tried in range(1, RETRIES + 2):
            if told:
                await asyncio.sleep(_BACKOFF_S * 2 ** (tried - 2) * random.uniform(0.5, 1.5))
            try:
                return await self._once(path, body, timeout_s, read, merged), tried
            except UnreachableError as trouble:
                told = told or trouble
            except ChatError as trouble:
                last = not trouble.passing or bool(merged and merged.begun)
                # A request that broke off and then found nobody was asked once: that is what became of it.
                told = told if isinstance(told, ChatError) and not last else trouble
                if last:
                    break
        if isinstance(told, ChatError):
            told.attempts, told.first_state = tried, PASSED if tried > 1 else ""
        raise cast(ServerError, told)

    async def _once(
        self, path: str, body: Body, timeout_s: float, read: Callable[[Any], _T], merged: Merged | None
    ) -> _T:
        url, method = self._destination.url, "GET" if body is None else "POST"
        limit = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s / 2, CONNECT_S))
        try:
            async with self._sessions[asyncio.get_running_loop()].request(
                method, url + path, json=body, timeout=limit, allow_redirects=False
            ) as response:
                if merged and response.status == 200:
                    content = await _stream(response.content, merged, url)
                else:
                    content = await response.read()
                    self._require_new(content, cast(_Response, response).came_by, url)
        except http_exceptions.LineTooLong as trouble:
            raise failure("unreadable", f"モデルサーバー {url} の応答を読み取れません（長すぎる行）。", url) from trouble
        except (aiohttp.ClientError, OSError) as trouble:  # a TimeoutError is an OSError
            if isinstance(trouble, TimeoutError) and not isinstance(trouble, _UNCONNECTED):
                raise failure("late", f"{timeout_s:g} 秒以内に回答がありませんでした。") from trouble
            raise _lost(url, trouble) from trouble
        if response.status != 200:
            said = f"モデルサーバー {url} が HTTP {response.status} を返しました（{_words(content)}）。"
            raise failure(_kind(response.status, _words(content), (body or {}).get("model")), said, url)
        return _decode(content, lambda data: read(merged.whole() if merged else data), url)

    def _require_new(self, content: bytes, connection: ResponseHandler, url: str) -> None:
        """Refuse what came by the same connection just before: sent twice, it would count as the next question's answer.

        Replies have ids of their own: two that are equal to the byte are one.
        """
        if b'"id"' in content and b'"choices"' in content and self._last.get(connection) == content:
            connection.close()  # whatever else comes there would be late by one question, too
            raise failure("unreadable", f"モデルサーバー {url} が、前の質問への回答をもう一度送りました。", url)
        self._last[connection] = content

    async def metrics(self) -> bytes:
        """Return what the server tells of itself at ``/metrics``; nothing where it does not."""
        url = self._destination.url.removesuffix("/v1") + "/metrics"
        return await look(self._sessions[asyncio.get_running_loop()], url, CONNECT_S)


class _Response(aiohttp.ClientResponse):
    """A response that knows by which connection it came; aiohttp forgets that as soon as it has been read."""

    came_by: ResponseHandler

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        self.came_by = cast(ResponseHandler, connection.protocol)
        return await super().start(connection)


def open_session(destination: egress.Destination, key: str, **options: Any) -> aiohttp.ClientSession:
    """Open a session that calls the addresses that were checked, with a key where there is one; to be called in a loop."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # An outside host that the user named is looked up afresh each time.
    resolver = _Pinned(destination.addresses) if destination.inside else None
    connector, jar = aiohttp.TCPConnector(limit=0, resolver=resolver), aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=jar, trust_env=False, **options)


async def look(session: aiohttp.ClientSession, url: str, limit_s: float, **options: Any) -> bytes:
    """Return what an address tells within so many seconds; nothing where it does not."""
    with suppress(*TROUBLES, OSError):
        limit = aiohttp.ClientTimeout(total=limit_s)
        async with session.get(url, timeout=limit, allow_redirects=False, **options) as response:
            return await response.read() if response.status == 200 else b""
    return b""


async def _stream(content: aiohttp.StreamReader, merged: Merged, url: str) -> bytes:
    last = b""
    async for line in content:
        if line.startswith(b"data:"):
            last = line[5:].strip()
            if last == b"[DONE]":
                continue
            if broken := _decode(last, merged.take, url):
                code = broken.get("code") if isinstance(broken, dict) else 0
                said = f"モデルサーバー {url} が生成を中断しました（{_words(last)}）。"
                raise failure(_kind(code, _words(last)) if isinstance(code, int) and code >= 400 else "server", said, url)
    if last != b"[DONE]":
        raise failure("unreadable", f"モデルサーバー {url} の応答が途中で終わりました: {_start(last)}", url)
    return b"null"  # all has been taken


def _decode(content: bytes, read: Callable[[Any], _T], url: str) -> _T:
    try:
        return read(json.loads(content))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as trouble:
        raise failure("unreadable", f"モデルサーバー {url} の応答を読み取れません: {_start(content)}", url) from trouble


def _start(content: bytes) -> str:
    return " ".join(content.decode("utf-8", "replace").split())[:300]


def _words(content: bytes) -> str:
    """What an error says: only its message where it is one of the OpenAI protocol."""
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _start(json.loads(content)["error"]["message"].encode("utf-8", "replace"))
    return _start(content)


class _Pinned(AbstractResolver):
    """Answers with the addresses that were checked, whatever the name points to by now."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._families = {address: socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        flags = socket.AI_NUMERICHOST
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=flags)
            for address, kind in self._families.items()
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _kind(status: int, words: str, name: str | None = None) -> str:
    """Tell the kind of failure by the status, the server's words and the name of the model that was asked."""
    if status in (401, 403):
        return "key"
    if status == 404 or status < 400:
        return "name" if name and name in words else "path"
    if status >= 500 or status in _BUSY:
        return "server"
    return "long" if status == 413 or _LONG.search(words) else "request"


def _lost(url: str, error: Exception) -> ServerError:
    kind = "certificate" if "certificate" in str(error).lower() else "lost"
    refused = getattr(error, "os_error", error)
    told = reason(refused) if isinstance(refused, OSError) and refused.errno else str(error) or type(error).__name__
    lost = failure(kind, f"モデルサーバー {url} と通信できません（{told}）。", url)
    nobody = kind == "lost" and isinstance(error, _UNCONNECTED)
    return UnreachableError(lost.what, lost.cause, lost.remedy) if nobody else lost


def failure(kind: str, what: str, url: str = "") -> ChatError:
    """Make the error of a kind of failure, with its cause, its remedy and the end state it gives the sample."""
    told = KNOWN["chat"][kind]
    return ChatError(what, told["cause"], told["remedy"].format(url=url), told.get("state", PASSED), "passing" in told)


def swapped(what: str) -> SwappedError:
    """Make the error for another model's answer."""
    return SwappedError(
        what, "途中でモデルが入れ替えられたか、サーバーの設定が変わりました。",
        "モデルを固定し、kit.connect(…) からやり直してください。ここまでの測定とは混ぜられません。",
    )
