"""The command line: each verb is one call of the kit, with Japanese help, ``--json`` and clear exit codes.

What ``--help`` says stands in ``commands.toml``; a command returns its facts (plain JSON) and the text for people.
Exit codes: 0 done (whatever the decision), 1 the three-line error was shown or a check failed, 2 wrong usage, 130 interrupted.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from kit.errors import DataError, KitError
from kit.records import Decision
from kit.trust.durable import to_json

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
        sub.set_defaults(command=_command(name), left=verb.get("left", ""))
    return parser


def _command(verb: str) -> Callable[[argparse.Namespace], Result]:
    """Return a verb's function; those of other modules are imported when they are called: ``--help`` is there at once."""
    if verb in _COMMANDS:
        return _COMMANDS[verb]
    return lambda options: getattr(import_module(f"kit.interface.{_ELSEWHERE[verb]}"), verb)(options)


def _init(options: argparse.Namespace) -> Result:
    from kit.interface.templates import init

    project = init(options.folder)
    made = f"作ったもの: {'、'.join(project.made)}" if project.made else "すべてそろっているので、何も変えていません。"
    kept = f"\nそのまま残したもの: {'、'.join(project.kept)}" if project.kept else ""
    following = f"次は documents/ に文書を入れ、質問表.xlsx と criteria.yaml を書き、`kit poc {options.folder}` を実行します。"
    facts = {"folder": str(project.folder), "made": project.made, "kept": project.kept}
    return facts, f"{made}{kept}\n{following}"


def _check(options: argparse.Namespace) -> Result:
    from kit.trust.check import check

    result = check()
    return {"ok": result.ok, **to_json(result)}, str(result)


def _run(options: argparse.Namespace) -> Result:
    from kit import settings
    from kit.interface import notebooks
    from kit.interface.poc import shown

    path = notebooks.find(options.notebook)
    output = Path(options.o) if options.o else settings.load().runs / "notebooks" / path.name
    values = (notebooks.read_values(Path(options.f)) if options.f else {}) | notebooks.parse(path, dict(options.p))
    begun = time.time()
    written = shown(notebooks.run(str(path), output.resolve(), values))
    if not (decision := _decided(values.get("run", ""), begun)):
        return {"notebook": written}, written
    facts = {"notebook": written, "decision": decision.outcome, "reason": decision.reason, "run": shown(decision.folder)}
    return facts, f"{written}\nDECISION: {decision.outcome}  {shown(decision.folder)}"


def _decided(run: str, begun: float) -> Decision | None:
    """Return what was decided since a moment (``time.time``): in the given run's folder, else in the one decided last."""
    from kit import settings
    from kit.evaluation.decide import read_decision

    config = settings.load()
    files = [config.root / run / "decision.json"] if run else [*config.runs.glob("*/decision.json")]
    fresh = [file for file in files if file.is_file() and file.stat().st_mtime >= begun]
    return read_decision(max(fresh, key=lambda file: file.stat().st_mtime).parent) if fresh else None


def _poc(options: argparse.Namespace) -> Result:
    from kit.interface.poc import poc, shown

    size = {"context": options.context, "users": options.users, "gpu_fraction": options.gpu_fraction}
    decision = poc(options.folder, url=options.url, model=options.model, new=options.new, **size)
    files = [path for name in ("html", "pdf") if (path := decision.folder / f"summary.{name}").exists()]
    written = [*map(shown, files or [decision.folder])]  # notebook 09 may have been told to write other formats
    facts = {"decision": decision.outcome, "reason": decision.reason, "summary": written[0]}
    return facts, "  ".join((f"DECISION: {decision.outcome}", *written))


def _ask(options: argparse.Namespace) -> Result:
    from kit import settings
    from kit.answering.rag import Rag
    from kit.interface.project import locate
    from kit.interface.stores import open_store
    from kit.serving.server import running

    if not options.question.strip():
        raise DataError("質問が空です。", "質問の文を渡していません。", '例: kit ask フォルダ "在宅勤務は週に何日までできますか"')
    rag = Rag(open_store(locate(options.folder)))
    if settings.load().llm_url or running():
        from kit.answering.llm import LLMReader
        from kit.serving.chat import connect

        rag = Rag(rag.store, LLMReader(connect()))
    answer = rag(options.question, user=options.user)
    sources = "\n".join(f"出典: {label}" for label in dict.fromkeys(c.label for c in answer.citations))
    text = "\n".join(part for part in (answer.text, sources, f"確信度 {answer.confidence:.2f}（{answer.reader}）") if part)
    return {"answer": to_json(answer)}, text


def _store(options: argparse.Namespace) -> Result:
    from kit.interface.project import find_project, locate
    from kit.interface.stores import build_store, forget_document, project_store
    from kit.interface.widgets import Bar

    action, folder, name = _store_words([options.action, *filter(None, (options.folder, options.name))])
    project = find_project(folder) if action == "sync" else locate(folder)  # documents may be unmounted
    if action == "sync":
        store, added = build_store(project, progress=Bar("文書の登録"))
        text = f"{added}\nRAGストア: {len(store.documents())} 文書、{len(store)} 断片"
        return {**to_json(added), "chunks": len(store)}, text
    if action == "forget":
        kept = project.embedder.exists()
        erasure = forget_document(project, name)
        fitted = "\n△ 自社文書から作った埋め込みモデルは、消した文書の語を含むので外しました。ノートブック 02 で作り直せます。"
        again = (project.documents / name).exists()
        warning = f"\n△ 元のファイルが残っています。次の登録で戻るので、移すか消してください: {project.documents / name}"
        return {**to_json(erasure), "source_left": again}, f"{erasure}{fitted if kept and not project.embedder.exists() else ''}{warning if again else ''}"
    store = project_store(project, model=False)
    if action == "verify":
        health = store.verify()
        return {"ok": health.ok, **to_json(health)}, str(health)
    if action == "rollback":
        tag = store.rollback(name)
        back = f"控え {tag} の状態に戻しました: {len(store.documents())} 文書、{len(store)} 断片\n閲覧権限は戻していません（削除されていた文書の権限は、削除される直前のものです）。"
        return {"tag": tag, "documents": len(store.documents()), "chunks": len(store)}, back
    tags = store.tags()
    return {"tags": tags}, "\n".join(tags) or "控えはまだありません（変更のたびに、その前の状態を最大 10 個残します）。"


def _store_words(words: list[str]) -> tuple[str, str, str]:
    """Read ``[action] folder [name]``; without an action it is ``sync``, as before there were others."""
    most = {"sync": 1, "verify": 1, "forget": 2, "rollback": 2, "tags": 1}
    named = words[0] in most and (len(words) > 1 or not Path(words[0]).exists())
    action, rest = (words[0], words[1:]) if named else ("sync", words)
    if not 1 + (action == "forget") <= len(rest) <= most[action]:
        raise DataError(
            f"書き方に誤りがあります: kit store {' '.join(words)}", "動作、フォルダ、名前の順に書きます。名前は forget と rollback だけに付けます。",
            "例: kit store sync フォルダ、kit store forget フォルダ 人事/旧規程.docx（書き方の一覧は kit store --help）",
        )
    return action, rest[0], rest[1] if len(rest) > 1 else ""


def _serve(options: argparse.Namespace) -> Result:
    from kit.serving.server import serve

    say = partial(print, file=sys.stderr, flush=True)
    size = {"context": options.context, "users": options.users, "gpu_fraction": options.gpu_fraction}
    server = serve(options.model, **size, port=options.port, adapters=options.adapters, progress=say)
    facts = {"url": server.url, "model": server.model, "pid": server.pid, "log": str(server.log)}
    state = "はすでに {} で動いています" if server.found else "を {} で起動しました"
    return facts, f"{server.model} {state.format(server.url)}。止めるには: kit stop"


def _stop(options: argparse.Namespace) -> Result:
    from kit.serving.server import stop

    if server := stop():
        return {"stopped": server.model}, f"{server.model} を止めました。"
    return {"stopped": ""}, "動いているモデルサーバーはありません。"


def _gateway(options: argparse.Namespace) -> Result:
    from kit import settings
    from kit.serving import keys

    users = settings.load().runs / "gateway" / "users.json"
    if options.action == "add":
        key = keys.add(users, options.name)
        told = "本人に渡す鍵です。ここにしか表示されません。使い方: export KIT_LLM_API_KEY=鍵"
        print(told, file=sys.stderr, flush=True)  # noqa: T201
        return {"user": options.name, "key": key}, key
    if options.action == "remove":
        keys.remove(users, options.name)
        return {"removed": options.name}, f"{options.name} の鍵を無効にしました。"
    return _share(options, len(keys.read(users)))


def _share(options: argparse.Namespace, users: int) -> Result:
    """Share the model server until Ctrl-C."""
    import getpass
    import socket
    import threading
    from contextlib import closing, suppress

    from kit.serving.gateway import Gateway

    facts = {"host": options.host, "port": options.port, "cert": options.cert, "key": options.key}
    with closing(Gateway(options.url, max_tokens=options.max_tokens, **facts)) as gateway, suppress(KeyboardInterrupt):
        machine, (base, _, port) = socket.gethostname(), gateway.url.removesuffix("/v1").rpartition(":")
        lines = [f"{base}:{port} で公開しました（利用者 {users} 人。終わるには Ctrl-C、加えるには: kit gateway add 名前）。"]
        if base.startswith("http://"):  # without a certificate it listens on loopback only
            forward = f"ssh -L {port}:{base.removeprefix('http://')}:{port} {getpass.getuser()}@{machine}"
            lines.append(f"使う人は、手元で次を実行したままにします: {forward}")
        else:
            base = f"https://{machine}"
        lines.append(f'使う人の設定: kit.toml に llm_url = "{base}:{port}/v1"、鍵は export KIT_LLM_API_KEY=…')
        print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201
        threading.Event().wait()
    return {"url": gateway.url}, "公開を終わりました。"


def _models(options: argparse.Namespace) -> Result:
    from kit.serving.catalogue import recommend
    from kit.serving.fetch import fetch

    if options.action == "recommend":
        found = recommend(gpu_gb=options.gpu, context=options.context, users=options.users)
        return to_json(found), str(found)

    folder = str(fetch(options.id, Path(options.to), agrees=lambda question: options.yes or agreed(question)))
    return {"folder": folder}, f"取得しました: {folder}"


def agreed(question: str) -> bool:
    """Ask on the terminal; the end of the input is no."""
    print(f"{question}（はい/いいえ）: ", end="", file=sys.stderr, flush=True)  # noqa: T201
    return sys.stdin.readline().strip() in ("はい", "y", "yes")


_COMMANDS = {
    "init": _init, "check": _check, "run": _run, "poc": _poc, "ask": _ask, "store": _store, "serve": _serve,
    "stop": _stop, "gateway": _gateway, "models": _models,
}  # fmt: skip
_ELSEWHERE = {
    "plan": "judging", "seal": "judging", "score": "scoring", "decide": "judging", "summary": "judging",
    "audit": "auditing", "evidence": "auditing", "schedule": "schedule",
}  # fmt: skip
"""Verb → the module of ``kit.interface`` that has the function of its name; what ``--help`` says stands in ``commands.toml``."""


if __name__ == "__main__":
    sys.exit(main())
