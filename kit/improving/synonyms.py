"""A small kaizen step: propose one synonym from a failed question, replay it, keep it only if nothing gets worse.

A synonym adds a word of the documents to a question that uses another word for it. The words come from a failed
development question and its gold passage; sealed questions are never looked at.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kit import views
from kit.answering.rag import Rag
from kit.evaluation.evaluate import ask
from kit.evaluation.metrics import contains, right, same_document
from kit.improving.attribution import Failure
from kit.knowledge import japanese
from kit.knowledge.store import Store
from kit.records import Case

_QUESTION_WORDS, _PASSAGE_WORDS = 3, 5


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
    """Pair the rarest words of failed questions with the weightiest words of their gold passages.

    Args:
        failures: Failures on development questions; only those with a gold answer yield proposals.
        store: Where the gold passages are.

    Returns:
        Proposals, the likeliest of each failure first; empty where nothing can be paired.
    """
    idf = store.statistics().idf
    each = [_pairs(failure.case, store, idf) for failure in failures if failure.case.answerable]
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*each))
    return list(dict.fromkeys(synonym for synonym in in_turn if synonym is not None))


def _pairs(case: Case, store: Store, idf: Callable[[str], float]) -> list[Synonym]:
    """Pair the words of a question that its gold passage lacks with the words of the passage that it lacks."""
    asked = set(japanese.words(japanese.normalise(case.question)))
    gold = {
        word
        for name in store.documents()
        if any(same_document(name, evidence.document) for evidence in case.evidence)
        for chunk in store.chunks(name)
        if contains(chunk.text, case.answers[:1])
        for word in japanese.words(japanese.normalise(chunk.text))
    }

    def weightiest(words: set[str], number: int) -> list[str]:
        meaningful = (word for word in words if len(word) > 1 and not word[0].isdigit())
        return sorted(meaningful, key=lambda word: (-idf(f"w:{word}"), word))[:number]

    pairs = itertools.product(weightiest(asked - gold, _QUESTION_WORDS), weightiest(gold - asked, _PASSAGE_WORDS))
    # Words for one thing often share a letter (スマホ and スマートフォン, 印鑑 and 押印): those are tried first.
    return [Synonym(*pair) for pair in sorted(pairs, key=lambda pair: not set(pair[0]) & set(pair[1]))]


def replay(
    make: Callable[[Callable[[str], str] | None], Rag], synonym: Synonym, cases: Sequence[Case]
) -> Replay:
    """Ask every development question without and with the synonym.

    Args:
        make: Builds the system with a given question expansion (None for none).
        synonym: The proposal.
        cases: The development questions.
    """
    before = _right_cases(make(None), cases)
    after = _right_cases(make(synonym.expand), cases)
    return Replay(
        synonym, len(before), len(after), tuple(sorted(after - before)), tuple(sorted(before - after)), len(cases)
    )


def best_replay(
    make: Callable[[Callable[[str], str] | None], Rag], proposals: Sequence[Synonym], cases: Sequence[Case],
    *, limit: int = 60,
) -> Replay | None:
    """Replay up to ``limit`` proposals, each on the questions they touch and return the best one, replayed on all.

    Returns:
        The best replay, kept or not; None where there is no proposal.
    """
    if not proposals:
        return None

    def worth(synonym: Synonym) -> tuple[bool, int]:
        touched = [case for case in cases if synonym.expand(case.question)]
        result = replay(make, synonym, touched)
        return result.keep, result.after - result.before

    return replay(make, max(proposals[:limit], key=worth), cases)


def _right_cases(system: Rag, cases: Sequence[Case]) -> set[str]:
    return {case.id for case in cases if right(case, ask(system, case, "replay"))}
