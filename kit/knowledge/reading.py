"""What became of each file of a folder: read, read with doubts, or not read, in a report that stays beside the store."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from kit import views
from kit.records import Document

_MOST_ROWS = 60
_MARKS = ("×", "△", "○")


@dataclass(frozen=True, slots=True)
class FileReading:
    """What became of one file."""

    name: str
    places: int
    """Paragraphs, rows, slides and the like that were read."""
    letters: int
    problem: str = ""
    """Why it was not read, in Japanese; "" when it was."""
    doubts: tuple[str, ...] = ()
    date: str = ""

    @classmethod
    def of(cls, document: Document) -> "FileReading":
        """Note what became of a document."""
        letters = sum(len(block.text) for block in document.blocks)
        return cls(document.name, len(document.blocks), letters, document.problem, document.doubts, document.date)

    @property
    def mark(self) -> str:
        """○ read, △ read with doubts, × not read."""
        return "×" if self.problem else "△" if self.doubts else "○"

    @property
    def type(self) -> str:
        """Its extension, as people write it."""
        return PurePosixPath(self.name).suffix.lstrip(".").upper() or "（拡張子なし）"


@dataclass(frozen=True, slots=True)
class ReadingReport:
    """What became of every file of a folder, in the order of their names."""

    files: tuple[FileReading, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ReadingReport":
        """Rebuild a report from ``to_json``; empty for one of an earlier release."""
        return cls(tuple(FileReading(**{**file, "doubts": tuple(file["doubts"])}) for file in data.get("files", [])))

    def _repr_html_(self) -> str:
        if not self.files:
            return views.paragraphs("読み込みの記録がありません。文書を登録すると作られます。")
        marks = Counter((file.type, file.mark) for file in self.files)
        letters = Counter[str]()
        for file in self.files:
            letters[file.type] += file.letters
        types = sorted(letters, key=lambda kind: (-letters[kind], kind))
        counts = [(kind, *(marks[kind, mark] or "" for mark in reversed(_MARKS)), f"{letters[kind]:,}") for kind in types]
        total = Counter(file.mark for file in self.files)
        whole = ("合計", *(total[mark] for mark in reversed(_MARKS)), f"{letters.total():,}")
        # What wants a look comes first; sorting keeps the names' order.
        listed = sorted(self.files, key=lambda file: _MARKS.index(file.mark))
        rows = [
            (f.mark, f.name, f.places or "", f"{f.letters:,}" if f.letters else "", f.date, f.problem or "\n".join(f.doubts))
            for f in listed[:_MOST_ROWS]
        ]
        more = views.paragraphs(f"ほか {len(listed) - _MOST_ROWS} 件") if len(listed) > _MOST_ROWS else ""
        dated = sum(bool(file.date) for file in self.files)
        header = ("種類", "○ 読めた", "△ 読めたが要確認", "× 読めず", "文字数")
        return (
            views.table(header, [*counts, whole], f"種類ごとの件数（日付の分かる文書 {dated} 件）")
            + views.table(("", "文書", "箇所", "文字数", "日付", "読めない理由・注意"), rows, "文書ごとの結果")
            + more
        )
