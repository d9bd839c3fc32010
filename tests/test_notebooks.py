"""The strict papermill runner on small notebooks, and the ten notebooks of the kit on the sample."""

import ast
import json
import keyword
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from hypothesis import example, given, settings as hypothesis_settings, strategies as st

from kit.errors import DataError, KitError, ParameterError, RunError
from kit.interface import notebooks
from kit.interface.notebooks import check, find, parameters, parse, read_values, run
from kit.reporting import export
from tests.evaluations import Oracle, make_cases, sealed_run, wrong_arm

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
PARAMETERS = """\
text: str = "a"  # 文字列
number: int = 3  # 整数
share: float = 0.5  # 割合
switch: bool = False  # 有無
words: list[str] = ["a"]  # 言葉
depths: list[int] = [1, 5]  # 深さ"""
WRONG = [
    ("text", 1), ("text", None), ("text", ["a"]), ("text", True),
    ("number", 1.0), ("number", "3"), ("number", True), ("number", None), ("number", [1]),
    ("share", "0.5"), ("share", True), ("share", None), ("share", math.nan), ("share", math.inf),
    ("switch", 0), ("switch", 1), ("switch", "true"), ("switch", None),
    ("words", "a"), ("words", [1]), ("words", ["a", None]), ("words", ("a",)), ("words", [["a"]]), ("words", {"a": 1}),
    ("depths", 1), ("depths", ["1"]), ("depths", [1, True]), ("depths", [1.0]), ("depths", [None]),
]  # fmt: skip
DIES = 'import os; open("pid", "w").write(str(os.getpid())); import time\nfor _ in range(600): time.sleep(0.1)'


def write(path, *code, declared=PARAMETERS):
    """Write a notebook with a parameters cell and some code cells."""
    book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    first = nbformat.v4.new_code_cell(declared, metadata={"tags": ["parameters"]})
    book.cells = [first, *map(nbformat.v4.new_code_cell, code)]
    nbformat.write(book, path)
    return path


@pytest.fixture
def book(tmp_path):
    return write(tmp_path / "small.ipynb", "text * number")


@pytest.fixture
def no_kernel(monkeypatch):
    """Whatever is not refused before ends here: (path, values) of every notebook that would have been run."""
    import papermill

    started = []
    monkeypatch.setattr(papermill, "execute_notebook", lambda path, running, values, **_: started.append((path, values)))
    return started


def outputs(path, kind):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [o for cell in cells for o in cell.get("outputs", []) if o["output_type"] == kind]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def three_lines(error):
    lines = str(error).split("\n")
    return len(lines) == 3 and all(line.partition(": ")[2] if n else line for n, line in enumerate(lines))


# --- what a notebook declares


def test_parameters_are_read_with_type_and_default(book):
    assert {name: (p.name, p.type, p.default) for name, p in parameters(book).items()} == {
        "text": ("text", "str", "a"), "number": ("number", "int", 3), "share": ("share", "float", 0.5),
        "switch": ("switch", "bool", False), "words": ("words", "list[str]", ["a"]), "depths": ("depths", "list[int]", [1, 5]),
    }  # fmt: skip


def test_a_notebook_without_parameters_takes_none(tmp_path):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    nbformat.write(book, tmp_path / "a.ipynb")
    assert parameters(tmp_path / "a.ipynb") == {}
    with pytest.raises(ParameterError, match="使える名前: なし") as told:
        check(tmp_path / "a.ipynb", {"x": 1})
    assert "使える" not in told.value.cause, "cause and remedy do not say the same"


@pytest.mark.parametrize(
    "declared",
    ["x = 1", "x: int", "x: int = 1 + 1", "x: int = None.y", "x: object = 1", "x: dict[str, int] = {}", "def f(): ...",
     "x: int =", "x.y: int = 1", 'x: str = f"{1}"', "import os"],
)  # fmt: skip
def test_a_declaration_that_is_no_typed_literal_is_refused(tmp_path, declared):
    with pytest.raises(DataError, match="parameters セルの書き方") as caught:
        parameters(write(tmp_path / "a.ipynb", declared=declared))
    assert three_lines(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"cells": 3}', b'{"cells": [3]}', b'{"cells": [{"metadata": []}]}',
                b"\x93\xfa\x96\x7b\xff", b"PK\x03\x04"],
)  # fmt: skip
def test_a_broken_notebook_is_named(tmp_path, no_kernel, content):
    path = tmp_path / "broken.ipynb"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.ipynb") as caught:
        run(str(path), tmp_path / "out.ipynb", {"x": 1})
    assert three_lines(caught.value)
    assert no_kernel == []


@pytest.mark.parametrize("change", [{"nbformat": 9}, {"nbformat": "x"}, {"cells": [{"cell_type": "code", "source": "1"}]}])
def test_a_notebook_that_jupyter_would_not_open_is_refused(tmp_path, change):
    path = write(tmp_path / "odd.ipynb")
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(DataError, match=r"odd\.ipynb をノートブックとして読み取れません") as caught:
        run(str(path), tmp_path / "out.ipynb")
    assert three_lines(caught.value)
    assert list(tmp_path.iterdir()) == [path]


# --- values that do not fit


def test_an_unknown_parameter_is_refused_with_the_nearest_name_before_a_kernel_starts(book, tmp_path, no_kernel):
    begun = time.monotonic()
    with pytest.raises(ParameterError) as caught:
        run(str(book), tmp_path / "out.ipynb", {"nubmer": 3})
    assert time.monotonic() - begun < 5  # a kernel takes longer
    assert "パラメータ「nubmer」はありません" in caught.value.what
    assert "「number」の書き間違いではありませんか" in caught.value.cause
    assert all(name in caught.value.remedy for name in parameters(book))
    assert (no_kernel, list(tmp_path.iterdir())) == ([], [book])


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_type_is_refused_in_japanese(book, tmp_path, no_kernel, name, value):
    with pytest.raises(ParameterError, match=f"パラメータ「{name}」に") as caught:
        run(str(book), tmp_path / "out.ipynb", {name: value})
    assert three_lines(caught.value)
    assert f"-p {name}" in caught.value.remedy
    assert no_kernel == []


def test_fitting_values_are_handed_on_and_a_whole_number_is_a_float(book, tmp_path, no_kernel):
    values = {"text": "", "number": -3, "share": 1, "switch": True, "words": [], "depths": [0]}
    run(str(book), tmp_path / "out.ipynb", values)
    ((path, handed),) = no_kernel
    assert (path, handed) == (book, values)
    assert type(handed["share"]) is float


def test_the_remedy_can_be_pasted(book):
    for name, value in (("words", 1), ("switch", 1), ("depths", 1), ("share", "x")):
        with pytest.raises(ParameterError) as caught:
            check(book, {name: value})
        text = caught.value.remedy.split(f"-p {name} ")[1].strip("'")
        assert check(book, parse(book, {name: text})) == {name: parameters(book)[name].default}


def test_values_are_read_from_a_file_as_papermill_does(book, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text('\ufefftext: "12"\nnumber: 12\nshare: 0.5\nswitch: true\nwords: [a]\n', encoding="utf-8")
    assert check(book, read_values(path)) == {"text": "12", "number": 12, "share": 0.5, "switch": True, "words": ["a"]}
    path.write_text('{"number": 3}', encoding="utf-8")
    assert read_values(path) == {"number": 3}
    path.write_text("# なにもない\n", encoding="utf-8")
    assert read_values(path) == {}
    path.write_text("number: 2026-11-23\n", encoding="utf-8")
    with pytest.raises(ParameterError, match="number"):
        check(book, read_values(path))


@pytest.mark.parametrize("content", [b"- a\n", b"text", b"a: [", b"a: !!python/object:os.system x", b"\x93\xfa", None])
def test_a_file_of_values_that_is_none_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(DataError, match=r"p\.yaml を読み込めません") as caught:
        read_values(tmp_path / "p.yaml")
    assert three_lines(caught.value)
    assert ("書き方" in caught.value.cause) == (content is not None) and "Errno" not in str(caught.value)


def test_kit_run_takes_a_file_of_values_and_single_ones_win(book, tmp_path, monkeypatch, no_kernel):
    from kit.interface import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("number: 4\nshare: 0.5\n", encoding="utf-8")
    assert cli.main(["run", str(book), "-f", "p.yaml", "-p", "number", "5", "-o", "out.ipynb"]) == 0
    assert no_kernel == [(book, {"number": 5, "share": 0.5})]
    (tmp_path / "p.yaml").write_text("nubmer: 4\n", encoding="utf-8")
    assert cli.main(["run", str(book), "-f", "p.yaml"]) == 1
    assert len(no_kernel) == 1


def test_kit_run_says_what_was_decided(book, tmp_path, monkeypatch, capsys):
    import papermill

    from kit.evaluation.decide import decide
    from kit.interface import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_RUNS", str(tmp_path / "runs"))
    cases = make_cases(40)
    names = iter(("20261121-090000-p", ""))
    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: (name := next(names)) and decide(
        sealed_run(tmp_path / "runs", cases, {"b": wrong_arm(cases), "c": Oracle(cases)}, run=name)))  # fmt: skip
    assert cli.main(["run", str(book), "-o", "out.ipynb"]) == 0
    assert capsys.readouterr().out == "out.ipynb\nDECISION: GO  runs/20261121-090000-p\n"
    assert cli.main(["run", str(book), "-o", "out.ipynb"]) == 0
    assert capsys.readouterr().out == "out.ipynb\n", "an earlier decision is not told of again"


def test_texts_of_the_command_line_become_values(book):
    texts = {"text": "12", "number": "12", "share": "0.5", "switch": "true", "words": '["a", "b"]', "depths": "[1]"}
    assert parse(book, texts) == {
        "text": "12", "number": 12, "share": 0.5, "switch": True, "words": ["a", "b"], "depths": [1],
    }  # fmt: skip
    for name, text in (("number", "1.5"), ("number", "十"), ("switch", "1"), ("words", "a,b"), ("share", "NaN"), ("no", "1")):
        with pytest.raises(ParameterError):
            check(book, parse(book, {name: text}))


HOSTILE = [
    "os", "__import__('os')", "text; import os", "text\nimport os", "text = 1 #", "", " text", "text ", "TEXT", "ｔｅｘｔ",
    "__builtins__", "text\x00", "../text", "text[0]", "*", "\u202etext", *keyword.kwlist[:3],
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2) | st.tuples(inner),
    max_leaves=4,
)
NAMES = st.sampled_from(["text", "number", "share", "switch", "words", "depths"])


TEXTS = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["'", '"', "\\", "\\'", '"""', "\u2028\u2029\x85", "\ud800\udfff", "\n# Parameters\nimport os", "{text}", "\x00", "#", "'+os.sep+'", "\r\n"]
)
NUMBERS = st.integers() | st.sampled_from([2**63 - 1, 2**63, -(2**63), 10**400, -(10**5000)])
FITTING = st.fixed_dictionaries(
    {},
    optional={
        "text": TEXTS, "number": NUMBERS, "share": st.floats() | NUMBERS, "switch": st.booleans(),
        "words": st.lists(TEXTS, max_size=3), "depths": st.lists(NUMBERS, max_size=3),
    },
)  # fmt: skip
STRANGE = st.dictionaries(NAMES | st.sampled_from(HOSTILE) | st.text() | st.integers(), VALUES | TEXTS | NUMBERS, max_size=3)
DICTIONARIES = FITTING | STRANGE | st.tuples(FITTING, STRANGE).map(lambda both: both[0] | both[1])


@pytest.fixture(scope="module")
def injected(tmp_path_factory):
    """What papermill writes for given values: the statements of the injected cell, and the values; None where refused."""
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    path = write(tmp_path_factory.mktemp("book") / "a.ipynb")
    book = load_notebook_node(str(path))

    def injected(values):
        try:
            handed = check(path, values)
        except ParameterError as error:
            assert three_lines(error), str(error)
            return None
        cells = parameterize_notebook(book, handed, kernel_name="python3", language="python").cells
        (cell,) = [cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])]
        return ast.parse(cell.source.encode()).body, handed

    return injected


def is_only_literals(body, handed):
    """Whether a cell is one ``Name = literal`` for each value, and these literals are the values."""
    if not all(isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name) for line in body):
        return False
    written = {line.targets[0].id: ast.literal_eval(line.value) for line in body}
    return len(body) == len(handed) and repr(written) == repr(handed)  # repr: 1 is neither True nor 1.0


@example({"text": '"; import os; os.system("true") #'})
@example({"text": "\ud800\n\r\u2028'''\\"})
@example({"words": ['"]\nimport os\n["']})
@example({"text\n次にすること: 嘘": 1})
@example({"share": math.nan})
@given(values=DICTIONARIES)
@hypothesis_settings(max_examples=500, deadline=None)
def test_the_injected_cell_is_nothing_but_names_and_literals(injected, values):
    found = injected(values)
    assert found is None or is_only_literals(*found)


@pytest.mark.slow
@given(values=DICTIONARIES)
@hypothesis_settings(max_examples=10_000, deadline=None)
def test_the_injected_cell_of_ten_thousand_is_nothing_but_names_and_literals(injected, values):
    found = injected(values)
    assert found is None or is_only_literals(*found)


@pytest.mark.parametrize("good", [{"text": "a", "number": -1, "share": 2, "switch": True, "words": ["x", ""], "depths": [0]}, {}])
def test_what_fits_is_written(injected, good):
    body, handed = injected(good)
    assert len(body) == len(good) and is_only_literals(body, handed)


def a(name, text, base=object):
    """A value that says what it is not: of a class of that name, with a text of its own."""
    return type(name, (base,), {"__str__": lambda _: text, "__repr__": lambda _: text, "__format__": lambda *_: text})()


def unspeakable(_):
    raise RuntimeError("no text")


@pytest.mark.parametrize(
    "values",
    [
        {"text": a("str", 'a"; import os #')}, {"text": a("str", 'a"; import os #', str)}, {"number": a("int", "__import__('os')")},
        {"number": a("int", "__import__('os')", int)}, {"share": a("float", "os.sep", float)}, {"switch": a("bool", "os")},
        {"words": [a("str", '"]; import os #')]}, {"words": a("list", "os", list)}, {"text": type("E", (), {"__repr__": unspeakable})()},
        {type("E", (str,), {"__format__": lambda *_: "os.x"})("text"): "a"}, {type("E", (), {"__str__": unspeakable})(): "a"},
        {"number": 10**5000}, {"text": 10**5000}, {"depths": [1, 10**5000]}, {"share": 10**400}, {7: 7}, {None: 1}, {("text",): "a"},
    ],
)  # fmt: skip
def test_what_calls_itself_a_value_and_is_none_never_reaches_a_kernel(book, tmp_path, no_kernel, values):
    with pytest.raises(ParameterError) as caught:
        run(str(book), tmp_path / "out.ipynb", values)
    assert three_lines(caught.value) and no_kernel == []


# --- finding a notebook


@pytest.mark.parametrize("name", ["05", "05_evaluate", "05_evaluate.ipynb"])
def test_a_notebook_is_found_by_number_and_name(name):
    assert find(name) == FOLDER / "05_evaluate.ipynb"


def test_a_notebook_is_found_by_path(book, tmp_path, monkeypatch):
    assert find(str(book)) == book
    monkeypatch.chdir(tmp_path)
    assert find("small.ipynb").resolve() == book


@pytest.mark.parametrize("name", ["", "0", "99", "5", "*", "**", "[", "0*", "evaluat", "..", "\0", "small", "gone/05_evaluate.ipynb"])
def test_a_notebook_that_is_not_there_names_those_that_are(name):
    with pytest.raises(DataError, match="見つかりません") as caught:
        find(name)
    assert "00_check" in caught.value.remedy and "09_summary" in caught.value.remedy


def test_copies_beside_the_notebooks_are_not_taken_for_them(tmp_path, monkeypatch):
    (tmp_path / "kit.toml").touch()
    folder = tmp_path / "notebooks"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(folder / "05_evaluate.ipynb", folder / "05_evaluate-Copy1.ipynb")
    shutil.copy(folder / "05_evaluate.ipynb", folder / "05_evaluate のコピー.ipynb")
    monkeypatch.chdir(tmp_path)
    assert [path.stem[:2] for path in notebooks.numbered()] == [f"{n:02}" for n in range(10)]
    assert find("05") == find("05_evaluate") == folder / "05_evaluate.ipynb"


def test_a_project_elsewhere_uses_the_notebooks_of_the_kit(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()  # somebody's own, with nothing of ours in it
    monkeypatch.chdir(tmp_path)
    assert notebooks.folder() == FOLDER


# --- in a kernel


@pytest.fixture
def runtime(tmp_path_factory, monkeypatch):
    """A user who never ran Jupyter: the folder of connection files does not exist yet."""
    folder = tmp_path_factory.mktemp("jupyter") / "runtime"
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    return folder


@pytest.mark.notebooks
def test_a_notebook_runs_with_its_values_and_leaves_nothing_but_its_output(book, tmp_path, runtime, capfd):
    output = tmp_path / "deep" / "out.ipynb"
    assert run(str(book), output, {"text": 'あ"\n', "number": 2}) == output
    (result,) = outputs(output, "execute_result")
    assert "".join(result["data"]["text/plain"]) == repr('あ"\nあ"\n')
    nbformat.validate(nbformat.read(output, as_version=4))
    assert {path.name for path in tmp_path.rglob("*")} == {"small.ipynb", "deep", "out.ipynb"}
    assert list(runtime.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.notebooks
def test_cells_see_the_settings_of_the_one_who_called(tmp_path, monkeypatch):
    book = tmp_path / "kit" / "notebooks" / "a.ipynb"
    book.parent.mkdir(parents=True)
    write(book, "import kit, os\nprint(kit.settings.load().runs, kit.settings.load().llm_timeout_s)")
    for name, content in (("kit", "llm_timeout_s = 5\n"), ("mine", "llm_timeout_s = 7\n")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "kit.toml").write_text(content, encoding="utf-8")
    monkeypatch.delenv("KIT_RUNS", raising=False)
    for name, seconds in (("mine", 7.0), ("kit", 5.0)):
        monkeypatch.chdir(tmp_path / name)
        run(str(book), tmp_path / "out.ipynb")
        (shown,) = outputs(tmp_path / "out.ipynb", "stream")
        assert "".join(shown["text"]) == f"{tmp_path / name / 'runs'} {seconds}\n"


@pytest.mark.notebooks
def test_a_failing_cell_is_told_and_kept(tmp_path):
    book = write(tmp_path / "a.ipynb", "print('before')", "1 / 0", "print('after')")
    with pytest.raises(RunError, match="ZeroDivisionError") as caught:
        run(str(book), tmp_path / "out.ipynb")
    assert three_lines(caught.value)
    assert "a.ipynb のセル [3]" in caught.value.what
    assert str(tmp_path / "out.ipynb") in caught.value.remedy
    assert ["".join(o["text"]) for o in outputs(tmp_path / "out.ipynb", "stream")] == ["before\n"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.ipynb", "out.ipynb"}


@pytest.mark.notebooks
@pytest.mark.parametrize(
    "raised",
    ['DataError("何が", "なぜ", "どうする")', 'RunError("何が", "なぜ: 詳しく", "どうする")',
     'ChatError("何が", "なぜ", "どうする", state="timeout")'],
)  # fmt: skip
def test_a_kit_error_shows_its_own_three_lines_and_no_traceback(tmp_path, raised):
    imported = "from kit.errors import *\nfrom kit.serving.chat import ChatError\n"
    code = f"{imported}try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise {raised} from error"
    with pytest.raises(RunError) as caught:
        run(str(write(tmp_path / "a.ipynb", code)), tmp_path / "out.ipynb")
    why = "なぜ: 詳しく" if "詳しく" in raised else "なぜ"
    assert (caught.value.what, caught.value.cause, caught.value.remedy) == ("a: 何が", why, "どうする")
    (error,) = outputs(tmp_path / "out.ipynb", "error")
    assert error["traceback"] == ["何が", f"考えられる原因: {why}", "次にすること: どうする"]
    assert "Traceback" not in (tmp_path / "out.ipynb").read_text(encoding="utf-8")


@pytest.mark.notebooks
def test_a_kernel_that_dies_is_told(tmp_path):
    book = write(tmp_path / "a.ipynb", "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(RunError, match="カーネルが止まりました") as caught:
        run(str(book), tmp_path / "out.ipynb")
    assert caught.value.cause == "メモリーが足りないか、外から止められました。"
    nbformat.validate(nbformat.read(tmp_path / "out.ipynb", as_version=4))


ABORTS = """
import os, sys
def abort():  # as libzmq does: its words go past Python, to the process's own stderr
    os.write(getattr(sys.stderr, "_original_stdstream_copy", 2), b"Assertion failed: check () (src/msg.cpp:414)\\n")
    os.abort()
"""


@pytest.mark.notebooks
def test_a_kernel_that_aborts_tells_its_last_words(tmp_path):
    book = write(tmp_path / "a.ipynb", f"{ABORTS}\nabort()")
    with pytest.raises(RunError, match="カーネルが止まりました") as caught:
        run(str(book), tmp_path / "out.ipynb")
    assert caught.value.cause.endswith("カーネルの最後の出力: Assertion failed: check () (src/msg.cpp:414)")


@pytest.mark.notebooks
def test_a_kernel_that_aborts_once_all_is_done_is_no_news(tmp_path, capfd):
    book = write(tmp_path / "a.ipynb", f"{ABORTS}\nimport atexit\natexit.register(abort)\nprint('done')")
    run(str(book), tmp_path / "out.ipynb")
    assert ["".join(o["text"]) for o in outputs(tmp_path / "out.ipynb", "stream")] == ["done\n"]
    assert capfd.readouterr() == ("", "")


def start(folder, book, before=""):
    """Run a notebook in a process of its own and return it once its cell is at work."""
    (folder / "pid").unlink(missing_ok=True)
    # A parent that ignores Ctrl-C (a job in the background) must not hand that on.
    script = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += before + "\nfrom kit.interface.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", script, "run", str(book), "-o", str(folder / "out.ipynb")],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )
    wait_for(lambda: process.poll() is not None or ((folder / "pid").exists() and (folder / "pid").read_text()))
    assert process.poll() is None, process.communicate()[1]
    return process, int((folder / "pid").read_text())


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.notebooks
def test_a_kill_leaves_no_half_output_and_no_kernel(tmp_path, runtime):
    book = write(tmp_path / "a.ipynb", "print('first')", DIES)
    process, kernel = start(tmp_path, book)
    process.kill()
    process.communicate()
    assert not (tmp_path / "out.ipynb").exists()
    wait_for(lambda: not alive(kernel), 30)
    assert {path.name for path in tmp_path.iterdir()} == {"a.ipynb", "pid", ".out.running.ipynb"}
    write(book, "print('second')")
    run(str(book), tmp_path / "out.ipynb")
    assert ["".join(o["text"]) for o in outputs(tmp_path / "out.ipynb", "stream")] == ["second\n"]
    assert not (tmp_path / ".out.running.ipynb").exists()


SLOW_END = """
import asyncio, nbclient.client, jupyter_core.utils
at_once = nbclient.client.NotebookClient._async_cleanup_kernel
async def slowly(self):
    await at_once(self)
    await asyncio.sleep(2.5)  # as on a busy machine: the given-up cell's own watch sees that its kernel is gone
nbclient.client.NotebookClient._cleanup_kernel = jupyter_core.utils.run_sync(slowly)"""


@pytest.mark.notebooks
@pytest.mark.parametrize("before", ["", SLOW_END], ids=["at once", "slowly"])
def test_ctrl_c_is_one_japanese_line_and_keeps_what_was_done(tmp_path, before):
    process, kernel = start(tmp_path, write(tmp_path / "a.ipynb", "print('first')", DIES), before)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    shown, told = process.communicate(timeout=60)
    assert (process.returncode, shown) == (130, "")
    assert [line for line in told.splitlines() if line] == [
        "中断しました。記録済みの結果は残っています。同じコマンドで続きから再開できます。"
    ]
    assert ["".join(o["text"]) for o in outputs(tmp_path / "out.ipynb", "stream")] == ["first\n"]
    wait_for(lambda: not alive(kernel), 30)


# --- the ten notebooks


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample run through from a folder of its own: (folder, finished process)."""
    folder = tmp_path_factory.mktemp("sample")
    shutil.copytree(ROOT / "data" / "sample", folder / "data" / "sample", ignore=shutil.ignore_patterns(".kit", "sources"))
    done = subprocess.run(
        [sys.executable, "-m", "kit", "poc", "data/sample"],
        cwd=folder, env=os.environ | {"KIT_RUNS": "mine"}, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def finished(sample):
    (folder,) = [path for path in (sample[0] / "mine").iterdir() if path.is_dir()]
    return folder


@pytest.mark.notebooks
@pytest.mark.timeout(900)
def test_the_sample_ends_with_one_line_and_a_summary(sample, finished):
    folder, done = sample
    decision = json.loads((finished / "decision.json").read_text(encoding="utf-8"))
    to_read = "  ".join(f"mine/{finished.name}/summary.{name}" for name in ("html", "pdf") if name in export.FORMATS)
    assert done.stdout == f"DECISION: {decision['outcome']}  {to_read}\n"
    assert decision["outcome"] in ("GO", "NO-GO", "EXTEND")
    lines = done.stderr.splitlines()
    assert lines[0] == f"実行: mine/{finished.name}"
    ended = [line.split()[0] for line in lines[1:-1] if "実行中" not in line]  # a busy machine gives signs of life, too
    assert ended == [path.stem for path in sorted(FOLDER.glob("0*.ipynb"))]
    assert lines[-1].startswith("合計 ")
    assert sorted(path.name for path in folder.iterdir()) == ["data", "mine"], "KIT_RUNS is where runs go, and nowhere else"


@pytest.mark.notebooks
def test_the_run_folder_holds_what_the_decision_rests_on(finished):
    assert {path.name for path in finished.iterdir()} == {
        "cases.jsonl", "criteria.yaml", "decision.json", "notebooks", "rows.jsonl", "seal.json",
        "prices.toml", *(f"summary.{name}" for name in export.FORMATS),
    }  # fmt: skip
    rows = [json.loads(line) for line in (finished / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({(row["case"], row["arm"]) for row in rows}) == len(rows) == 400
    assert {row["state"] for row in rows} == {"answered"}
    kinds = [json.loads(line)["kind"] for line in (finished.parent / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    assert kinds == ["seal", "run", "rows", "decision", "checkpoint"]


@pytest.mark.notebooks
@pytest.mark.parametrize("name", [path.name for path in sorted(FOLDER.glob("0*.ipynb"))])
def test_each_notebook_ran_through_without_noise(finished, name):
    path = finished / "notebooks" / name
    nbformat.validate(nbformat.read(path, as_version=4))
    assert outputs(path, "error") == []
    noise = ["".join(o["text"]) for o in outputs(path, "stream")]
    assert noise == [], "\n".join(noise)
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    silent = [c["source"] for c in cells if not c["outputs"] and not {"parameters", "injected-parameters"} & {*c["metadata"]["tags"]}]
    assert len(silent) <= 1, "a step shows its result"


@pytest.mark.notebooks
@pytest.mark.parametrize("name", [path.name for path in sorted(FOLDER.glob("0*.ipynb"))])
def test_results_are_shown_for_readers_not_programmers(finished, name):
    for kind in ("execute_result", "display_data"):
        for shown in outputs(finished / "notebooks" / name, kind):
            if set(shown["data"]) == {"text/plain"}:
                assert not "".join(shown["data"]["text/plain"]).startswith(("<kit", "<built", "Cost(", "Figure(", "Decision("))
                assert len("".join(shown["data"]["text/plain"])) < 600


@pytest.mark.notebooks
def test_plain_papermill_works_too(sample, tmp_path):
    folder, _ = sample
    source = FOLDER / "08_cost.ipynb"
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(source), str(tmp_path / "out.ipynb"), "-p", "project", str(folder / "data/sample"),
         "--cwd", str(FOLDER), "--no-progress-bar"],
        cwd=tmp_path, env=os.environ | {"KIT_RUNS": str(folder / "mine")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert outputs(tmp_path / "out.ipynb", "execute_result")


def test_every_error_of_the_tree_has_three_lines():
    for kind in [KitError, *KitError.__subclasses__()]:
        error = kind("何が", "なぜ", "どうする")
        assert error._render_traceback_() == ["何が", "考えられる原因: なぜ", "次にすること: どうする"]
        assert three_lines(error)
