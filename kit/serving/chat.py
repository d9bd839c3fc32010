"""Ask a model server that speaks the OpenAI protocol: plain calls over the asynchronous core in ``wire``.

``ask`` works in a script, in Jupyter's running loop and from several threads at once. A failure says in ``state``
whose doing it was (DESIGN §5).
"""

import dataclasses
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kit import settings
from kit.errors import ServerError, SettingsError
from kit.serving.wire import CONNECT_S, ChatError, Wire
from kit.trust import egress

__all__ = ["Chat", "ChatError", "Reply", "connect"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said.

    Attributes:
        text: The text; complete only where ``finish`` is ``stop``.
        finish: Why the model stopped: ``stop``, ``length`` (cut at ``max_tokens``), or another word of the server.
        prompt_tokens: Tokens read, counted by the server.
        completion_tokens: Tokens written, counted by the server.
        seconds: From asking to the whole reply, retries included.
        model: The model that answered, by its own word.
    """

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    model: str


def connect(url: str = "", *, model: str = "", timeout_s: float = 0.0) -> "Chat":
    """Connect to a server and find its model.

    Args:
        url: OpenAI-compatible server; ``/v1`` is added where it is missing. "" takes it from the settings.
        model: Name of the served model; "" takes it from the settings, else the only one served.
        timeout_s: Longest wait for one try, in seconds; 0 takes it from the settings.

    Raises:
        SettingsError: No URL is set, or it leads outside and is not named in kit.toml.
        ServerError: Nothing listens there, the key or the path is wrong, or the model is not served.
    """
    current = settings.load()
    url = url or current.llm_url
    if not url:
        raise SettingsError(
            "モデルサーバーの URL が設定されていません。",
            "connect() に URL を渡さず、kit.toml の llm_url も空です。",
            '例: kit.connect("http://127.0.0.1:8000/v1")、または export KIT_LLM_URL=http://127.0.0.1:8000/v1',
        )
    destination = egress.resolve(url.strip(), current.allowed_hosts)
    destination = dataclasses.replace(destination, url=destination.url.rstrip("/").removesuffix("/v1") + "/v1")
    chat = Chat(destination, timeout_s or current.llm_timeout_s)
    try:
        chat.model = _choose(model or current.llm_model, chat.served(), chat.url)
    except BaseException:
        chat.close()
        raise
    return chat


class Chat:
    """A connection to one model server; made by ``connect``. Close it, or use it in a ``with`` block.

    Attributes:
        url: The server's base URL, ending in ``/v1``.
        model: The model that is asked.
        timeout_s: Longest wait for one try, in seconds.
    """

    def __init__(self, destination: egress.Destination, timeout_s: float) -> None:
        self.url = destination.url
        self.model = ""
        self.timeout_s = timeout_s
        self._wire = Wire(destination)
        self._finalizer = weakref.finalize(self, self._wire.close)

    def ask(
        self,
        prompt: str,
        *,
        system: str = "",
        max_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Ask once and wait for the whole reply.

        Args:
            prompt: The user's message.
            system: The system message; "" sends none (some chat templates refuse one).
            max_tokens: Most tokens to write.
            temperature: 0.0 always takes the likeliest token.
            seed: Same seed, same reply, as far as the server keeps that promise.
            schema: JSON schema that the reply must follow; bound every string and list in it, because a model that
                never closes one is cut off by ``max_tokens``.

        Raises:
            ChatError: The request failed; ``state`` says whose doing it was.
        """
        messages = [{"role": "system", "content": system}] if system else []
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [*messages, {"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        if schema is not None:
            form = {"name": "reply", "schema": dict(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        begun = time.perf_counter()
        reply = self._wire.wait(self._wire.request("/chat/completions", body, self.timeout_s, _reply))
        return dataclasses.replace(reply, seconds=time.perf_counter() - begun)

    def served(self) -> tuple[str, ...]:
        """Return the names of the models the server serves."""
        return self._wire.wait(self._wire.request("/models", None, min(self.timeout_s, CONNECT_S), _names))

    def close(self) -> None:
        """Close all connections and stop the thread; requests under way fail."""
        self._finalizer()

    def __enter__(self) -> "Chat":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Chat({self.url!r}, model={self.model!r})"


def _reply(data: Any) -> Reply:
    choice, usage = data["choices"][0], data.get("usage") or {}
    return Reply(
        text=str(choice["message"].get("content") or ""),
        finish=str(choice["finish_reason"]),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        seconds=0.0,
        model=str(data.get("model", "")),
    )


def _names(data: Any) -> tuple[str, ...]:
    return tuple(str(entry["id"]) for entry in data["data"])


def _choose(model: str, served: tuple[str, ...], url: str) -> str:
    if model in served or (not model and len(served) == 1):
        return model or served[0]
    raise ServerError(
        f"モデル「{model}」は {url} にありません。" if model else f"{url} のどのモデルを使うか決められません。",
        f"公開されているモデル: {'、'.join(served) or 'なし'}",
        f"例: export KIT_LLM_MODEL={(*served, 'サーバーに設定したモデル名')[0]}",
    )
