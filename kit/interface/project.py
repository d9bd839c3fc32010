"""A PoC project: the folder that ``kit init`` makes, and that ``data/sample`` is too.

``documents/`` holds what answers rest on, ``criteria.yaml`` the agreed criteria, which name the file of questions.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from kit import settings, views
from kit.errors import DataError, RunError, reason
from kit.evaluation.cases import check_overlap, read_cases, read_development
from kit.evaluation.criteria import cases_path
from kit.evaluation.matching import same_document
from kit.knowledge.files import Rule, acl_of, read_acl, readers_of
from kit.records import EVERYONE, Case
from kit.serving.preflight import folder_of
from kit.trust.durable import write_atomically

DOCUMENTS, CRITERIA, DEVELOPMENT = "documents", "criteria.yaml", "development.jsonl"
SAMPLE = Path(__file__).parents[2] / "data" / "sample"
_STARTER = Path(__file__).parent / "starter"
"""What ``kit init`` lays down lies ready there; ``tools/build_workbook.py`` makes the workbook."""
_FILES = (CRITERIA, "質問表.xlsx", "使い方.md")


@dataclass(frozen=True, slots=True)
class Project:
    """Where the parts of a project lie.

    Attributes:
        folder: The project's folder, absolute.
        cases_file: The questions that are judged by.
        development_file: Questions to tune with; for an XLSX the same file, sheet 開発用. None where there is none.
        made: Files that ``kit init`` has just made.
        kept: Files that ``kit init`` found there and left as they were.
    """

    folder: Path
    cases_file: Path
    development_file: Path | None
    made: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name, after which runs are called."""
        return self.folder.name

    @property
    def documents(self) -> Path:
        """The folder of documents."""
        return self.folder / DOCUMENTS

    @property
    def criteria(self) -> Path:
        """The criteria file."""
        return self.folder / CRITERIA

    @property
    def store(self) -> Path:
        """The folder of the RAG store."""
        return self.folder / ".kit" / "store"

    @property
    def reading(self) -> Path:
        """The file of what became of each document when the store was last brought up to date."""
        return self.folder / ".kit" / "reading.json"

    @property
    def embedder(self) -> Path:
        """The file that names the embedding model whose vectors the store has; fitted models lie beside it."""
        return self.folder / ".kit" / "embedder" / "kept.json"

    @property
    def feedback(self) -> Path:
        """The file of what people said of answers."""
        return self.folder / ".kit" / "feedback.jsonl"

    @property
    def scope(self) -> str:
        """What a summary says about where its questions come from; "" for a real project."""
        return "見本データによる実演（架空の会社）" if self.folder == SAMPLE.resolve() else ""

    def cases(self) -> list[Case]:
        """Read the questions that are judged by.

        Raises:
            DataError: The file is wrong or without a question, a question is a development question too, its
                evidence stands in a document that is not there or that its asker may not read, or its asker is nobody
                in ``acl.csv``.
        """
        cases = read_cases(self.cases_file, readers=self._readers())
        check_overlap(cases, self.development())
        self._check_evidence(cases)
        return cases

    def _check_evidence(self, cases: list[Case]) -> None:
        """Refuse evidence that cannot be found: the system would be blamed for a slip in the sheet of questions."""
        names = [file.relative_to(self.documents).as_posix() for file in self.documents.rglob("*") if file.is_file()]
        rules = self._rules()
        golds = {evidence.document for case in cases for evidence in case.evidence}
        found = {gold: [name for name in names if same_document(name, gold)] for gold in golds}
        readers = {gold: {reader for name in found[gold] for reader in readers_of(name, rules)} for gold in golds}
        named = [(f"番号 {case.id}: {e.document}", case.user, e.document) for case in cases for e in case.evidence]
        _refuse(
            [text for text, _, gold in named if not found[gold]],
            f"根拠文書が {self.documents} にありません",
            "文書名の書き間違いか、文書の入れ忘れです。",
            f"{self.cases_file} の「根拠文書」を直すか、文書を入れてください。",
        )
        _refuse(
            [f"{text}（質問者「{user}」）" for text, user, gold in named if not readers[gold] & {EVERYONE, user}],
            "質問者が読むことのできない根拠文書があります",
            "「質問者」が空（全員に公開された文書だけを読む人）か、acl.csv がその文書をその人に見せていません。",
            f"{self.cases_file} の「質問者」に acl.csv の閲覧者名を書くか、答えのない質問として正解と根拠文書を空にしてください。",
        )

    def development(self) -> list[Case]:
        """Read the development questions; empty where there are none.

        Raises:
            DataError: The file is wrong.
        """
        return read_development(self.development_file, readers=self._readers()) if self.development_file else []

    def _rules(self) -> list[Rule]:
        return read_acl(acl_of(self.documents))

    def _readers(self) -> set[str]:
        return {EVERYONE, *(reader for rule in self._rules() for reader in rule.readers)}

    def _repr_html_(self) -> str:
        rows = [
            ("文書", self.documents),
            ("判定基準", self.criteria),
            ("質問", self.cases_file),
            ("開発用の質問", self.development_file or "なし（同梱のしきい値を使います）"),
            ("RAGストア", self.store),
        ]
        root = settings.load().root.resolve()
        unlinked = f"出典から文書を開くリンクは、PoCフォルダを {root} の下に置いたときだけ付きます（JupyterLab が開けるのはその中だけです）。"
        outside = not self.documents.resolve().is_relative_to(root)
        return views.table(("もの", "場所"), rows, f"プロジェクト {self.name}") + (views.paragraphs(unlinked) if outside else "")


def _refuse(found: list[str], what: str, cause: str, remedy: str) -> None:
    if found:
        more = f"（ほか {len(found) - 5} 件）" if len(found) > 5 else ""
        raise DataError(f"{what}: {'、'.join(found[:5])}{more}", cause, remedy)


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


def locate(path: str | Path) -> Project:
    """Return the project in a folder whose criteria name a file of questions; nothing else is checked.

    Args:
        path: As of ``find_project``.

    Raises:
        DataError: ``criteria.yaml`` cannot be read or names no questions.
    """
    folder = folder_of(path, settings.load().root)
    questions = cases_path(folder / CRITERIA)
    own = folder / DEVELOPMENT
    sheet = questions if questions.suffix.lower() in (".xlsx", ".xlsm") else None
    return Project(folder, questions, own if own.is_file() else sheet)


def find_project(path: str | Path) -> Project:
    """Find the project in a folder.

    Args:
        path: The folder; a relative path that does not exist from here is taken from where kit.toml lies.

    Raises:
        DataError: There are no documents, or ``criteria.yaml`` cannot be read or names no questions.
    """
    folder = folder_of(path, settings.load().root)
    names = (file.name for file in (folder / DOCUMENTS).rglob("*") if file.is_file())
    if all(name.startswith((".", "~$", "acl.csv")) for name in names):
        raise DataError(
            f"{folder / DOCUMENTS} に文書がありません。",
            "場所の書き間違いか、答えの根拠になる文書をまだ入れていません。",
            f"`kit init {folder}` を実行し（足りないものだけが作られます）、文書を documents/ に入れてください。",
        )
    return locate(folder)
