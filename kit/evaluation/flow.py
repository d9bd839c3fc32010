"""How samples are asked: one after another, or many in flight on an event loop, as many as the server bears.

The loop runs in a thread of its own, because Jupyter's thread has one already; the caller's thread writes the journal.
"""

import asyncio
import inspect
import math
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Protocol, cast

from kit.errors import KitError, SwappedError, UnreachableError
from kit.evaluation.cases import question_hash
from kit.records import Answer, Case, Evidence, Row, State
from kit.serving.chat import Chat

Todo = Iterator[tuple[Case, str]]
"""What is still to be asked: question and arm, in this order."""
FIRST, MOST = 8, 256
"""Samples in flight at the start, and at most."""
BATCH, BATCH_S = 50, 0.25
"""Rows that are written at once, and seconds that a finished one waits for others."""
_UNWRITTEN = 1000
"""Finished rows that may wait for the disk before no further question is asked."""
_TURN_S = 0.25
_QUEUE_S = 1.0
"""Seconds between two looks at the pace; at the queue of a server that tells it."""
_FIGURES = ("confidence", "seconds", "yen", "prompt_tokens", "completion_tokens", "misquoted")
"""What an arm says of itself in numbers."""
_TOLERATED = 0.05
"""Requests may wait at the server for an instant without its being full: this share of those it works on."""


class System(Protocol):
    """An arm: any callable that answers a question as a user. A plain string counts as an answer without citation.

    One that has ``async def ask(question, *, user="")`` as well, or instead, can have many questions in flight.
    """

    def __call__(self, question: str, *, user: str = "") -> Answer | str:
        """Answer one question."""
        ...


Arms = Mapping[str, System]


def asynchronous(arm: object) -> bool:
    """Whether an arm can be asked on an event loop."""
    return inspect.iscoroutinefunction(getattr(arm, "ask", None))


def asked(todo: Todo, arms: Arms, workers: int) -> Generator[list[Row]]:
    """Yield rows as they finish, in batches to be written at once; the next is fetched when the last one is on disk.

    What stops the run, Ctrl-C or a server that is gone, is raised after the rows that were finished by then.

    Args:
        todo: What to ask.
        arms: Name → system.
        workers: Samples in flight: 1 means one after the other, 0 as many as the server bears.
    """
    if workers == 1 and all(map(callable, arms.values())):
        for case, arm in todo:
            yield [ask(arms[arm], case, arm, alone=True)]
    else:
        yield from _in_flight(_Flow(todo, arms, workers))


def ask(system: System, case: Case, arm: str, *, alone: bool = False) -> Row:
    """Ask one system one question and return the finished sample; exceptions become end states.

    Args:
        system: The arm.
        case: The question.
        arm: The arm's name.
        alone: Nothing else is in flight: a sample took no less than the clock says here, whatever the arm reports.

    Raises:
        UnreachableError: The system's model server is gone: there is no sample.
        SwappedError: Another model answers than before: the run is void.
    """
    begun = time.perf_counter()
    try:
        answer = _answer(system(case.question, user=case.user))
    except Exception as error:
        answer = _fault(error)
    return _row(case, arm, answer, begun, alone)


async def ask_async(system: Any, case: Case, arm: str, *, alone: bool = False) -> Row:
    """Ask like ``ask``, awaiting an asynchronous system; another one is called in a thread beside the loop."""
    if not asynchronous(system):
        return await asyncio.to_thread(ask, system, case, arm, alone=alone)
    begun = time.perf_counter()
    try:
        answer = _answer(await system.ask(case.question, user=case.user))
    except Exception as error:
        answer = _fault(error)
    return _row(case, arm, answer, begun, alone)


def _answer(given: Any) -> Answer:
    if isinstance(given, str):
        return Answer(given)
    if not isinstance(given, Answer):
        return Answer("", state="wrong_format", error=f"{type(given).__name__} instead of an Answer or a text")
    wrong = [name for name in _FIGURES if not _is_figure(getattr(given, name))]
    none: dict[str, Any] = dict.fromkeys(wrong, 0)
    error = f"no finite numbers of 0 or more: {', '.join(wrong)}"
    return replace(given, state="wrong_format", error=error, **none) if wrong else given


def _is_figure(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < math.inf


def _fault(error: Exception) -> Answer:
    """Return what became of a question; a server that is gone or was swapped is no answer, and is raised again."""
    if isinstance(error, (UnreachableError, SwappedError)):
        raise error
    state: State = "infrastructure_error" if isinstance(error, KitError) else "model_error"
    return Answer("", state=state, error=f"{type(error).__name__}: {error}"[:500])


def _row(case: Case, arm: str, answer: Answer, begun: float, alone: bool) -> Row:
    clock = time.perf_counter() - begun
    return Row(
        case=case.id,
        arm=arm,
        state=answer.state,
        text=answer.text,
        shown=answer.shown,
        abstained=answer.abstained,
        confidence=round(answer.confidence, 6),
        cited=tuple(Evidence(citation.document, citation.place) for citation in answer.citations),
        retrieved=tuple(Evidence(hit.chunk.document, hit.chunk.place) for hit in answer.hits[:10]),
        seconds=round(max(answer.seconds, clock) if alone else answer.seconds or clock, 6),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        yen=round(answer.yen, 9),
        error=answer.error,
        attempts=answer.attempts,
        first_state=answer.first_state,
        quotes=tuple(dict.fromkeys(citation.quote for citation in answer.citations)),
        misquoted=answer.misquoted + _misquoted(answer),
        asked=question_hash(case),
    )


def _misquoted(answer: Answer) -> int:
    """Count the citations whose quote does not stand in the chunk they name, as far as the answer tells its hits."""
    texts = {chunk.id: chunk.text for hit in answer.hits for chunk in (hit.chunk, *hit.also)}
    return sum(citation.quote not in texts.get(citation.chunk_id, citation.quote) for citation in answer.citations)


def _in_flight(flow: "_Flow") -> Generator[list[Row]]:
    """Run a flow in a thread of its own and yield its batches; Ctrl-C drops what is under way, not what is finished."""
    thread = threading.Thread(target=flow.run, name="kit-flow", daemon=True)
    thread.start()
    try:
        while True:
            try:
                batch = flow.batches.get()
            except KeyboardInterrupt as pressed:
                if flow.stopped:
                    raise
                flow.stopped = pressed
                flow.cancel()
                continue
            if not batch:
                break
            yield batch
            flow.written += len(batch)
    finally:
        flow.cancel()
        thread.join()
    if flow.stopped:
        raise flow.stopped


class Pace:
    """How many samples may be in flight: doubled until the server is full, then a fifth less each time it is.

    Args:
        workers: A number that stays; 0 adapts.

    Attributes:
        limit: Samples in flight.
    """

    def __init__(self, workers: int = 0) -> None:
        self.limit = workers or FIRST
        self.adapts = not workers
        self._doubling, self._best, self._calm, self._since_cut = True, 0.0, math.inf, 0

    def turn(
        self, finished: int, rate: float, latency: float, refused: bool, queue: tuple[int, int] | None = None
    ) -> None:
        """Look at what became of the samples since the last turn.

        Args:
            finished: How many were finished.
            rate: Samples per second.
            latency: Their mean time in seconds.
            refused: Whether one was refused, or tried again (429, 503, a connection that broke).
            queue: Requests that the server works on and that wait there, where it tells. Else it counts as full when
                doubling gains less than 5 %, or when a sample takes twice as long as it did then.
        """
        self._since_cut += finished
        full = queue[1] > _TOLERATED * queue[0] if queue else latency > 2 * self._calm
        if refused or full:
            self._doubling = False
            if self._since_cut >= self.limit:  # once an episode: what was in flight at the last cut has come back
                busy = queue[0] if queue and not refused else 1
                self.limit, self._since_cut = max(int(self.limit * 0.8), min(busy, self.limit), 1), 0
        elif self._doubling and (queue or rate >= 1.05 * self._best):
            self.limit = min(MOST, 2 * self.limit)
        else:
            if self._doubling:
                self._doubling, self._calm = False, latency
            self.limit = min(MOST, self.limit + math.ceil(0.05 * self.limit))
        self._best = max(self._best, rate)


class _Flow:
    """Lanes on an event loop, each asking one sample after the other; there are as many lanes as the pace allows.

    Attributes:
        batches: Finished rows for the thread that writes them; an empty batch is the end.
        written: How many of them are on disk, by that thread's word.
        stopped: What stopped it before all was asked.
    """

    def __init__(self, todo: Todo, arms: Arms, workers: int) -> None:
        self._todo, self._arms, self._pace, self._alone = todo, arms, Pace(workers), workers == 1
        found = [getattr(arm, "chat", None) for arm in arms.values() if asynchronous(arm)]
        self._chats = list({id(chat): chat for chat in found if isinstance(chat, Chat)}.values())
        self.batches: SimpleQueue[list[Row]] = SimpleQueue()
        self.written = self._lanes = self._finished = 0
        self.stopped: BaseException | None = None
        self._batch: list[Row] = []
        self._seconds, self._refused = 0.0, False
        self._watch: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Ask all there is to ask; to be called in a thread that has no loop."""
        try:
            asyncio.run(self._live())
        except BaseException as error:  # told to the thread that waits for the batches
            self.stopped = self.stopped or error
        finally:
            self._hand_over()
            self.batches.put([])

    def cancel(self) -> None:
        """Drop what is under way; to be called in another thread."""
        with suppress(RuntimeError, AttributeError):  # it has ended, or not begun
            self._loop.call_soon_threadsafe(self._main.cancel)

    async def _live(self) -> None:
        self._main, self._loop = cast("asyncio.Task[None]", asyncio.current_task()), asyncio.get_running_loop()
        if self.stopped:
            return
        # One thread beside the loop for searching: it takes the processor, and more threads would only take the GIL.
        threads = 1 if any(map(asynchronous, self._arms.values())) else self._pace.limit
        self._loop.set_default_executor(ThreadPoolExecutor(threads, "kit-flow-search"))
        async with AsyncExitStack() as stack:
            for chat in self._chats:
                await stack.enter_async_context(chat.here())
            async with asyncio.TaskGroup() as self._tasks:
                if self._pace.adapts:
                    self._watch = self._tasks.create_task(self._watching())
                self._grow()

    def _grow(self) -> None:
        for _ in range(self._lanes, self._pace.limit):
            self._lanes += 1
            self._tasks.create_task(self._lane())

    async def _lane(self) -> None:
        try:
            while self._lanes <= self._pace.limit and (sample := next(self._todo, None)):
                case, arm = sample
                begun = time.perf_counter()
                row = await ask_async(self._arms[arm], case, arm, alone=self._alone)
                self._take(row, time.perf_counter() - begun)
                while self._finished - self.written > _UNWRITTEN:
                    await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # the others finish what they have begun
            self.stopped, self._todo = self.stopped or error, iter(())
        finally:
            self._lanes -= 1
            if not self._lanes and self._watch:
                self._watch.cancel()

    def _take(self, row: Row, seconds: float) -> None:
        self._finished += 1
        self._seconds += seconds
        self._refused |= row.attempts > 1 or row.state == "infrastructure_error"
        self._batch.append(row)
        if len(self._batch) >= BATCH or self._pace.limit == 1:
            self._hand_over()
        elif len(self._batch) == 1:
            self._loop.call_later(BATCH_S, self._hand_over)

    def _hand_over(self) -> None:
        if self._batch:
            self.batches.put(self._batch)
            self._batch = []

    async def _watching(self) -> None:
        tells = bool(self._chats) and all([await chat.queue() for chat in self._chats])
        begun, before = time.perf_counter(), self._finished
        while True:
            await asyncio.sleep(_QUEUE_S if tells else _TURN_S)
            queues = [await chat.queue() for chat in self._chats] if tells else []
            known = [queue for queue in queues if queue]
            queue = (sum(q[0] for q in known), max(q[1] for q in known)) if known else None
            finished, seconds = self._finished - before, time.perf_counter() - begun
            if queue or finished >= self._pace.limit:
                latency = self._seconds / max(1, finished)
                self._pace.turn(finished, finished / seconds, latency, self._refused, queue)
                begun, before, self._seconds, self._refused = time.perf_counter(), self._finished, 0.0, False
                self._grow()
