"""What ``kit init`` lays down: an empty ``documents/``, a question workbook, commented criteria and a short guide.

They lie ready in ``starter/``; ``tools/build_workbook.py`` makes the workbook there.
"""

import json
from dataclasses import replace
from pathlib import Path

from kit.errors import DataError, RunError, reason
from kit.interface.project import CRITERIA, DOCUMENTS, Project, locate
from kit.trust.durable import write_atomically

_STARTER = Path(__file__).parent / "starter"
_FILES = (CRITERIA, "質問表.xlsx", "使い方.md")


def init(path: str | Path) -> Project:
    """Make a project folder ready to be filled in; what is there already stays untouched.

    Args:
        path: The folder; made where it does not exist.

    Returns:
        The project, with the names of the files made and of those kept.

    Raises:
        DataError: The path is empty, or an existing ``criteria.yaml`` cannot be read.
        RunError: The folder cannot be written.
    """
    if not str(path).strip():
        raise DataError("作るフォルダの名前が空です。", "フォルダの名前を渡していません。", "例: kit init 私のPoC")
    folder = Path(path).expanduser().resolve()
    try:
        (folder / DOCUMENTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder} を作れません（{reason(error)}）。",
            "書き込み権限がないか、同じ名前のファイルがあります。",
            "別の名前か場所で `kit init フォルダ` を実行してください。",
        ) from error
    kept = tuple(name for name in _FILES if (folder / name).exists())
    made = tuple(name for name in _FILES if name not in kept)
    for name in made:
        write_atomically(folder / name, (_STARTER / name).read_bytes())
    if CRITERIA in made:  # criteria of one title are one PoC: two folders must not begin with the same one
        text = (_STARTER / CRITERIA).read_text(encoding="utf-8")
        title = json.dumps(f"社内文書の問い合わせ対応PoC（{folder.name}）", ensure_ascii=False)
        write_atomically(folder / CRITERIA, text.replace("社内文書の問い合わせ対応PoC ", f"{title} ", 1))
    return replace(locate(folder), made=made, kept=kept)
