"""Plain text, and what all readers share: cleaning, charsets, headings, tables, titles, the clock.

Text is normalised here and nowhere else: NFKC, no control, zero-width, bidirectional or tag characters.
This module opens no file; it turns bytes into a ``Reading``. Heavy imports stay inside functions.
"""

import re
import signal
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from kit.records import Block, Place

Line = tuple[str, int]
"""A line and its heading level: 1 is the top, 0 an ordinary line, ``PLAIN`` one that is never a heading."""
PLAIN = -1
CJK = r"\u3005-\u3007\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff、。「」『』・\U00020000-\U0003ffff"
"""Japanese letters and punctuation, for use inside a character class."""

NEWLINES = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""All that ends a line and is no ``\\n``."""
# Controls, soft hyphen, zero-width, bidirectional marks, noncharacters and tag characters: invisible to the reader of a
# document but not to a model or an index. Variation selectors stay: Japanese names need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e007f]"
)
_ENCLOSED, _RAISED = "①-⒛⓪㉑-㉟㊱-㊿", "²³¹¼-¾⁰-⁹₀-₉⅐-⅟"
# Between a digit and a sign that NFKC turns into digits: ①20日 must not become 120日, nor 10³ 103.
_GLUED = re.compile(rf"(?<=\d)(?=[{_ENCLOSED}{_RAISED}])|(?<=[{_ENCLOSED}])(?=[\d{_ENCLOSED}])")
# Radicals that PDFs hold in the place of letters. NFKC knows those of Kangxi, not these (EquivalentUnifiedIdeograph.txt).
_RADICALS = str.maketrans("⺎⺒⺓⺛⺜⺝⺟⺠⺩⺫⺬⺯⺼⺽⻁⻄⻆⻑⻗⻘⻝⻣⻤⻨⻩⻫⻭⻯⻱⻲", "兀巳幺旡日月母民王目示糸肉臼虎西角長雨青食骨鬼麦黄斉歯竜龜亀")
_LETTER, _WORD = re.compile(f"[{CJK}]"), re.compile(r"[A-Za-z][a-z]{2,}|[A-Z]{2,}(?![a-z])|[\d.,%]{2,}")
_NO_LETTER = re.compile(r"\(cid:\d+\)")
_READABLE = re.compile(rf"[{CJK}\u0020-\u007e\u00a1-\u04ff\u2000-\u303f\uff00-\uffef]")
_CUT_WORD = re.compile(rf"(?<=[{CJK}])[ \t]*\n[ \t]*(?=[ぁ-んー])")
_SPREAD_WORD = re.compile(rf"(?<![^\s(（])([{CJK}])(?: ([{CJK}])(?=[\s()（）]|$)){{2,}}")
_DIGITS = "0-9０-９一二三四五六七八九十百千〇"
_ARTICLE = re.compile(rf"第 ?[{_DIGITS}]+ ?([編章節款条])(?:の[{_DIGITS}]+)*(?=$|[\s(])")
_APPENDIX = re.compile(rf"(?:附 *則|別表(?:第? ?[{_DIGITS}]+)?)(?=$|[\s(])")
_RANKS = {"編": 11, "章": 12, "節": 13, "款": 14, "条": 15}
_CONTENTS_LINE = re.compile(r"(\.{3,}|・{3,}|…|\s)\s*-?\d+-?$|\(第.+[条章]([-―‐–~].*)?\)$")
_CAPTION = re.compile(r"\([^()]{1,40}\)")
_MARK = re.compile(r"(?:[■◆◇□●▼]|【[^】]+】$|<[^>]+>$).{0,40}(?<![。、,;])")
_PARTICLE = re.compile("[のをへ]|(?:に|が|は|で|と)[、ぁ-ん一-龥]|及び|又は|並びに|若しくは")
ITEM = re.compile(
    r"[・●○◎■□◆◇▼▽※✓✔►▶➢•‣*〇\-–—]\s?(?!\d)|[①-⑳㋐-㋾ⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ【〔<＜《]|[(（][0-9０-９ァ-ンa-z一-十]{1,3}[)）]"
    r"|[(（]?注\s?[):0-9）：１-９]|[ア-ンa-z一二三四五六七八九十]{1,2}[)）．.、　 ]|[QAＱＡ]\d*[.．:：　 ]"
    r"|問\s?[0-9０-９]{1,3}[.．:：)）　 ]"
    r"|[0-9０-９]{1,2}(?:[)）．、]|(?:\.[0-9]{1,2})+\.|(?:\.[0-9]{1,2}){2,}|\.(?!\d)|[ 　](?![ 　]?[0-9０-９.]))"
    rf"|第\s?[{_DIGITS}]+\s?[編章節款条](?:の[{_DIGITS}]+)?(?=[\s(（]|$)"
)
"""The beginning of a line that opens a list item, a note, a heading or an article (before NFKC)."""
_FIRST_COLUMN = re.compile("No[.]?|番号|項目名?|区分|種類|種別|分類|名称|品名|品目|商品名?|用語|条件|コード|日付|年度|記号|略称")
_LAST_COLUMN = re.compile("在庫数?|数量|[個件人回点]数|金額|単価|価格|料金|費用|値|割合|比率|単位|内容|説明|意味|定義|備考|期限")
_AMOUNT = re.compile(r"[△▲+-]?[¥\\]?[1-9]?[\d,]*\d(?:\.\d+)?")
_LABELLED = re.compile(r"[^\W\d]{1,8}[:：](?!//)")
_GENERIC_TITLE = re.compile(
    r"(microsoft |powerpoint|(スライド|slide|sheet|book) ?\d|untitled|無題|タイトル|新規 |<[0-9a-f]+|https?:"
    r"|(title|index|document|文書|presentation|プレゼンテーション) ?\d*$|.*\.(docx?|xlsx?|pptx?|pdf|html?|indd|jtd|ai)$)",
    re.IGNORECASE,
)


LOCKED = "パスワードで保護されています。パスワードを外して保存し直してください。"


class UnreadableError(ValueError):
    """A file cannot be read; the message is one Japanese line: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader got out of one file, or in ``problem`` why nothing."""

    title: str = ""
    blocks: tuple[Block, ...] = ()
    doubts: tuple[str, ...] = ()
    problem: str = ""
    date: str = ""
    """Out of a reader: when the document was last changed, as its properties say it; out of ``parse``: see ``Document``."""


def finished() -> None:
    """Tell the worker's clock that a page, sheet, slide or the like is done; without a worker, nothing happens."""
    for clock in (signal.ITIMER_PROF, signal.ITIMER_REAL):
        allowed = signal.getitimer(clock)[1]
        if allowed:  # only the worker's clocks have an interval
            signal.setitimer(clock, allowed, allowed)


def clean(text: str) -> str:
    r"""Normalise text once and for all: NFKC, ``\n`` line ends, nothing invisible but ``\n`` and ``\t``."""
    text = re.sub("[\ud800-\udfff]", "\ufffd", NEWLINES.sub("\n", text)).translate(_RADICALS)
    return unicodedata.normalize("NFKC", _GLUED.sub(" ", _INVISIBLE.sub("", text)))


@lru_cache(maxsize=4096)  # table cells repeat
def squeeze(text: str) -> str:
    """Clean text and lay it on one line with single spaces, words mended that a line break had cut."""
    return " ".join(_CUT_WORD.sub("", clean(text)).split())


def unspread(text: str) -> str:
    """Close up words that were set wide: 全 世 帯 is one word."""
    return _SPREAD_WORD.sub(lambda match: match[0].replace(" ", ""), text)


def share_readable(text: str) -> float:
    """Share of Japanese or printable characters among all but white space, 0.0–1.0; 1.0 for an empty text.

    What a parser writes for a letter that it does not know, ``(cid:123)``, counts as one that is not readable.
    """
    solid = _NO_LETTER.sub("\ufffd", "".join(text.split()))
    return len(_READABLE.findall(solid)) / len(solid) if solid else 1.0


def is_gibberish(text: str) -> bool:
    """Whether a page is printable and still says nothing: no Japanese, hardly a word or figure (``/edGj0 #2!k``)."""
    solid = "".join(text.split())
    worded = sum(map(len, _WORD.findall(text)))
    return len(solid) >= 100 and len(_LETTER.findall(solid)) < 0.02 * len(solid) and worded < 0.4 * len(solid)


def decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Decode Japanese text (ISO-2022-JP, UTF-8, then CP932 or EUC-JP by frequency), and return it with any doubts.

    Raises:
        UnreadableError: No encoding fits.
    """
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in data and not marked:
        raise UnreadableError("文字のファイルではありません（バイナリ）。元のアプリで開き、保存し直してください。")
    # ISO-2022-JP is 7-bit, so it would pass as UTF-8 and must come first.
    sure = ["utf-16"] if marked else ["iso2022_jp_ext", "utf-8-sig"] if b"\x1b$" in data else ["utf-8-sig"]
    for text in _decoded(data, sure):
        return text, ()
    text = data.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    if broken * 50 < sum(character > "\u007f" for character in text):
        return text, (f"UTF-8として読めない{broken}文字を「\ufffd」に置き換えました。",)
    fits = list(_decoded(data, ["cp932", "euc_jis_2004"]))
    if not fits:
        raise UnreadableError("文字コードを判定できません。UTF-8で保存し直してください。")
    # EUC-JP read as CP932 turns into half-width katakana.
    return min(fits, key=lambda fit: len(re.findall("[｡-ﾟ]", fit))), ()


def _decoded(data: bytes, encodings: Iterable[str]) -> Iterator[str]:
    for encoding in encodings:
        with suppress(UnicodeDecodeError):
            yield data.decode(encoding)


def file_name(raw: bytes) -> str:
    """Decode a file's name: UTF-8, or CP932 as old Japanese tools leave it."""
    return next(_decoded(raw, ["utf-8"]), "") or raw.decode("cp932", errors="replace")


def choose_title(stem: str, found: Sequence[str] = (), blocks: Sequence[Block] = ()) -> str:
    """Choose the title that a colleague would use.

    Args:
        stem: File name without its ending: the last resort.
        found: Candidates, best first: the file's title property, its first heading.
        blocks: The text. A property that neither its beginning nor the stem bears out is a template's leftover.
    """
    proof = "".join("".join([squeeze(stem), *(block.text for block in blocks[:20])]).split())
    for position, raw in enumerate(found):
        candidate = squeeze(raw)
        worded = share_readable(raw.strip("\0")) == 1 and re.search(r"[^\W\d_]", candidate)
        borne_out = position or "".join(candidate.split()) in proof
        if worded and borne_out and 2 <= len(candidate) <= 80 and not _GENERIC_TITLE.match(candidate):
            return candidate
    return squeeze(stem)


def sections(lines: Iterable[Line], marks: bool = True) -> list[tuple[str, tuple[str, ...]]]:
    """Give every line its heading path; a heading stays a line of its own and ends its own path.

    Chapters and articles (第1章, 第12条, 附則) are headings wherever they open a line; 【…】 and ■ … only where the file has
    no heading of its own and an ordinary line follows.

    Args:
        lines: Lines in order with their levels; empty ones are left out.
        marks: Whether 【…】 and ■ … may make a heading at all.
    """
    items = [line for line in lines if line[0]]
    marks = marks and not any(level > 0 for _, level in items)
    outline: list[tuple[int, str]] = []
    placed: list[tuple[str, tuple[str, ...]]] = []
    for (text, level), (after, _) in pairwise([*items, ("", 0)]):
        rank, heading = max(level, 0), text
        if level == 0:
            rank, heading = _article(text, placed[-1][0] if placed else "", after)
            if marks and after and _MARK.fullmatch(text) and not _MARK.fullmatch(after):
                rank, heading = 20, text
        if rank:
            outline = [entry for entry in outline if entry[0] < rank] + [(rank, heading)]
        placed.append((text, tuple(title for _, title in outline)))
    return placed


def outlined(
    lines: Iterable[Line], stem: str, titles: Sequence[str], doubts: tuple[str, ...] = (), date: str = ""
) -> Reading:
    """Make a reading of lines whose place is a heading path; the first heading is the last candidate for the title."""
    items = list(lines)
    blocks = tuple(Block(text, Place(headings=path)) for text, path in sections(items))
    first = next((text for text, level in items if level > 0), "")
    return Reading(choose_title(stem, (*titles, first), blocks), blocks, doubts, date=date)


def _article(text: str, before: str, after: str) -> tuple[int, str]:
    """Rank and name of a chapter or article heading. A caption line (目的) already belongs to the article below it."""
    match, below = _ARTICLE.match(text), _ARTICLE.match(after)
    if _CAPTION.fullmatch(text) and below and below[1] == "条":
        return _RANKS["条"], below[0] + text
    if match and match[1] == "条":
        inline = re.match(r"\s*(\([^()]{1,40}\))(?=$|\s)", text[match.end() :])
        caption = inline[1] if inline else before if _CAPTION.fullmatch(before) else ""
        listed = len(text) < 60 and _CONTENTS_LINE.search(text)
        return (0, "") if listed else (_RANKS["条"], match[0] + caption)
    beside = [near[1] for near in (_ARTICLE.match(before), below) if near]
    if match and match[1] in beside:  # chapters in a row: a table of contents
        return 0, ""
    if not (match or _APPENDIX.match(text)) or len(text) > 50 or text.endswith("。") or _CONTENTS_LINE.search(text):
        return 0, ""
    return _RANKS[match[1] if match else "章"], text


def _unwrap(lines: Sequence[str]) -> list[str]:
    """Join lines that were broken in mid-sentence, by hand or by a mail program; stripped."""
    widths = [sum(1 + (unicodedata.east_asian_width(c) in "WFA") for c in line.rstrip()) for line in lines]
    margin = max(widths, default=0)
    crowded = 40 <= margin <= 120 and sum(width >= margin - 6 for width in widths) > 1
    joined: list[str] = []
    above, full = "", False
    for line, width in zip(lines, widths, strict=True):
        text = line.strip()
        # An indent deeper by one opens a paragraph; deeper by more, it hangs below an item.
        deeper = len(line) - len(line.lstrip()) - (len(above) - len(above.lstrip()))
        if above.strip() and text and deeper != 1 and (_PARTICLE.match(text) or (full and not (ITEM.match(text) or _LABELLED.match(text)))):
            joined[-1] = glue(joined[-1], text)
        else:
            joined.append(text)
        flowing = re.search("[ぁ-ん]$", text) and 0.7 * margin <= width and margin <= 120
        ended = re.search(r"[。.」)）:：!?！？]$|\s{2}", text)
        full = text.endswith("、") or bool((flowing or (crowded and width >= margin - 6)) and not ended)
        above = line
    return joined


def glue(left: str, right: str) -> str:
    """Join two halves of a line: with a space only between words of alphabetic scripts, a hyphenated word mended."""
    if left[-1:] == "-" and left[-2:-1].isalpha() and right[:1].islower():
        return left[:-1] + right
    spaced = left[-1:].isascii() and right[:1].isascii() and left[-1:] not in "-/(" and right[:1] not in ")/,."
    return f"{left} {right}" if spaced else left + right


class Covered(str):
    """The text of a merged cell in a further column that it covers: shown once, unlike two cells that are equal."""

    __slots__ = ()


def table_rows(grid: Sequence[Sequence[str]], header: int | None = None) -> list[tuple[int, str]]:
    """Turn a table into lines that can be understood alone: 「列名: 値 / 列名: 値」.

    Args:
        grid: Cells by row, merged cells repeated in every place they cover (to the right of the first as ``Covered``).
        header: How many rows form the header, where the file says so; None to judge by the cells.

    Returns:
        (row index, line) for every row that is not empty; a header is shown alone only where nothing follows it.
    """
    head = header_rows(grid) if header is None else header
    head = head if head < len(grid) else 0
    names = [""] * max((len(row) for row in grid), default=0)
    for row in grid[:head]:
        for column, cell in enumerate(row):
            names[column] = " ".join(dict.fromkeys(filter(None, (names[column], cell))))
    lines = ((index, labelled(row, names)) for index, row in enumerate(grid[head:], head))
    return [(index, line) for index, line in lines if line]


def labelled(row: Sequence[str], names: Sequence[str]) -> str:
    """Write one row with its column names; a pair without names as 「項目: 値」, a cell that spans columns once."""
    shown = [cell for cell in row if not isinstance(cell, Covered)]
    if not any(names) and len(shown) == 2 and all(row) and len(row[0]) <= 30 and not row[0].endswith(("。", ":")):
        return ": ".join(shown)
    parts: list[str] = []
    last = ""
    for cell, name in zip(row, names, strict=False):
        if cell and not (isinstance(cell, Covered) and (len(cell) > 20 or name in ("", last))):
            parts.append(f"{name}: {cell}" if name and name != cell else cell)
        last = name
    return " / ".join(parts)


def header_rows(grid: Sequence[Sequence[str]]) -> int:
    """Judge how many of the first rows name the columns: 0, 1 or 2; for all tables that do not say it themselves.

    Two columns are a form (氏名 | 山田) unless a word that heads columns stands above one, or nothing but amounts in one unit.
    """
    if len(grid) < 2 or not looks_like_header(grid[0]):
        return 0
    if len(grid[0]) == 2:
        amounts = {_AMOUNT.sub("0", row[1], count=1) for row in grid[1:] if len(row) == 2 and row[1]}
        counted = len(grid) > 3 and len(amounts) == 1 and "0" in amounts.pop() and not re.search(r"\d", grid[0][1])
        return int(bool(_FIRST_COLUMN.fullmatch(grid[0][0]) or _LAST_COLUMN.fullmatch(grid[0][1]) or counted))
    spanned = any(left == right for left, right in pairwise(grid[0]))
    merged = any(upper in ("", lower) for upper, lower in zip(*grid[:2], strict=False))
    return 2 if spanned and merged and len(grid) > 2 and looks_like_header(grid[1]) else 1


def looks_like_header(row: Sequence[str], longest: int = 20) -> bool:
    """Whether a row could name columns: short texts in nearly every cell, not all the same, no figures."""
    cells = [cell for cell in row if cell]
    names = [c for c in cells if len(c) <= longest and not c.endswith("。") and not re.fullmatch(r"[\d.,:%/△▲+-]+", c)]
    return names == cells and len(set(cells)) >= 2 and len(cells) * 3 >= len(row) * 2


def read_text(data: bytes, stem: str) -> Reading:
    """Read a plain text file."""
    text, doubts = decode(data)
    lines = _unwrap(NEWLINES.sub("\n", text).split("\n"))
    found = [unspread(squeeze(line)) for line in lines]
    first = next(filter(None, found), "")
    title = "" if first.endswith("。") else first.strip("■◆【】 ")
    return outlined([(line, 0) for line in found], stem, ("", title), doubts)
