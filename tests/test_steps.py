"""The steps that notebooks and the command line share: store, runs, facts about a run, tables to look at."""

import json
import shutil
from types import SimpleNamespace

import pytest

from kit.answering.extractive import SHIPPED, ExtractiveReader
from kit.answering.llm import LLMReader
from kit.answering.rag import KeywordSearch, Rag
from kit.errors import RunError, SettingsError, StoreError
from kit.evaluation.calibration import calibrate
from kit.evaluation.criteria import read_criteria
from kit.interface import steps
from kit.interface.project import find_project
from kit.interface.steps import about, build_store, decided_run, open_run, open_store, reading_report
from kit.knowledge.store import Store
from kit.trust.seal import seal
from tests.projects import ACL, DOCUMENTS, small_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs"))
    return find_project(small_project(tmp_path / "p"))


def names(store):
    return set(store.documents())


# --- the store of a project


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
    loaded = steps.load

    def stopped(folder):
        yield next(iter(loaded(folder)))
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "load", stopped)
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
    told, loaded = [], steps.load

    def slow(folder):
        for number, document in enumerate(loaded(folder)):
            assert len(told) == number
            yield document

    monkeypatch.setattr(steps, "load", slow)
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
    assert "feedback.jsonl" in str(steps.forget_document(project, name))
    assert name not in {file.name for file in reading_report(project).files}


def test_an_empty_store_is_not_opened_and_the_remedy_is_to_fill_it(project):
    with pytest.raises(StoreError, match="RAGストアに文書がありません") as caught:
        open_store(project)
    assert f"kit store {project.folder}" in caught.value.remedy
    build_store(project)
    assert names(open_store(project)) == set(DOCUMENTS)


# --- runs


@pytest.fixture
def sealed(project):
    return seal(read_criteria(project.criteria))


def test_a_run_is_the_given_one_or_the_stopped_one_or_a_fresh_one(project, sealed, tmp_path):
    assert open_run(project, sealed, str(tmp_path / "mine")) == tmp_path / "mine"
    first = open_run(project, sealed)
    assert first.parent == tmp_path / "runs"
    assert open_run(project, sealed) == first, "it was stopped before its decision"
    (first / "decision.json").touch()
    second = open_run(project, sealed)
    assert second != first
    assert open_run(project, sealed) == second


def test_no_run_begins_on_a_damaged_store(project, sealed, tmp_path):
    build_store(project)
    (data,) = (project.store / "chunks.lance" / "data").glob("*.lance")
    whole = data.read_bytes()
    data.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    with pytest.raises(StoreError, match="kit store sync") as refused:
        open_run(project, sealed)
    assert data.name in refused.value.what and not list((tmp_path / "runs").glob("*-p"))
    data.unlink()
    with pytest.raises(StoreError, match=data.name):
        open_run(project, sealed, str(tmp_path / "mine"))
    data.write_bytes(whole)
    assert open_run(project, sealed).is_dir()


def test_no_run_begins_where_the_last_changes_are_missing(project, sealed):
    build_store(project)
    (project.documents / "新設.md").write_text("# 新規程", encoding="utf-8")
    build_store(project)
    head = min((project.store / "chunks.lance" / "_versions").glob("*.manifest"))  # Lance counts down
    head.write_bytes(b"")
    open_store(project)
    with pytest.raises(StoreError, match="corrupt"):
        open_run(project, sealed)
    build_store(project)
    assert open_run(project, sealed).is_dir()


def test_a_run_under_other_criteria_is_not_taken_up(project, sealed):
    first = open_run(project, sealed)
    (first / "seal.json").write_text(json.dumps({"sha256": "0" * 64}), encoding="utf-8")
    assert open_run(project, sealed) != first


def test_the_decided_run_is_the_given_one_or_the_last(project, sealed, tmp_path):
    with pytest.raises(RunError, match="判定済みの実行がありません"):
        decided_run(project)
    run = open_run(project, sealed)
    with pytest.raises(RunError, match="判定済みの実行がありません"):
        decided_run(project)
    (run / "decision.json").touch()
    assert decided_run(project) == run
    open_run(project, sealed)
    assert decided_run(project) == run
    assert decided_run(project, str(tmp_path / "mine")) == tmp_path / "mine"


# --- what a run is about


def test_facts_about_a_run_are_plain_and_true(project):
    (project.documents / "壊.pdf").write_bytes(b"%PDF-1.7")
    store, added = build_store(project)
    facts = about(project, store, {"baseline": KeywordSearch(store), "candidate": Rag(store)})
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["documents"], facts["chunks"], facts["external"]) == (5, len(store), False)
    assert (facts["candidate"], facts["calibration"], facts["scope"]) == ("抽出型", SHIPPED.source, "")
    notes = "\n".join(facts["notes"])
    assert "同梱" in notes
    assert added.unreadable[0] in notes and "1 件" in notes


def test_fitted_thresholds_and_readable_files_need_no_note(project):
    (project.folder / "development.jsonl").write_text(
        "".join(
            json.dumps({"question": f"{q}{n}", "answers": [["3,000円"]] if n % 2 else []}, ensure_ascii=False) + "\n"
            for n in range(40)
            for q in (["国内出張の日当は"] if n % 2 else ["社食の献立は"])
        ),
        encoding="utf-8",
    )
    project = find_project(project.folder)
    store, _ = build_store(project)
    calibration = calibrate(store, project.development())
    assert calibration != SHIPPED
    facts = about(project, store, {"candidate": Rag(store, ExtractiveReader(calibration))})
    assert facts["calibration"] == calibration.source
    assert facts["notes"] == []


@pytest.mark.parametrize(
    ("url", "allowed", "external"), [("http://127.0.0.1:8000/v1", "", False), ("http://203.0.113.9/v1", "203.0.113.9", True)]
)
def test_only_an_arm_that_calls_outside_counts_as_sent_outside(project, monkeypatch, url, allowed, external):
    """By the address that the reader calls: a server that ``kit serve`` started stands in no setting."""
    monkeypatch.setenv("KIT_ALLOWED_HOSTS", allowed)
    store, _ = build_store(project)

    def candidate(address):
        return Rag(store, LLMReader(SimpleNamespace(url=address, model="遠い")))

    assert about(project, store, {"candidate": Rag(store)})["external"] is False
    assert about(project, store, {"baseline": Rag(store), "candidate": candidate(url)})["external"] is external
    with pytest.raises(SettingsError):
        about(project, store, {"candidate": candidate("http://198.51.100.1/v1")})


def test_the_sample_says_that_it_is_a_demonstration(tmp_path, monkeypatch):
    sample = find_project(steps.__file__.rsplit("/kit/", 1)[0] + "/data/sample")
    store = Store(tmp_path / "store")
    assert "架空" in about(sample, store, {"candidate": KeywordSearch(store)})["scope"]
    copy = shutil.copytree(sample.folder, tmp_path / "sample", ignore=shutil.ignore_patterns(".kit", "sources"))
    assert about(find_project(copy), store, {"candidate": KeywordSearch(store)})["scope"] == ""
