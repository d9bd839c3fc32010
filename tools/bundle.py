#!/usr/bin/env python3
"""Write a wheelhouse with hashes for both environments, to be carried into a closed network (`make bundle`).

The folder then holds the wheels, ``notebooks.txt`` and ``server.txt`` (every wheel with its sha256, for
``pip install --require-hashes``) and ``SHA256SUMS`` (for ``sha256sum -c``). It serves the Python version and the kind
of Linux it was written on. Interrupted, the next call goes on: SHA256SUMS grows with every batch, and a listed file
with the right hash is never fetched again. The lists say what pip itself chose with no index but this folder, so a
bundle that was written is a bundle that installs.

Environment: ``BUNDLE`` (folder, default ``bundle``), ``SERVER`` (``cpu`` or ``gpu``, default by nvidia-smi),
``TORCH_INDEX`` (a further index for torch's build); besides, pip's own configuration is honoured.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.tags import sys_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BATCH = 8  # wheels a pip call: start-up is shared, and an interruption loses little


def main() -> None:
    """Fetch what is missing for both environments, let pip confirm that nothing is, write the lists."""
    folder = Path(os.environ.get("BUNDLE") or "bundle").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for scratch in folder.glob(".part-*"):  # of a call that was killed
        shutil.rmtree(scratch)
    kind = os.environ.get("SERVER") or ("gpu" if has_gpu() else "cpu")
    if kind not in ("cpu", "gpu"):
        fail(f"SERVER={kind} は指定できません。", "指定できるのは cpu と gpu だけです。", "make bundle SERVER=gpu")

    say(f"[1/3] {folder} にあるファイルを確かめています（Python {PYTHON}、vLLM は {kind.upper()} 版）。")
    listed = read_sums(folder)
    sums = {file: digest for file, digest in listed.items() if file.endswith(".whl") and matches(folder / file, digest)}
    notebooks = ROOT / "requirements/notebooks.lock"
    server = ROOT / f"requirements/server-{kind}.lock"

    say("[2/3] 足りないファイルを取得しています。")
    for lock in (notebooks, server):
        fetch(missing(lock, sums), folder, sums)
    # The notebooks' lock leaves torch's CUDA libraries to torch's metadata; the GPU server's lock has brought them.
    chosen = resolve(notebooks, folder)
    served = resolve(server, folder, "--no-deps")
    if not chosen or not served:
        fail(
            f"{folder} だけでは導入できません（{notebooks.name if not chosen else server.name}）。",
            "配布元に、この Python と Linux に合うファイルがそろっていません。",
            "配布元（PIP_INDEX_URL、TORCH_INDEX）を確かめて、もう一度 make bundle を実行してください。",
        )
    if kind == "gpu" and any(line.startswith("torch==") and "+cpu" in line for line in served):
        fail(
            "GPU 版の vLLM に CPU 版の torch が選ばれました。",
            "TORCH_INDEX または PIP_FIND_LINKS が CPU 版の torch を指しているか、出力先に CPU 版の一式があります。",
            "設定を外し、BUNDLE=新しいフォルダ を付けて make bundle SERVER=gpu を実行してください。",
        )

    say("[3/3] 一覧とハッシュを書いています。")
    header = f"# Written by `make bundle`; install with pip --no-index --require-hashes.\n# python: {PYTHON}\n"
    used = {file: sums[file] for file in {**chosen, **served}.values()}
    for name, head, lines in (
        ("notebooks.txt", header, chosen),
        ("server.txt", f"{header}# server: {kind}\n", served),
    ):
        write(folder / name, head + "".join(f"{pin} --hash=sha256:{sums[file]}\n" for pin, file in lines.items()))
        used[name] = sha256(folder / name)
    write_sums(folder, used)
    for stale in set(listed) - set(used):  # ours from an earlier lock; other people's files are left alone
        (folder / stale).unlink(missing_ok=True)

    size = sum((folder / file).stat().st_size for file in used) / 1e9
    say(f"      {folder} に {len(used)} 個、{size:.1f} GB を書きました。")
    say("      リポジトリとこのフォルダを持ち込み、make poc OFFLINE=このフォルダ を実行してください。")


def has_gpu() -> bool:
    """Whether nvidia-smi lists a card here."""
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True, check=False).stdout.startswith(b"GPU")


def missing(lock: Path, sums: dict[str, str]) -> list[str]:
    """The pins of a lock for which the folder has no wheel that fits this Python and Linux."""
    here, there = set(sys_tags()), set()
    for file in sums:
        name, version, _, tags = parse_wheel_filename(file)
        if not here.isdisjoint(tags):
            there |= {(name, str(version)), (name, version.public)}  # torch==2.13.0 may be had as 2.13.0+cpu
    wanted = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        pin = Requirement(line)
        (specifier,) = pin.specifier
        applies = pin.marker is None or pin.marker.evaluate()
        if applies and (canonicalize_name(pin.name), specifier.version) not in there:
            wanted.append(f"{pin.name}{pin.specifier}")
    return wanted


def fetch(pins: list[str], folder: Path, sums: dict[str, str]) -> None:
    """Download the wheels of some pins in small batches."""
    for start in range(0, len(pins), BATCH):
        batch = pins[start : start + BATCH]
        download(["--no-deps", *batch], folder, sums)
        say(f"      {start + len(batch)}/{len(pins)}  {batch[-1]}")


def download(arguments: list[str], folder: Path, sums: dict[str, str]) -> None:
    """Let pip download into a scratch folder, move what is new and list it: no file is ever half written."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
        pip("download", "--dest", scratch, *arguments)
        for path in Path(scratch).glob("*.whl"):
            sums[path.name] = sha256(path)
            path.replace(folder / path.name)
    write_sums(folder, sums)


def resolve(lock: Path, folder: Path, *arguments: str) -> dict[str, str]:
    """What pip would install with no index but the folder: pin to file name; empty where something is missing."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = ["install", "--dry-run", "--ignore-installed", "--report", str(report), *arguments, "-r", str(lock)]
        # As on the closed network: none of the sources that pip is configured with here.
        alone = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        alone |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
        if run(command, alone).returncode:
            return {}
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        f"{item['metadata']['name']}=={item['metadata']['version']}": unquote(
            Path(urlsplit(item["download_info"]["url"]).path).name
        )
        for item in sorted(items, key=lambda item: item["metadata"]["name"].lower())
    }


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run pip for wheels only."""
    command = [sys.executable, "-m", "pip", *arguments, "--only-binary", ":all:", "--quiet", "--no-input"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def pip(*arguments: str) -> None:
    """Run pip with the user's configuration; on failure show its last words and stop."""
    index = os.environ.get("TORCH_INDEX")
    done = run([*arguments, *(["--extra-index-url", index] if index else [])], dict(os.environ))
    if done.returncode == 0:
        return
    for line in [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-3:]:
        say(f"      | {line[:200]}")
    if "+cpu" in done.stderr:
        fail(
            "CPU 版の torch が見つかりません。",
            "CPU 版の torch は PyPI になく、PyTorch の CPU 用インデックスにあります。",
            "make bundle TORCH_INDEX=https://download.pytorch.org/whl/cpu",
        )
    fail(
        "pip が必要なファイルを取得できませんでした。",
        "ネットワーク、プロキシー、証明書、社内ミラー、ディスクの空きのいずれかです（上の行）。",
        "原因を直し、もう一度 make bundle を実行してください（取得済みのファイルは再利用されます）。",
    )


def read_sums(folder: Path) -> dict[str, str]:
    """The files that earlier calls have listed, with their hashes."""
    path = folder / "SHA256SUMS"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {file: digest for digest, _, file in (line.partition("  ") for line in lines)}


def write_sums(folder: Path, sums: dict[str, str]) -> None:
    """List files with their hashes, as sha256sum does."""
    write(folder / "SHA256SUMS", "".join(f"{digest}  {file}\n" for file, digest in sorted(sums.items())))


def matches(path: Path, digest: str) -> bool:
    """Whether a file is there, whole."""
    return path.exists() and sha256(path) == digest


def sha256(path: Path) -> str:
    """The hash of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def say(text: str) -> None:
    """One line of progress, on stderr like all of set-up's output."""
    print(text, file=sys.stderr, flush=True)


def fail(what: str, cause: str, remedy: str) -> NoReturn:
    """The three lines every error of the kit has, then stop."""
    say(f"何が起きたか: {what}\n考えられる原因: {cause}\n次にすること: {remedy}")
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        say("中断しました。もう一度 make bundle を実行すると、続きから取得します。")
        sys.exit(130)
    except OSError as error:
        fail(
            f"bundle を書けませんでした（{error.strerror}: {error.filename}）。",
            "ディスクの空きが足りないか、出力先に書き込む権限がありません。",
            "df -h で空きを確かめ、BUNDLE=空きのあるフォルダ を付けて、もう一度 make bundle を実行してください。",
        )
