"""The verbs about this machine and its models: check, serve, stop, gateway, models."""

import argparse
import getpass
import socket
import sys
import threading
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from kit import settings
from kit.interface.cli import Result, agreed
from kit.serving import catalogue, fetch, keys, server as servers
from kit.trust import check as checks
from kit.trust.durable import to_json


def check(options: argparse.Namespace) -> Result:
    """Check this machine."""
    result = checks.check()
    return {"ok": result.ok, **to_json(result)}, str(result)


def serve(options: argparse.Namespace) -> Result:
    """Start a model server, or find the one that runs."""
    say = partial(print, file=sys.stderr, flush=True)
    size = {"context": options.context, "users": options.users, "gpu_fraction": options.gpu_fraction}
    server = servers.serve(options.model, **size, port=options.port, adapters=options.adapters, progress=say)
    facts = {"url": server.url, "model": server.model, "pid": server.pid, "log": str(server.log)}
    state = "はすでに {} で動いています" if server.found else "を {} で起動しました"
    return facts, f"{server.model} {state.format(server.url)}。止めるには: kit stop"


def stop(options: argparse.Namespace) -> Result:
    """Stop the model server."""
    if server := servers.stop():
        return {"stopped": server.model}, f"{server.model} を止めました。"
    return {"stopped": ""}, "動いているモデルサーバーはありません。"


def gateway(options: argparse.Namespace) -> Result:
    """Make a user's key, take it away, or share the server."""
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
    from kit.serving.gateway import Gateway  # the web server: nobody else here waits for it

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


def models(options: argparse.Namespace) -> Result:
    """Say which models fit a card, or fetch one."""
    if options.action == "recommend":
        found = catalogue.recommend(gpu_gb=options.gpu, context=options.context, users=options.users)
        return to_json(found), str(found)
    folder = str(fetch.fetch(options.id, Path(options.to), agrees=lambda question: options.yes or agreed(question)))
    return {"folder": folder}, f"取得しました: {folder}"
