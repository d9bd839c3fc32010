"""Is this machine ready, and does nothing leave it? A table of ○ and ×, each × with its remedy."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

from yarl import URL

from kit import prices, settings, views
from kit.errors import KitError, reason
from kit.trust import egress, ledger

_PACKAGES = ("lancedb", "sudachipy", "sudachidict_core", "papermill", "pypdfium2", "docx", "pptx", "openpyxl", "scipy")
_FREE_GIB = 2.0
_MARKS = {True: "○", False: "×", None: "－"}
Finding = tuple[bool | None, str, str]


@dataclass(frozen=True, slots=True)
class Item:
    """One checked thing. ``ok`` None = for information only."""

    name: str
    ok: bool | None
    found: str
    remedy: str = ""
    """What to do; only where ``ok`` is False."""


@dataclass(frozen=True, slots=True)
class Checkup:
    """All checked things."""

    items: tuple[Item, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(item.ok is not False for item in self.items)

    def __str__(self) -> str:
        lines = [f"{_MARKS[i.ok]} {i.name}: {i.found}" + (f"\n   → {i.remedy}" if i.remedy else "") for i in self.items]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [(_MARKS[item.ok], item.name, item.found, item.remedy) for item in self.items]
        return views.table(("", "確認した項目", "結果", "対処"), rows)


class Card(NamedTuple):
    """A graphics card; the memory that it computes in, in GiB."""

    name: str
    gib: float


def cards() -> tuple[Card, ...]:
    """Return the NVIDIA cards of this machine; none where there is no driver, or one in trouble."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    said = ""
    with suppress(OSError, subprocess.TimeoutExpired):  # no tool; or a driver that hangs or will not start
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout
    # A card without memory of its own (GB10) names none and computes in that of the machine.
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    rows = re.findall(r"^(.+), (\d+|\[N/A\])$", said, re.MULTILINE)
    return tuple(Card(name, float(mib) / 1024 if mib.isdigit() else machine) for name, mib in rows)


def check() -> Checkup:
    """Check this machine and the settings in force; nothing is changed and nothing is sent."""
    try:
        config = settings.load()
    except KitError as error:
        return Checkup((_failed("設定", error),))
    return Checkup(tuple(item(name, look, config) for name, look in _CHECKS.items()))


def item(name: str, look: Callable[[settings.Settings], Finding], config: settings.Settings) -> Item:
    """Look at one thing: its mark, what was found and the remedy; a kit error is a × with its own words."""
    try:
        ok, found, remedy = look(config)
    except KitError as error:
        return _failed(name, error)
    return Item(name, ok, found, remedy if ok is False else "")


def _failed(name: str, error: KitError) -> Item:
    return Item(name, False, f"{error.what}{error.cause}", error.remedy)


def _packages(_: settings.Settings) -> Finding:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    found = f"不足: {'、'.join(missing)}" if missing else "すべてあり"
    return not missing, found, "`make setup` を実行してください。"


def _disk(config: settings.Settings) -> Finding:
    free = shutil.disk_usage(config.root).free / 2**30
    return free >= _FREE_GIB, f"{free:,.1f} GiB", f"{_FREE_GIB:.0f} GiB 以上の空きを作ってください。"


def _offline(_: settings.Settings) -> Finding:
    unset = [name for name, value in settings.OFFLINE_SWITCHES.items() if os.environ.get(name) != value]
    found = f"外れている: {'、'.join(unset)}" if unset else "すべて有効"
    return not unset, found, "カーネルを再起動し、最初に `import kit` を実行してください。"


def _outside(config: settings.Settings) -> Finding:
    hosts = "、".join(config.allowed_hosts)
    return None if hosts else True, f"許可あり: {hosts}" if hosts else "なし（社内だけで動きます）", ""


def _server(config: settings.Settings) -> Finding:
    url, remedy = config.llm_url, "サーバーを起動するか、kit.toml の llm_url を直してください。"
    with suppress(OSError, ValueError, LookupError, TypeError):
        state = json.loads((config.runs / "servers" / "server.json").read_bytes())  # of what kit.serve started
        if not url and not state["ready"]:
            return None, "起動の途中です（やめるには: kit stop）", ""
        url, remedy = url or str(state["url"]), remedy if url else "サーバーは終了しています。記録を片付けるには: kit stop"
    if not url:
        return None, "指定なし（抽出型リーダーで動きます）", ""
    address = egress.resolve(url, config.allowed_hosts).addresses[0]
    try:
        socket.create_connection((address, URL(url).port), timeout=3).close()
    except OSError as error:
        return False, f"{url} に接続できません（{reason(error)}）", remedy
    return True, f"{url} に接続できます", ""


def _gpu(_: settings.Settings) -> Finding:
    found = "、".join(f"{card.name}（{card.gib:.1f} GiB）" for card in cards())
    return None, found or "見つかりません（CPUだけで動きます）", ""


def _prices(config: settings.Settings) -> Finding:
    table = prices.read_prices(config.prices)
    return True, f"{config.prices.name}（人件費 {table.staff_yen_per_hour:,.0f}円/時ほか）", ""


def _ledger(config: settings.Settings) -> Finding:
    count = len(ledger.entries(config.runs / ledger.NAME))
    return True, f"{count} 件、切れ目なし" if count else "まだ記録なし", ""


_CHECKS = {
    "必要なパッケージ": _packages,
    "ディスクの空き": _disk,
    "外部送信・利用統計の停止スイッチ": _offline,
    "社外ホストへの接続の許可": _outside,
    "モデルサーバー": _server,
    "GPU": _gpu,
    "単価表": _prices,
    "台帳の連鎖": _ledger,
}
