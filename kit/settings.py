"""Where settings come from: environment over kit.toml over defaults, each value with its visible source.

``go_offline`` is the one place that sets the offline and telemetry switches; ``import kit`` calls it before
anything else is imported. ``kit.toml`` marks the project's root: relative paths are resolved against its folder,
so that a notebook finds the same files wherever Jupyter starts it.
"""

import math
import os
import tomllib
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from kit import views
from kit.errors import SettingsError

OFFLINE_SWITCHES = {
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


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force.

    Attributes:
        root: Folder of kit.toml (or the working folder where there is none).
        runs: Folder that takes one folder per run, and the ledger.
        prices: The price table (TOML).
        llm_url: OpenAI-compatible server, for example ``http://127.0.0.1:8000/v1``, also the candidate of ``kit poc``;
            "" for none.
        llm_model: Name of the served model; "" takes the only one served.
        llm_timeout_s: Longest wait for one reply, in seconds.
        allowed_hosts: Hosts outside loopback and private ranges that may be called; every summary then says so.
        sources: Setting → where its value came from, in Japanese.
    """

    root: Path
    sources: dict[str, str]
    runs: Path = Path("runs")
    prices: Path = Path(__file__).parents[1] / "data" / "prices.toml"
    llm_url: str = ""
    llm_model: str = ""
    llm_timeout_s: float = 60.0
    allowed_hosts: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        rows = [(name, _shown(getattr(self, name)), source) for name, source in self.sources.items()]
        return views.table(("設定", "値", "出どころ"), rows)


_DEFAULTS = {field.name: field.default for field in fields(Settings) if field.default is not MISSING}


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
    file = _read_file(root / "kit.toml")
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, default in _DEFAULTS.items():
        variable = f"KIT_{name.upper()}"
        if variable in os.environ:
            values[name] = _checked(f"環境変数 {variable} ", _parsed(os.environ[variable], default), default)
            sources[name] = f"環境変数 {variable}"
        elif name in file:
            values[name] = _checked(f"kit.toml の「{name}」", file[name], default)
            sources[name] = "kit.toml"
        else:
            values[name], sources[name] = default, "既定値"
    values |= {"runs": root / values["runs"], "prices": root / values["prices"]}
    return Settings(root=root, **values, sources=sources)


def read_toml(path: Path, remedy: str = "該当行を直してください。") -> dict[str, Any]:
    """Read a TOML file that people write.

    Raises:
        SettingsError: It is missing or no TOML; ``remedy`` says what to do.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        cause = f"ファイルがないか、TOML の書き方に誤りがあります（{error}）。"
        raise SettingsError(f"{path} を読み込めません。", cause, remedy) from error


def _read_file(path: Path) -> dict[str, Any]:
    content = read_toml(path) if path.is_file() else {}
    for name in content:
        if name not in _DEFAULTS:
            raise SettingsError(
                f"{path} に知らない設定「{name}」があります。", "名前の書き間違いです。", f"使える設定: {'、'.join(_DEFAULTS)}"
            )
    return content


def _shown(value: object) -> str:
    """Write a value as people do."""
    if isinstance(value, float):
        return f"{value:g} 秒"  # the only numbers are times
    return ("、".join(value) if isinstance(value, tuple) else str(value)) or "なし"


def _parsed(text: str, default: object) -> object:
    """Return what the text of an environment variable would be in kit.toml."""
    if isinstance(default, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(default, float):
        with suppress(ValueError):
            return float(text)
    return text


def _checked(where: str, value: Any, default: object) -> object:
    if isinstance(default, (str, Path)) and isinstance(value, str):
        return type(default)(value)
    if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if isinstance(default, float) and type(value) in (int, float) and 0 < value < math.inf:
        return float(value)
    expected = {float: "0より大きい数値", tuple: "文字列のリスト"}.get(type(default), "文字列")
    raise SettingsError(
        f"{where}の値 {value!r} は使えません。", f"{expected}で書く設定です。", "kit.toml の注釈にある例を見て直してください。"
    )
