"""A small kaizen step: propose one synonym from a failed question, replay it, keep it only if nothing gets worse.

A synonym adds a word of the documents to a question that uses another word for it. The words come from a failed
development question and the sentence that holds its gold answer; sealed questions are never looked at, and the words
of the answer itself are no synonyms: a search that knows them has been told the answer.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from kit import views
from kit.answering.rag import Rag
from kit.evaluation.evaluate import rehearse
from kit.evaluation.failures import Failure
from kit.evaluation.matching import contains, same_document
from kit.evaluation.metrics import right
from kit.knowledge import japanese
from kit.knowledge.store import Store
from kit.records import EVERYONE, Case, Row

_QUESTION_WORDS, _SENTENCE_WORDS = 3, 5
_HIRAGANA = re.compile(r"[ぁ-ん]+")
_MEANINGFUL = re.compile(r"(?!何|\d|[ぁ-ん]+$)..+")
"""Two letters or more, no number, no 「何日」, not hiragana alone."""


@dataclass(frozen=True, slots=True)
class Synonym:
    """Where a question holds ``asked``, search also looks for ``written``."""

    asked: str
    written: str

    def expand(self, question: str) -> str:
        """Return the documents' word where the question holds the asker's, else ""."""
        return self.written if self.asked in japanese.words(japanese.normalise(question)) else ""


@dataclass(frozen=True, slots=True)
class Replay:
    """What one synonym did to the development questions; ``keep`` = it repaired some and broke none."""

    synonym: Synonym
    before: int
    after: int
    repaired: tuple[str, ...]
    broken: tuple[str, ...]
    planned: int

    @property
    def keep(self) -> bool:
        """Whether the synonym is worth a person's approval for the next release."""
        return bool(self.repaired) and not self.broken

    def _repr_html_(self) -> str:
        rows = [
            ("提案", f"質問の「{self.synonym.asked}」に、文書の「{self.synonym.written}」を補う"),
            ("正しく対応できた開発用質問", f"{self.before} → {self.after} / {self.planned} 問"),
            ("直った質問", "、".join(self.repaired) or "なし"),
            ("悪くなった質問", "、".join(self.broken) or "なし"),
            ("結論", "採用の候補にする（言葉の組として妥当かを人が確かめる）" if self.keep else "採用しない"),
        ]
        return views.table(("項目", "内容"), rows)


def propose(failures: Sequence[Failure], store: Store) -> list[Synonym]:
    """Pair the rarest words of failed questions with the rarest words of the sentences that hold their gold answers.

    Args:
        failures: Failures on development questions; only those with a gold answer yield proposals.
        store: Where the gold passages are; of those that only some may read nothing is proposed.

    Returns:
        Proposals; the pairs most alike come first, then those of each failure in turn. Empty where nothing can be
        paired.
    """
    idf = store.statistics().idf
    each = [_pairs(failure.case, store, idf) for failure in failures if failure.case.answerable]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*each))
    # Words for one thing often share letters (スマホ and スマートフォン, 最後 and 最終日): those are tried first.
    return sorted(dict.fromkeys(synonym for synonym in in_turn if synonym is not None), key=_alike, reverse=True)


def _alike(pair: Synonym) -> float:
    """Return the share (0–1) of letters that the words have in common, endings in hiragana left aside."""
    return SequenceMatcher(None, _HIRAGANA.sub("", pair.asked), _HIRAGANA.sub("", pair.written), autojunk=False).ratio()


def _pairs(case: Case, store: Store, idf: Callable[[str], float]) -> list[Synonym]:
    """Pair the words of a question that its gold passage lacks with the words of the gold sentence that it lacks."""
    names = [name for name in store.documents() if any(same_document(name, e.document) for e in case.evidence)]
    # A synonym is searched for, and stands in the trace, whoever asks: its words come from what everyone may read.
    open_to_all = (chunk.text for name in names for chunk in store.chunks(name) if EVERYONE in chunk.readers)
    passages = [text for text in open_to_all if contains(text, case.answers[:1])]
    gold = [text for passage in passages for text in japanese.sentences(passage) if contains(text, case.answers[:1])]
    asked, answer = _words([case.question]), _words(itertools.chain.from_iterable(case.answers))

    def rarest(words: set[str], number: int) -> list[str]:
        return sorted(words, key=lambda word: (-idf(f"w:{word}"), word))[:number]

    unknown = rarest(asked - _words(passages), _QUESTION_WORDS)
    return [Synonym(*p) for p in itertools.product(unknown, rarest(_words(gold) - asked - answer, _SENTENCE_WORDS))]


def _words(texts: Iterable[str]) -> set[str]:
    return set(filter(_MEANINGFUL.fullmatch, (w for t in texts for w in japanese.words(japanese.normalise(t)))))


def best_replay(
    make: Callable[[Callable[[str], str]], Rag], proposals: Sequence[Synonym], cases: Sequence[Case],
    rows: Mapping[str, Row], *, limit: int = 60,
) -> Replay | None:
    """Ask the development questions with each of up to ``limit`` proposals, and return the best replay.

    Args:
        make: Builds the system with a given question expansion.
        proposals: What ``propose`` returned.
        cases: The development questions.
        rows: How the system without an expansion answered them (``kit.rehearse``).
        limit: Most proposals to try.

    Returns:
        The best replay, kept or not; None where there is no proposal.
    """
    before = _right(rows, cases)
    replays = (_replay(make, synonym, cases, before) for synonym in proposals[:limit])
    return max(replays, key=lambda found: (found.keep, found.after - found.before), default=None)


def _replay(make: Callable[[Callable[[str], str]], Rag], synonym: Synonym, cases: Sequence[Case], before: set[str]) -> Replay:
    """Ask the questions that the synonym touches; the others would be answered as before."""
    touched = [case for case in cases if synonym.expand(case.question)]
    after = before - {case.id for case in touched} | _right(rehearse(make(synonym.expand), touched), touched)
    repaired, broken = tuple(sorted(after - before)), tuple(sorted(before - after))
    return Replay(synonym, len(before), len(after), repaired, broken, len(cases))


def _right(rows: Mapping[str, Row], cases: Sequence[Case]) -> set[str]:
    return {case.id for case in cases if right(case, rows[case.id])}
