"""A load test: what a server writes per second, and how long its users wait, at several numbers of requests at once.

The loop is closed: so many requests are in flight all the time, and when one ends the next begins. What comes out
holds for this machine, this model and these lengths; it says nothing about the quality of the answers.
"""

import asyncio
import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy

from kit import views
from kit.errors import ParameterError
from kit.serving.chat import Chat, ChatError

_ASKED = "国内出張の日当と宿泊費の上限を、規程の条文を示して簡潔に説明してください。"


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Median, 90th and 99th percentile, in seconds; NaN where nothing was measured."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Quantiles":
        """Take them from measured values, by linear interpolation between order statistics."""
        return cls(*map(float, numpy.quantile([*seconds] or [math.nan], (0.5, 0.9, 0.99))))

    def __str__(self) -> str:
        return "－" if math.isnan(self.p50) else "／".join(f"{value * 1000:,.0f}" for value in (self.p50, self.p90, self.p99))


@dataclass(frozen=True, slots=True)
class Level:
    """What was measured with so many requests in flight.

    Attributes:
        concurrency: Requests in flight at the same time.
        requests: Requests that were answered.
        errors: What the failed ones said.
        tokens: Tokens written, counted by the server.
        requests_per_s: Answered requests per second, from the first request to the last reply.
        tokens_per_s: Tokens per second over all requests.
        ttft: Time to first token.
        itl: Inter-token latency: between two events of a stream, which bring a token each.
        e2e: End-to-end latency: from the request to the last token.
    """

    concurrency: int
    requests: int
    errors: tuple[str, ...]
    tokens: int
    requests_per_s: float
    tokens_per_s: float
    ttft: Quantiles
    itl: Quantiles
    e2e: Quantiles


@dataclass(frozen=True, slots=True)
class LoadTest:
    """One level per concurrency, with ``tokens`` to write for each request."""

    model: str
    tokens: int
    levels: tuple[Level, ...]

    @property
    def scope(self) -> str:
        """What the figures hold for, one sentence."""
        return f"このマシン・このモデル・この長さ（出力 {self.tokens:,} トークン、短い入力）での値です。条件が変われば変わります。"

    def _repr_html_(self) -> str:
        head = ("同時の件数", "回答", "失敗", "件/秒", "トークン/秒", "最初の文字まで〔ミリ秒〕", "トークンの間隔〔ミリ秒〕")
        rows = [
            (p.concurrency, p.requests, len(p.errors), f"{p.requests_per_s:,.1f}", f"{p.tokens_per_s:,.0f}", p.ttft, p.itl)
            for p in self.levels
        ]
        failed = dict.fromkeys(f"失敗の内容: {error}" for level in self.levels for error in level.errors)
        return views.table(head, rows, f"負荷をかけた測定（{self.model}）") + views.paragraphs(
            "待ち時間は、中央値／90%点／99%点です。" + self.scope, *itertools.islice(failed, 3)
        )


class _Sample(NamedTuple):
    begun: float
    ended: float
    at: Sequence[float] = ()
    """When each event came."""
    tokens: int = 0
    error: str = ""


def load_test(
    chat: Chat,
    *,
    concurrency: Sequence[int] = (1, 2, 4, 8),
    tokens: int = 64,
    requests: int = 0,
    limit_s: float = 10.0,
    progress: Callable[[int, int], object] | None = None,
) -> LoadTest:
    """Measure a server under load, one concurrency after another.

    Args:
        chat: The connection to it.
        concurrency: Numbers of requests to keep in flight.
        tokens: Tokens to write for each; a vLLM server writes exactly so many.
        requests: Requests of each level; 0 takes three for each one in flight, at least 8.
        limit_s: Seconds of one level after which no further request begins: a slow server is measured by fewer.
        progress: Called with (finished, planned) requests.

    Raises:
        ParameterError: A number is below 1.
    """
    if min((*concurrency, tokens, requests + 1), default=0) < 1 or not concurrency:
        raise ParameterError(
            f"concurrency={list(concurrency)}、tokens={tokens}、requests={requests} では測れません。",
            "同時の件数は1つ以上、どの数も1以上で書きます。", "例: kit.load_test(chat, concurrency=[1, 2, 4, 8], tokens=64)",
        )  # fmt: skip
    numbers = [requests or max(8, 3 * number) for number in concurrency]
    count = itertools.count(1)

    def finished() -> None:
        if progress:
            progress(next(count), sum(numbers))

    def level(number: int, at_once: int) -> Level:
        work = [(prompt, tokens) for prompt in prompts(number)]
        return drive(chat, work, at_once, limit_s=limit_s, finished=finished)

    chat.ask(*prompts(1), max_tokens=1)  # opens the connection
    return LoadTest(chat.model, tokens, tuple(map(level, numbers, concurrency)))


def prompts(number: int, rng: random.Random | None = None) -> list[str]:
    """Make prompts that differ from their first letters on, so that none is found in the server's prefix cache."""
    rng = rng or random.Random()
    return [f"{rng.randrange(10**8, 10**9)}: {_ASKED}" for _ in range(number)]


def drive(
    chat: Chat,
    work: Sequence[tuple[str, int]],
    concurrency: int,
    *,
    limit_s: float = math.inf,
    finished: Callable[[], object] = int,
) -> Level:
    """Put prompts to a server through ``Chat.ask_async`` as streams; tokens are counted by it, times at each event.

    Args:
        chat: The connection to it.
        work: Prompts, each with the number of tokens to write.
        concurrency: Requests in flight at the same time.
        limit_s: Seconds after which no further request begins.
        finished: Called after each request, also after one that failed or did not begin.
    """
    deadline = time.perf_counter() + limit_s

    async def one(prompt: str, tokens: int, gate: asyncio.Semaphore, tell: Callable[[_Sample | None], object]) -> None:
        at: list[float] = []
        options = {"max_tokens": tokens, "extra": {"ignore_eos": True}}
        async with gate:
            if (begun := time.perf_counter()) > deadline:
                tell(None)
                return
            try:
                reply = await chat.ask_async(prompt, show=lambda _: at.append(time.perf_counter()), **options)
                tell(_Sample(begun, time.perf_counter(), at, reply.completion_tokens or len(at)))
            except ChatError as error:
                tell(_Sample(begun, time.perf_counter(), error=error.what))

    async def all_of_them(tell: Callable[[_Sample | None], object]) -> None:
        gate = asyncio.Semaphore(concurrency)
        await asyncio.gather(*(one(prompt, tokens, gate, tell) for prompt, tokens in work))

    samples = []
    for sample in chat._wire.follow(all_of_them):  # not in this thread: Jupyter's has a running loop
        finished()
        samples += [sample] if sample else []
    good, errors = [s for s in samples if not s.error], tuple(s.error for s in samples if s.error)
    tokens = sum(s.tokens for s in good)
    seconds = max((s.ended for s in samples), default=1.0) - min((s.begun for s in samples), default=0.0)
    return Level(
        *(concurrency, len(good), errors, tokens, len(good) / seconds, tokens / seconds),
        ttft=Quantiles.of(sample.at[0] - sample.begun for sample in good),
        itl=Quantiles.of(after - before for sample in good for before, after in itertools.pairwise(sample.at)),
        e2e=Quantiles.of(sample.at[-1] - sample.begun for sample in good),
    )
