import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kit import settings
from kit.errors import SettingsError

ROOT = Path(__file__).parents[1]
HEAVY = {"numpy", "pandas", "pyarrow", "lancedb", "torch", "scipy", "matplotlib", "sudachipy", "openpyxl", "aiohttp", "yaml"}
NAMES = ("runs", "prices", "llm_url", "llm_model", "llm_timeout_s", "allowed_hosts")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """An empty folder to work in, without settings from outside."""
    for name in NAMES:
        monkeypatch.delenv(f"KIT_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, text):
    (folder / "kit.toml").write_text(textwrap.dedent(text), encoding="utf-8")


def assert_refused(*parts):
    with pytest.raises(SettingsError) as caught:
        settings.load()
    for part in parts:
        assert part in str(caught.value)


def test_defaults_are_complete_and_say_so(project):
    found = settings.load()
    assert (found.root, found.runs) == (project, project / "runs")
    assert (found.llm_url, found.llm_model, found.llm_timeout_s, found.allowed_hosts) == ("", "", 60.0, ())
    assert found.prices.is_file()  # the table that comes with the kit
    assert found.sources == dict.fromkeys(NAMES, "既定値")


def test_environment_before_file_before_default(project, monkeypatch):
    write(project, 'llm_url = "http://127.0.0.1:1/v1"\nllm_model = "file"')
    monkeypatch.setenv("KIT_LLM_MODEL", "environment")
    found = settings.load()
    assert (found.llm_url, found.llm_model, found.llm_timeout_s) == ("http://127.0.0.1:1/v1", "environment", 60.0)
    assert found.sources["llm_url"] == "kit.toml"
    assert found.sources["llm_model"] == "環境変数 KIT_LLM_MODEL"
    assert found.sources["llm_timeout_s"] == "既定値"


def test_an_empty_environment_variable_switches_off_what_the_file_says(project, monkeypatch):
    write(project, 'llm_url = "http://127.0.0.1:1/v1"')
    monkeypatch.setenv("KIT_LLM_URL", "")
    assert settings.load().llm_url == ""


def test_every_setting_can_come_from_the_environment(project, monkeypatch):
    given = {"runs": "/r", "prices": "/p", "llm_url": "u", "llm_model": "m", "llm_timeout_s": "1.5"}
    for name, text in {**given, "allowed_hosts": " a.example , ,b.example"}.items():
        monkeypatch.setenv(f"KIT_{name.upper()}", text)
    found = settings.load()
    assert (found.runs, found.prices) == (Path("/r"), Path("/p"))
    assert (found.llm_url, found.llm_model, found.llm_timeout_s) == ("u", "m", 1.5)
    assert found.allowed_hosts == ("a.example", "b.example")
    assert set(found.sources) == set(settings._DEFAULTS) == set(NAMES)
    assert all(source.startswith("環境変数 KIT_") for source in found.sources.values())


def test_relative_paths_are_the_projects_not_the_working_folders(project, monkeypatch):
    write(project, 'runs = "results"\nprices = "data/my.toml"')
    below = project / "notebooks" / "work"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    found = settings.load()
    assert (found.root, found.runs, found.prices) == (project, project / "results", project / "data" / "my.toml")
    assert settings.load(below) == settings.load(project)


def test_the_nearest_kit_toml_wins(project):
    write(project, 'llm_model = "outer"')
    inner = project / "inner"
    inner.mkdir()
    write(inner, 'llm_model = "inner"')
    assert settings.load(inner).llm_model == "inner"


def test_an_unknown_setting_is_refused_with_all_that_are_known(project):
    write(project, 'llm_ulr = "http://127.0.0.1/v1"')
    assert_refused("「llm_ulr」", "kit.toml", *NAMES)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("llm_url = 8000", "文字列"),
        ("runs = true", "文字列"),
        ('llm_timeout_s = "60"', "数値"),
        ("llm_timeout_s = true", "数値"),
        ("llm_timeout_s = 0", "数値"),
        ("llm_timeout_s = -1.5", "数値"),
        ("llm_timeout_s = nan", "数値"),
        ("llm_timeout_s = inf", "数値"),
        ('allowed_hosts = "api.example.com"', "リスト"),
        ("allowed_hosts = [1]", "リスト"),
        ("[llm_url]\nurl = 1", "文字列"),
    ],
)
def test_a_wrong_type_is_refused_with_the_right_one(project, line, expected):
    write(project, line)
    assert_refused(line.split()[0].strip("[]"), expected, "kit.toml")


@pytest.mark.parametrize("text", ["", "long", "0", "-1", "nan", "inf", "60s"])
def test_a_timeout_from_the_environment_is_checked_too(monkeypatch, text):
    monkeypatch.setenv("KIT_LLM_TIMEOUT_S", text)
    assert_refused("KIT_LLM_TIMEOUT_S", text, "0より大きい数値", "kit.toml")


def test_a_whole_number_is_a_timeout(project):
    write(project, "llm_timeout_s = 90")
    assert settings.load().llm_timeout_s == 90.0


@pytest.mark.parametrize("content", [b'llm_url = "', "llm_model = \"日本語\"".encode("cp932"), b"\xff\xfe\x00", b"a = 1\na = 2"])
def test_a_broken_file_is_refused_by_name(project, content):
    (project / "kit.toml").write_bytes(content)
    assert_refused(str(project / "kit.toml"), "TOML")


def test_a_file_from_windows_notepad_is_read(project):
    (project / "kit.toml").write_bytes(b"\xef\xbb\xbfllm_model = \"a\"\r\n")
    assert settings.load().llm_model == "a"


def test_the_shipped_kit_toml_is_valid_and_names_every_setting(project):
    text = (ROOT / "kit.toml").read_text(encoding="utf-8")
    lines = [line.removeprefix("# ").split("  #")[0] for line in text.splitlines() if line.startswith("# ") and " = " in line]
    assert [line.split(" = ")[0] for line in lines] == list(settings._DEFAULTS)
    write(project, "\n".join(lines))
    assert set(settings.load().sources.values()) == {"kit.toml"}


def test_settings_are_shown_with_their_sources(project):
    write(project, 'llm_model = "<b>"')
    html = settings.load()._repr_html_()
    assert "&lt;b&gt;" in html and "kit.toml" in html and "既定値" in html


def fresh(code, **environment):
    """Run code in a fresh interpreter, in which no switch is set, and return what it prints as JSON."""
    clean = {name: value for name, value in os.environ.items() if name not in settings.OFFLINE_SWITCHES}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, env=clean | environment, capture_output=True, check=True
    )
    return json.loads(done.stdout)


def test_import_kit_sets_every_switch_whatever_was_set_before():
    code = "import kit, os, json; print(json.dumps(dict(os.environ)))"
    seen = fresh(code, HF_HUB_OFFLINE="0", DO_NOT_TRACK="")
    assert {name: seen.get(name) for name in settings.OFFLINE_SWITCHES} == settings.OFFLINE_SWITCHES


def test_any_module_of_the_kit_sets_the_switches_first():
    code = "import kit.trust.seal, os, json; print(json.dumps(dict(os.environ)))"
    assert settings.OFFLINE_SWITCHES.items() <= fresh(code).items()


def test_import_kit_is_light_and_fast():
    code = """
        import json, sys, time
        begun = time.perf_counter()
        import kit
        print(json.dumps([time.perf_counter() - begun, sorted({name.partition(".")[0] for name in sys.modules})]))
    """
    runs = [fresh(code) for _ in range(3)]
    assert not HEAVY & set(runs[0][1])
    assert min(seconds for seconds, _ in runs) < 0.3


def test_the_table_of_settings_is_written_for_people(monkeypatch):
    monkeypatch.setenv("KIT_ALLOWED_HOSTS", "a.example,b.example")
    shown = settings.load()._repr_html_()
    assert ">なし<" in shown and ">60 秒<" in shown and ">a.example、b.example<" in shown
    assert "()" not in shown
