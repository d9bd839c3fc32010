"""Files and folders → documents: every file yields exactly one, read or with the reason why not.

This module walks folders, applies ``acl.csv`` and names things; what is inside a file is read in a child process
(``worker``). Nothing here parses a document.
"""

import csv
import difflib
import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from shlex import quote

from kit.errors import DataError
from kit.knowledge.texts import UnreadableError, decode, file_name, squeeze
from kit.knowledge.worker import Worker
from kit.records import EVERYONE, READER_NAME, Document

MAX_BYTES = 200 * 1024 * 1024
"""A larger file is not read."""
ACL_NAME = "acl.csv"
"""Who may read what: columns 「パス」 (pattern on the name, the last match wins) and 「閲覧者」 (separated by ``;``)."""


_ACL_COLUMNS = (("パス", "path"), ("閲覧者", "readers"))


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of ``acl.csv``; ``row`` counts from 1, 0 where there is no file."""

    row: int
    pattern: str
    readers: tuple[str, ...]

    def matches(self, name: str) -> bool:
        """Whether the pattern fits (see ``matches``)."""
        return matches(self.pattern, name)


def matches(pattern: str, name: str) -> bool:
    """Tell whether a pattern fits a document's name or a folder above it, whatever the width and case of its letters."""
    # Brackets are letters here: 「[社外秘]メモ.docx」 is a common name, a set of characters is not what is meant.
    plain = _folded(pattern).replace("\\", "/").removeprefix("./").strip("/").replace("[", "[[]")
    return fnmatchcase(_folded(name), plain) or fnmatchcase(_folded(name), plain + "/*")


def nearest(pattern: str, names: Iterable[str]) -> str:
    """Return names of documents and folders that a pattern which fits none may mean, in brackets for a message; "" for none."""
    known = {_folded(part): part for name in names for part in (name, *map(str, PurePath(name).parents)) if part != "."}
    near = difflib.get_close_matches(_folded(pattern).rstrip("/*"), known)
    return f"（近い名前: {'、'.join(known[part] for part in near)}）" if near else ""


def load(path: str | Path, *, readers: Sequence[str] | None = None) -> Iterator[Document]:
    """Read a file, or all files of a folder and the folders below, in the order of their names.

    Hidden files and folders (``.name``) and ``acl.csv`` are left out. Every other file yields one document; one that
    cannot be read has no blocks and says why in ``problem``. Nothing a file contains raises or stops the reading.

    Args:
        path: A file or a folder.
        readers: Who may read all of it; () for nobody. None: as ``acl.csv`` in the folder says, else everyone.

    Returns:
        An iterator; a file is read when its document is asked for.

    Raises:
        DataError: There is no such path, the folder holds no file, ``acl.csv`` or ``readers`` is wrong, or an ``acl.csv`` of a folder
            above would not count and ``readers`` is None.
    """
    root = Path(path).expanduser()
    folder = root if root.is_dir() else root.parent
    items = _walk(root) if root.is_dir() else [root] * root.exists()
    named = sorted((_name(item, folder), item) for item in items)
    if not named:
        raise DataError(
            f"「{root}」に文書がありません。",
            "パスの打ち間違いか、中が空か、名前が「.」で始まるファイルしかありません。",
            f"場所を確かめ、文書を置いてから、もう一度実行してください: ls {quote(str(root))}",
        )
    if readers is None:
        _check_above(root, folder)
        rules = read_acl(acl_of(folder))
        if root.is_dir():
            _check_used(rules, folder, [name for name, _ in named])
        return _documents(named, root, rules)
    principals = (readers,) if isinstance(readers, str) else tuple(readers)
    check_readers(principals, "引数 readers")
    return _documents(named, root, [Rule(0, "*", principals)])


def _documents(named: list[tuple[str, Path]], root: Path, rules: list[Rule]) -> Iterator[Document]:
    with Worker() as worker:
        for name, path in named:
            yield _document(name, path, root, readers_of(name, rules), worker)


def acl_of(folder: Path) -> Path:
    """Return where a folder's ``acl.csv`` is, also where it is written ``ACL.csv``: not to find it would open all to everyone."""
    with suppress(OSError):  # a folder above that may not be looked into
        return next((path for path in sorted(folder.iterdir()) if path.name.lower() == ACL_NAME), folder / ACL_NAME)
    return folder / ACL_NAME


def _check_above(root: Path, folder: Path) -> None:
    """Refuse a part of a folder whose ``acl.csv`` does not come along: what it keeps back would be open to everyone."""
    above = (acl_of(parent) for place in (folder.absolute(), folder.resolve()) for parent in place.parents)  # a link has two homes
    if found := next((acl for acl in above if acl.is_file()), None):
        raise DataError(
            f"「{root}」より上のフォルダに、閲覧権限の表「{found}」があります。",
            "閲覧権限は、読み込むフォルダの直下の acl.csv だけで決まります。上の表で守られた文書が全員に公開されるおそれがあるため、読み込んでいません。",
            f"「{found.parent}」を読み込むか、引数 readers で閲覧者を指定してください（例: readers=[\"hr\"]）。無関係な表なら、別の場所へ移してください。",
        )


def _check_used(rules: list[Rule], folder: Path, names: list[str]) -> None:
    """Refuse a rule that fits no file: a misspelt pattern would leave open to everyone what it is to protect."""
    idle = [rule for rule in rules if not any(rule.matches(name) for name in names)]
    if idle:  # a folder may be empty for now: its rule waits for what will be put there
        empty = [f"{_name(path, folder)}/" for path in folder.rglob("*") if path.is_dir()]
        idle = [rule for rule in idle if not any(rule.matches(name) for name in empty)]
    if idle:
        lines = "、".join(f"{rule.row}行目「{rule.pattern}」{nearest(rule.pattern, names)}" for rule in idle[:5])
        raise DataError(
            f"「{folder / ACL_NAME}」の{lines}に当てはまる文書がありません。",
            "綴りの誤りか、文書が移動・削除されています。見せたくない文書が全員に公開されるおそれがあるため、何も登録していません。",
            "綴りを直してください。もう置かない文書なら、その行を削除してください（再び置くときは、先に行を書き足します）。",
        )


def _document(name: str, path: Path, root: Path, readers: tuple[str, ...], worker: Worker) -> Document:
    stem = squeeze(PurePath(name).stem)
    digest = ""
    try:
        problem = _refusal(path, root)
        if not problem:
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            problem = "" if data else "中身が空（0バイト）です。元のファイルをもう一度コピーしてください。"
    except FileNotFoundError:
        problem = "読み込みの途中でなくなりました（移動・削除・名前の変更）。もう一度実行すると、今ある文書だけを読みます。"
    except (OSError, MemoryError):
        problem = "ファイルを読み出せません。読み取りの権限、保存場所、空きメモリーを確かめてください。"
    if problem:
        return Document(digest, name, stem, readers=readers, problem=problem)
    reading = worker.read(PurePath(name).name, data)
    title = reading.title or stem
    return Document(digest, name, title, reading.blocks, readers, reading.problem, reading.doubts, reading.date)


def _refusal(path: Path, root: Path) -> str:
    """Why a file is not even opened, "" if it is."""
    if path.name.startswith("~$"):
        return "編集中に作られる一時ファイル（~$）です。元の文書を閉じれば消えるので、対応は要りません。"
    path.lstat()  # what has gone meanwhile is neither a link nor special
    outside = path != root and not path.resolve().is_relative_to(root.resolve())
    # What is no link but a folder here is one that may not be opened.
    if (path.is_symlink() and (path.is_dir() or outside)) or not (path.is_file() or path.is_dir()):
        return "フォルダの外などを指すリンクか特殊なファイルなので開きません。実物のファイルを置いてください。"
    if path.stat().st_size > MAX_BYTES:
        return f"大きすぎます（上限{MAX_BYTES // 1024**2}MB）。分割して保存し直してください。"
    return ""


def _walk(root: Path) -> list[Path]:
    """Files below a folder, links to folders, and folders that may not be opened."""
    closed: list[Path] = []
    found: list[Path] = []
    for folder, folders, files in os.walk(root, onerror=lambda error: closed.append(Path(error.filename))):
        here = Path(folder)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [here / name for name in folders if (here / name).is_symlink()]
        found += [here / name for name in files if not name.startswith(".") and name.lower() != ACL_NAME]
        if here != root and any(name.lower() == ACL_NAME for name in files):
            # Ignoring it would show everybody what its author wanted to keep back.
            raise DataError(
                f"下のフォルダ「{_name(here, root)}」に {ACL_NAME} があります。",
                "閲覧権限は、読み込むフォルダの直下の acl.csv だけで決まります。",
                f"内容を {root / ACL_NAME} に移し、「パス」を {_name(here, root)}/* のように書いてください。",
            )
    return found + closed


def _name(path: Path, root: Path) -> str:
    """Path below the folder as NFC text."""
    name = file_name(os.fsencode(path.relative_to(root).as_posix()))
    return unicodedata.normalize("NFC", re.sub(r"[\x00-\x1f\x7f]", "\ufffd", name))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def readers_of(name: str, rules: Sequence[Rule]) -> tuple[str, ...]:
    """Return who may read a document: the last matching rule says it, else everyone."""
    return next((rule.readers for rule in reversed(rules) if rule.matches(name)), (EVERYONE,))


def read_acl(path: Path) -> list[Rule]:
    """Read ``acl.csv``; no rules where there is no such file.

    Raises:
        DataError: It is not a table of paths and readers, or a reader's name cannot be used.
    """
    if not path.is_file():
        return []
    try:
        text, _ = decode(path.read_bytes())
        table = [[squeeze(cell) for cell in record] for record in csv.reader(io.StringIO(text), strict=True)]
        header = [cell.lower() for cell in table[0]] if table else []
        columns = [next(i for i, cell in enumerate(header) if cell in names) for names in _ACL_COLUMNS]
    except (csv.Error, UnreadableError, StopIteration) as error:
        raise DataError(
            f"「{path}」を列「パス」と「閲覧者」の表として読めません。",
            "1行目が「パス,閲覧者」でないか、引用符が閉じていないか、文字コードが違います。",
            f"1行目を直し、表計算ソフトから「CSV UTF-8」で保存し直してください: {path}",
        ) from error
    rules, home = [], path.parent
    own = "" if (home / home.name).exists() else f"{home.name}/"  # 「documents/人事/*」: as seen from the project
    for row, record in enumerate(table[1:], 2):
        pattern, listed = (record[column] if column < len(record) else "" for column in columns)
        if any(record):
            principals = tuple(item.strip() for item in listed.split(";") if item.strip())
            check_readers(principals, f"「{path}」{row}行目の列「閲覧者」")
            pattern = pattern.replace("\\", "/").removeprefix("./").removeprefix("/")
            rules.append(Rule(row, pattern.removeprefix(own), principals))
    return rules


def check_readers(names: Iterable[str], where: str) -> None:
    """Refuse a reader who is called what no reader may be, before the name goes into a filter.

    Args:
        names: Reader names.
        where: Where they stand, in Japanese, for the message.

    Raises:
        DataError: One of them is not a ``READER_NAME``.
    """
    for name in names:
        if not READER_NAME.fullmatch(name):
            raise DataError(
                f"{where}の「{name[:40]}」は使えません。",
                "閲覧者名（利用者名・グループ名）は半角の英数字と _ . @ - だけで、64文字までです。",
                "例のように直してください。acl.csv では、複数なら ; で区切ります: hr;keiri@example.co.jp",
            )
