"""Data sets with questions whose gold passage is known, in one form for every bench."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Passage:
    name: str
    title: str
    text: str

    @property
    def whole(self) -> str:
        """What a search engine that knows no titles is given."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True)
class Question:
    text: str
    gold: frozenset[str]
    """Names of the passages that are right."""
    cluster: str
    """Questions of one cluster are not independent: they are drawn together when an interval is computed."""


def squad(path: Path, keep_title: bool) -> tuple[list[Passage], list[Question]]:
    """Read SQuAD format with ``TITLE [SEP] BODY`` as context (JSQuAD)."""
    passages, questions = [], []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for number, paragraph in enumerate(article["paragraphs"]):
            title, _, body = paragraph["context"].partition(" [SEP] ")
            name = f"{article['title']}/{number}"
            passages.append(Passage(name, title if keep_title else "", body))
            questions += [Question(qa["question"], frozenset({name}), article["title"]) for qa in paragraph["qas"]]
    return passages, questions


def jsonl(docs: Path, qa: Path | None, keep_title: bool) -> tuple[list[Passage], list[Question]]:
    """Read passages and questions; choices belong to the question. Without questions, titles ask for their bodies.

    A body then loses its heading lines, which repeat the title, and passages of one title are all right.
    """
    rows = _lines(docs)
    if qa is None:
        bodies = {row["doc_id"]: "\n".join(line for line in row["text"].splitlines() if line[:1] != "#") for row in rows}
        by_title: dict[str, set[str]] = {}
        for row in rows:
            by_title.setdefault(row["title"], set()).add(row["doc_id"])
        asked = [Question(title, frozenset(names), title) for title, names in by_title.items()]
        return [Passage(name, "", body) for name, body in bodies.items()], asked
    passages = [Passage(row["doc_id"], row.get("title", "") if keep_title else "", row["text"]) for row in rows]
    questions = [
        Question("\n".join((row["question"], *row.get("choices", {}).values())), frozenset({row["gold_doc"]}), row["gold_doc"])
        for row in _lines(qa)
    ]
    return passages, questions


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
