"""The candidates of a search: what the indices find that the user may read, and how well each fits by its parts.

Who may read a chunk is asked twice: the index gets it as a filter, and each row is looked at again before its text leaves
the store.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kit.errors import DataError
from kit.knowledge import japanese, ranking
from kit.knowledge.corpus import Statistics, searched
from kit.knowledge.dates import one_day
from kit.knowledge.embedding import Vectors
from kit.knowledge.files import check_readers, matches, nearest
from kit.knowledge.rows import Row, chunk_of, readers_of
from kit.knowledge.table import Table, among, between
from kit.records import EVERYONE, Chunk, Hit

LONGEST = 5_000
"""Letters of a query, with what ``Rag`` adds to the question; the longest of lawqa's, choices included, has 479."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a search looks.

    Attributes:
        user: Reader name; "" is a member of ``everyone`` only.
        documents: Only documents whose name matches this pattern (``規程/*.docx``), as in ``acl.csv``; "" for all.
        since: Only documents of this day or later (2024-04-01, 2024/4/1, 令和6年4月1日); those without a date are left out.
        until: Only documents of this day or earlier, likewise.

    Raises:
        DataError: An argument is no text, the user's name cannot be one, the days cannot be read or lie the wrong way round,
            or no document that the user may read matches (told by ``filter``).
    """

    user: str = ""
    documents: str = ""
    since: str = ""
    until: str = ""

    def __post_init__(self) -> None:
        _check_text(as_user=self.user, documents=self.documents, since=self.since, until=self.until)
        check_readers(filter(None, [self.user]), "指定した閲覧者")
        for end, given in (("since", self.since), ("until", self.until)):
            if given.strip() and not one_day(given):
                raise DataError(
                    f"日付「{given[:40]}」を読み取れません（{end}）。", "年・月・日のそろった、実在する1日ではありません。",
                    f'例のように指定してください: {end}="2025-04-01"（2025/4/1、令和7年4月1日 とも書けます）',
                )
            object.__setattr__(self, end, one_day(given))
        if self.since > self.until > "":
            raise DataError(
                f"期間の始まり（{self.since}）が終わり（{self.until}）より後です。", "2つの日付が逆になっています。",
                f'入れ替えてください: since="{self.until}", until="{self.since}"',
            )

    def holds(self, readers: Iterable[str]) -> bool:
        """Tell whether the user may read what has these readers."""
        return not {EVERYONE, self.user}.isdisjoint(readers)

    def filter(self, table: Table, readable: Sequence[str]) -> Any:
        """Return the expression that the table is filtered by; ``readable`` are the values of readers that the user is among."""
        where = among("readers", readable)
        if self.documents:
            names = {row["document"] for row in table.documents() if row["readers"] in readable}
            wanted = [name for name in names if matches(self.documents, name)]
            if not wanted:
                raise DataError(
                    f"「{self.documents[:80]}」に当てはまる文書がありません{nearest(self.documents, names)}。",
                    "文書名の書き間違いか、この閲覧者が読める文書の中にありません。",
                    '文書名かフォルダ名を指定してください（* はどの文字にも当てはまります）: documents="総務人事/*"',
                )
            where = where.and_(among("document", wanted))
        return where.and_(between("date", self.since, self.until)) if self.since or self.until else where


def _check_text(**given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, str):
            raise DataError(
                f"{name} に、文字列でないもの（{str(value)[:40]}）が渡されました。", "変数の取り違えか、引用符の付け忘れです。",
                f'引用符で囲んで指定してください。指定しないときは空にします: {name}=""',
            )


def check_asked(query: object, k: object) -> None:
    """Refuse what cannot be searched with, before it ends in somebody else's error or takes minutes.

    Raises:
        DataError: The query is no text or has more than ``LONGEST`` letters, or ``k`` is no whole number of 1 or more.
    """
    _check_text(query=query)
    if len(str(query)) > LONGEST:
        raise DataError(
            f"質問が長すぎます（{len(str(query)):,} 文字）。", f"検索できるのは、補う語も含めて {LONGEST:,} 文字までです。文書の全文を貼り付けていませんか。",
            "知りたいことを1〜2文にして、質問し直してください。",
        )
    if not isinstance(k, int) or k < 1:
        raise DataError(f"件数 k に「{str(k)[:40]}」は使えません。", "k は 1 以上の整数です。", "例のように指定してください: k=5")


def retrieve(
    table: Table, statistics: Statistics, query: str, limit: int, scope: Scope, vector: Vectors | None = None, *, plain: bool = False
) -> list[tuple[Chunk, Row]]:
    """Return the ``limit`` best chunks that hold any word of the query, and as many that are near a vector, with their rows.

    Where a word is in no chunk, or few are found, they may hold it in a longer word, or one that means the same, unless ``plain``.
    """
    words = dict.fromkeys(token[2:] for token in japanese.query(query) if token.startswith("w:"))
    readable = [value for value in statistics.readers if scope.holds(readers_of(value))]
    if not (words and readable):
        return []
    where = scope.filter(table, readable)
    columns = ["words", "chunk"] if vector is None else ["words", "chunk", "vector"]
    idf = dict(zip(words, statistics.idfs([f"w:{word}" for word in words]), strict=True))
    unheld = [word for word in words if idf[word] >= statistics.idf("")]  # by any chunk
    rows = table.matching([*words, *_marks([] if plain else unheld)], limit, where, columns)
    if len(rows) < limit and not plain:
        rows += table.matching(_marks(words), limit, where, columns)
    if vector is not None and vector.any():
        rows += table.near(vector, limit, where, columns)
    found: dict[str, tuple[Chunk, Row]] = {}
    for row in rows:
        chunk = chunk_of(row)
        if scope.holds(chunk.readers):
            found.setdefault(chunk.id, (chunk, row))
    return list(found.values())


def _marks(words: Iterable[str]) -> list[str]:
    """Return what finds words in other words: 年休 and 有給休暇 in 年次有給休暇."""
    return list(dict.fromkeys(mark for word in words for mark in (f"+{word}", *sorted(japanese.marks(word)))))


def measured(found: Sequence[tuple[Chunk, Row]], statistics: Statistics, query: str, vector: Vectors | None = None) -> list[Hit]:
    """Return chunks as hits with the parts of a score, yet without score and rank."""
    parts = ranking.measure(japanese.query(query), [searched(chunk, row["words"]) for chunk, row in found], statistics)
    if vector is not None:
        parts = [replace(part, likeness=float(row["vector"] @ vector)) for part, (_, row) in zip(parts, found, strict=True)]
    return [Hit(chunk, 0.0, 0, parts=part) for part, (chunk, _) in zip(parts, found, strict=True)]
