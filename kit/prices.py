"""The price table: what one call costs, and the assumptions of a plan over years. TCO and break-even live in reporting."""

import json
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from kit import settings, views
from kit.errors import SettingsError

METERING = {
    "machine": ("yen_per_hour",),
    "staff": ("yen_per_hour",),
    "tokens": ("yen_per_million_prompt", "yen_per_million_completion"),
    "fixed": ("yen_per_month",),
}
"""Tables that meter a run: a seal covers them, and them alone."""
_OWNED = (
    "yen", "years", "minimum", "questions_at_once", "slowness", "idle_watts", "load_watts", "pue",
    "space_yen_per_month", "maintenance_share", "operation_hours_per_month",
)  # fmt: skip
PLAN: dict[str, tuple[str, ...]] = {
    "usage": (
        "growth_per_year", "adoption_start_share", "adoption_months", "retries_per_question", "thinking_tokens_per_answer",
        "prompt_tokens_per_question", "completion_tokens_per_question", "open_hours_per_month", "target_utilisation", "setup_yen", "spread",
    ),
    "checking": ("evaluations_per_month", "questions_per_evaluation", "audits_per_month", "minutes_per_audit", "yen_per_wrong_answer"),
    "power": ("yen_per_kwh",),
    "server": tuple(f"server_{name}" for name in _OWNED),
    "edge_pc": tuple(f"edge_{name}" for name in _OWNED),
    "cloud_api": ("api_yen_per_million_prompt", "api_yen_per_million_completion", "api_operation_hours_per_month"),
    "cloud_gpu": ("gpu_yen_per_hour", "gpu_hours_per_month", "gpu_questions_at_once", "gpu_slowness", "gpu_operation_hours_per_month"),
    "training": ("trainings_per_year", "training_gpu_hours", "training_people_hours"),
    "energy": ("watts", "pue", "kg_co2_per_kwh"),
}  # fmt: skip
"""Tables of a plan over years; no key stands in two of them. A file without all of them meters runs, but plans nothing."""
_RATE, _ANY = "exchange rate", (0.0, 1e12 - 1)
_BOUNDS: dict[str, tuple[float, float]] = {
    _RATE: (1e-3, 1e4), "_share": (0, 1), "target_utilisation": (0.01, 1), "spread": (0, 0.9), "growth_per_year": (-0.9, 10),
    "retries_per_question": (0, 10), "open_hours_per_month": (1, 744), "gpu_hours_per_month": (1, 744), "measured_minutes": (-1440, 1440),
    "_years": (1, 50), "_minimum": (1, 1e5), "_questions_at_once": (1, 1e4), "_slowness": (0.01, 1e4), "pue": (1, 5), "watts": (0.1, 1e6),
}  # fmt: skip
"""What a value may be, by the end of its key; any amount where nothing is said."""
_NOTE = re.compile(r"(?s)(.*)（(.*)、確度([ABC])）")


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in yen; ``notes`` holds source, date and grade of each table for the report."""

    machine_yen_per_hour: float
    staff_yen_per_hour: float
    prompt_yen_per_million: float
    completion_yen_per_million: float
    fixed_yen_per_month: float
    notes: dict[str, str]
    plan: dict[str, float] = field(default_factory=dict)
    """Values of the tables of ``PLAN`` by their keys, in yen; empty where the file has none of these tables."""

    def _repr_html_(self) -> str:
        rows = [
            ("計算機", f"{self.machine_yen_per_hour:,.0f} 円/時", self.notes["machine"]),
            ("人件費", f"{self.staff_yen_per_hour:,.0f} 円/時", self.notes["staff"]),
            ("トークン（入力/出力）", f"{self.prompt_yen_per_million:,.0f} / {self.completion_yen_per_million:,.0f} 円/100万",
             self.notes["tokens"]),
            ("毎月の費用", f"{self.fixed_yen_per_month:,.0f} 円/月", self.notes["fixed"]),
        ]  # fmt: skip
        return views.table(("単価", "金額", "出どころ"), rows)

    def call(self, seconds: float, prompt_tokens: int = 0, completion_tokens: int = 0) -> float:
        """Return the cost of one call in yen: machine time plus tokens.

        Args:
            seconds: Time for which the call occupied the machine.
            prompt_tokens: Tokens sent.
            completion_tokens: Tokens received, thinking included.
        """
        machine = seconds / 3600 * self.machine_yen_per_hour
        tokens = prompt_tokens * self.prompt_yen_per_million + completion_tokens * self.completion_yen_per_million
        return machine + tokens / 1e6

    def grade(self, *tables: str) -> str:
        """Return the weakest grade (A, B or C) of some tables; a price that nobody graded is assumed."""
        found = (_NOTE.fullmatch(self.notes.get(table, "")) for table in tables)
        return max(match[3] if match else "C" for match in found)

    @property
    def metering(self) -> dict[str, dict[str, float]]:
        """The tables that meter a run, in yen."""
        values = iter(astuple(self))
        return {name: {key: next(values) for key in keys} for name, keys in METERING.items()}

    def to_toml(self) -> str:
        """Return the table as a file that ``read_prices`` reads back, all in yen."""
        tables = self.metering | {name: {key: self.plan[key] for key in keys} for name, keys in PLAN.items() if self.plan}
        return "\n".join(f"[{name}]\n{_lines(table, self.notes.get(name, ''))}" for name, table in tables.items())


def read_prices(path: Path) -> Prices:
    """Read a price table.

    A table with ``currency = "USD"`` calls ``usd`` what others call ``yen``; ``[exchange] yen_per_usd`` turns it into
    yen. Any other currency goes the same way.

    Raises:
        SettingsError: The file is missing, or a price is absent, out of range or not a number, or in a currency
            without exchange rate. Never a silent zero.
    """
    tables = settings.read_toml(path, "data/prices.toml を元に直し、kit.toml の prices で場所を指定してください。")
    wanted = METERING | (PLAN if tables.keys() & PLAN.keys() else {})
    read = {name: _table(path, tables, name, keys) for name, keys in wanted.items()}
    metered = [value for name in METERING for value in read[name].values()]
    plan = {key: value for name in wanted if name in PLAN for key, value in read[name].items()}
    notes = {name: _note(tables, name) for name in wanted}
    return Prices(metered[0], metered[1], metered[2], metered[3], metered[4], notes, plan)


def bounds(key: str) -> tuple[float, float]:
    """Return the least and the greatest value that a price or assumption may have."""
    return next((span for end, span in _BOUNDS.items() if key.endswith(end)), _ANY)


def planned(prices: Prices) -> Prices:
    """Return prices with a whole plan: what a run of an earlier version did not keep is that of the table in force."""
    if all(key in prices.plan for keys in PLAN.values() for key in keys):
        return prices
    now = read_prices(settings.load().prices)
    return replace(prices, notes=now.notes | prices.notes, plan=now.plan | prices.plan if now.plan else {})


def _table(path: Path, tables: Mapping[str, Any], name: str, keys: tuple[str, ...]) -> dict[str, float]:
    """Return the values of one table in yen."""
    table, currency = tables.get(name), _currency(tables, name)
    if currency == "jpy":
        return {key: _value(path, table, name, key, key) for key in keys}
    rate = _value(path, tables.get("exchange"), "exchange", _RATE, f"yen_per_{currency}")
    written = {key: re.sub(r"(?<![a-z])yen(?![a-z])", currency, key) for key in keys}
    return {key: _value(path, table, name, key, own) * (1 if own == key else rate) for key, own in written.items()}


def _currency(tables: Mapping[str, Any], name: str) -> str:
    table = tables.get(name)
    return str(table.get("currency", "JPY")).lower() if isinstance(table, dict) else "jpy"


def _value(path: Path, table: object, name: str, key: str, written: str) -> float:
    value = table.get(written) if isinstance(table, dict) else None
    low, high = bounds(key)
    number = None if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
    if number is None or not low <= number <= high:
        told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        what = "が書かれていません" if value is None else f"の「{told}」は数値ではありません" if number is None else f"の {told} は使えません"
        raise SettingsError(
            f"単価表 {path} の [{name}] {written} {what}。", f"{low:,.12g}以上{high:,.12g}以下の数値が必要です。",
            f"{path} の [{name}] に {written} = 数値 を書いてください。",
        )
    return number


def _note(tables: Mapping[str, Any], name: str) -> str:
    table, exchange, currency = tables[name], tables.get("exchange", {}), _currency(tables, name)
    source, grade = table.get("source", "出典の記載なし"), table.get("grade", "C")
    if currency != "jpy":
        rate, grade = f"1 {currency.upper()}＝{exchange[f'yen_per_{currency}']:,.10g}円", max(grade, exchange.get("grade", "C"))
        source += f"。{rate}で換算（{exchange.get('source', '出典の記載なし')}）"
    return f"{source}（{table.get('date', '日付なし')}、確度{grade}）"


def _lines(table: Mapping[str, float], note: str) -> str:
    found = _NOTE.fullmatch(note)
    origin = dict(zip(("source", "date", "grade"), found.groups() if found else (note, "", "C"), strict=True))
    # JSON writes numbers and texts as TOML reads them.
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in {**table, **origin}.items())
