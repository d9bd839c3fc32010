"""Folding of hits: older editions and near-duplicates stand under one hit, the newest on top."""

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath

from kit.knowledge import japanese
from kit.knowledge.dates import era_date
from kit.records import Chunk, Hit

SAME = 0.8
"""Share of letter pairs that near-duplicates have in common at least (Jaccard)."""
FOLDED = 20
SUBJECT = 0.25
"""Share of letter pairs from which on two editions' chunks are about the same (DECISIONS.md)."""
RIVAL = 0.4
"""Share of an older chunk's score from which on a newer edition's is taken to answer the same question (DECISIONS.md)."""
_MARK = re.compile(
    r"第?\d+(?:\.\d+)*[版訂]|初版|(?<![a-z])(?:ver|rev|v)[._ ]?\d+(?:\.\d+)*|改[定訂正]版?|全面改[定訂正]|施行|制定|年?度?版"
    r"|(?:令和|平成|昭和|(?<![a-z])[rhs])(?:\d+|元)(?:年度?(?:\d+月(?:\d+日)?)?|[./_-]\d+[./_-]\d+)"
    r"|(?<!\d)(?:19|20)\d\d(?:年度?(?:\d+月(?:\d+日)?)?|[./_-]\d{1,2}[./_-]\d{1,2}|\d{2}|\d{4})?(?!\d)|(?<!\d)\d{6}(?!\d)"
    r"|(?<![^\W_])(?:新|旧|現行|最新|確定|最終|old|new|final)(?![^\W_])"
)
"""What tells editions of one document apart in their names."""
_SERIES = re.compile(r"議事|会議|[日週月季年社]報|報告|実績|通信|だより|ニュース|号$|\d月(?!.*(?:版|改|施行))")
"""Names of what appears again and again: September's minutes hold good beside October's."""
_FORMER = re.compile("旧版|旧規|旧制度|新旧|改[定訂正]前|(?:前|以前|過去)の版")
_NUMBER = re.compile(r"^(?:第?[\d〇一二三四五六七八九十.-]+[編章節款条項]?[の\d]*)?\s*")


def folded(hits: Sequence[Hit], question: str, today: str = "") -> list[Hit]:
    """Put older editions and near-duplicates under one hit, the newest on top.

    A chunk of an older edition goes under one of a newer edition at hand that is about the same: under the same heading,
    alike by ``SUBJECT``, or as good an answer (``RIVAL``). Where there is none it stays, and likewise where the question names
    its edition (第4版, 2022年) or asks for former ones (旧版, 改定前). An edition that is not in force yet counts as an old one.

    Two chunks beside are folded when they stand in different documents, share ``SAME`` of their letter pairs, and hold the
    same tokens of the question: rows of two tables that differ in what was asked for are no duplicates.

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
        held = None if _meant(hit.chunk, question) else {token for token in asked if token in letters}
        for members, other, also_held in groups:
            elsewhere = hit.chunk.document not in {member.chunk.document for member in members}
            if elsewhere and held is not None and held == also_held and _shared(letters, other) >= SAME:  # the costly one last
                members.append(hit)
                break
        else:
            groups.append(([hit], letters, held))
    shown = []
    for members, *_ in groups:
        newest = max(members, key=lambda hit: _age(hit, today))  # the first of equal ones: the best
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
    text, heading = japanese.normalise(hit.chunk.text), _heading(hit.chunk)
    others = [other for other in newer if _editions(hit.chunk, other.chunk)]
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
    marks = re.findall(r"第\d+版", japanese.normalise(chunk.document))
    if chunk.date:
        day = datetime.date.fromisoformat(chunk.date)
        marks += [f"{day.year}年", era_date(day).split("年")[0] + "年"]
    return bool(_FORMER.search(question)) or any(mark in question for mark in marks)


def _editions(chunk: Chunk, other: Chunk) -> bool:
    """Tell whether two chunks stand in editions of one document.

    These lie in one folder, differ in their days, and have the same name without what tells editions apart (第2版, 2025年版,
    20250401, ver.2, 改定), or the same title and names that share half of their letter pairs.
    """
    if chunk.date == other.date or not (chunk.date and other.date):
        return False
    folder, name, title = _family(chunk.document, chunk.title)
    folder_of_other, name_of_other, title_of_other = _family(other.document, other.title)
    if folder != folder_of_other or not (name and name_of_other):
        return False
    return name == name_of_other or (title == title_of_other != "" and 2 * _shared(name, name_of_other, least=True) >= 1)


@lru_cache(maxsize=4096)
def _family(document: str, title: str) -> tuple[str, str, str]:
    """Return what editions have in common: folder, name, title; "" for what says nothing, as the names of minutes do."""
    path = PurePosixPath(document)
    names = [japanese.normalise(text) for text in (path.stem, title)]
    if any(map(_SERIES.search, names)):
        return str(path.parent), "", ""
    name, title = (re.sub(r"[\W_]+", "", _MARK.sub(" ", name)) for name in names)
    return str(path.parent), name, title


def _shared(text: str, other: str, *, least: bool = False) -> float:
    """Return the share (0–1) of letter pairs that two texts have in common: of all, or of the shorter one's."""
    mine, others = _pairs(text), _pairs(other)
    whole = min(len(mine), len(others)) if least else len(mine | others)
    return len(mine & others) / whole if whole else 0.0


@lru_cache(maxsize=512)
def _pairs(text: str) -> frozenset[str]:
    return frozenset(text[i : i + 2] for i in range(len(text) - 1))
