"""The command line: each verb is one call of the kit, with Japanese help, ``--json`` and clear exit codes.

What ``--help`` says stands in ``commands.toml``, with the module of this room that has the verb's function; that returns
its facts (plain JSON) and the text for people.
Exit codes: 0 done (whatever the decision), 1 the three-line error was shown or a check failed, 2 wrong usage, 130 interrupted.
"""

import argparse
import json
import os
import re
import signal
import sys
import tomllib
from collections.abc import Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from kit.errors import KitError

Result = tuple[Any, str]
"""What a verb returns: its facts as plain JSON, and the text for people."""
_TYPES = {"int": int, "float": float}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    # A closed window or a machine going down ends a command like Ctrl-C: what it started is stopped.
    ends = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in ends:
        signal.signal(number, signal.default_int_handler)
    try:
        facts, text = options.command(options)
        print(json.dumps(facts, ensure_ascii=False, indent=1) if options.json else text, flush=True)  # noqa: T201
    except KitError as error:
        print(f"エラー: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print(f"\n中断しました。{options.left}", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:  # `kit … | head`: what is left in the buffer must not be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for number in ends:
            signal.signal(number, signal.SIG_DFL)
    return 1 if isinstance(facts, dict) and facts.get("ok") is False else 0  # kit check with a ×


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, "使い方: " if prefix is None else prefix)


class _Parser(argparse.ArgumentParser):
    """argparse in Japanese; wrong usage is told in the three lines of every error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, add_help=False, formatter_class=_Formatter)
        self._positionals.title, self._optionals.title = "引数", "オプション"
        self.add_argument("-h", "--help", action="help", help="この説明を表示して終わる")

    def error(self, message: str) -> NoReturn:
        for pattern, japanese in _texts()["mistakes"].items():
            message = re.sub(pattern, japanese, message)
        what = f"コマンドの書き方に誤りがあります（{' '.join(message.split())}）。"
        self.exit(2, f"エラー: {KitError(what, '引数が足りないか、名前の書き間違いです。', f'`{self.prog} --help` に書き方の例があります。')}\n")


@cache
def _texts() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("commands.toml").read_text(encoding="utf-8"))


def _parser() -> argparse.ArgumentParser:
    texts = _texts()
    parser = _Parser(prog="kit", description=texts["description"], epilog=texts["epilog"])
    verbs = parser.add_subparsers(title="コマンド", metavar="コマンド", required=True)
    for name, verb in texts["verbs"].items():
        sub = verbs.add_parser(name, help=verb["help"], description=verb["help"], epilog=f"例: {verb['example']}")
        for argument, options in verb["arguments"].items():
            kind = {"type": _TYPES[options["type"]]} if "type" in options else {}
            sub.add_argument(argument, **options | kind)
        sub.add_argument("--json", action="store_true", help="結果を JSON で表示する")
        sub.set_defaults(command=partial(_call, verb["module"], name), left=verb.get("left", ""))
    return parser


def _call(module: str, verb: str, options: argparse.Namespace) -> Result:
    """Call a verb's function, whose module is imported only now: ``--help`` is there at once."""
    result: Result = getattr(import_module(f"kit.interface.{module}"), verb)(options)
    return result


def agreed(question: str) -> bool:
    """Ask on the terminal; the end of the input is no."""
    print(f"{question}（はい/いいえ）: ", end="", file=sys.stderr, flush=True)  # noqa: T201
    return sys.stdin.readline().strip() in ("はい", "y", "yes")


if __name__ == "__main__":
    sys.exit(main())
