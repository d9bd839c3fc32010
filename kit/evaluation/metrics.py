"""The metrics: pure functions of one question and one row, each with the readers it is valid for.

A share metric scores 0 or 1. Where the documents hold no answer, abstaining is right and anything else is wrong.
Editing this file changes the hash that a seal covers: a run is judged by the metric code that was sealed.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import PurePosixPath
from typing import Literal

from kit.records import Case, Evidence, Row

_ALIKE = str.maketrans({"〜": "~"} | dict.fromkeys("‐‑‒–—―−", "-"))  # NFKC leaves these apart from ～ and －
_NUMERALS = "〇一二三四五六七八九十百千万億兆"


@dataclass(frozen=True, slots=True)
class Metric:
    """One way to measure.

    Attributes:
        label: Japanese name.
        kind: How rows become a figure: ``share`` of 1s, ``mean``, ``p95`` quantile, or yen per right answer.
        higher_is_better: Direction of the bar: at least, or at most.
        valid_for: Readers the metric means something for, in Japanese.
        applies: Which questions count.
        score: The value of one answered row.
        short_answers_only: Whether it means nothing where whole sentences of the documents are shown.
    """

    label: str
    kind: Literal["share", "mean", "p95", "yen_per_right"]
    higher_is_better: bool
    valid_for: str
    applies: Callable[[Case], bool]
    score: Callable[[Case, Row], float]
    short_answers_only: bool = False


def comparable(text: str) -> str:
    """Return NFKC lower-case text with one kind of dash, without blanks and without commas between thousands.

    One blank stays between two digits, and ① counts as a number of its own: neither "1 20日" nor ①20日 is 120日.
    """
    apart = "".join(f" {c} " if unicodedata.category(c) == "No" else c for c in text)
    folded = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", apart).lower().translate(_ALIKE))
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))|(?<!\d) | (?!\d)", "", folded)


def contains(shown: str, answers: Sequence[Sequence[str]]) -> bool:
    """Whether every part of the gold answer stands in the shown text in one of its wordings.

    A number counts only as a whole: 20日 does not stand in 120日, nor 十日 in 二十日.
    """
    text = comparable(shown)
    return bool(answers) and all(any(_stands_in(comparable(word), text) for word in part) for part in answers)


def exact_match(text: str, answers: Sequence[Sequence[str]]) -> float:
    """Return 1.0 if the text is one wording of a one-part gold answer (NFKC; outer quotes and full stops stripped)."""
    given = _bare(text)
    return float(len(answers) == 1 and any(given == _bare(word) != "" for word in answers[0]))


def character_f1(text: str, answers: Sequence[Sequence[str]]) -> float:
    """Return the bag-of-characters F1 (0–1) with the best wording of all parts together; 0.0 without an answer.

    Compared like an exact match, so that one of those has F1 1.0.
    """
    given = Counter(_bare(text))

    def f1(words: Sequence[str]) -> float:
        wanted = Counter("".join(map(_bare, words)))
        common = (given & wanted).total()
        return 2 * common / (given.total() + wanted.total()) if common else 0.0

    return max((f1(words) for words in product(*answers)), default=0.0)


def same_document(name: str, gold: str) -> bool:
    """Whether a stored document is the gold one; the gold name may leave out folder and extension."""
    folded = (unicodedata.normalize("NFKC", text).replace("\\", "/") for text in (name, gold))  # as in Windows
    stored, wanted = map(PurePosixPath, folded)
    if not stored.name:
        return False
    return wanted in (stored, PurePosixPath(stored.name), PurePosixPath(stored.stem), stored.with_suffix(""))


def same_place(found: Evidence, gold: Evidence) -> bool:
    """Whether a found place is the gold place: the document, and page, sheet and slide where both name them.

    A Word file has no pages to compare: a page that people wrote down for it is not held against the answer.
    """
    place, wanted = found.place, gold.place
    return (
        same_document(found.document, gold.document)
        and (not wanted.page or place.page in (0, wanted.page))
        and (not wanted.sheet or not place.sheet or comparable(place.sheet) == comparable(wanted.sheet))
        and (not wanted.slide or place.slide in (0, wanted.slide))
    )


def cites(case: Case, row: Row) -> bool:
    """Whether every gold document of the question is cited; true where the question names none."""
    return all(any(same_document(cited.document, gold.document) for cited in row.cited) for gold in case.evidence)


def right(case: Case, row: Row) -> float:
    """Return 1.0 for an answer that holds the gold answer and cites its document, or a rightful abstention."""
    if not case.answerable:
        return float(row.abstained)
    return float(not row.abstained and contains(row.shown, case.answers) and cites(case, row))


def first_rank(case: Case, row: Row, depth: int) -> int:
    """Return the rank (from 1) of the first retrieved chunk at a gold place within ``depth``; 0 if none."""
    for rank, found in enumerate(row.retrieved[:depth], 1):
        if any(same_place(found, gold) for gold in case.evidence):
            return rank
    return 0


def _stands_in(word: str, text: str) -> bool:
    if not word:
        return False
    before = r"(?<!\d)(?<!\d\.)" if word[0].isdigit() else rf"(?<![{_NUMERALS}])" if word[0] in _NUMERALS else ""
    after = r"(?!\d|\.\d|[千万億兆])" if word[-1].isdigit() else rf"(?![{_NUMERALS}])" if word[-1] in _NUMERALS else ""
    return re.search(before + re.escape(word) + after, text) is not None


def _bare(text: str) -> str:
    return comparable(text).strip("「」『』()。、.")


def _always(case: Case) -> bool:
    return True


def _answerable(case: Case) -> bool:
    return case.answerable


def _unanswerable(case: Case) -> bool:
    return not case.answerable


def _has_evidence(case: Case) -> bool:
    return bool(case.evidence)


def _reciprocal_rank(case: Case, row: Row) -> float:
    rank = first_rank(case, row, 10)
    return 1 / rank if rank else 0.0


_ALL, _SHORT = "すべてのリーダー", "短い答えを返すLLMリーダー（抽出型の文には使えません）"

METRICS: dict[str, Metric] = {
    "right": Metric("正しく対応できた割合", "share", True, _ALL, _always, right),
    "wrong_answer": Metric(
        "誤った回答を示した割合", "share", False, _ALL, _always, lambda c, r: float(not r.abstained and not right(c, r))
    ),
    "answer_contained": Metric(
        "正解を含む回答の割合", "share", True, _ALL, _answerable,
        lambda c, r: float(not r.abstained and contains(r.shown, c.answers)),
    ),
    "citation": Metric(
        "出典が正しい割合", "share", True, _ALL, _has_evidence, lambda c, r: float(bool(r.cited) and cites(c, r))
    ),
    "refusal": Metric(
        "答えのない質問で回答を控えた割合", "share", True, _ALL, _unanswerable, lambda c, r: float(r.abstained)
    ),
    "recall_at_5": Metric(
        "上位5件に根拠がある割合", "share", True, _ALL, _has_evidence, lambda c, r: float(first_rank(c, r, 5) > 0)
    ),
    "mrr_at_10": Metric("根拠の順位の逆数（MRR@10）", "mean", True, _ALL, _has_evidence, _reciprocal_rank),
    "exact_match": Metric(
        "完全一致", "share", True, _SHORT, _answerable, lambda c, r: exact_match(r.text, c.answers), True
    ),
    "character_f1": Metric(
        "文字F1", "mean", True, _SHORT, _answerable, lambda c, r: character_f1(r.text, c.answers), True
    ),
    "latency_p95": Metric("応答時間（95%点、秒）", "p95", False, _ALL, _always, lambda c, r: r.seconds),
    "error_rate": Metric("失敗した割合", "share", False, _ALL, _always, lambda c, r: 0.0),
    "yen_per_right": Metric("正しい対応1件あたりの変動費（円）", "yen_per_right", False, _ALL, _always, right),
}
