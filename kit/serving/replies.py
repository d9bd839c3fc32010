"""What a model said: replies as frozen records, read from a server's JSON or put together from a stream's events."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from kit import views
from kit.records import State

_THINK = ("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class Choice:
    """One text.

    Attributes:
        text: The text, without what was thought before it; complete only where ``finish`` is ``stop``.
        finish: Why it ended: ``stop``, ``length`` (cut at ``max_tokens``), or another word of the server.
        thinking: What was thought before it.
        logprobs: For each token written, where asked for: token → natural logarithm of its probability; the written one
            first, then the likeliest at its place. Thoughts that stand in the text itself are counted in.
    """

    text: str
    finish: str
    thinking: str
    logprobs: tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True)
class Reply(Choice):
    """What the model said: the first text and the facts about all ``n``.

    Attributes:
        others: The further ``n`` - 1 texts.
        state: ``answered`` only where every text ended by itself and has the form that was asked for.
        prompt_tokens: Tokens read, counted by the server.
        completion_tokens: Tokens written, counted by the server, thinking included.
        thinking_tokens: Those of the thinking; their share by length of text where the server does not count them.
        model: The model that answered, by its own word.
        fingerprint: What the server says of its model and settings; "" where it says nothing.
        seconds: From asking to the whole reply, retries included.
        yen: What ``seconds`` and the tokens cost by the price table.
        attempts: Times that it was tried.
        first_state: How the first try ended, where it was not the last one; "" otherwise.
    """

    others: tuple[Choice, ...]
    state: State
    prompt_tokens: int
    completion_tokens: int
    thinking_tokens: int
    model: str
    fingerprint: str
    seconds: float = 0.0
    yen: float = 0.0
    attempts: int = 1
    first_state: State | Literal[""] = ""

    @property
    def parsed(self) -> Any:
        """The text as JSON; None where it was cut or is none."""
        with suppress(ValueError, RecursionError):  # vLLM's grammar lets bare control characters through
            return json.loads(self.text, strict=False) if self.state == "answered" else None

    @property
    def facts(self) -> tuple[str, ...]:
        """What it took, and whether it is whole, in words."""
        tokens = f"入力 {self.prompt_tokens:,}、出力 {self.completion_tokens:,} トークン（うち思考 {self.thinking_tokens:,}）"
        cut = [] if self.state == "answered" else [f"× 完全な回答ではありません（終了 {self.finish}、{self.state}）"]
        facts = f"{tokens}、{self.seconds:.2f} 秒、{self.yen:.2f} 円、{self.model}"
        return *cut, facts

    def _repr_html_(self) -> str:
        return views.paragraphs(self.text, *(choice.text for choice in self.others), *self.facts)


def read(data: Any, fits: Callable[[str], object]) -> Reply:
    """Read a server's reply.

    Args:
        data: The decoded JSON.
        fits: Whether a text has the form that was asked for; a server may ignore what it does not know.
    """
    choices, usage = [_choice(choice) for choice in data["choices"]], data.get("usage") or {}
    first, written = choices[0], int(usage.get("completion_tokens") or 0)
    thought = sum(len(choice.thinking) for choice in choices)
    share = thought / max(1, thought + sum(len(choice.text) for choice in choices))
    counted = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    ends = {choice.finish for choice in choices}
    state: State = "answered" if all(fits(choice.text) for choice in choices) else "wrong_format"
    if ends != {"stop"}:
        state = "infrastructure_error" if ends & {"abort", "error"} else "model_error"
    return Reply(
        *(first.text, first.finish, first.thinking, first.logprobs),
        others=tuple(choices[1:]),
        state=state,
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=written,
        thinking_tokens=round(written * share) if counted is None else int(counted),
        model=str(data.get("model", "")),
        fingerprint=str(data.get("system_fingerprint") or ""),
    )


class Merged:
    """Puts the events of a stream together to the reply that they are pieces of.

    Attributes:
        begun: Whether an event has come.

    Args:
        show: Is told what each event adds to the first text, be it nothing.
    """

    begun = False

    def __init__(self, show: Callable[[str], object]) -> None:
        self._show, self._shown = show, 0
        self._facts: dict[str, Any] = {}
        self._choices: dict[int, Any] = {}

    def take(self, event: Any) -> Any:
        """Add an event; return the error that it is instead, or None."""
        if error := event.get("error"):
            return error
        self.begun = True
        self._facts |= {name: event[name] for name in ("model", "usage", "system_fingerprint") if event.get(name)}
        for piece in event["choices"]:
            new = {"message": {"content": "", "reasoning": ""}, "logprobs": {"content": []}}
            choice, delta = self._choices.setdefault(piece["index"], new), piece["delta"]
            choice["message"]["content"] += delta.get("content") or ""
            choice["message"]["reasoning"] += _reasoning(delta)
            choice["logprobs"]["content"] += _tokens(piece)
            choice["finish_reason"] = piece.get("finish_reason")
            if piece["index"] == 0:
                content = choice["message"]["content"]
                text = "" if _THINK[0].startswith(content.lstrip()) else _split(content)[1]
                self._show(text[self._shown :])
                self._shown = len(text)
        return None

    def whole(self) -> dict[str, Any]:
        """Return what the server would have sent as one."""
        return {**self._facts, "choices": [choice for _, choice in sorted(self._choices.items())]}


def _choice(data: Any) -> Choice:
    message = data["message"]
    if not data["finish_reason"]:
        raise ValueError("neither ended nor cut")
    thinking, text = _reasoning(message), message.get("content") or ""
    if not thinking:
        thinking, text = _split(text)
    logprobs = [
        {t["token"]: t["logprob"]} | {o["token"]: o["logprob"] for o in t["top_logprobs"]} for t in _tokens(data)
    ]
    return Choice(text, str(data["finish_reason"]), thinking, tuple(logprobs))


def _reasoning(message: Any) -> str:
    return message.get("reasoning") or message.get("reasoning_content") or ""


def _tokens(choice: Any) -> list[Any]:
    return (choice.get("logprobs") or {}).get("content") or []


def _split(content: str) -> tuple[str, str]:
    """Split a text into thoughts and answer; chat templates may open the block themselves, so only its end is sure."""
    opening, closing = _THINK
    if closing not in content and not content.lstrip().startswith(opening):
        return "", content
    thoughts, _, answer = content.partition(closing)
    return thoughts.strip().removeprefix(opening).strip(), answer.lstrip()
