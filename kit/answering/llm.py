"""The LLM reader: a model answers from numbered passages, and every quote it gives is looked up in them.

The check needs no tokens: a quote counts only where it stands in the passage whose number it names. An answer none of
whose quotes stands is kept, with confidence 0. Whatever goes wrong becomes a state of the answer (DESIGN §5), unless no
server was there to ask.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from string import Template
from time import perf_counter
from typing import Any

from yarl import URL

from kit.answering.extractive import NOT_FOUND, chunk_tokens
from kit.knowledge import japanese
from kit.knowledge.ranking import coverage
from kit.records import Answer, Citation, Hit, Step
from kit.serving.chat import Chat, ChatError, Reply

_TEMPLATE = Path(__file__).with_name("prompts") / "answer_ja.txt"
_SHORTEST_QUOTE = 4  # letters, blanks not counted; anything shorter stands nearly everywhere

# Openings of what a chat template could take for its own marks, such as <|im_start|>, </s>, [INST]: a blank after the
# first letter makes plain text of them. (Characters that nobody sees are gone since the documents were read.)
_TEMPLATE_MARK = re.compile(r"<(?=[|｜/A-Za-z])|\[(?=/?INST\])")


def closed_object(**properties: Any) -> dict[str, Any]:
    """Return the JSON schema of an object that has these properties, all of them and no others."""
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


# Every string and list is bounded: a model that never closes one is cut off and counts as an error.
_SOURCE = closed_object(number={"type": "integer", "minimum": 1, "maximum": 99}, quote={"type": "string", "maxLength": 120})
SCHEMA = closed_object(
    found={"type": "boolean"},
    answer={"type": "string", "maxLength": 200},
    sources={"type": "array", "maxItems": 3, "items": _SOURCE},
)


class LLMReader:
    """Reads hits with a language model.

    Args:
        chat: The connection to the model server (``kit.connect()``).
        top: Number of hits to show the model.
        max_tokens: Most tokens of one reply; a reply cut there counts as an error of the model.
    """

    def __init__(self, chat: Chat, *, top: int = 5, max_tokens: int = 512) -> None:
        self.chat = chat
        self.name = f"LLM（{chat.model}）"
        self.top = top
        self.max_tokens = max_tokens

    @property
    def identity(self) -> str:
        """Text that changes whenever the answers could, as far as the client can tell.

        The port is left out: a model that is served anew, for a run that goes on, gets another one. Other weights in
        the same folder are noticed only where the kit serves them.
        """
        digest = hashlib.sha256(_TEMPLATE.read_bytes() + json.dumps(SCHEMA).encode()).hexdigest()[:16]
        asked = f"{self.name} {URL(self.chat.url).host} {self.chat.identity}"
        return f"{asked} top={self.top} max_tokens={self.max_tokens} prompt={digest}"

    def read(self, question: str, hits: Sequence[Hit], idf: Callable[[str], float], *, also: str = "") -> Answer:
        """Answer from hits.

        Args:
            question: The question, any text.
            hits: What search found, best first; those past ``top`` are not shown.
            idf: Weight of a token in the store.
            also: Words that search added; a model needs none of them.

        Returns:
            The answer with the citations that stood the check. Confidence is the share of quotes that stand, times
            the share of the question's idf weight that the cited passages cover: it orders answers, it is no
            probability. A failure is a state of the answer, with two exceptions:

        Raises:
            UnreachableError: The server is gone: the question was never asked, and the next could not be either.
            SwappedError: Another model answers: nothing that was measured before can be mixed with it.
        """
        try:
            return self.chat.run(self.ask(question, hits, idf, also=also))
        except ChatError as error:  # the connection was closed before, or while, it was asked
            return _failed(self.name, "", error, perf_counter())

    async def ask(self, question: str, hits: Sequence[Hit], idf: Callable[[str], float], *, also: str = "") -> Answer:
        """Answer like ``read``, without holding up the loop while the model writes."""
        shown = hits[: self.top]
        if not shown:
            return Answer(NOT_FOUND, abstained=True, reader=self.name)
        prompt, begun = _prompt(question, shown), perf_counter()
        try:
            reply = await self.chat.ask_async(prompt, max_tokens=self.max_tokens, schema=SCHEMA)
        except ChatError as error:
            return _failed(self.name, prompt, error, begun)
        return _judge(_asked(self.name, prompt, reply, len(shown)), reply, question, shown, idf)


class ClosedBook:
    """A model that is asked without documents: what it knows by heart, an arm to compare with.

    Args:
        chat: The connection to the model server.
        options: As for ``Chat.ask``.
    """

    def __init__(self, chat: Chat, **options: Any) -> None:
        self.chat, self._options = chat, options
        self.name = f"LLM（{chat.model}、文書なし）"

    @property
    def identity(self) -> str:
        """Text that changes whenever the answers could (see ``LLMReader.identity``)."""
        return f"{self.name} {URL(self.chat.url).host} {self.chat.identity} {self._options!r}"

    def __call__(self, question: str, *, user: str = "") -> Answer:
        """Answer one question; who asks does not matter."""
        return self.chat.run(self.ask(question))

    async def ask(self, question: str, *, user: str = "") -> Answer:
        """Answer like a call, without holding up the loop."""
        begun = perf_counter()
        try:
            reply = await self.chat.ask_async(plain(question), **self._options)
        except ChatError as error:
            return _failed(self.name, question, error, begun)
        asked = _asked(self.name, question, reply, 0)
        cut = "" if reply.state == "answered" else _cut(reply)
        return replace(asked, text=reply.text.strip(), state=reply.state, error=cut, seconds=reply.seconds, yen=reply.yen)


def _asked(name: str, prompt: str, reply: Reply, shown: int) -> Answer:
    """Return what is known of an answer before its text is judged."""
    read, written = reply.prompt_tokens, reply.completion_tokens
    step = Step("生成", f"資料 {shown} 件、{read:,}＋{written:,} トークン、終了 {reply.finish}", reply.seconds)
    return Answer(
        "", reader=name, prompt=prompt, prompt_tokens=read, completion_tokens=written, trace=(step,),
        attempts=reply.attempts, first_state=reply.first_state,
    )


def _failed(name: str, prompt: str, error: ChatError, begun: float) -> Answer:
    """Return the answer that a failed request is."""
    step = Step("生成", error.what, perf_counter() - begun)
    return Answer(
        "", reader=name, prompt=prompt, state=error.state, error=f"{error.what}{error.cause}", trace=(step,),
        attempts=error.attempts, first_state=error.first_state,
    )


def _cut(reply: Reply) -> str:
    return f"回答が最後まで書かれていません（終了 {reply.finish}）。length なら max_tokens で途切れています。"


def _prompt(question: str, hits: Sequence[Hit]) -> str:
    passages = []
    for number, hit in enumerate(hits, 1):
        material = f"題名: {hit.chunk.title}\n場所: {hit.chunk.place.label or '全体'}\n本文: {hit.chunk.text}"
        # Each line of material carries the mark, whatever else may be taken for a line end: none can step out of it.
        marked = (f"> {line}" for line in material.splitlines() if line.strip())
        passages.append("\n".join((f"【資料{number}】", *marked)))
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(passages=plain("\n\n".join(passages)), question=plain(question).strip())


def plain(text: str) -> str:
    """Return a text that can be sent and that no chat template takes for its own marks."""
    sendable = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be sent
    return _TEMPLATE_MARK.sub(r"\g<0> ", sendable)


def _judge(asked: Answer, reply: Reply, question: str, hits: Sequence[Hit], idf: Callable[[str], float]) -> Answer:
    if reply.state != "answered":
        return replace(asked, state=reply.state, error=_cut(reply))
    parsed = _parse(reply.parsed)
    if parsed is None:
        wrong = f"回答が決められた形の JSON ではありません: {reply.text[:80]}"
        return replace(asked, state="wrong_format", error=wrong)
    found, text, sources = parsed
    if not found:
        return replace(asked, text=NOT_FOUND, abstained=True)
    begun = perf_counter()
    standing = [citation for number, quote in sources if (citation := _cite(hits, number, quote))]
    share = len(standing) / max(1, len(sources))
    read = {citation.chunk_id for citation in standing}
    tokens = [token for hit in hits if hit.chunk.id in read for token in chunk_tokens(hit.chunk)]
    confidence = share * coverage(japanese.query(question), tokens, idf)
    detail = f"引用 {len(sources)} 件のうち {len(standing)} 件が、示した資料の中にありました"
    trace = (*asked.trace, Step("引用の照合", detail, perf_counter() - begun))
    cited = tuple(dict.fromkeys(standing))
    dropped = len(sources) - len(standing)
    return replace(asked, text=text, citations=cited, confidence=confidence, trace=trace, misquoted=dropped)


def _parse(data: Any) -> tuple[bool, str, list[tuple[int, str]]] | None:
    """Read the model's parsed JSON; None where it is not what the schema promises."""
    try:
        found, answer = data["found"], data["answer"].strip()
        sources = [(source["number"], source["quote"]) for source in data["sources"]]
    except (LookupError, TypeError, AttributeError):
        return None
    typed = isinstance(found, bool) and all(type(n) is int and isinstance(quote, str) for n, quote in sources)
    return (found, answer, sources) if typed and (answer or not found) else None


def _cite(hits: Sequence[Hit], number: int, quote: str) -> Citation | None:
    """Return a citation of the stretch that a quote repeats, blanks aside, as it stands there; None where it stands nowhere."""
    if not 1 <= number <= len(hits):
        return None
    chunk = hits[number - 1].chunk
    unmarked = re.sub(r"(?m)^\s*> ?", "", quote)
    letters = "".join(unicodedata.normalize("NFKC", unmarked).split())
    match = re.search(r"\s*".join(map(re.escape, letters)), chunk.text)
    return Citation.of(chunk, match.group()) if match and len(letters) >= _SHORTEST_QUOTE else None
