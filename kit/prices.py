"""The price table and what one call costs. TCO and break-even live in reporting."""

from dataclasses import dataclass
from pathlib import Path

from kit import views
from kit.errors import SettingsError
from kit.settings import read_toml

_FIELDS = {
    "machine": ("yen_per_hour",),
    "staff": ("yen_per_hour",),
    "tokens": ("yen_per_million_prompt", "yen_per_million_completion"),
    "fixed": ("yen_per_month",),
}


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in yen; ``notes`` holds source, date and grade of each table for the report."""

    machine_yen_per_hour: float
    staff_yen_per_hour: float
    prompt_yen_per_million: float
    completion_yen_per_million: float
    fixed_yen_per_month: float
    notes: dict[str, str]

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


def read_prices(path: Path) -> Prices:
    """Read a price table.

    Raises:
        SettingsError: The file is missing or a price is absent, negative or not a number. Never a silent zero.
    """
    tables = read_toml(path, "data/prices.toml を元に直し、kit.toml の prices で場所を指定してください。")
    values: list[float] = []
    notes: dict[str, str] = {}
    for name, fields in _FIELDS.items():
        table = tables.get(name, {})
        for field in fields:
            value = table.get(field) if isinstance(table, dict) else None
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
                raise SettingsError(
                    f"単価表 {path} の [{name}] {field} が使えません（{value!r}）。",
                    "値がないか、0以上の数値になっていません。", f"{path} の [{name}] に {field} = 数値 を書いてください。",
                )
            values.append(float(value))
        notes[name] = f"{table.get('source', '出典の記載なし')}（{table.get('date', '日付なし')}、確度{table.get('grade', 'C')}）"
    return Prices(values[0], values[1], values[2], values[3], values[4], notes)
