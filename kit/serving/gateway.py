"""A model server shared with a team: a small reverse proxy that lets five routes through and nothing else.

vLLM's own key guards only ``/v1``, ``/v2`` and ``/inference``; ``/invocations`` is full inference without a key. So
vLLM stays on loopback, and people get keys of this proxy, which is off until somebody opens it. No request is passed on
as it came: route, headers and body are made anew from what ``gateway.toml`` allows: no spelling can mean two things.
"""

import asyncio
import hmac
import json
import logging
import os
import re
import secrets
import ssl
import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from kit import settings
from kit.errors import DataError, KitError, ParameterError, ServerError
from kit.serving import keys, server
from kit.serving.rules import BODY, Refused, Rules
from kit.serving.wire import CONNECT_S, TROUBLES, look, open_session
from kit.trust import durable, egress

_UPLOAD_S, _GENERATION_S, _AT_ONCE = 30.0, 900.0, 16  # the last: of a user's requests; further ones wait
_FRESH_S, _ASK_S = 60.0, 5.0  # how long the server's word on its context holds, and how long that is waited for
_COUNT = re.compile(rb'"((?:prompt|completion)_tokens)"\s*:\s*(\d+)')  # not to be forged: quotes in a text are escaped
Row = dict[str, Any]


class Gateway:
    """A model server shared with the users of ``kit gateway add``, by a thread of its own, until ``close``.

    Its ``url`` is what users' programs call. Each of their requests leaves a JSON line in ``runs/gateway/usage.jsonl``.

    Args:
        url: The model server; "" takes the one that ``kit.serve`` started, after its restart, too (see ``Upstream``).
        host: Address to listen on; others than loopback only with a certificate, because keys and questions pass by.
        port: Port; 0 takes a free one.
        cert: Certificate file (PEM); "" for none.
        key: File of its private key; "" where it is in the certificate's.
        max_tokens: Most tokens of a reply (see ``Rules``).

    Raises:
        ParameterError: An address outside loopback without a certificate.
        SettingsError: The model server's URL leads outside and is not named in kit.toml.
        ServerError: No model server is running, or the port, the certificate or the usage file cannot be had.
    """

    def __init__(
        self, url: str = "", *, host: str = "127.0.0.1", port: int = 0, cert: str = "", key: str = "",
        max_tokens: int = 4096,
    ) -> None:  # fmt: skip
        host = "127.0.0.1" if host == "localhost" else host
        if host not in ("127.0.0.1", "::1") and not cert:
            raise ParameterError(
                f"{host} では公開しませんでした。", "通信が暗号化されないまま、ほかの機械から届くようになります。",
                "証明書と秘密鍵を渡してください: kit gateway start --host … --cert FILE --key FILE",
            )
        self._upstream, folder = Upstream(url), settings.load().runs / "gateway"
        self._users, self._file, self._due = folder / "users.json", folder / "usage.jsonl", b""
        self._rules, self._secret, self._known = Rules(max_tokens), secrets.token_bytes(32), set[Any]()
        self._places = defaultdict[str, asyncio.Semaphore](partial(asyncio.Semaphore, _AT_ONCE))
        started: Future[int] = Future()
        work = self._live(host, port, cert, key, started)
        self._thread = threading.Thread(target=asyncio.run, args=[work], name="kit-gateway", daemon=True)
        self._thread.start()
        self.url = f"http{'s' if cert else ''}://{f'[{host}]' if ':' in host else host}:{started.result(30)}/v1"

    def close(self) -> None:
        """Stop listening, drop the requests under way and end the thread; safe to call again."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _live(self, host: str, port: int, cert: str, key: str, started: Future[int]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        quiet = logging.Logger("kit.gateway", logging.CRITICAL + 1)  # aiohttp logs pieces of what it cannot read
        # No router: it would decode paths. Whoever hangs up cancels the handler, and with it the model's work.
        made = partial(web.BaseRequest, loop=self._loop, client_max_size=BODY)
        options: dict[str, Any] = {"auto_decompress": False, "keepalive_timeout": 75, "access_log": None}
        served = web.Server(self._handle, request_factory=made, handler_cancellation=True, logger=quiet, **options)
        runner = web.ServerRunner(served, shutdown_timeout=1)
        limit = aiohttp.ClientTimeout(total=_GENERATION_S, sock_connect=CONNECT_S)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if tls := ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if cert else None:
                tls.load_cert_chain(cert, key or None)
            with self._file.open("ab", buffering=0) as self._rows:  # one write a row: several gateways never mix theirs
                async with open_session(self._upstream.first, "", timeout=limit, read_bufsize=2**20) as self._session:
                    await runner.setup()
                    await web.TCPSite(runner, host, port, ssl_context=tls).start()
                    started.set_result(runner.addresses[0][1])
                    while not self._stop.is_set():
                        await self._sweep(served)
                    await runner.cleanup()
        except (OSError, OverflowError) as error:
            await runner.cleanup()
            cause, remedy = "ポートか証明書か利用記録のファイルを使えません。", f"--port、--cert、--key、{self._file} を確かめてください。"
            started.set_exception(ServerError(f"{host}:{port} で公開できません（{error}）。", cause, remedy))

    async def _sweep(self, served: web.Server) -> None:
        """Cut off who has been connected for a while and has shown no key: idle strangers could take all places."""
        old = set(served.connections)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), _UPLOAD_S)
        self._known &= set(served.connections)
        for connection in old - self._known:
            connection.force_close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            user = keys.owner(self._users, request.headers.get("Authorization", "").removeprefix("Bearer "))
            if not user:  # without a row: strangers could fill the disk
                return _told(Refused(401, "鍵（APIキー）がないか、違っています。"))
            self._write()
        except (DataError, OSError) as error:  # who asks is unknown, or would not be noted: nobody is answered
            lacking = "利用者の一覧を読めない" if isinstance(error, DataError) else "利用記録を書き込めない"
            return _told(Refused(503, f"{lacking}ため、ゲートウェイを使えません。管理者に知らせてください。"))
        begun = time.perf_counter()
        self._known.add(request.protocol)
        # 499: the client left. Tokens are pieces of a stream until the server has told its count.
        row: Row = {"user": user, "route": "", "status": 499, "prompt_tokens": None, "completion_tokens": 0}
        try:
            async with self._places[user]:
                return await self._answer(request, row)
        except Refused as refused:
            row["status"] = refused.status
            return _told(refused)
        finally:
            ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            row |= {"time": ended, "seconds": round(time.perf_counter() - begun, 4)}
            self._due += (durable.canonical(row) + "\n").encode()
            with suppress(OSError):  # the next request waits for what a full disk has not taken
                self._write()

    def _write(self) -> None:
        while self._due:
            self._due = self._due[self._rows.write(self._due) :]

    async def _answer(self, request: web.BaseRequest, row: Row) -> web.StreamResponse:
        path, body, shown = request.raw_path, None, True  # as it was sent: not decoded, and with its query
        if (route := f"{request.method} {path}") not in self._rules:
            raise Refused(404, "このゲートウェイでは使えない機能です。")
        row["route"] = path
        content = await _read(request)  # may take its time: the server is looked for after it
        base, key = await self._upstream.place()
        if request.method == "POST":
            salt = hmac.digest(self._secret, row["user"].encode(), "sha256").hex()
            context = await self._upstream.context(self._session, base, key)
            body, shown = self._rules.made_anew(route, content, salt, context)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        sent: dict[str, Any] = {"data": body, "headers": key | {"Content-Type": "application/json"}}
        try:
            async with self._session.request(request.method, base + path, allow_redirects=False, **sent) as reply:
                if reply.status != 200 or reply.content_type != "text/event-stream":
                    return _whole(reply.status, reply.content_type, await reply.read(), row)
                await response.prepare(request)
                async for line in reply.content:  # an event is a line and an empty one
                    row["completion_tokens"] += row["prompt_tokens"] is None and line.startswith(b"data: {")
                    _count(line, row)
                    if line.strip() and (shown or b'"choices":[]' not in line):
                        await response.write(line + b"\n")
                row["status"] = 200
        except TROUBLES as trouble:
            if request.transport is None or request.transport.is_closing():  # it was the caller's line that broke
                return response
            refused = Refused(504 if isinstance(trouble, TimeoutError) else 502, "モデルサーバーと通信できません。")
            if not response.prepared:
                raise refused from trouble
            row["status"] = refused.status
            await response.write(f"data: {durable.canonical(refused.body)}\n\n".encode())
        return response


class Upstream:
    """The server of ``kit serve``, wherever it runs by now, or another one at an address that stays.

    Its port may be somebody else's by now, and questions and the key would go there. So each request looks first whether
    the very process still lives; only when it does not, the state of ``kit serve`` is read anew.

    Attributes:
        first: Where it was found when the gateway opened.

    Args:
        url: The model server; "" takes the one that ``kit.serve`` started. Another one's key: ``KIT_LLM_API_KEY``.

    Raises:
        SettingsError: The URL leads outside and is not named in kit.toml.
        ServerError: No URL was given and no server is running.
    """

    def __init__(self, url: str) -> None:
        self._look = partial(server.at, url) if url else server.running
        self._own = self._look()
        if not (url := url or (self._own.url if self._own else "")):
            raise ServerError(
                "共有するモデルサーバーがありません。",
                "kit serve で起動したサーバーが動いていません。",
                "先に起動してください: kit serve モデルのフォルダ",
            )
        self.first = egress.resolve(url.strip(), settings.load().allowed_hosts)
        self._key = "".join(os.environ.get("KIT_LLM_API_KEY", "").split())
        self._context, self._told = 0, -_FRESH_S

    async def place(self) -> tuple[str, dict[str, str]]:
        """Return its address, without ``/v1``, and the headers with its key.

        Raises:
            Refused: It was started here, and does not run any more.
        """
        if self._own and not self._own._alive():
            found = None
            with suppress(KitError):  # a process that does not end, or kit.toml
                found = await asyncio.to_thread(self._look)  # it clears up after a dead server, which may take a while
            if not found:
                raise Refused(502, "モデルサーバーが動いていません。起動し直すまで（kit serve）、質問できません。")
            self._own = found
        url, key = (self._own.url, self._own.key) if self._own else (self.first.url, self._key)
        return url.rstrip("/").removesuffix("/v1"), {"Authorization": f"Bearer {key}"} if key else {}

    async def context(self, session: Any, base: str, headers: dict[str, str]) -> int:
        """Return the longest conversation in tokens, by its own word where another started it; 0 where it is unknown."""
        if self._own:
            return self._own.context
        if time.monotonic() - self._told > _FRESH_S:
            told = await look(session, f"{base}/v1/models", _ASK_S, headers=headers)
            with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
                models = json.loads(told)["data"]
                self._context = max((int(model.get("max_model_len") or 0) for model in models), default=0)
                self._told = time.monotonic()
        return self._context


def _told(refused: Refused) -> web.Response:
    return web.json_response(refused.body, status=refused.status, dumps=durable.canonical)


async def _read(request: web.BaseRequest) -> bytes:
    try:
        return await asyncio.wait_for(request.read(), _UPLOAD_S)
    except TimeoutError:
        raise Refused(408, f"要求を {_UPLOAD_S:g} 秒以内に受け取れませんでした。") from None
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, f"要求が長すぎます（{BODY:,} バイトまで）。") from None


def _whole(status: int, kind: str, content: bytes, row: Row) -> web.Response:
    """Make the response of a reply that is no stream; only what the caller can mend is passed on as it is."""
    if status != 200 and (status in (401, 403) or not 400 <= status < 500 or b'"error"' not in content):
        raise Refused(404 if status == 404 else 502, f"モデルサーバーはこの要求に答えられません（HTTP {status}）。")
    row["status"] = status
    _count(content, row)
    return web.Response(body=content, status=status, content_type=kind)


def _count(content: bytes, row: Row) -> None:
    """Put the numbers of tokens that a reply, or a line of one, tells into its row of usage."""
    for name, number in _COUNT.findall(content):
        row[name.decode()] = int(number)
