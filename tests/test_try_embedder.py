"""An embedding model in a project: tried on a copy, kept only if it helps, used by whoever opens the store."""

import json
import shutil
from functools import partial

import numpy as np
import pytest

from kit.errors import DataError, StoreError
from kit.evaluation import fusion
from kit.interface import stores
from kit.interface.project import find_project
from kit.interface.stores import build_store, forget_document, open_store, project_store, try_embedder
from kit.knowledge import embedding
from kit.knowledge.disk import locked
from kit.knowledge.embedding import Embedder
from kit.knowledge.fitting import fit_embedder
from tests.projects import CRITERIA

ASKED = {
    "旅費": "出張", "給与": "賃金", "休暇": "休み", "住宅": "家賃", "資格": "免許", "名刺": "カード",
    "電話": "携帯", "車両": "自動車", "保険": "共済", "健診": "診断", "残業": "超過", "印鑑": "判子",
}  # fmt: skip
"""Word of a document → the word that people ask with."""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Twenty-four documents of one wording but for a word, and questions with another word."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stores, "fit_embedder", partial(fit_embedder, dimensions=4, steps=2))
    folder = tmp_path / "p"
    (folder / "documents").mkdir(parents=True)
    for word in ASKED:
        for part in ("手続", "様式"):
            text = f"{word}の{part}\n\n{word}の{part}を、総務課の窓口に出すこと。期限は月末とする。\n"
            (folder / "documents" / f"{word}{part}.txt").write_text(text, encoding="utf-8")
    (folder / "criteria.yaml").write_text(CRITERIA, encoding="utf-8")
    (folder / "questions.jsonl").write_text(json.dumps({"question": "社食は", "answers": []}) + "\n", encoding="utf-8")
    asked = [(f"{other}の手続{tail}", word) for word, other in ASKED.items() for tail in ("は", "の窓口は", "の期限は")]
    lines = [
        json.dumps({"question": question, "answers": [["月末"]], "evidence": [{"document": f"{word}手続.txt"}]}, ensure_ascii=False)
        for question, word in asked
    ]
    (folder / "development.jsonl").write_text("\n".join(lines), encoding="utf-8")
    project = find_project(folder)
    build_store(project)
    return project


def made(folder, pairs):
    """A model in which the words of a pair point the same way, each pair another one."""
    words = [word for pair in pairs for word in pair]
    embedding.save([f"w:{word}" for word in words], np.repeat(np.eye(len(pairs), dtype=np.float32), 2, axis=0), folder)
    return folder


@pytest.fixture
def helpful(tmp_path):
    return made(tmp_path / "models" / "helpful", list(ASKED.items()))


@pytest.fixture
def useless(tmp_path):
    return made(tmp_path / "models" / "useless", [("総務", "窓口"), ("期限", "月末")])


def first(project, question="出張の手続は"):
    return open_store(project).search(question)[0].chunk.document


def beside(project):
    return sorted(path.name for path in project.embedder.parent.iterdir() if path.is_dir())


def state(project):
    """What lies under .kit, by content, without locks and without what SQLite moves about when it is read."""
    home = project.store.parent
    files = [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock" and "corpus.sqlite" not in path.name]
    return {path.relative_to(home): path.read_bytes() for path in files}


def test_a_model_that_helps_is_used_by_whoever_opens_the_store(project, helpful, tmp_path):
    assert first(project) != "旅費手続.txt"
    found = try_embedder(project, "models/helpful")
    assert found.weight > 0 and found.low > 0
    assert open_store(project).weight == found.weight
    assert first(project) == "旅費手続.txt"
    (project.documents / "新規.txt").write_text("慶弔の届出\n\n届出は人事課に出す。", encoding="utf-8")
    store, added = build_store(project)
    assert (added.new, store.weight) == (1, found.weight)
    tags = store.tags()
    assert try_embedder(find_project(project.folder), helpful).weight == found.weight
    assert open_store(project).tags() == tags, "its vectors are there already"
    assert beside(project) == []


def test_a_model_that_does_not_help_leaves_everything_as_it_was(project, useless, helpful):
    before = state(project)
    assert try_embedder(project, useless).weight == 0
    assert state(project) == before
    kept = try_embedder(project, helpful).weight
    before = state(project)
    assert try_embedder(project, useless).weight == 0
    assert state(project) == before
    assert open_store(project).weight == kept


def test_a_kept_model_that_helps_no_more_goes(project, helpful, monkeypatch):
    try_embedder(project, helpful)
    monkeypatch.setattr(fusion, "fit_weight", lambda store, questions: fusion.Fusion(0.0, 0.1, -0.1, -0.2, 0.0, 36))
    assert try_embedder(project, helpful).weight == 0
    assert not project.embedder.exists()
    assert (open_store(project).weight, build_store(project)[1].unchanged) == (0.0, 24)


def weighed(weight):
    def fit(store, questions):
        store.weigh(weight)
        return fusion.Fusion(weight, weight, 0.1, 0.05 * (weight > 0), 0.2, len(questions))

    return fit


def test_an_own_model_lies_in_the_project_and_moves_with_it(project, monkeypatch, tmp_path):
    monkeypatch.setattr(fusion, "fit_weight", weighed(0.3))
    assert try_embedder(project).weight == 0.3
    (folder,) = beside(project)
    told = json.loads(project.embedder.read_bytes())
    assert (told["folder"], told["weight"]) == (folder, 0.3)
    assert try_embedder(project).weight == 0.3
    assert len(beside(project)) == 1 and beside(project) != [folder], "the new one took its place"
    moved = find_project(shutil.move(project.folder, tmp_path / "elsewhere"))
    assert open_store(moved).weight == 0.3
    monkeypatch.setattr(fusion, "fit_weight", weighed(0.0))
    try_embedder(moved)
    assert (beside(moved), moved.embedder.exists(), open_store(moved).weight) == ([], False, 0.0), "it was the same model"


def test_forgetting_takes_an_own_model_along_and_no_other(project, helpful, monkeypatch):
    try_embedder(project, helpful)
    forget_document(project, "印鑑様式.txt")
    assert open_store(project).weight > 0
    monkeypatch.setattr(fusion, "fit_weight", weighed(0.3))
    try_embedder(project)
    with pytest.raises(DataError):
        forget_document(project, "ない.txt")
    assert open_store(project).weight == 0.3
    forget_document(project, "印鑑手続.txt")
    assert (beside(project), project.embedder.exists(), open_store(project).weight) == ([], False, 0.0)
    assert all("印鑑".encode() not in content for content in state(project).values())


# --- interrupted


class Killed(BaseException):
    """As if the process ended here: what follows does not happen, nor does any clearing up."""


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("at", ["copied", "made", "embedded", "weighed", "remember", "remembered", "end"])
def test_the_project_opens_wherever_a_trial_was_killed(project, helpful, monkeypatch, at, own):
    with monkeypatch.context() as patch:
        patch.setattr(fusion, "fit_weight", weighed(0.3))
        place, name = {
            "copied": (shutil, "copytree"), "made": (stores, "Embedder"), "embedded": (stores.Store, "embed"), "weighed": (fusion, "fit_weight"),
            "remember": (stores, "write_atomically"), "remembered": (stores, "write_atomically"), "end": (stores, "project_store"),
        }[at]  # fmt: skip
        patch.setattr(place, name, killed(getattr(place, name), before=at == "remember", calls=2 if at == "end" else 1))
        patch.setattr(shutil, "rmtree", lambda folder: None)
        with pytest.raises(Killed):
            try_embedder(project, "" if own else helpful)
    kept = at in ("remembered", "end")
    assert beside(project)
    assert open_store(project).weight == (0.3 if kept else 0.0)
    (project.documents / "新規.txt").write_text("慶弔の届出\n\n届出は人事課に出す。", encoding="utf-8")
    store, added = build_store(project)
    assert (added.new, len(store.documents()), store.verify().ok) == (1, 25, True)
    with pytest.raises(DataError):
        forget_document(project, "ない.txt")
    assert [name[:4] for name in beside(project)] == ["own-"] * (kept and own), "what the trial left has gone"
    assert open_store(project).weight == (0.3 if kept else 0.0)


def killed(function, *, before, calls):
    """End the process before a function or after it, when it is called for so many times."""
    count = []

    def done(*given, **named):
        count.append(1)
        if len(count) < calls:
            return function(*given, **named)
        if not before:
            function(*given, **named)
        raise Killed

    return done


def test_ctrl_c_leaves_nothing(project, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    before = state(project)
    monkeypatch.setattr(fusion, "fit_weight", stopped)
    with pytest.raises(KeyboardInterrupt):
        try_embedder(project)
    assert (state(project), beside(project)) == (before, [])


def test_vectors_follow_the_kept_model_after_a_rollback_or_in_a_new_store(project, helpful):
    kept = try_embedder(project, helpful).weight
    project_store(project, model=False).rollback()
    assert (open_store(project).weight, first(project)) == (kept, "旅費手続.txt")
    shutil.rmtree(project.store)
    assert build_store(project)[0].weight == kept
    assert first(project) == "旅費手続.txt"
    project.embedder.unlink()
    assert (open_store(project).weight, build_store(project)[1].unchanged) == (0.0, 24)


# --- refusals


@pytest.mark.parametrize("harm", ["gone", "changed", "damaged"])
def test_a_model_that_is_not_there_any_more_is_told_with_both_ways_on(project, helpful, harm):
    try_embedder(project, helpful)
    config = helpful / "config_sentence_transformers.json"
    if harm == "gone":
        helpful.rename(helpful.with_name("moved"))
    elif harm == "changed":
        config.write_text(config.read_text() + " ")
    else:
        project.embedder.write_text("[")
    for opened in (open_store, build_store):
        with pytest.raises(StoreError, match="埋め込みモデルを読み込めません") as caught:
            opened(project)
    assert "kit.try_embedder(" in caught.value.remedy and f"rm '{project.embedder}'" in caught.value.remedy
    assert project_store(project, model=False).verify().ok
    if harm == "gone":
        try_embedder(project, helpful.with_name("moved"))
    else:
        project.embedder.unlink()
    assert (open_store(project).weight > 0, len(open_store(project).documents())) == (harm == "gone", 24)


def test_nothing_begins_without_questions_or_documents_or_alone(project, helpful):
    with locked(project.store.parent / "store"), locked(made_folder(project)):
        with pytest.raises(StoreError, match="いまは変えられません"):
            try_embedder(project, helpful)
        with pytest.raises(StoreError, match="いまは変えられません"):
            forget_document(project, "印鑑手続.txt")
    with pytest.raises(DataError, match="埋め込みモデルのフォルダ"):
        try_embedder(project, "models/none")
    shutil.rmtree(project.store)
    with pytest.raises(StoreError, match="文書がありません"):
        try_embedder(project, helpful)
    project.development_file.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="0 問"):
        try_embedder(project)


def made_folder(project):
    project.embedder.parent.mkdir(parents=True, exist_ok=True)
    return project.embedder.parent


def test_a_vector_that_counts_changes_what_a_run_is_about(project, helpful):
    before = open_store(project).fingerprint()
    try_embedder(project, helpful)
    store = open_store(project)
    assert store.fingerprint() != before
    assert Embedder(helpful).identity == json.loads(project.embedder.read_bytes())["embedder"]
    store.weigh(0.0)
    assert store.fingerprint() == before
