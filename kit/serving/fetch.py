"""Fetch a model from a hub: the only thing in the kit that lifts the offline switches.

It asks first, is written to the ledger before the first byte is asked for, and takes safetensors, JSON and tokenizer
files only. The switches are lifted in a child process alone: libraries read them when they are imported, and this
process stays offline throughout. ``HF_ENDPOINT`` names a mirror; the token of a gated model is taken from ``HF_TOKEN``.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from yarl import URL

from kit import settings
from kit.errors import DataError, RunError, reason
from kit.serving import preflight
from kit.serving.logs import KNOWN
from kit.trust import ledger

KIND, DONE = "fetch", "fetched"
"""Kinds of the two ledger entries: the request, and what came."""
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", "*.md", "LICENSE", "NOTICE")
"""What is fetched, all of it accepted by the preflight. Code (``.py``) and pickles (``.bin``) are never asked for."""
_ELSEWHERE = ("original/*", "metal/*", "onnx/*", "openvino/*")
"""Copies of the same weights for other programs."""
_LIFTED = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_CHILD = """
import errno, json, os, sys
wish = json.load(sys.stdin)
try:
    from huggingface_hub import HfApi, snapshot_download
    token = os.environ.get("HF_TOKEN") or False
    wish["revision"] = HfApi(token=token).model_info(wish["repo_id"]).sha
    snapshot_download(token=token, **wish)
    print(json.dumps({"revision": wish["revision"]}))
except Exception as error:
    full = getattr(error, "errno", None) in (errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EDQUOT)
    name = "OSError" if full else type(error).__name__
    print(json.dumps({"error": name, "detail": " ".join(str(error).split())[:300]}))
"""
# The child must not import the kit, which would set the switches again.
_CAUSES = KNOWN["fetch"]


def endpoint() -> str:
    """Return the host that a fetch would call, without user name and password."""
    return URL(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").host or "不明"


def question(model_id: str, to: Path) -> str:
    """Return what the user is asked before anything leaves this machine."""
    return (
        f"{endpoint()} に接続して {model_id} を {to} に取得します。このキットで外部に接続する唯一の操作で、台帳に記録します。"
        "社内の文書や質問は送りません。モデルのライセンスは確認しましたか。"
    )


def fetch(model_id: str, to: Path, *, agrees: Callable[[str], bool]) -> Path:
    """Fetch a model into a folder; an interrupted fetch goes on where it stopped.

    Args:
        model_id: Name on the hub, ``organisation/model``.
        to: The folder that takes the model's own folder, which appears only when everything is there.
        agrees: Puts ``question`` to the user; whether the answer is yes. Not called for what cannot be fetched anyway.

    Returns:
        The model's folder, ``to/model``.

    Raises:
        DataError: The name is malformed, the folder is not empty, or what came would not pass the preflight.
        RunError: Not agreed, or the hub could not be reached or refused.
        LedgerError: The ledger is broken; nothing is fetched.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", model_id, re.ASCII):
        example = "例: kit models fetch sbintuitions/sarashina2.2-3b-instruct-v0.1 --to models"
        raise DataError(f"モデルの名前「{model_id}」は使えません。", "「組織名/モデル名」の形ではありません。", example)
    folder = to.absolute() / model_id.split("/")[1]
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} は空ではありません。", "取得済みか、別のファイルが入っています。", "別のフォルダを --to に指定してください。")
    if not agrees(question(model_id, to)):
        again = f"同意する場合は、もう一度実行して質問に答えてください: kit models fetch {model_id} --to {to}"
        raise RunError("モデルを取得しませんでした。", "外部への接続に同意していません。", again)
    part = folder.with_name(f".{model_id.replace('/', '--')}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} を作れません（{reason(error)}）。", **_CAUSES["OSError"]) from error
    book = settings.load().runs / ledger.NAME
    facts = {"model": model_id, "host": endpoint(), "folder": folder.name}
    ledger.append(book, KIND, facts)
    revision = _download(model_id, part, folder)
    preflight.check_model(part)
    shutil.rmtree(part / ".cache", ignore_errors=True)  # the hub library's notes for going on where it stopped
    part.replace(folder)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    ledger.append(book, DONE, facts | {"revision": revision, "files": len(sizes), "bytes": sum(sizes)})
    return folder


def _download(model_id: str, part: Path, folder: Path) -> str:
    """Run the child and return the revision that was fetched."""
    wish = {"repo_id": model_id, "local_dir": str(part), "allow_patterns": PATTERNS, "ignore_patterns": _ELSEWHERE}
    environment = {name: value for name, value in os.environ.items() if name not in _LIFTED}
    # -I: what lies in the working folder is not imported. Progress goes to the terminal through standard error.
    command = [sys.executable, "-I", "-c", _CHILD]
    done = subprocess.run(command, input=json.dumps(wish), stdout=subprocess.PIPE, text=True, env=environment, check=False)
    lines = done.stdout.splitlines()
    reply = json.loads(lines[-1]) if lines else {"error": f"終了コード {done.returncode}", "detail": ""}
    if "error" not in reply:
        return str(reply["revision"])
    told = _CAUSES.get(reply["error"], _CAUSES["other"])
    detail = re.sub(r"//[^/\s]*@", "//…@", reply["detail"])  # a mirror's address may hold a password
    what = f"{model_id} を {endpoint()} から取得できませんでした（{reply['error']}: {detail}）。"
    raise RunError(what, told["cause"], told["remedy"].format(folder=folder))
