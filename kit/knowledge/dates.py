"""The day of a document's edition, and Japanese era dates (令和6年4月1日 = 2024-04-01)."""

import datetime
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from unicodedata import normalize, numeric

_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925, "大正": 1911, "明治": 1867}
"""Era → the year before its first one."""
_STARTS = (("令和", 2019, 5, 1), ("平成", 1989, 1, 8), ("昭和", 1926, 12, 25), ("大正", 1912, 7, 30), ("明治", 1868, 1, 25))
_LETTERS = dict(zip("RHSTM", _ERAS, strict=True))
_N = "[0-9〇一二三四五六七八九十]"
_DATE = re.compile(
    rf"(?P<era>{'|'.join(_ERAS)}|(?<![A-Za-z])[RHSTM])? ?(?P<year>元|{_N}{{1,4}}) ?(?:年(?: ?度)?|(?P<sign>[./_-]))(?: ?\([^()]*\) ?)? ?"
    rf"(?P<month>{_N}{{1,3}}) ?(?:月|(?P=sign))(?: ?(?P<day>{_N}{{1,3}})(?(sign)(?![0-9])|(?: ?日)))?"
)
_STAMP = re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)?(?!\d)")
_COMPACT = (
    (re.compile(r"(?<![A-Za-z])([RHS]\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?!\d)"), r"\1年\2月\3日"),
    (re.compile(r"(?<![A-Za-z0-9.])(?<![A-Z0-9.]-)((?:19|20)\d\d)[._-](0[1-9]|1[0-2])(?!\d|[._-]\d\d?(?!\d))"), r"\1年\2月"),
)
"""What only a file's name means as a date, and as what: R070401, 2024-04. AP-2000-10 is a product, 2024-04-31 a slip."""
_YEAR = re.compile(rf"(?P<era>{'|'.join(_ERAS)}|(?<![A-Za-z])[RHSTM])? ?(?P<year>元|{_N}{{1,4}}) ?年(?P<fiscal> ?度)?|(?<![A-Za-z0-9.-])(?:19|20)[0-9][0-9](?![A-Za-z0-9.-])")
"""A year in a file's name: 令和6年度, 2023年版, 2025."""
_EDITION = re.compile("施行|適用|改[定正訂版]|制定|策定|発行|発出|作成|更新|掲載|公表|公布|現在|時点|版|[Vv]er|[Rr]ev")
_IN_FORCE = re.compile("施行|適用")
_NOT_BEFORE = re.compile("次回|次期|予定|期限|期日|満了|有効期|まで|[~〜–—―-] ?$|(?:から|より) ?$")
_NOT_AFTER = re.compile(" ?(?:末|まで|以[降後](?!.*(?:施行|適用))|をもって|限り)|.{0,8}(?:予定|期限|満了|廃止|失効)")
_BARE = re.compile("(?!.* / )[^ぁ-ん。]{0,30}")
"""What may stand beside the day on a line of its own: no sentence, no table row."""
_FIRST_LINES = 30
"""Lines in which the edition's day is looked for."""


def edition(stem: str, lines: Iterable[str], modified: str = "", today: str = "") -> str:
    """Return the day of an edition (``2024-04-01``), "" where nothing tells it.

    A day in the file's name counts before the latest day that one of the first lines gives as that of an edition (施行, 改定, …
    beside it, or a line that is a date and little else), and this before the property. A year alone in the name is its first
    day (2023年版 is 2023-01-01, 2023年度 is 2023-04-01): it counts where no line tells a later one. Ends of periods and what is
    only planned (次回, 予定, 期限, まで) do not count, nor does a day yet to come, unless the edition comes into force on it.

    Args:
        stem: File name without its ending.
        lines: The text from its beginning, without the rows of tables of data.
        modified: When the document was last changed, as its properties say it: ISO 8601 or as in a PDF (``D:20240401…``).
        today: No edition is younger; "" is today by this machine's clock.
    """
    today = today or datetime.datetime.now().astimezone().date().isoformat()
    name = normalize("NFKC", stem)
    for compact, spelt in _COMPACT:  # before all others: 070401 alone would be a day of 2007, 2024 alone a whole year
        name = compact.sub(spelt, name)
    stamps = (day for day in _stamps(name) if day <= today)
    if named := list(_told(name, today, bare=True)) or list(stamps):
        return max(named)
    head = [normalize("NFKC", line)[:300] for line, _ in zip(lines, range(_FIRST_LINES), strict=False)]
    told = [day for line in head for day in _told(line, today, bare=bool(_BARE.fullmatch(_DATE.sub("", line))))]
    told += [day for day in _years(name) if day <= today]
    saved = (day for day in _stamps(modified.removeprefix("D:").replace("-", "")[:8]) if day <= today)
    return max(told, default="") or next(saved, "")


def days(text: str) -> Iterator[str]:
    """Yield the days a text names, in its order; a month without a day is its first."""
    for match in _DATE.finditer(normalize("NFKC", text)):
        yield from _read(match)


def _told(line: str, today: str, *, bare: bool) -> Iterator[str]:
    """Yield the days that a normalised line gives as those of an edition, by the words beside each; if bare, without them."""
    found, end = list(_DATE.finditer(line)), 0
    for match, following in zip(found, [*(other.start() for other in found[1:]), len(line)], strict=False):
        before = re.split("[。、]", line[end : match.start()])[-1]
        after = re.split("[。、()/]|(?<=[^ ]) |次[回期]|有効期", line[match.end() : following])[0]
        end = match.end()
        if not (_NOT_BEFORE.search(before) or _NOT_AFTER.match(after)) and (bare or _EDITION.search(before + after)):
            yield from (day for day in _read(match) if day <= today or _IN_FORCE.search(before + after))


def _read(match: re.Match[str]) -> Iterator[str]:
    year, month, day = (_number(match[name] or "1") for name in ("year", "month", "day"))
    if match["sign"] and not match["era"] and (year < 1900 or match["day"] is None):
        return  # 3.1.2 is a section, 24/7 is none
    yield from _of_era(match["era"], year, month, day)


def _years(name: str) -> Iterator[str]:
    for match in _YEAR.finditer(name):
        yield from _of_era(match["era"], _number(match["year"] or match[0]), 4 if match["fiscal"] else 1, 1)


def _of_era(era: str | None, year: int, month: int, day: int) -> Iterator[str]:
    if era or year >= 1868:
        yield from _day(year + _ERAS.get(_LETTERS.get(era or "", era) or "", 0), month, day)


def one_day(text: str) -> str:
    """Read a text that is one day and nothing else (2025-04-01, 20250401, 2025/4/1, 令和7年4月1日), as ``2025-04-01``; "" for any other."""
    text = normalize("NFKC", text).strip()
    with suppress(ValueError):
        return datetime.date.fromisoformat(text).isoformat()
    match = _DATE.fullmatch(text)
    return next(days(text), "") if match and match["day"] else ""


def era_date(day: datetime.date) -> str:
    """Write a day as Japanese forms do: 令和6年4月1日; before 1868 as 1867年1月1日."""
    for era, *start in _STARTS:
        if day >= datetime.date(*start):
            year = day.year - _ERAS[era]
            return f"{era}{'元' if year == 1 else year}年{day.month}月{day.day}日"
    return f"{day.year}年{day.month}月{day.day}日"


def _stamps(text: str) -> Iterator[str]:
    """Yield days written as 20240401, 202404 or 240401; none for six digits that could mean two days."""
    for match in _STAMP.finditer(text):
        first, second, third = match.groups()
        short = [*_day(2000 + int(first[:2]), int(first[2:]), int(second))] if third is None else []
        found = [*_day(int(first), int(second), int(third or 1))]
        if not (short and found):
            yield from (*found, *short)


def _day(year: int, month: int, day: int) -> Iterator[str]:
    if 1868 <= year <= 2099:
        try:
            yield datetime.date(year, month, day).isoformat()
        except ValueError:  # the 31st of February
            return


def _number(text: str) -> int:
    """Read 12, 十二, 一二, 二十 or 元."""
    if text == "元":
        return 1
    tens, ten, ones = ("".join(f"{numeric(letter):.0f}" for letter in part) for part in text.rpartition("十"))
    return 10 * int(tens or 1) * bool(ten) + int(ones or 0)
