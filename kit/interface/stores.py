"""A project's store: brought up to date with its documents, opened, and searched with an embedding model where one helps."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kit import settings
from kit.errors import KitError, StoreError
from kit.evaluation import fusion
from kit.interface.project import Project
from kit.interface.widgets import Bar
from kit.knowledge.disk import locked, store_errors, syncfs
from kit.knowledge.embedding import Embedder
from kit.knowledge.files import ACL_NAME, load
from kit.knowledge.fitting import fit_embedder
from kit.knowledge.reading import FileReading, ReadingReport
from kit.knowledge.reports import Added, Erasure
from kit.knowledge.store import Store
from kit.records import Document
from kit.serving.preflight import folder_of
from kit.trust.durable import to_json, write_atomically


def project_store(project: Project, *, model: bool = True) -> Store:
    """Open a project's store, filled or not, and bring its vectors in line with the model that the project keeps.

    They differ after a kill between the two, when an older state was restored, or when the folder was made anew.

    Args:
        project: The project.
        model: False where nothing is searched or added: that needs no model, and works where its folder has gone.

    Raises:
        StoreError: The store or the model's folder cannot be opened, or the folder holds another model than when it was kept.
    """
    store = Store(project.store)
    if model and not project.embedder.exists():
        store.embed(None)
    elif model:
        kept = _kept(project)
        try:
            embedder = Embedder(kept["folder"])
            if embedder.identity != kept["embedder"]:
                raise LookupError("中身が別のモデルです")
        except (KitError, LookupError) as error:
            again = f"kit.try_embedder(kit.find_project('{project.folder}'), 'モデルのフォルダ')"
            raise StoreError(
                f"「{project.name}」の検索に使う埋め込みモデルを読み込めません（{kept.get('folder', project.embedder)}）。",
                "モデルのフォルダが移動・削除・変更されたか、PoCフォルダだけを別のマシンに写しました。",
                f"フォルダを元に戻すか、試し直してください: {again}。言葉だけの検索に戻すには: rm '{project.embedder}'",
            ) from error
        store.embed(embedder)
        if store.weight != kept["weight"]:
            store.weigh(kept["weight"])
    return store


def _kept(project: Project) -> dict[str, Any]:
    """Return what is kept of a project's embedding model: folder, identity ("embedder"), weight; {} where there is none."""
    with suppress(OSError, ValueError, LookupError, TypeError):  # of a damaged file nothing counts
        told = json.loads(project.embedder.read_bytes())
        return {"folder": project.embedder.parent / told["folder"], "embedder": str(told["embedder"]), "weight": float(told["weight"])}
    return {}


@contextmanager
def _workshop(project: Project) -> Iterator[Path]:
    """Make an empty folder to try a model in. Before and after, all is removed that is not kept, as what a kill left behind."""
    home = project.embedder.parent

    def clear() -> None:
        with store_errors(home):
            for folder in home.iterdir():
                if folder.is_dir() and folder != _kept(project).get("folder"):
                    shutil.rmtree(folder)

    with store_errors(home):
        home.mkdir(parents=True, exist_ok=True)
    with locked(home, patient=False) as alone:
        if not alone:
            raise StoreError(
                f"「{project.name}」のRAGストアを、いまは変えられません。",
                "別の画面で、埋め込みモデルを試している途中です。または、フォルダに書き込む権限がありません。",
                f"そちらの終了を待つか、権限を確かめてください: ls -ld '{home}'",
            )
        clear()
        try:
            yield home / "trial"
        finally:
            clear()


def try_embedder(project: Project, folder: str | Path = "") -> fusion.Fusion:
    """Try an embedding model on a copy of a project's store, and keep it only if it helps on the development questions.

    Whoever opens the project's store from then on searches with it. A model that does not help leaves everything as it was,
    unless it is the one that was kept.

    Args:
        project: The project; its store must hold documents.
        folder: A sentence-transformers folder, relative to the working folder or to where kit.toml lies; "" fits a model to
            the project's own chunks, in minutes on a processor, and lets it lie in the project's ``.kit/``.

    Returns:
        What ``kit.fit_weight`` found.

    Raises:
        DataError: There are too few development questions with evidence or too few chunks, or the folder cannot be used.
        StoreError: The store holds nothing yet, or a model is being tried by another process.
    """
    questions = fusion.usable(project.development())
    _filled(project, project_store(project, model=False))
    with _workshop(project) as place:
        with locked(project.store), store_errors(place):
            counts = shutil.ignore_patterns("corpus.sqlite*")  # somebody may just be reading them; they are made anew
            store = Store(shutil.copytree(project.store, place / "store", ignore=counts))
        model = folder_of(folder, settings.load().root) if folder else fit_embedder(store, place / "model", progress=Bar("モデルの作成"))
        embedder = Embedder(model)
        store.embed(embedder)
        found = fusion.fit_weight(store, questions)
        home = project.embedder.parent
        if found.weight:
            if not folder:
                model = model.rename(tempfile.mkdtemp(prefix="own-", dir=home))
                syncfs(home)
            told = {"folder": model.relative_to(home) if model.is_relative_to(home) else model, "embedder": embedder.identity}
            write_atomically(project.embedder, json.dumps(to_json(told | {"weight": found.weight}), ensure_ascii=False))
        elif embedder.identity == _kept(project).get("embedder"):
            project.embedder.unlink()
        else:
            return found
        project_store(project)
    return found


def build_store(project: Project, *, progress: Callable[..., None] | None = None) -> tuple[Store, Added]:
    """Bring a project's store up to date with its ``documents/`` folder (``Store.sync``).

    Args:
        project: The project.
        progress: Called with (read, planned) files; one that cannot be opened may come on top of those planned.
    """
    store = project_store(project)
    looked: list[FileReading] = []
    files = (f"/{file.relative_to(project.documents)}" for file in project.documents.rglob("*") if not file.is_dir())
    planned = sum("/." not in name and not name.lower().endswith(f"/{ACL_NAME}") for name in files)

    def noted() -> Iterator[Document]:
        for done, document in enumerate(load(project.documents), 1):
            looked.append(FileReading.of(document))
            if progress:  # here, not in the store: reading takes the time, and the store works in batches
                progress(done, planned)
            yield document

    added = store.sync(noted())
    _write_report(project, ReadingReport(tuple(looked)))
    return store, added


def reading_report(project: Project) -> ReadingReport:
    """Return what became of each file when a project's store was last brought up to date; empty where it never was."""
    path = project.reading
    return ReadingReport.from_json(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})


def forget_document(project: Project, name: str) -> Erasure:
    """Erase a document from a project's store, and its name from the reading report beside it (see ``Store.forget``).

    A model that was fitted to the project's own chunks knows words of it, and goes with it.
    """
    with _workshop(project) as place:  # a copy of the store that a killed trial left goes, too
        _write_report(project, ReadingReport(tuple(file for file in reading_report(project).files if file.name != name)))
        erasure = project_store(project, model=False).forget(name)
        if _kept(project).get("folder", place).parent == place.parent and project.embedder.exists():
            project.embedder.unlink()
            project_store(project)
    return erasure


def _write_report(project: Project, report: ReadingReport) -> None:
    # Beside the store: a file's name is often its title, and no other file of the store may hold that after ``forget``.
    write_atomically(project.reading, json.dumps(to_json(report), ensure_ascii=False, indent=1))


def open_store(project: Project) -> Store:
    """Open a project's store.

    Raises:
        StoreError: It holds nothing yet.
    """
    return _filled(project, project_store(project))


def _filled(project: Project, store: Store) -> Store:
    if not len(store):
        raise StoreError(
            f"「{project.name}」のRAGストアに文書がありません。", "文書の登録（ノートブック 02）がまだ済んでいません。",
            f"ノートブック 02 か、`kit store {project.folder}` を実行してください。",
        )
    return store
