"""A project's store: it follows the documents, tells what became of each file, and is refused while empty."""


import pytest

from kit.errors import StoreError
from kit.interface import stores
from kit.interface.project import find_project
from kit.interface.stores import build_store, open_store, reading_report
from tests.projects import ACL, DOCUMENTS, small_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs"))
    return find_project(small_project(tmp_path / "p"))


def names(store):
    return set(store.documents())


def test_the_store_follows_the_documents(project):
    store, added = build_store(project)
    assert (added.new, added.replaced, added.unchanged, added.unreadable) == (5, 0, 0, ())
    assert names(store) == set(DOCUMENTS)
    (project.documents / "内線表.csv").unlink()
    (project.documents / "就業規則.txt").write_text("始業時刻は午前9時とする。", encoding="utf-8")
    (project.documents / "新設").mkdir()
    (project.documents / "新設" / "規程.md").write_text("# 新規程\n\n本文。", encoding="utf-8")
    store, added = build_store(project)
    assert (added.new, added.replaced, added.unchanged) == (1, 1, 3)
    assert names(store) == set(DOCUMENTS) - {"内線表.csv"} | {"新設/規程.md"}
    assert build_store(project)[1].unchanged == 5


def test_who_may_read_follows_acl_csv(project):
    store, _ = build_store(project)

    def readable(user):
        return {hit.chunk.document for hit in store.search("役員の報酬月額", k=10, as_user=user)}

    assert "役員報酬.md" in readable("executives") and "役員報酬.md" not in readable("")
    (project.documents / "acl.csv").write_text(ACL.replace("executives", "hr"), encoding="utf-8")
    _, added = build_store(project)
    assert (added.replaced, added.unchanged) == (1, 4)
    assert "役員報酬.md" in readable("hr") and "役員報酬.md" not in readable("executives")


def test_a_document_that_can_no_longer_be_read_leaves_the_store(project):
    """What the file says now is unknown; answering from what it said before would cite a text that is not there."""
    build_store(project)
    text = (project.documents / "旅費規程.md").read_bytes()
    (project.documents / "旅費規程.md").write_bytes(b"")
    store, added = build_store(project)
    assert len(added.unreadable) == 1
    assert "旅費規程.md" not in names(store)
    (project.documents / "旅費規程.md").write_bytes(text)
    assert names(build_store(project)[0]) == set(DOCUMENTS)


def test_a_stopped_pass_takes_nothing_out(project, monkeypatch):
    build_store(project)
    loaded = stores.load

    def stopped(folder):
        yield next(iter(loaded(folder)))
        raise KeyboardInterrupt

    monkeypatch.setattr(stores, "load", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_store(project)
    assert names(open_store(project)) == set(DOCUMENTS)


def test_every_file_is_counted_by_the_progress(project):
    (project.documents / "壊.pdf").write_bytes(b"%PDF-1.7")
    seen = []
    (project.documents / ".ipynb_checkpoints").mkdir()
    (project.documents / ".ipynb_checkpoints" / "控え.md").write_text("# 控え", encoding="utf-8")
    build_store(project, progress=lambda *counts: seen.append(counts))
    assert seen == [(done, len(DOCUMENTS) + 1) for done in range(1, len(DOCUMENTS) + 2)]


def test_the_progress_moves_with_each_file_read(project, monkeypatch):
    """A store writes fifty documents at once; who waits wants to see each of them."""
    told, loaded = [], stores.load

    def slow(folder):
        for number, document in enumerate(loaded(folder)):
            assert len(told) == number
            yield document

    monkeypatch.setattr(stores, "load", slow)
    build_store(project, progress=lambda *counts: told.append(counts))
    assert len(told) == len(DOCUMENTS)


def test_the_report_of_the_last_pass_names_every_file(project):
    assert "まだ" not in reading_report(project)._repr_html_() and reading_report(project).files == ()
    (project.documents / "壊.pdf").write_bytes(b"%PDF-1.7")
    build_store(project)
    build_store(project)  # what has not changed was read all the same
    report = reading_report(project)
    assert [file.name for file in report.files] == sorted([*DOCUMENTS, "壊.pdf"])
    assert {file.name: file.mark for file in report.files}["壊.pdf"] == "×"
    assert all(file.letters > 20 and file.places for file in report.files if file.mark == "○")


def test_a_report_of_an_earlier_release_is_none(project):
    build_store(project)
    project.reading.write_text('{"unreadable": ["a.pdf: x"], "doubts": []}', encoding="utf-8")
    assert reading_report(project).files == ()


def test_a_document_whose_title_is_its_name_can_be_forgotten(project):
    name = "とても長い名前の規程文書.txt"
    (project.documents / name).write_text("とても長い名前の規程文書の本文。", encoding="utf-8")
    store, _ = build_store(project)
    assert store.forget(name).chunks == 1
    build_store(project)
    assert "feedback.jsonl" in str(stores.forget_document(project, name))
    assert name not in {file.name for file in reading_report(project).files}


def test_an_empty_store_is_not_opened_and_the_remedy_is_to_fill_it(project):
    with pytest.raises(StoreError, match="RAGストアに文書がありません") as caught:
        open_store(project)
    assert f"kit store {project.folder}" in caught.value.remedy
    build_store(project)
    assert names(open_store(project)) == set(DOCUMENTS)
