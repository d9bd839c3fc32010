"""The fixed words of the summary in Japanese and English, and how figures are written in each."""

import math
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any, Literal

from kit.evaluation.metrics import METRICS
from kit.records import KpiResult

Language = Literal["ja", "en"]

_JST = timezone(timedelta(hours=9))
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufffe\uffff\U000e0000-\U000e007f]"
)
_MOST_LETTERS = 2000
"""Of a free text: a summary of longer ones takes minutes to draw, and nobody reads it."""


@cache
def words(lang: Language) -> dict[str, Any]:
    """Return all fixed words of a language: texts, and the lists of steps by outcome."""
    return {key: entry[lang] for key, entry in _table()["words"].items() if lang in entry}


def plain(text: object, most: int | None = _MOST_LETTERS) -> str:
    """Return free text without control, direction and invisible characters, which could disguise what it says.

    Args:
        text: Any text.
        most: Letters to keep; None keeps all.
    """
    cleaned = _UNSAFE.sub("", str(text).encode("utf-8", "replace").decode("utf-8"))
    told = unicodedata.normalize("NFC", cleaned).strip()
    return told if most is None or len(told) <= most else told[:most].rstrip() + "…"


def quantity(values: Sequence[float], unit: str, lang: Language, *, digits: str = "", signed: bool = False) -> str:
    """Write a value, or a range whose ends share the unit that the larger one asks for.

    Args:
        values: One or two finite values; shares are 0–1.
        unit: A table under ``units`` in words/.
        lang: The language.
        digits: Format in place of the unit's own.
        signed: Write the sign of positive values, too.
    """
    size = max(map(abs, values))
    _, divisor, usual, template = next(row for row in _table()["units"][unit][lang] if size >= row[0])
    numbers = [f"{value / divisor:{'+' if signed else ''}{digits or usual}}".replace("-", "−") for value in values]
    return str(template.format(words(lang)["to"].join(dict.fromkeys(numbers)))).replace("¥−", "−¥")


def metric(name: str, lang: Language) -> str:
    """Return a metric's standard name."""
    return METRICS[name].label if lang == "ja" else str(_table()["metrics"][name])


def name(result: KpiResult, lang: Language) -> str:
    """Return a KPI's name; a measure's standard name is translated, an agreed wording stays as it is."""
    standard = lang == "en" and result.kpi.label == METRICS[result.kpi.metric].label
    return plain(_table()["metrics"][result.kpi.metric] if standard else result.kpi.label)


def label(result: KpiResult, lang: Language) -> str:
    """Return a KPI's name as a table shows it: that of a guardrail says that it is a difference."""
    named = name(result, lang)
    return str(words(lang)["difference"].format(label=named)) if result.kpi.role == "guardrail" else named


def measured(result: KpiResult, value: float | None, lang: Language, *, signed: bool = False) -> str:
    """Write a value in its metric's unit, signed where it is a difference of two arms; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "—"
    return quantity([value], _unit(result, signed), lang, signed=signed)


def interval(result: KpiResult, lang: Language) -> str:
    """Write a KPI's interval; where the sample cannot give one end, the other stands alone."""
    signed = result.kpi.role == "guardrail"
    ends = [end for end in (result.low, result.high) if math.isfinite(end)]
    if not ends:
        return "—"
    text = quantity(ends, _unit(result, signed), lang, signed=signed)
    if len(ends) == 2:
        return text
    return str(words(lang)["at_least" if math.isfinite(result.low) else "at_most"].format(text))


def bar(result: KpiResult, lang: Language) -> str:
    """Write a KPI's bar with its direction."""
    guard = result.kpi.role == "guardrail"
    number = quantity([result.kpi.bar], _unit(result, guard), lang, digits=",.10g")
    direction = "at_least" if METRICS[result.kpi.metric].higher_is_better else "at_most"
    return str(words(lang)["no_worse" if guard else direction].format(number))


def moment(text: str, lang: Language) -> str:
    """Write an ISO instant in Japanese time."""
    return str(words(lang)["moment"].format(datetime.fromisoformat(text).astimezone(_JST)))


def day(text: str, lang: Language) -> str:
    """Write an ISO day, or the day that an ISO instant falls on in Japan."""
    at = datetime.fromisoformat(text)
    return str(words(lang)["date"].format(at.astimezone(_JST) if at.tzinfo else at))


def _unit(result: KpiResult, difference: bool) -> str:
    kind = METRICS[result.kpi.metric].kind
    unit = {"yen_per_right": "yen", "judged": "share"}.get(kind, kind)
    return "points" if difference and unit == "share" else unit


@cache
def _table() -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for file in sorted((Path(__file__).parent / "templates" / "words").glob("*.toml")):
        for name, entries in tomllib.loads(file.read_text(encoding="utf-8")).items():
            merged.setdefault(name, {}).update(entries)
    return merged
