"""What the store reports of its work: frozen records that show themselves in Japanese."""

from dataclasses import dataclass
from pathlib import Path

from kit import views
from kit.knowledge.disk import made_anew
from kit.trust.checksums import Damage


@dataclass(frozen=True, slots=True)
class Added:
    """What one ``add`` did, counted in documents; ``unreadable`` holds one Japanese line per file."""

    new: int
    unchanged: int
    replaced: int
    unreadable: tuple[str, ...]
    doubts: tuple[str, ...]
    removed: tuple[str, ...] = ()
    """Names of documents whose files have gone, or cannot be read any more (``sync`` only)."""
    notices: tuple[str, ...] = ()
    """What the store had to say when it was opened (``Store.notices``)."""

    def __str__(self) -> str:
        counts = f"登録 {self.new}、更新 {self.replaced}、変更なし {self.unchanged}、読めず {len(self.unreadable)}"
        gone = f"、削除 {len(self.removed)}" if self.removed else ""
        return "\n".join([*self.notices, f"{counts}{gone}", *(f"× {line}" for line in self.unreadable)])

    def _repr_html_(self) -> str:
        return views.paragraphs(*str(self).split("\n"), *(f"△ {line}" for line in self.doubts))


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was looked for after a document was erased, and where. Holds none of its text."""

    document: str
    time: str
    """UTC."""
    chunks: int
    """Erased chunks, those of older editions included."""
    texts: int
    """Sentences and titles looked for, without those that remaining documents hold, too."""
    replaced: int
    """Files that there were before; none of them is there any more."""
    files: int
    bytes: int
    version: int
    """The only state of the table that exists."""

    def __str__(self) -> str:
        return (
            f"「{self.document}」はこのストアのどのファイルにも残っていません（{self.time}）。\n"
            f"消した断片 {self.chunks}、作り直したファイル {self.replaced}、"
            f"探した文 {self.texts}、調べたファイル {self.files}（{self.bytes:,} バイト）\n"
            "△ 調べたのはこのストアだけです。回答への評価（.kit/feedback.jsonl）、実行の記録（runs/）、別名で残したストアに引用や写しがあれば、そこに残ります。"
        )

    def _repr_html_(self) -> str:
        return views.paragraphs(*str(self).split("\n"))


@dataclass(frozen=True, slots=True)
class Health:
    """What ``Store.verify`` found."""

    store: Path
    damage: Damage
    counts: bool | None
    """Whether the counts for ranking are those of the chunks; None where damage keeps the chunks from being read."""
    notices: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every byte is as it was written, and nothing was lost before."""
        return not (self.damage.changed or self.damage.missing or self.notices) and self.counts is True

    def __str__(self) -> str:
        if self.ok:
            return f"○ ストアは正常です（{self.damage.files} ファイルのチェックサムと、順位付けの集計が一致しました）。"
        lines = [*self.notices]
        lines += [f"× 書き込んだときと内容が違います: {path}" for path in self.damage.changed]
        lines += [f"× なくなっています: {path}" for path in self.damage.missing]
        if self.counts is False:
            lines.append("△ corpus.sqlite（順位付けの集計）が本文と合わなかったため、数え直しました。ほかに影響はありません。")
        if self.damage.changed or self.damage.missing:
            lines.append(f"次にすること: {made_anew(self.store)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return views.paragraphs(*str(self).split("\n"))
