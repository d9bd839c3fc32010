"""A model server shared with a team: a small reverse proxy that lets five routes through and nothing else.

vLLM's own key guards only ``/v1``, ``/v2`` and ``/inference``; ``/invocations`` is full inference without a key. So vLLM
stays on loopback, and people get keys of this proxy, which is off until somebody opens it. No request is passed on as
it came: route, headers and body are made anew from what was checked, so that no spelling can mean two things.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import ssl
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp
from aiohttp import web

from kit import settings
from kit.errors import ParameterError, ServerError, reason
from kit.serving import server
from kit.serving.wire import CONNECT_S, _Pinned
from kit.trust import durable, egress

# What a body may hold. Left out on purpose: chat_template (a program), prompt_embeds (a pickle), media, priority,
# request_id, beams, and whatever vLLM will learn. "user" names nobody here; "cache_salt" is overwritten.
_BOTH = """model n max_tokens min_tokens ignore_eos temperature top_p top_k min_p seed stop stop_token_ids logit_bias logprobs user
  frequency_penalty presence_penalty repetition_penalty response_format structured_outputs stream stream_options cache_salt """
_CHAT = "messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls reasoning_effort chat_template_kwargs"
_ROUTES = {
    ("POST", "/v1/chat/completions"): {*(_BOTH + _CHAT).split()},
    ("POST", "/v1/completions"): {*_BOTH.split(), "prompt"},
    ("POST", "/v1/embeddings"): {"model", "input", "encoding_format", "dimensions", "user", "cache_salt"},
    ("GET", "/v1/models"): set(),
    ("GET", "/health"): set(),
}
_HINTS = {
    "n": "1〜{0.n} の整数にします。", "prompt": "prompt の数 × n は {0.n} までです。", "stream": "true か false です。",
    "max_tokens": "1〜{0.max_tokens} の整数にします。", "max_completion_tokens": "1〜{0.max_tokens} の整数にします。",
    "messages": "文字だけを書けます（画像、音声、URL の参照は送れません）。",
    "chat_template_kwargs": "書けるのは enable_thinking と thinking だけです。",
}  # fmt: skip
_DEPTH, _UPLOAD_S, _GENERATION_S = 32, 30.0, 900.0


@dataclass(frozen=True, slots=True)
class Caps:
    """What may be asked for: bytes of a request, its texts (prompts times ``n``), their tokens, a user's requests at once.

    More tokens are refused, not lowered: who asked for more would take a cut text for the whole. Who names no number gets
    the cap; ``finish_reason`` tells where it cut.
    """

    body: int = 256 * 1024
    n: int = 8
    max_tokens: int = 2048
    at_once: int = 8


_CAPS = Caps()


def new_key() -> tuple[str, str]:
    """Make a user's key; returns it, to be handed over once, and its hash, which is all that is kept.

    One round of SHA-256 is enough, because nobody can guess 256 random bits: scrypt guards what people make up, and
    would here only slow each request down and let strangers load the machine with wrong keys.
    """
    key = f"kit-{secrets.token_urlsafe(32)}"
    return key, hashlib.sha256(key.encode()).hexdigest()


class Gateway:
    """A model server shared with users, by a thread of its own, until ``close`` or the end of a ``with`` block.

    Its ``url`` is what users' programs call. Each of their requests leaves a JSON line in ``runs/gateway/usage.jsonl``.

    Args:
        users: Name → hash of the key (see ``new_key``).
        url: The model server; "" takes the one that ``kit.serve`` started. Another one's key: ``KIT_LLM_API_KEY``.
        host: Address to listen on; others than loopback only with ``tls``, because keys and questions pass by there.
        port: Port; 0 takes a free one.
        tls: Certificate and private key.
        caps: What a request, and a user, may ask for.

    Raises:
        ParameterError: No user, a hash that is none, or an address outside loopback without ``tls``.
        SettingsError: The model server's URL leads outside and is not named in kit.toml.
        ServerError: No model server is running, or the port or the usage file cannot be had.
    """

    def __init__(
        self, users: Mapping[str, str], *, url: str = "", host: str = "127.0.0.1", port: int = 0,
        tls: ssl.SSLContext | None = None, caps: Caps = _CAPS,
    ) -> None:  # fmt: skip
        if not users or not all(name and re.fullmatch("[0-9a-f]{64}", known) for name, known in users.items()):
            cause = "一覧が空か、鍵のハッシュ（16進64桁）ではないものがあります。"
            raise ParameterError("利用者の一覧を使えません。", cause, "鍵とハッシュの作り方: key, known = gateway.new_key()")
        if not 0 <= port < 65_536:
            raise ParameterError(f"port={port} は使えません。", "ポートは 0〜65535 です。", "0 なら空いているものを選びます。")
        if host not in ("127.0.0.1", "::1") and not tls:
            cause, remedy = "通信が暗号化されないまま、ほかの機械から届くようになります。", "証明書を tls= で渡してください。"
            raise ParameterError(f"host={host} では公開しませんでした。", cause, remedy)
        here, own = settings.load(), None if url else server.running()
        if not (url := url or (own.url if own else "")):
            cause, remedy = "kit.serve() で起動したサーバーが動いていません。", "先に kit.serve(…) で起動してください。"
            raise ServerError("共有するモデルサーバーがありません。", cause, remedy)
        self._users, self._caps, self._secret, self._now = dict(users), caps, secrets.token_bytes(32), Counter[str]()
        self._to = egress.resolve(url.strip(), here.allowed_hosts)
        self._base = self._to.url.rstrip("/").removesuffix("/v1")
        self._key = server.key_of(self._base) or "".join(os.environ.get("KIT_LLM_API_KEY", "").split())
        self._file = here.runs / "gateway" / "usage.jsonl"
        started: Future[int] = Future()
        work = lambda: asyncio.run(self._live(host, port, tls, started))  # noqa: E731
        self._thread = threading.Thread(target=work, name="kit-gateway", daemon=True)
        self._thread.start()
        self.url = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{started.result(30)}/v1"

    async def _live(self, host: str, port: int, tls: ssl.SSLContext | None, started: Future[int]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # No router: it would decode paths. Whoever hangs up cancels the handler, and with it the model's work.
        quiet = logging.getLogger("kit.gateway")
        quiet.disabled = True  # aiohttp logs pieces of what it cannot read
        served = web.Server(self._handle, handler_cancellation=True, access_log=None, logger=quiet)
        runner = web.ServerRunner(served, shutdown_timeout=1)
        headers = {"Authorization": f"Bearer {self._key}", "Accept-Encoding": "identity", "Content-Type": "application/json"}
        connector = aiohttp.TCPConnector(limit=0, resolver=_Pinned(self._to.addresses) if self._to.inside else None)
        limit = aiohttp.ClientTimeout(total=_GENERATION_S, sock_connect=CONNECT_S)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=limit) as self._session:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with self._file.open("ab", buffering=0) as self._rows:  # one write a row: several gateways never mix theirs
                    await runner.setup()
                    await web.TCPSite(runner, host, port, ssl_context=tls).start()
                    started.set_result(runner.addresses[0][1])
                    await self._stop.wait()
                    await runner.cleanup()
            except OSError as error:
                await runner.cleanup()
                cause, remedy = "ポートが使用中か、利用記録のファイルに書けません。", f"port= と {self._file} を確かめてください。"
                started.set_exception(ServerError(f"{host}:{port} で公開できません（{reason(error)}）。", cause, remedy))

    def close(self) -> None:
        """Stop listening, drop the requests under way and end the thread; safe to call again."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stop.set)
        self.wait()

    def wait(self) -> None:
        """Wait until the gateway is closed, or for Ctrl-C."""
        self._thread.join()

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        use, begun = _Use(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())), time.perf_counter()
        key = request.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "replace")
        digest = hashlib.sha256(key).hexdigest()
        for name, known in self._users.items():  # all of them, each in constant time
            use.user = name if hmac.compare_digest(known, digest) else use.user
        self._now[use.user] += 1
        try:
            if not use.user:
                raise _Refused(401, "鍵（APIキー）がないか、違っています。")
            return await self._answer(request, use)
        except _Refused as refused:
            use.status = refused.status
            return web.json_response(refused.body, status=refused.status)
        finally:
            self._now[use.user] -= 1
            use.seconds = round(time.perf_counter() - begun, 4)
            if use.user:  # strangers get no rows: they could fill the disk
                self._rows.write((durable.canonical(asdict(use)) + "\n").encode())

    async def _answer(self, request: web.BaseRequest, use: "_Use") -> web.StreamResponse:
        fields = _ROUTES.get((request.method, request.raw_path))  # as it was sent: not decoded, no query
        if fields is None:
            raise _Refused(404, "このゲートウェイでは使えない機能です。")
        use.route = request.raw_path
        if self._now[use.user] > self._caps.at_once:
            raise _Refused(429, f"同時に送れるのは {self._caps.at_once} 件までです。前の回答を待ってください。")
        salt = hmac.digest(self._secret, use.user.encode(), "sha256").hex()  # nobody can time what others have asked
        body, shown = _checked(await _read(request, self._caps.body), fields, self._caps, salt) if fields else (None, True)
        target, response = self._base + use.route, web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            async with self._session.request(request.method, target, data=body, allow_redirects=False) as reply:
                if reply.status != 200 or reply.content_type != "text/event-stream":
                    return use.whole(reply.status, reply.content_type, await reply.read())
                await response.prepare(request)
                async for event in _events(reply.content):
                    if not use.count(event) or shown or b'"choices":[]' not in event:
                        await response.write(event)
                use.status = 200
        except (aiohttp.ClientError, TimeoutError) as trouble:
            refused = _Refused(504 if isinstance(trouble, TimeoutError) else 502, "モデルサーバーと通信できません。")
            if not response.prepared:
                raise refused from trouble
            await response.write(b"data: " + json.dumps(refused.body).encode() + b"\n\n")
            use.status = refused.status
        return response


@dataclass(slots=True)
class _Use:
    """A usage row: no text, and no word that the client made up. 499 says that the client left."""

    time: str
    user: str = ""
    route: str = ""
    status: int = 499
    seconds: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int = 0  # pieces of a stream, until the server has told its count
    counted: bool = False

    def count(self, content: bytes) -> bool:
        """Take the server's count from a reply or an event, if it is in there; returns whether it was."""
        # Quotes in what a model writes are escaped, so it cannot be forged; and two numbers are not worth a parser.
        found = dict(re.findall(rb'"(prompt|completion)_tokens"\s*:\s*(\d+)', content))
        if found:
            self.prompt_tokens, self.completion_tokens = int(found.get(b"prompt", 0)), int(found.get(b"completion", 0))
            self.counted = True
        elif not self.counted:
            self.completion_tokens += content.startswith(b"data: {")
        return bool(found)

    def whole(self, status: int, kind: str, content: bytes) -> web.Response:
        """Make the response of a reply that is no stream; what the caller cannot mend becomes one of ours."""
        if status in (401, 403) or not (status == 200 or 400 <= status < 500):
            raise _Refused(502, f"モデルサーバーで障害が起きています（HTTP {status}）。管理者に連絡してください。")
        if status != 200 and b'"error"' not in content:
            raise _Refused(status, f"モデルサーバーはこの要求に対応していません（HTTP {status}）。")
        self.status = status
        self.count(content)
        return web.Response(body=content, status=status, content_type=kind)


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(status)
        kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
        self.status, self.body = status, {"error": {"message": message, "type": kind, "param": None, "code": status}}


async def _read(request: web.BaseRequest, most: int) -> bytes:
    content = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(_UPLOAD_S):
            async for piece in request.content.iter_any():
                if len(content := content + piece) > most:
                    raise _Refused(413, f"要求が長すぎます（{most:,} バイトまで）。")
            return content
    raise _Refused(408, f"要求を {_UPLOAD_S:g} 秒以内に受け取れませんでした。")


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in content.iter_any():
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            yield event + b"\n\n"
    if rest:
        yield rest


def _checked(content: bytes, fields: set[str], caps: Caps, salt: str) -> tuple[bytes, bool]:
    """Return the body to send, and whether the client asked to be shown a stream's usage."""
    try:
        body = json.loads(content)
        if not isinstance(body, dict) or _depth(body) > _DEPTH:
            raise ValueError
        for wrong in (name for name in body if name not in fields or not _fits(name, body, caps)):
            raise _Refused(400, f"「{wrong[:40]}」の指定は、このゲートウェイでは使えません。{_HINTS.get(wrong, '').format(caps)}")
        shown = bool((body.pop("stream_options", None) or {}).get("include_usage"))
        if body.get("stream"):
            body["stream_options"] = {"include_usage": True}
        default = 16 if "prompt" in fields else None  # vLLM's own of /v1/completions; of a chat it is all that is left
        if "n" in fields and body.get("max_completion_tokens") is None and body.get("max_tokens", default) is None:
            body["max_tokens"] = caps.max_tokens
        return json.dumps(body | {"cache_salt": salt}, ensure_ascii=False, allow_nan=False).encode(), shown
    except (ValueError, RecursionError):
        raise _Refused(400, f"要求の本文は JSON のオブジェクト（深さ {_DEPTH} まで）で書いてください。") from None


def _fits(name: str, body: dict[str, Any], caps: Caps) -> bool:
    value = body[name]
    if name == "messages":
        return isinstance(value, list) and all(isinstance(one, dict) and _is_text(one.get("content")) for one in value)
    if name == "prompt":  # texts, or lists of tokens: each is written on by itself
        many = isinstance(value, list) and not all(type(token) is int for token in value)
        return not many or len(value) * (body.get("n") or 1) <= caps.n
    if value is None or name == "stream":
        return value is None or isinstance(value, bool)
    if name in ("n", "max_tokens", "max_completion_tokens"):
        return type(value) is int and 0 < value <= (caps.n if name == "n" else caps.max_tokens)
    if name == "chat_template_kwargs":
        return isinstance(value, dict) and value.keys() <= {"enable_thinking", "thinking"}
    return name != "stream_options" or isinstance(value, dict)


def _is_text(content: Any) -> bool:
    parts = content if isinstance(content, list) else []
    plain = all(isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text" for part in parts)
    return plain and (content is None or isinstance(content, str | list))


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)
