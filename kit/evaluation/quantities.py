"""Numbers, amounts, dates and times in the forms that Japanese writes them in, compared by what they mean.

二割 is 20 %, 令和8年 is 2026年, 3万円 is 30,000円, 午後3時 is 15:00, 半年 is 6か月. What is not written is not guessed: a bare
number is no amount of yen, a range is neither of its ends, 5営業日 are not 5日, 1日 is not 24時間, 4万字 have no unit but 字.
A gold date that names only month and day holds in every year. Where only one side says 以上 or 未満 the amounts decide.
"""

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from kit.evaluation.matching import NUMERALS, comparable

UNITS = Path(__file__).with_name("units.toml")
_UNITS = {
    name: (dimension, Fraction(factor))
    for dimension, written in tomllib.loads(UNITS.read_text(encoding="utf-8")).items()
    for factor, names in written.items()
    for name in names.split()
}
_DIGITS = {letter: str(value) for value, letter in enumerate("〇一二三四五六七八九")}
_TENS = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "億": 10**8, "兆": 10**12}
_RUN = re.compile(rf"(?:[0-9]{{1,40}}(?:\.[0-9]{{1,40}})?|[{NUMERALS}]){{1,40}}")
_NO_NUMBER = re.compile("一(?:般|部|緒|致|体|定|応|旦|切|律|環|括|概|方|層|番)|[万唯統同単均]一|十分(?=[なに])|分[野類割岐]")
"""Words that hold a numeral and name no number; 5分野 are no minutes."""
_ERAS = {"令和": 2018, "平成": 1988, "昭和": 1925, "大正": 1911, "明治": 1867, "r": 2018, "h": 1988, "s": 1925}
_ERA = re.compile(r"(令和|平成|昭和|大正|明治|(?<![a-z0-9])[rhs])(元|[0-9]{1,2})(?=年|([./-])[0-9]{1,2}\3[0-9])")
_PLAIN = (
    (re.compile(r"([0-9]{4}年)\(\1\)"), r"\1"),  # 2026年（令和8年）4月1日 is one date
    (re.compile(r"(?<![0-9])([0-9]{4})([-./])([0-9]{1,2})\2([0-9]{1,2})(?![0-9]|[-.][0-9])"), r"\1年\3月\4日"),
    (re.compile(r"(?<![0-9])([0-9]{4})/([0-9]{1,2})(?![0-9/])"), r"\1年\2月"),
    (re.compile(r"([0-9]{1,20})分の([0-9]{1,20})"), "\\2\N{FRACTION SLASH}\\1"),
    (re.compile(r"([0-9]{1,20})割([0-9])分([0-9]?)厘?"), r"\1\2.\g<3>0%"),
    (re.compile("半年"), "6か月"), (re.compile("半日"), "0.5日"), (re.compile("半[額分数]"), "50%"), (re.compile("正午"), "12:00"),
)  # fmt: skip
"""What is written in more ways than one → the one that is read."""
_BOUNDS = {
    "以上": "≥", "以降": "≥", "以下": "≤", "以内": "≤", "以前": "≤", "まで": "≤", "未満": "<", "を超": ">", "超": ">",
    "前後": "", "前": "前", "後": "後",
}  # fmt: skip
_SPLIT_UNITS = ("秒", "日", "か月", "m", "g", "l")  # 1時間30分 is one amount


@dataclass(frozen=True, slots=True)
class Quantity:
    """One amount, date or time.

    Attributes:
        unit: Its dimension; a unit that is not known stands for itself, and "" for none.
        value: How much, in the dimension's own unit; of a date (year, month, day), None where unnamed.
        upto: The other end of a range; empty where there is none.
        bound: ≥ ≤ < or >, where the text says 以上, 以内, 未満 or 超; 前 or 後, where it says those.
    """

    unit: str
    value: tuple[Fraction | None, ...]
    upto: tuple[Fraction | None, ...] = ()
    bound: str = ""

    def meets(self, wanted: "Quantity") -> bool:
        """Whether this is what is wanted: the same in all that the wanted one names."""
        return (
            (self.unit, len(self.upto)) == (wanted.unit, len(wanted.upto))
            and all(w in (None, g) for g, w in zip(self.value + self.upto, wanted.value + wanted.upto, strict=True))
            and (self.bound == wanted.bound or "" in (self.bound, wanted.bound))
        )


Readings = tuple[Quantity, ...]
"""What one stretch of text can mean."""


def has_quantity(answers: Sequence[Sequence[str]]) -> bool:
    """Whether a part of a gold answer is a quantity in each of its wordings."""
    return any(map(_wanted, answers))


def quantities_match(text: str, answers: Sequence[Sequence[str]]) -> bool:
    """Whether a text names every quantity of a gold answer, each part in one of its wordings; parts without are passed over."""
    found = [reading for readings in quantities(text) for reading in readings]

    def names(wording: Sequence[Readings]) -> bool:
        return all(any(given.meets(wanted) for given in found for wanted in readings) for readings in wording)

    parts = [wanted for part in answers if (wanted := _wanted(part))]
    return bool(parts) and all(any(map(names, wanted)) for wanted in parts)


def quantities(text: str) -> tuple[Readings, ...]:
    """Return the quantities of a text in their order, each with its readings: 4/1 has two. A range hides its ends."""
    return _scan(text)[0]


def _wanted(part: Sequence[str]) -> list[tuple[Readings, ...]]:
    """Return the quantities of each wording; nothing where a wording is more than half of something else (丹下健三)."""
    found = [_scan(word) for word in part]
    return [readings for readings, _ in found] if all(readings and share >= 0.5 for readings, share in found) else []


@lru_cache(maxsize=4096)
def _scan(text: str) -> tuple[tuple[Readings, ...], float]:
    """Return the quantities of a text, and how much of it (0–1) they are."""
    rest = folded = _fold(text)
    found: list[tuple[int, int, Readings]] = []
    for pattern, read in _FORMS:
        taken = [(*match.span(), readings) for match in pattern.finditer(rest) if (readings := read(match)) is not None]
        for begin, end, _ in taken:  # what one form has read is hidden from the next
            rest = rest[:begin] + "\0" * (end - begin) + rest[end:]
        found += taken
    joined: list[tuple[int, int, Readings]] = []
    for begin, end, readings in sorted(found, key=lambda item: item[:2]):
        start, stop, last = joined[-1] if joined else (0, 0, ())
        pairs = (_join(a, b, folded[stop:begin]) for a, b in zip(last, readings, strict=False))
        whole = tuple(one for one in pairs if one)
        joined[-1:] = [(start, end, whole)] if whole else [*joined[-1:], (begin, end, readings)]
    kept = tuple(tuple(replace(one, bound=_bound(folded[end : end + 2])) for one in read) for _, end, read in joined if read)
    letters = sum(end - begin for begin, end, read in joined if read) + sum(2 * bool(read[0].bound) for read in kept)
    return kept, letters / max(1, len(folded))


def _fold(text: str) -> str:
    """Write all numbers in Arabic digits, all years in the Western calendar and each form in one way."""
    folded = _NO_NUMBER.sub(lambda found: "・" * len(found[0]), comparable(text))
    folded = _RUN.sub(lambda found: _arabic(found[0]), folded)
    folded = _ERA.sub(lambda found: str(_ERAS[found[1]] + int(found[2].replace("元", "1"))), folded)
    for pattern, plain in _PLAIN:
        folded = pattern.sub(plain, folded)
    return folded


def _arabic(run: str) -> str:
    """Return a number such as 1万5千, 二〇二六 or 1.5億 in Arabic digits; what is none stays as it is."""
    if run.isascii():
        return run
    total, section, digits = Fraction(0), Fraction(0), ""
    for part in re.findall(r"[0-9.]+|.", run):
        if part not in _TENS:
            digits += _DIGITS.get(part, part)
        elif _TENS[part] < 10**4:
            section, digits = section + Fraction(digits or 1) * _TENS[part], ""
        else:
            total, section, digits = total + (section + Fraction(digits or 0)) * _TENS[part], Fraction(0), ""
            if not total:
                return run
    value = total + section + Fraction(digits or 0)
    return str(value) if value.denominator == 1 else run


def _join(first: Quantity, second: Quantity, between: str) -> Quantity | None:
    """Join the ends of a range, and an amount in two units; None for two quantities."""
    if first.unit != second.unit or first.upto or second.upto:
        return None
    if re.fullmatch("から|より|ないし|乃至|[~-]", between):
        return Quantity(first.unit, first.value, second.value)
    a, b = first.value[0], second.value[0]
    return Quantity(first.unit, (a + b,)) if not between and first.unit in _SPLIT_UNITS and a and b and b < a else None


def _bound(after: str) -> str:
    return next((sign for word, sign in _BOUNDS.items() if after.startswith(word)), "")


def _date(match: re.Match[str]) -> Readings | None:
    year, month, day = (Fraction(part) if part else None for part in match.groups())
    real = (month is None or 1 <= month <= 12) and (day is None or 1 <= day <= 31)
    return (Quantity("日付", (year, month, day)),) if real else None


def _time(match: re.Match[str]) -> Readings | None:
    hour, minute = int(match["h"]), int(match["m"] or match["n"] or 0) + 30 * bool(match["half"])
    if hour > 29 or minute > 59:
        return None
    if match["noon"] and hour <= 12:
        hour = hour % 12 + 12 * (match["noon"] in ("午後", "pm"))
    return (Quantity("時刻", (Fraction(60 * hour + minute),)),)


def _ratio(match: re.Match[str]) -> Readings | None:
    above, below = int(match[1]), int(match[3])
    if not below:
        return ()
    ratio = Quantity("割合", (Fraction(above, below),))
    is_date = match[2] == "/" and 1 <= above <= 12 and below <= 31
    return (ratio, Quantity("日付", (None, Fraction(above), Fraction(below)))) if is_date else (ratio,)


def _amount(match: re.Match[str]) -> Readings:
    written = match["unit"] or ("円" if match["yen"] else "")
    unit, factor = _UNITS.get(written, (written, Fraction(1)))
    value = (Fraction(match["n"]) + (Fraction(1, 2) if match["half"] else 0)) * factor * (-1 if match["sign"] else 1)
    upto = (Fraction(match["upto"]) * factor,) if match["upto"] else ()
    return (Quantity(unit, (value,), upto),)


_N = r"[0-9]{1,40}(?:\.[0-9]{1,40})?"
_KNOWN = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_UNIT = rf"(?:{_KNOWN})(?!(?<=[a-z0-9])[a-z]|(?<=[ァ-ヺー])[ァ-ヺー])目?|[a-z%°]{{1,9}}[23]?|[ァ-ヺー]{{1,20}}|(?![以未超前後約])[々〇一-龠]目?"
_YEAR, _MONTH = "([0-9]{4})年(?![間代度])", "([0-9]{1,2})月(?!間)"
_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Readings | None]], ...] = (
    (re.compile(rf"(?<![0-9]){_YEAR}(?:{_MONTH}(?:([0-9]{{1,2}})日(?!間))?)?"), _date),
    (re.compile(rf"(?<![0-9])(){_MONTH}(?:([0-9]{{1,2}})日(?!間))?"), _date),
    (
        re.compile(
            r"(?P<noon>午前|午後|am|pm)?(?<![0-9:])(?P<h>[0-9]{1,2})"
            r"(?::(?P<m>[0-9]{2})(?![0-9:])|時(?!間)(?:(?P<n>[0-9]{1,2})分|(?P<half>半))?)"
        ),
        _time,
    ),
    # Telephone numbers, addresses of machines, A4 and v1.2 are names.
    (re.compile(r"[0-9]+(?:[-.][0-9]+){2,}|(?<![0-9])0[0-9]+-[0-9]+|(?<![0-9a-z])[a-z][a-z.-]*[0-9][0-9a-z.-]*"), lambda match: ()),
    (re.compile(r"(?<![0-9/.])([0-9]{1,20})([/⁄])([0-9]{1,20})(?![0-9/])"), _ratio),
    (
        re.compile(
            rf"(?P<sign>(?<![0-9a-z)~-])-|マイナス|[△▲])?(?P<yen>¥)?(?P<n>{_N})"
            rf"(?:(?:から|ないし|乃至|[~-])(?P<upto>{_N})(?={_UNIT}))?(?P<unit>{_UNIT})?(?P<half>半)?"
        ),
        _amount,
    ),
)
"""The forms, those that hold others first; each with what it means."""
