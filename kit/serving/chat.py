"""Ask a model server that speaks the OpenAI protocol: plain calls over the asynchronous core in ``wire``.

``ask``, ``stream`` and ``ask_async`` work in a script, in Jupyter's running loop and from several threads at once.
A failure says in ``state`` whose doing it was (DESIGN §5); so does a reply that came but is no success.
"""

import dataclasses
import os
import re
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

from kit import prices, settings, views
from kit.errors import ParameterError, ServerError, SettingsError
from kit.records import State
from kit.serving import replies
from kit.serving.replies import Reply
from kit.serving.wire import CONNECT_S, PASSED, ChatError, Wire, swapped
from kit.trust import egress

_T = TypeVar("_T")
__all__ = ["Chat", "ChatError", "Options", "Reply", "Stream", "connect"]


@dataclass(frozen=True, slots=True)
class Options:
    """What may be said beside the prompt; pass these to ``ask``, ``ask_async`` and ``stream`` by name.

    Attributes:
        system: The system message; "" sends none (some chat templates refuse one).
        max_tokens: Most tokens to write, thinking included.
        temperature: 0.0 always takes the likeliest token.
        seed: Same seed, same reply, as far as the server keeps that promise.
        n: Number of texts to write.
        logprobs: Number of likeliest tokens to tell at each place, with their log-probabilities; 0 for none.
        schema: JSON schema that the reply must follow; bound every string and list in it, because a model that never
            closes one is cut off by ``max_tokens``.
        choice: The reply must be one of these.
        regex: The reply must match this pattern as a whole; one that Python understands, too.
        adapter: The name of a loaded LoRA adapter that answers in the model's place (``Server.load_adapter``).
        extra: Further fields of the request as the server names them, for example ``chat_template_kwargs``.
    """

    system: str = ""
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int = 0
    n: int = 1
    logprobs: int = 0
    schema: Mapping[str, Any] | None = None
    choice: Sequence[str] = ()
    regex: str = ""
    adapter: str = ""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(map(bool, (self.schema is not None, self.choice, self.regex))) > 1:
            raise ValueError("schema, choice and regex exclude each other")
        re.compile(self.regex)

    def body(self, prompt: str) -> dict[str, Any]:
        """Return the request, all but the model's name."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        body: dict[str, Any] = {"messages": [*messages, {"role": "user", "content": prompt}]}
        body |= {name: getattr(self, name) for name in ("max_tokens", "temperature", "seed")}
        if self.n != 1:
            body["n"] = self.n
        if self.logprobs:
            body |= {"logprobs": True, "top_logprobs": self.logprobs}
        if self.schema is not None:
            form = {"name": "reply", "schema": dict(self.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if self.choice or self.regex:  # vLLM's field; it ignores the former guided_choice and guided_regex silently
            body["structured_outputs"] = {"choice": list(self.choice)} if self.choice else {"regex": self.regex}
        return body | dict(self.extra)

    def fits(self, text: str) -> bool:
        """Whether a text is one of ``choice`` or matches ``regex``; a schema is its reader's to check."""
        return text in (self.choice or (text,)) and bool(not self.regex or re.fullmatch(self.regex, text))


def connect(url: str = "", *, model: str = "", timeout_s: float = 0.0) -> "Chat":
    """Connect to a server and find its model.

    Args:
        url: OpenAI-compatible server; ``/v1`` is added where it is missing. "" takes it from the settings, else the
            server that ``kit.serve`` started.
        model: Name of the served model or of a loaded adapter; "" takes it from the settings, else the only model
            served, whatever adapters are loaded beside it.
        timeout_s: Longest wait for one try, in seconds; 0 takes it from the settings.

    Raises:
        ParameterError: ``timeout_s`` is negative.
        SettingsError: No URL is set and no server was started, the URL leads outside and is not named in kit.toml, or
            the price table cannot be read.
        ServerError: Nothing listens there, the key or the path is wrong, or the model is not served.
    """
    from kit.serving import server

    if not timeout_s >= 0:
        raise ParameterError(f"timeout_s={timeout_s} では接続できません。", "待ち時間が負の値です。", "0以上の秒数にしてください。")
    current = settings.load()
    model = model or current.llm_model
    if not (url := url or current.llm_url) and (started := server.running()):
        url, model = started.url, model or started.model
    if not url:
        raise SettingsError(
            "接続先のモデルサーバーが決まっていません。",
            "connect() に URL を渡さず、kit.toml の llm_url も空で、kit.serve() で起動したサーバーもありません。",
            '例: kit.connect("http://127.0.0.1:8000/v1")、または export KIT_LLM_URL=http://127.0.0.1:8000/v1',
        )
    destination = egress.resolve(url.strip(), current.allowed_hosts)
    destination = dataclasses.replace(destination, url=destination.url.rstrip("/").removesuffix("/v1") + "/v1")
    here = server.at(destination.url)
    key = here.key if here else "".join(os.environ.get("KIT_LLM_API_KEY", "").split())
    chat = Chat(destination, key, timeout_s or current.llm_timeout_s, prices.read_prices(current.prices))
    try:
        served = chat._served()
        chat.model = _choose(model, served, chat.url)
        chat.identity = f"sha256={here.sha256} {here.context}" if here else served[chat.model].facts
    except BaseException:
        chat.close()
        raise
    return chat


class Chat:
    """A connection to one model server; made by ``connect``. Close it, or use it in a ``with`` block.

    Attributes:
        url: The server's base URL, ending in ``/v1``.
        model: The model that is asked.
        identity: What is known of the served model beyond its name: the hash of its files and its context where the kit
            started it, else where it lies and its context by the server's own word; "" where nothing is known.
        timeout_s: Longest wait for one try, in seconds, of a stream until its end.
    """

    def __init__(self, destination: egress.Destination, key: str, timeout_s: float, table: prices.Prices) -> None:
        self.url = destination.url
        self.model = self.identity = ""
        self.timeout_s = timeout_s
        self._prices, self._fingerprint = table, ""
        self._wire = Wire(destination, key)
        self._finalizer = weakref.finalize(self, self._wire.close)

    def ask(self, prompt: str, **options: Any) -> Reply:
        """Ask once and wait for the whole reply.

        Args:
            prompt: The user's message.
            **options: system, max_tokens, temperature, seed, n, logprobs, schema, choice, regex, adapter, extra: see
                ``Options``.

        Raises:
            ChatError: The request failed; ``state`` says whose doing it was.
            UnreachableError: There is no server to ask.
            SwappedError: Another model answered than before, or than was asked.
        """
        return self.run(self._ask(prompt, Options(**options)))

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a coroutine that uses ``ask_async``, in any thread that has no loop to hold up."""
        return self._wire.wait(self._wire.submit(work))

    async def ask_async(self, prompt: str, *, show: Callable[[str], object] | None = None, **options: Any) -> Reply:
        """Ask like ``ask`` in any event loop, as many at once as you like.

        Args:
            prompt: The user's message.
            show: Asks for a stream and is told each piece of the text, in another thread, as soon as it comes.
            **options: See ``Options``.
        """
        return await self._wire.run(self._ask(prompt, Options(**options), show))

    def here(self) -> AbstractAsyncContextManager[None]:
        """Let ``ask_async`` work on the running loop itself while this is open: a fifth faster with many in flight."""
        return self._wire.here()

    async def queue(self) -> tuple[int, int] | None:
        """Return how many requests a vLLM server works on and how many wait; None where it does not tell.

        To be called on a loop that ``here`` is open on.
        """
        told = re.findall(rb"(?m)^vllm:num_requests_(running|waiting)(?:\{.*\})? ([0-9.e+]+)$", await self._wire.metrics())
        counts = {name: sum(int(float(number)) for of, number in told if of == name) for name, _ in told}
        return (counts[b"running"], counts[b"waiting"]) if len(counts) == 2 else None

    def stream(self, prompt: str, **options: Any) -> "Stream":
        """Ask like ``ask``, but for a loop over the pieces of the text as they are written."""
        return Stream(self, prompt, Options(**options))

    async def _ask(self, prompt: str, options: Options, show: Callable[[str], object] | None = None) -> Reply:
        begun, asked = time.perf_counter(), options.adapter or self.model
        body = {"model": asked, **options.body(prompt)}
        merged = replies.Merged(show) if show else None
        if merged:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        read = partial(replies.read, fits=options.fits)
        reply, attempts = await self._wire.request("/chat/completions", body, self.timeout_s, read, merged)
        self._check_identity(asked, reply)
        seconds = time.perf_counter() - begun
        yen = self._prices.call(seconds, reply.prompt_tokens, reply.completion_tokens)
        first: State | Literal[""] = PASSED if attempts > 1 else ""
        return dataclasses.replace(reply, seconds=seconds, yen=yen, attempts=attempts, first_state=first)

    def _check_identity(self, name: str, reply: Reply) -> None:
        """Refuse a reply of another model; one that was swapped under its name is told by the fingerprint.

        One fingerprint for model and adapters: it is the server's. An adapter's own is in its name.
        """
        self._fingerprint = self._fingerprint or reply.fingerprint
        asked, answered = (name, self._fingerprint), (reply.model, reply.fingerprint)
        if asked != answered:
            names = [" ".join(filter(None, pair)) or "名前なし" for pair in (asked, answered)]
            raise swapped(f"モデル「{names[0]}」に質問しましたが、「{names[1]}」が回答しました。")

    def served(self) -> tuple[str, ...]:
        """Return the names of the models the server serves, LoRA adapters included."""
        return tuple(self._served())

    def _served(self) -> "dict[str, _Served]":
        work = self._wire.request("/models", None, min(self.timeout_s, CONNECT_S), _models)
        return self.run(work)[0]

    def close(self) -> None:
        """Close all connections and stop the thread; requests under way fail."""
        self._finalizer()

    def __enter__(self) -> "Chat":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Chat({self.url!r}, model={self.model!r})"

    def _repr_html_(self) -> str:
        return views.paragraphs(f"接続しました: {self.model}（{self.url}）")


class Stream:
    """The pieces of a reply as they are written: loop over it. Leaving the loop frees the server.

    What is thought is not among the pieces, unless the text marks no more than where it ends.

    Attributes:
        reply: The whole reply, as ``ask`` would have given it; None until the loop has come to its end.
    """

    def __init__(self, chat: Chat, prompt: str, options: Options) -> None:
        self._asked = chat, prompt, options
        self.reply: Reply | None = None

    def __iter__(self) -> Iterator[str]:
        """Ask and yield; raises like ``ask``, ChatError also in the middle of the text."""
        chat, prompt, options = self._asked
        self.reply = None

        def ask(show: Callable[[str], object]) -> Coroutine[Any, Any, Reply]:
            return chat._ask(prompt, options, lambda piece: piece and show(piece))

        self.reply = yield from chat._wire.follow(ask)


class _Served(NamedTuple):
    """A served model."""

    parent: str
    """The model that it adapts; "" for a model of its own."""
    facts: str
    """What vLLM says of it and would say again after a restart; others say nothing of the kind."""


def _models(data: Any) -> dict[str, _Served]:
    said = ("root", "parent", "max_model_len")
    return {
        str(model["id"]): _Served(str(model.get("parent") or ""), " ".join(str(model[name]) for name in said if model.get(name)))
        for model in data["data"]
    }


def _choose(model: str, served: dict[str, _Served], url: str) -> str:
    own = [name for name, about in served.items() if not about.parent]  # an adapter is never taken unasked
    if model in served or (not model and len(own) == 1):
        return model or own[0]
    raise ServerError(
        f"モデル「{model}」は {url} にありません。" if model else f"{url} のどのモデルを使うか決められません。",
        f"公開されているモデル: {'、'.join(served) or 'なし'}",
        f"例: export KIT_LLM_MODEL={(*served, 'サーバーに設定したモデル名')[0]}",
    )
