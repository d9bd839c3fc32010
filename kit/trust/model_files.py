"""What the folder of a model may hold, whoever loads it: plain files of known kinds, none of which brings code along."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from kit.errors import DataError
from kit.trust.checksums import sha256

_READ = {".safetensors", ".json", ".jinja", ".model", ".txt", ".vocab", ".tiktoken"}
_PAPERS = {".md", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp"}


def check(folder: Path) -> None:
    """Refuse a folder that could run code when it is loaded, or that is damaged; hidden files are not looked at.

    Raises:
        DataError: A file is of another kind (pickle, Python), asks for code (``auto_map``), links to the outside, or
            is no JSON or safetensors although it is named so.
    """
    for path in _files(folder):
        if path.suffix == ".json":
            _check_json(path)
        elif path.suffix == ".safetensors":
            _check_weights(path)


def tensors(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Return number format and shape of each tensor of a safetensors file, whose header is checked against its length.

    Raises:
        SafetensorError, OSError: It cannot be read.
    """
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
        return {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file: path below the folder → 64 hex digits.

    Raises:
        DataError: One of them is not a plain file of a known kind.
    """
    found = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter's lock to others
        return dict(zip(found, pool.map(sha256, found.values()), strict=True))


def damaged(path: Path, error: object) -> NoReturn:
    """Refuse a file that cannot be read."""
    cause = "コピーが途中で終わったか、壊れています。"
    refuse(f"{path.name} を読めません（{error}）。", cause, "元のフォルダからコピーし直してください。")


def refuse(what: str, cause: str, remedy: str) -> NoReturn:
    """Refuse a folder (see ``KitError``)."""
    raise DataError(what, cause, remedy)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the folder's files in order, hidden ones left out; refuse what is not a plain file of a known kind."""
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if re.search(r"(^|/)\.", name):
            continue
        if not (path.is_file() or path.is_dir()) or not path.resolve().is_relative_to(root):
            refuse(
                f"{folder.name} の中の {name} はフォルダの外を指すか、通常のファイルではありません。",
                "リンク先は検査の対象外で、後から差し替えられるおそれがあります（Hugging Face のキャッシュもこの形です）。",
                f"中身をコピーしたフォルダを使ってください: cp -rL '{folder}' models/",
            )
        paper = path.suffix.lower() in _PAPERS or re.fullmatch(r"[A-Z_-]+", path.name)  # LICENSE, NOTICE, README
        if path.is_file() and path.suffix not in _READ and not paper:
            refuse(
                f"{folder.name} の中の {name} は受け入れられない種類のファイルです。",
                "読み込むだけでプログラムが動くおそれのある形式（.py、.bin、.pt、.pkl など）か、未知の形式です。",
                "safetensors 形式の版を選ぶか、使わないファイルならフォルダの外へ移してください。",
            )
        if path.is_file():
            yield path


def _check_json(path: Path) -> None:
    def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # A vocabulary may well hold the word, as a number.
        if any(key == "auto_map" and not isinstance(value, int) for key, value in pairs):
            refuse(
                f"{path.name} が、付属のプログラムの実行（auto_map）を求めています。",
                "付属のプログラムなしでは動かないモデルです。出所の分からないプログラムは実行しません。",
                "auto_map のない版を選んでください。候補の表: kit.recommend(gpu_gb=…)",
            )
        return dict(pairs)

    try:
        json.loads(path.read_bytes(), object_pairs_hook=plain)
    except (ValueError, RecursionError) as error:
        damaged(path, error)


def _check_weights(path: Path) -> None:
    from safetensors import SafetensorError

    try:
        tensors(path)
    except (SafetensorError, OSError) as error:
        damaged(path, error)
