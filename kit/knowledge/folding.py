"""Folding of hits: older editions and near-duplicates stand under one hit, the newest on top."""

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath

from kit.knowledge import japanese
from kit.knowledge.dates import era_date
from kit.knowledge.rows import index_text
from kit.records import Chunk, Hit

SAME = 0.8
"""Share of letter pairs that near-duplicates have in common at least (Jaccard)."""
FOLDED = 20
SUBJECT = 0.25
"""Share of letter pairs from which on two editions' chunks are about the same (DECISIONS.md)."""
RIVAL = 0.4
"""Share of an older chunk's score from which on a newer edition's is taken to answer the same question (DECISIONS.md)."""
_RULES = re.compile("規程|規定|規則|要領|要綱|細則|内規|規約|約款|方針|基準|標準|手順|手引|マニュアル|ガイド|説明書|仕様書|ルール|faq|よくある質問")
"""Names of documents whose newer edition takes the place of the older one. A budget, an invoice or minutes hold good each for its time."""
_EDITION = (
    r"第?\d+(?:\.\d+)*[版訂]|初版|改[定訂正]|年?度?版|(?<![a-z0-9])(?:ver|rev)[._ ]?\d+(?:\.\d+)*(?![a-z0-9])|(?<=[_ .(-])v[._ ]?\d+(?:\.\d+)*(?![^\W_])"
)
_YEAR = r"(?<![a-z\d])(?:19|20)\d\d"
_MARK = re.compile(
    rf"{_EDITION}|版|全面|施行|制定|(?:令和|平成|昭和|(?<![a-z])[rhs])(?:\d+|元)(?:年(?:度(?=版))?(?:\d+月(?:\d+日)?)?|[._-]\d+[._-]\d+)|(?<![a-z])[rhs]\d{{6}}(?!\d)"
    rf"|{_YEAR}(?:年(?:度(?=版))?(?:\d+月(?:\d+日)?)?|[._-]?(?:0?[1-9]|1[0-2])(?:[._-]?(?:0[1-9]|[12]\d|3[01]))?(?!\d))"
    r"|(?:(?<=[_(-])|^)(?:19|20)\d\d(?=$|[_)-])|(?<![^\W_])(?:新|旧|現行|最新|確定|最終|old|new|final)(?![^\W_])"
)
"""What tells editions of one document apart in their names; a number is no day and no edition because it could be one (XR2010, 100234)."""
_SERIES = re.compile("議事|[日週月]報|請求|予算|決算")
_FORMER = re.compile("旧版|旧規|旧制度|新旧|改[定訂正]前|(?:前|以前|過去)の版|[昨前去]年|変わ|変更点|違い|比較")
CLOSE = 0.9
"""Share of the best score that a newer near-duplicate needs to stand above it."""
_NUMBER = re.compile(r"^(?:第?[\d〇一二三四五六七八九十.-]+[編章節款条項]?[の\d]*)?\s*")


def folded(hits: Sequence[Hit], question: str, today: str = "") -> list[Hit]:
    """Put older editions and near-duplicates under one hit, the newest on top.

    A chunk of an older edition goes under one of a newer edition at hand that is about the same: under the same heading,
    alike by ``SUBJECT``, or as good an answer (``RIVAL``). Where there is none it stays, and likewise where the question names
    its edition (第4版, 2022年) or asks for former ones (旧版, 改定前). An edition that is not in force yet counts as an old one.

    Two chunks beside are folded when they stand in different documents, share ``SAME`` of their letter pairs, and hold the
    same tokens of the question, names and headings included: rows of two tables that differ in what was asked for are no
    duplicates, nor are two branches' rules.

    Args:
        hits: Best first; only the first ``FOLDED`` are compared as near-duplicates.
        question: As it was asked.
        today: The day on which editions must be in force; "" is today by this machine's clock.
    """
    asked = {token.removeprefix("w:") for token in japanese.query(question)}
    question = japanese.normalise(question)
    today = today or datetime.datetime.now().astimezone().date().isoformat()
    hits = _superseded(hits, question, today)
    groups: list[tuple[list[Hit], str, set[str] | None]] = []
    for hit in hits[:FOLDED]:
        letters = japanese.normalise(hit.chunk.text)
        whole = japanese.normalise(f"{hit.chunk.document}\n{index_text(hit.chunk.title, hit.chunk.place.headings, hit.chunk.text)}")
        held = None if _meant(hit.chunk, question) else {token for token in asked if token in whole}
        for members, other, also_held in groups:
            elsewhere = hit.chunk.document not in {member.chunk.document for member in members}
            if elsewhere and held is not None and held == also_held and _shared(letters, other) >= SAME:  # the costly one last
                members.append(hit)
                break
        else:
            groups.append(([hit], letters, held))
    shown = []
    for members, *_ in groups:
        # Without two days nobody knows which is the newer one.
        close = [hit for hit in members if hit.chunk.date and members[0].chunk.date and hit.score >= CLOSE * members[0].score]
        newest = max(close or members[:1], key=lambda hit: _age(hit, today))  # the first of equal ones: the best
        older = [chunk for hit in members if hit is not newest for chunk in (hit.chunk, *hit.also)]
        shown.append(replace(newest, score=members[0].score, also=(*newest.also, *older)))
    return [*shown, *hits[FOLDED:]]


def _superseded(hits: Sequence[Hit], question: str, today: str) -> Sequence[Hit]:
    """Put chunks of older editions under those of newer ones, which take the better of both places."""
    if len({hit.chunk.date for hit in hits} - {""}) < 2:
        return hits
    kept: list[Hit] = []
    under: dict[str, list[Hit]] = {}
    # The newest first, so that the others find those that stay; those of one day in the order of their scores.
    for hit in sorted(hits, key=lambda hit: _age(hit, today), reverse=True):
        home = None if _meant(hit.chunk, question) else _successor(hit, kept)
        if home:
            under.setdefault(home.chunk.id, []).append(hit)
        else:
            kept.append(hit)
    if not under:
        return hits
    shown = []
    for hit in kept:
        older = under.get(hit.chunk.id, [])
        shown.append(replace(hit, score=max(h.score for h in (hit, *older)), also=tuple(h.chunk for h in older)))
    return sorted(shown, key=lambda hit: (-hit.score, hit.chunk.document, hit.chunk.ordinal))


def _age(hit: Hit, today: str) -> tuple[bool, str]:
    """Return what is the greater, the newer the edition; of one not in force yet it is less than of any that is."""
    return hit.chunk.date <= today, hit.chunk.date


def _successor(hit: Hit, newer: Iterable[Hit]) -> Hit | None:
    """Return what a newer edition says in the place of an older one's chunk, None where it says nothing about it."""
    others = [other for other in newer if _editions(hit.chunk, other.chunk)]
    if not others:
        return None
    text, heading = japanese.normalise(hit.chunk.text), _heading(hit.chunk)
    alike = {id(other): _shared(text, japanese.normalise(other.chunk.text)) for other in others}
    same = [other for other in others if heading and _heading(other.chunk) == heading]
    if same or max(alike.values(), default=0.0) >= SUBJECT:
        return max(same or others, key=lambda other: alike[id(other)])
    rivals = [other for other in others if other.score >= RIVAL * hit.score]
    return max(rivals, key=lambda other: other.score * alike[id(other)], default=None)


def _heading(chunk: Chunk) -> str:
    """Return the innermost heading without its number."""
    return _NUMBER.sub("", japanese.normalise("".join(chunk.place.headings[-1:]))).strip("() ")


def _meant(chunk: Chunk, question: str) -> bool:
    """Tell whether a normalised question names a chunk's edition, or asks for former ones."""
    marks, years = _names(chunk.document, chunk.title, chunk.date)
    return bool(_FORMER.search(question)) or any(mark in question for mark in marks) or not years.isdisjoint(re.findall(_YEAR, question))


@lru_cache(maxsize=4096)
def _names(document: str, title: str, date: str) -> tuple[list[str], set[str]]:
    """Return how a question may name a document's edition: 第4版, ver.2, 令和4年; and by which years."""
    name = japanese.normalise(f"{PurePosixPath(document).stem}\n{title}")
    marks = re.findall(r"第\d+(?:\.\d+)*版|(?:ver|rev|v)[._ ]?\d+(?:\.\d+)*|(?:令和|平成|昭和)(?:\d+|元)年", name)
    if date:
        marks.append(era_date(datetime.date.fromisoformat(date)).split("年")[0] + "年")
    return marks, {*re.findall(_YEAR, name), date[:4]}


def _editions(chunk: Chunk, other: Chunk) -> bool:
    """Tell whether two chunks stand in editions of one document.

    These lie in one folder, differ in their days, and have the same name without what tells editions apart (第2版, 2025年版,
    20250401, ver.2, 改定).
    """
    if chunk.date == other.date or not (chunk.date and other.date):
        return False
    family = _family(chunk.document, chunk.date)
    return family == _family(other.document, other.date) and bool(family[1])


@lru_cache(maxsize=4096)
def _family(document: str, date: str) -> tuple[str, str]:
    """Return what editions have in common, folder and name; the name is "" where a document can have none."""
    path = PurePosixPath(document)
    name = japanese.normalise(path.stem)
    if _SERIES.search(name) or not (_RULES.search(name) or re.search(_EDITION, name)):
        return str(path.parent), ""
    day = date[2:].replace("-", "")  # 250401 is a day where it is the document's
    return str(path.parent), re.sub(r"[\W_]+", "", _MARK.sub(" ", re.sub(rf"(?<!\d){day}(?!\d)", " ", name)))


def _shared(text: str, other: str) -> float:
    """Return the share (0–1) of letter pairs that two texts have in common (Jaccard)."""
    mine, others = _pairs(text), _pairs(other)
    return len(mine & others) / (len(mine | others) or 1)


@lru_cache(maxsize=512)
def _pairs(text: str) -> frozenset[str]:
    return frozenset(text[i : i + 2] for i in range(len(text) - 1))
