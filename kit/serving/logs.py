"""What the server's log tells: how far a start has come, and why a server ended."""

import re
import tomllib
from contextlib import suppress
from pathlib import Path

from kit.errors import ServerError

_WEIGHTS = "重みを読み込んでいます"
# What the log says → what the server is doing, in the order of a start (texts of vLLM 0.32.0).
_PHASES = (
    ("", "vLLM を読み込んでいます（約30秒）"),
    ("Resolved architecture", "エンジンを用意しています"),
    ("Starting to load model", _WEIGHTS),
    ("Loading weights took", "計算の準備をしています"),
    ("init engine", "受付を準備しています"),
    ("Application startup complete", "最初の1トークンを待っています"),
)
_TAIL = 256 << 10
# Left out when the cause is looked for: its warnings speak of failures that did not happen.
_NOISE = re.compile(r"(\([^)]*\) )?(INFO|WARNING)\b|\[?[IW]\d{4} |\s*$")
_RAISED = re.compile(r"[\w.]*(Error|Exception): ")
_PREFIX = re.compile(r"^\([^)]*\) (ERROR [\d: .-]+\[[^]]*\] ?)?")


def phase(log: Path) -> str:
    """Return what a starting server is doing, in Japanese, with the share of the weights that are loaded."""
    text = _tail(log)
    name = [name for mark, name in _PHASES if mark in text][-1]
    shares = re.findall(r"checkpoint shards: +(\d+%)", text)
    return f"{name}（{shares[-1]}）" if shares and name == _WEIGHTS else name


def explain(log: Path, what: str, last: str = "") -> ServerError:
    """Make an error of the end of a log: its last lines, and the likely cause and remedy by failures.toml.

    Args:
        log: The server's log.
        what: What happened, one Japanese sentence.
        last: Known beside the log: an exit status or a refused reply.
    """
    said = [_PREFIX.sub("", line)[:300] for line in _tail(log).splitlines() if not _NOISE.match(line)]
    lines = [*said, last] if last else said
    table = tomllib.loads(Path(__file__).with_name("failures.toml").read_text(encoding="utf-8"))
    for failure in table["failure"]:
        if telling := [line for line in lines if re.search(failure["pattern"], line, re.IGNORECASE)]:
            beside = said[-4:] if telling[0] != last else []  # an end from outside: the log knows nothing of it
            shown = "\n".join(dict.fromkeys((telling[0], *beside)))
            return ServerError(f"{what}\n{shown}", failure["cause"], failure["remedy"])
    raised = [line for line in lines if _RAISED.match(line)]  # the first is the root: later ones only pass it on
    if not raised and not last:
        cause, remedy = "ログに異常がないので、外から止められたと思われます（kit stop、強制終了など）。", "もう一度起動してください。"
        return ServerError(what, cause, f"{remedy}ログ: less '{log}'")
    shown = "\n".join(dict.fromkeys((*raised[:1], *lines[-6:])))
    return ServerError(f"{what}\n{shown}", "すぐ上のログに理由があります。", f"全体を見るには: less '{log}'")


def _tail(log: Path) -> str:
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        return file.read().decode("utf-8", "replace")
    return ""
