"""What the server's log tells: how far a start has come, and why a server ended."""

import re
from contextlib import suppress
from pathlib import Path

from kit import settings
from kit.errors import ServerError

KNOWN = settings.read_toml(Path(__file__).with_name("failures.toml"))
"""What can go wrong with models and their servers, with causes and remedies; by whom it is told."""
_TAIL = 256 << 10
# Left out when the cause is looked for: its warnings speak of failures that did not happen.
_NOISE = re.compile(r"(\([^)]*\) )?(INFO|WARNING)\b|\[?[IW]\d{4} |\s*$")
_RAISED = re.compile(r"[\w.]*(Error|Exception): ")
_PREFIX = re.compile(r"^\([^)]*\) (ERROR [\d: .-]+\[[^]]*\] ?)?")


def phase(log: Path) -> str:
    """Return what a starting server is doing, in Japanese, with the share of the weights that are loaded."""
    text = _tail(log)
    names: list[str] = [known["name"] for known in KNOWN["phase"] if known["mark"] in text]
    shares = re.findall(r"checkpoint shards: +(\d+%)", text)
    return names[-1].format(share=f"（{shares[-1]}）" if shares else "")


def explain(log: Path, what: str, last: str = "") -> ServerError:
    """Make an error of the end of a log: its last lines, and the likely cause and remedy by failures.toml.

    Args:
        log: The server's log.
        what: What happened, one Japanese sentence.
        last: Known beside the log: an exit status or a refused reply.
    """
    said = [_PREFIX.sub("", line)[:300] for line in _tail(log).splitlines() if not _NOISE.match(line)]
    lines = [*said, last] if last else said
    for failure in KNOWN["failure"]:
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
