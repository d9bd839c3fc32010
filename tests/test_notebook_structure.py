"""The rules every notebook keeps, read from its JSON alone."""

import ast
import io
import json
import re
import tokenize
import unicodedata
from functools import cache
from pathlib import Path

import nbformat
import pytest

import kit

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TYPES = ("str", "int", "float", "bool", "list[str]", "list[int]")
MOST_COLUMNS = 108  # of a half-width letter, in a window 1,280 pixels wide
MOST_CELLS, MOST_LINES, HARD_LINES, MOST_DEF_LINES = 40, 8, 15, 5
ABSOLUTE = re.compile(r"(?<![\w.~/:}])/(?:home|root|work|tmp|usr|opt|mnt|srv|var|etc|data|Users)/|\b[A-Za-z]:\\\\?\w")
SECRET = re.compile(
    r"hf_\w{16}|\bsk-[\w-]{16}|AKIA[0-9A-Z]{12}|\bgh[opsu]_\w{16}|xox[bp]-|-----BEGIN|Bearer +\w|"
    r"(?i:password|passwd|secret|api_?key|token)\w*\s*[:=]\s*[\"']\w|\b[0-9a-f]{32,}\b"
)
pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@cache
def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def cells(path, kind):
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == kind]


def code(path):
    """The source of every code cell but the parameters."""
    return [source(cell) for cell in cells(path, "code") if "parameters" not in tags(cell)]


def tags(cell):
    return cell["metadata"].get("tags", [])


def nodes(path, kind):
    return [node for text in code(path) for node in ast.walk(ast.parse(text)) if isinstance(node, kind)]


def test_numbers_have_no_gap(path):
    assert re.fullmatch(rf"{NOTEBOOKS.index(path):02}_[a-z]+", path.stem)
    assert len(NOTEBOOKS) == 10


def test_is_a_valid_notebook_for_any_python_3(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) <= MOST_CELLS


def test_opens_with_what_it_is_for(path):
    first = read(path)["cells"][0]
    lines = source(first).splitlines()
    assert first["cell_type"] == "markdown"
    assert re.fullmatch(rf"# {path.stem[:2]} \S.*", lines[0])
    assert [re.match(r"- \*\*(.+?)\*\*: \S", line)[1] for line in lines if line.startswith("- ")] == [
        "目的", "所要時間", "必要なもの",
    ]


def test_declares_typed_literals_only(path):
    tagged = [(number, cell) for number, cell in enumerate(read(path)["cells"]) if "parameters" in tags(cell)]
    assert len(tagged) == 1
    number, cell = tagged[0]
    assert number == 1
    names = [declared(line) for line in source(cell).splitlines()]
    assert len(set(names)) == len(names) > 0


def declared(line):
    """The name on a line ``name: type = literal  # 説明``; papermill drops a line with a second = or a # in a value."""
    (node,) = ast.parse(line).body
    assert isinstance(node, ast.AnnAssign)
    assert isinstance(node.target, ast.Name)
    assert ast.unparse(node.annotation) in TYPES
    value = ast.literal_eval(node.value)
    kind, _, inner = ast.unparse(node.annotation).partition("[")
    assert type(value).__name__ == kind
    assert all(type(item).__name__ == inner.rstrip("]") for item in value) if kind == "list" else True
    comment = [token for token in tokenize.generate_tokens(io.StringIO(line).readline) if token.type == tokenize.COMMENT]
    assert (line.count("="), line.count("#"), len(comment)) == (1, 1, 1)
    assert re.fullmatch(r"\S.*\S  # \S.*", line)
    assert re.search(r"[ぁ-んァ-ヶ一-龠]", comment[0].string), "the explanation is for Japanese readers"
    return node.target.id


def test_every_parameter_is_used(path):
    (cell,) = [cell for cell in cells(path, "code") if "parameters" in tags(cell)]
    used = {node.id for node in nodes(path, ast.Name)}
    assert {node.target.id for node in ast.parse(source(cell)).body} <= used


def test_code_is_short_and_explained(path):
    for text in code(path):
        lines = [line for line in text.splitlines() if line.strip()]
        assert 0 < len(lines) <= HARD_LINES
        assert len(lines) <= MOST_LINES, text
    kinds = "".join("c" if cell["cell_type"] == "code" else "m" for cell in read(path)["cells"])
    assert kinds.startswith("mcmc"), "prose stands before the first step"
    assert "ccc" not in kinds


def test_code_fits_on_the_screen(path):
    for text in code(path):
        for line in text.splitlines():
            wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in line)
            assert len(line) + wide <= MOST_COLUMNS, line


def test_forms_are_labelled_in_japanese(path):
    for call in nodes(path, ast.Call):
        if ast.unparse(call.func) == "kit.form":
            labels = [keyword.arg for keyword in call.keywords if keyword.arg != "button"]
            assert labels and not [label for label in labels if label and label.isascii()]  # ** has no label of its own


def test_logic_lives_in_the_kit(path):
    for node in nodes(path, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        assert node.end_lineno - node.lineno < MOST_DEF_LINES
    for text in code(path):
        assert not re.search(r"^\s*[!%]|get_ipython|subprocess|os\.system", text, re.MULTILINE)


def test_holds_nothing_of_the_machine_it_was_written_on(path):
    text = "\n".join(source(cell) for cell in read(path)["cells"])
    assert not ABSOLUTE.search(text)
    assert not SECRET.search(text)
    assert "\t" not in text and "\r" not in text


def test_carries_no_results(path):
    for cell in cells(path, "code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert not [cell for cell in read(path)["cells"] if set(cell["metadata"]) - {"tags"}]


def test_closes_with_a_summary_and_the_way_on(path):
    last = source(read(path)["cells"][-1])
    assert last.startswith("## まとめ\n")
    assert re.search(r"^- ", last, re.MULTILINE)
    links = re.findall(r"\]\(([^)]+)\)", last)
    following = NOTEBOOKS[NOTEBOOKS.index(path) + 1 :][:1]
    assert links == [notebook.name for notebook in following]
    if following:
        title = source(read(following[0])["cells"][0]).splitlines()[0].removeprefix("# ")
        assert f"[{title}](" in last, "the link is called what the notebook is called"


def test_links_and_pictures_are_here(path):
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\(([^)#]+)", source(cell)):
            assert (FOLDER / target).is_file(), target


def test_uses_only_the_public_surface(path):
    used = {n.attr for n in nodes(path, ast.Attribute) if isinstance(n.value, ast.Name) and n.value.id == "kit"}
    assert used <= set(kit.__all__)
    imported = [alias.name for node in nodes(path, ast.Import) for alias in node.names]
    imported += [node.module for node in nodes(path, ast.ImportFrom)]
    assert not [name for name in imported if name.startswith("kit.")]
    assert imported.count("kit") == 1
