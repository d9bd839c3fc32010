"""What decides the candidate of a PoC, and what its notebooks are told of it; no kernel is started."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from kit.errors import ParameterError, SettingsError, UnreachableError
from kit.interface import cli, poc
from tests.projects import small_project

NAMES = ("KIT_LLM_URL", "KIT_LLM_MODEL")


class Served(SimpleNamespace):
    """A model server that only says where it is."""

    url, model, temporary = "http://127.0.0.1:8123/v1", "served", False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def failure(self):
        return None


@pytest.fixture
def go(tmp_path, monkeypatch, capsys):
    """Call ``kit poc`` with options; return the readers and the settings that the notebooks got, and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KIT_RUNS", raising=False)
    small_project(tmp_path / "p")
    seen = []

    def notebook(name, output, given):
        seen.append((given.get("reader"), {key: os.environ[key] for key in NAMES if key in os.environ}))

    monkeypatch.setattr(poc.notebooks, "run", notebook)
    monkeypatch.setattr(poc, "read_decision", lambda run: SimpleNamespace(folder=run, outcome="GO", reason=""))

    def call(*options):
        seen.clear()
        before = dict(os.environ)
        assert cli.main(["poc", "p", *options]) == 0
        assert dict(os.environ) == before
        assert len(seen) == 10 and all(settings == seen[0][1] for _, settings in seen)
        return {reader for reader, _ in seen} - {None}, seen[0][1], capsys.readouterr().err

    return call


def test_without_any_setting_the_extractive_reader_is_the_candidate(go):
    readers, told, said = go()
    assert (readers, told) == ({"extractive"}, {}) and "候補" not in said


def test_a_server_in_kit_toml_is_the_candidate(go, tmp_path, monkeypatch):
    (tmp_path / "kit.toml").write_text('llm_url = "http://127.0.0.1:8001/v1"', encoding="utf-8")
    readers, told, said = go()
    assert (readers, told) == ({"llm"}, {"KIT_LLM_URL": "http://127.0.0.1:8001/v1"})
    assert said.startswith("候補: モデルサーバー http://127.0.0.1:8001/v1（設定 llm_url: kit.toml。")
    given = go("--url", "http://127.0.0.1:8002/v1")
    assert given[1] == {"KIT_LLM_URL": "http://127.0.0.1:8002/v1"} and "8002/v1\n" in given[2]
    monkeypatch.setenv("KIT_LLM_URL", "")  # as the line on stderr says
    assert go()[0] == {"extractive"}


def test_a_server_in_the_settings_is_checked_like_one_that_is_given(go, monkeypatch):
    monkeypatch.setenv("KIT_LLM_URL", "https://api.example.com/v1")
    with pytest.raises(SettingsError, match=r"api\.example\.com"):
        poc.poc("p")


@pytest.mark.parametrize("found", [False, True])
def test_a_model_is_asked_by_its_own_name_whatever_is_set(go, monkeypatch, found):
    asked = {}

    def serve(model, **given):
        asked.update(given, model=model)
        return Served(found=found)

    monkeypatch.setattr(poc, "serve", serve)
    monkeypatch.setenv("KIT_LLM_URL", "https://api.example.com/v1")
    monkeypatch.setenv("KIT_LLM_MODEL", "another")
    readers, told, said = go("--model", "m", "--context", "2048", "--users", "1", "--gpu-fraction", "0.6")
    assert (readers, told) == ({"llm"}, {"KIT_LLM_URL": Served.url, "KIT_LLM_MODEL": "served"})
    del asked["progress"]
    assert asked == {"model": "m", "context": 2048, "users": 1, "gpu_fraction": 0.6}
    assert ("動かしたままにします（止めるには: kit stop）" in said) is found


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({"model": "m"}, "poc p --model m"),
        ({"model": "m", "context": 2048, "gpu_fraction": 0.95}, "poc p --model m --context=2048 --gpu-fraction=0.95"),
        ({}, "poc p --url http://127.0.0.1:8001/v1"),
    ],
)
def test_the_command_that_goes_on_names_the_same_candidate(go, monkeypatch, options, again):
    def lost(*_):
        raise UnreachableError("落ちた。", "不明。", "見る。")

    monkeypatch.setenv("KIT_LLM_URL", "http://127.0.0.1:8001/v1")
    monkeypatch.setattr(poc, "serve", lambda model, **given: Served(found=False))
    monkeypatch.setattr(poc, "_LAST_WORDS_S", 0.0)
    monkeypatch.setattr(poc.notebooks, "run", lost)
    with pytest.raises(UnreachableError) as caught:
        poc.poc(Path("p"), **options)
    assert caught.value.remedy.endswith(again)


def test_two_candidates_are_refused_before_anything_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(poc, "serve", lambda *_, **__: pytest.fail("started"))
    small_project(tmp_path / "p")
    with pytest.raises(ParameterError, match="同時に"):
        poc.poc(tmp_path / "p", url="http://127.0.0.1:1/v1", model="models/a")
