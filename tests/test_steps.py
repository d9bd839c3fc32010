"""The steps that notebooks and the command line share: seal, runs, facts about a run."""

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
from kit.interface.steps import about, decided_run, open_run
from kit.interface.stores import build_store, open_store
from kit.knowledge.store import Store
from kit.trust.seal import seal
from tests.projects import small_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs"))
    return find_project(small_project(tmp_path / "p"))


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
