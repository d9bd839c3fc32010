"""Where settings come from: environment over kit.toml over defaults, each value with its visible source.

``go_offline`` is the one place that sets the offline and telemetry switches; ``import kit`` calls it before
anything else is imported. ``kit.toml`` marks the project's root: relative paths are resolved against its folder,
so that a notebook finds the same files wherever Jupyter starts it.
"""

import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from kit import views
from kit.errors import SettingsError

OFFLINE_SWITCHES: Mapping[str, str] = MappingProxyType(
    {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_XET": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ORT_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
)

_DEFAULTS: dict[str, object] = {
    "runs": "runs",
    "prices": (Path(__file__).parents[1] / "data" / "prices.toml").as_posix(),
    "llm_url": "",
    "llm_model": "",
    "llm_timeout_s": 60.0,
    "allowed_hosts": [],
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force.

    Attributes:
        root: Folder of kit.toml (or the working folder where there is none).
        runs: Folder that takes one folder per run, and the ledger.
        prices: The price table (TOML).
        llm_url: OpenAI-compatible server, for example ``http://127.0.0.1:8000/v1``; "" for none.
        llm_model: Name of the served model; "" takes the only one served.
        llm_timeout_s: Longest wait for one reply, in seconds.
        allowed_hosts: Hosts outside loopback and private ranges that may be called; every summary then says so.
        sources: Setting → where its value came from, in Japanese.
    """

    root: Path
    runs: Path
    prices: Path
    llm_url: str
    llm_model: str
    llm_timeout_s: float
    allowed_hosts: tuple[str, ...]
    sources: Mapping[str, str] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        rows = [(name, _shown(getattr(self, name)), source) for name, source in self.sources.items()]
        return views.table(("設定", "値", "出どころ"), rows)


def go_offline() -> None:
    """Set every offline and telemetry switch for this process and its children."""
    os.environ.update(OFFLINE_SWITCHES)


def find_root(start: Path | None = None) -> Path:
    """Return the nearest folder at or above ``start`` that holds a kit.toml, else ``start`` itself."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "kit.toml").is_file():
            return folder
    return here


def load(start: Path | None = None) -> Settings:
    """Read the settings in force.

    Args:
        start: Where to look for kit.toml from; the working folder by default.

    Raises:
        SettingsError: kit.toml cannot be read, names an unknown setting, or a value has the wrong type.
    """
    root = find_root(start)
    file = _read_toml(root / "kit.toml")
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for name, default in _DEFAULTS.items():
        variable = f"KIT_{name.upper()}"
        if variable in os.environ:
            values[name], sources[name] = _from_text(variable, os.environ[variable], default), f"環境変数 {variable}"
        elif name in file:
            values[name], sources[name] = _checked(name, file[name], default), "kit.toml"
        else:
            values[name], sources[name] = default, "既定値"
    return Settings(
        root=root,
        runs=root / str(values["runs"]),
        prices=root / str(values["prices"]),
        llm_url=str(values["llm_url"]),
        llm_model=str(values["llm_model"]),
        llm_timeout_s=float(str(values["llm_timeout_s"])),
        allowed_hosts=tuple(str(host) for host in _as_list(values["allowed_hosts"])),
        sources=MappingProxyType(sources),
    )


def _read_toml(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"{path} を読み込めません。", f"TOML の書き方に誤りがあります（{error}）。", f"{path} の該当行を直してください。"
        ) from error
    for name in content:
        if name not in _DEFAULTS:
            near = difflib.get_close_matches(name, _DEFAULTS, n=1)
            hint = f"「{near[0]}」の書き間違いではありませんか。" if near else f"使える設定: {'、'.join(_DEFAULTS)}"
            raise SettingsError(f"{path} に知らない設定「{name}」があります。", hint, f"{path} を直してください。")
    return content


def _shown(value: object) -> str:
    """Write a value as people do."""
    if isinstance(value, float):
        return f"{value:g} 秒"  # the only numbers are times
    return ("、".join(value) if isinstance(value, tuple) else str(value)) or "なし"


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _checked(name: str, value: object, default: object) -> object:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
    if number and isinstance(default, float):
        return value
    if isinstance(value, list) and isinstance(default, list) and all(isinstance(item, str) for item in value):
        return value
    if isinstance(value, str) and isinstance(default, str):
        return value
    expected = {str: "文字列", float: "0より大きい数値", list: "文字列のリスト"}[type(default)]
    raise SettingsError(
        f"kit.toml の「{name}」の値 {value!r} は使えません。", f"{expected}で書く設定です。", "kit.toml を直してください。"
    )


def _from_text(variable: str, text: str, default: object) -> object:
    if isinstance(default, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(default, float):
        with suppress(ValueError):
            if 0 < (number := float(text)) < math.inf:
                return number
        raise SettingsError(
            f"環境変数 {variable} の値「{text}」は使えません。", "0より大きい数値で書く設定です。", f"例: export {variable}=60"
        )
    return text
