"""The shape of the house: sizes, layers, the public surface, and constructs that must not appear."""

import ast
import importlib
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from functools import cache
from pathlib import Path

import pytest

import kit

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "kit").rglob("*.py"))
MOST_LINES, MOST_CODE_LINES = 400, 16_300
SURFACE = [
    "Bar", "ExtractiveReader", "KeywordSearch", "LLMReader", "Rag", "SHAPES", "Store", "about", "adapter_size",
    "agreement", "answers", "arms", "ask", "attribute", "best_replay", "build_store", "calibrate",
    "calibration_chart", "causes", "check", "compare", "compare_depths", "connect", "controls", "corpus_map",
    "decide", "decided_run", "decided_runs", "depth_chart", "draw_summary", "economics", "evaluate",
    "failures_chart", "find_project", "fit_embedder", "fit_weight", "form", "give_feedback", "init",
    "inspect_model", "kpi_chart", "load", "load_chart", "load_test", "local_models", "map_chart", "measure_recall",
    "next_steps", "noise_floor", "open_run", "open_store", "operating_chart", "pairs_chart", "plan", "portfolio",
    "propose", "qpd", "quarters", "read_cases", "read_criteria", "read_decision", "read_development",
    "read_evaluation", "read_feedback", "read_prices", "reading_report", "recommend", "rehearse", "reliability",
    "running", "score_answers", "seal", "serve", "settings", "show", "slices", "slices_chart", "trace_chart",
    "train_tiny", "trend", "trend_chart", "try_embedder", "write_summary",
]  # fmt: skip
LIGHT = {"yaml", "numpy", "aiohttp", "yarl", "fastjsonschema", "jupyter_scheduler"}
"""Third parties that may be imported with their module; every other one only inside functions. The last: only Jupyter does."""
HOMES = {
    "lancedb": {"knowledge/table.py"},
    "pyarrow": {"knowledge/table.py", "knowledge/rows.py"},
    "sudachipy": {"knowledge/japanese.py"},
    "sentence_transformers": {"knowledge/embedding.py"},
    "pypdfium2": {"knowledge/pdf.py"},
    "papermill": {"interface/notebooks.py"},
    "jupyter_scheduler": {"interface/scheduler.py"},
    "croniter": {"interface/timers.py"},
    "ipywidgets": {"interface/widgets.py"},
    "matplotlib": {"reporting/charts.py"},
    "cryptography": {"trust/signing.py"},
    "rapidfuzz": {"evaluation/matching.py", "evaluation/scoring_sheet.py"},
    "sacrebleu": {"evaluation/matching.py"},
    "jinja2": {"reporting/paper.py"},
    "typst": {"reporting/paper.py"},
    "pptx": {"knowledge/office.py", "reporting/slide_parts.py"},
    "xlsxwriter": {"reporting/spreadsheet.py", "reporting/native_charts.py"},
    "PIL": {"reporting/typesetting.py"},
    "aiohttp": {"serving/wire.py", "serving/gateway.py"},
    "fastjsonschema": {"serving/rules.py"},
    "torch": {"improving/adapters.py", "knowledge/fitting.py"},
    "peft": {"improving/adapters.py"},
    "transformers": {"improving/adapters.py"},
    "huggingface_hub": set(),  # only in the child process that fetches a model
    "vllm": set(),  # only ever a child process or a URL
}
OWN_PLACE = re.compile(r"(?<![\w.~-])/(?:home|Users|root|work)/[\w.-]|\b[A-Z]:\\Users")
FILTERS = {"where", "delete", "filter", "count_rows", "update"}


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path):
    return path.relative_to(ROOT / "kit").as_posix()


def calls(path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def code_lines(path):
    """Lines that hold code: no blanks, comments or docstrings."""
    strings = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    documentation = {line for node in strings for line in range(node.lineno, node.end_lineno + 1)}
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    found = {line for t in tokens if t.type not in silent for line in range(t.start[0], t.end[0] + 1)}
    return len(found - documentation)


def imports(path):
    """(third party or standard module, whether it is imported with the file) of every import."""
    top = set(tree(path).body)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0], node in top


# --- sizes


def test_the_kit_stays_small():
    assert sum(map(code_lines, FILES)) <= MOST_CODE_LINES
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {file: lines for file, lines in lengths.items() if lines > MOST_LINES} == {}


def test_code_lines_are_counted_without_what_explains_them(tmp_path):
    text = '"""Module.\n\nLong.\n"""\n\n# why\nA = 1  # one\n"""About A."""\n\n\ndef f():\n    """Doc."""\n    return """\ntext\n"""\n'
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    assert code_lines(tmp_path / "a.py") == 5


def test_every_room_and_file_says_what_lives_there():
    assert [name(path) for path in FILES if not ast.get_docstring(tree(path))] == []
    rooms = {path.parent.name for path in FILES if path.parent.parent == ROOT / "kit"}
    assert rooms == {"trust", "serving", "knowledge", "answering", "evaluation", "improving", "reporting", "interface"}


# --- the public surface


def test_the_public_surface_is_pinned():
    assert kit.__all__ == sorted(SURFACE)
    assert len(set(SURFACE)) == len(SURFACE)


def test_every_name_that_editors_see_can_be_loaded():
    for public in SURFACE:
        found = getattr(kit, public)
        assert getattr(importlib.import_module(kit._HOMES[public]), public) is found


@pytest.mark.parametrize("public", [name for name in SURFACE if name != "settings"])
def test_every_public_name_is_explained_where_it_lives(public):
    body = tree(ROOT / f"{kit._HOMES[public].replace('.', '/')}.py").body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == public:
            assert ast.get_docstring(node)
            return
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == public for target in targets):
            assert isinstance(following, ast.Expr) and isinstance(following.value.value, str), "a string below it"
            return
    pytest.fail(f"{public} is not defined in {kit._HOMES[public]}")


def test_an_unknown_name_is_refused_and_dir_shows_the_surface():
    with pytest.raises(AttributeError, match="gues"):
        _ = kit.gues
    assert set(SURFACE) <= set(dir(kit))


# --- imports


def test_imports_go_only_downwards():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


def test_the_contract_names_every_room():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
    named = {part.strip().removeprefix("kit.") for layer in contract["layers"] for part in layer.split("|")}
    assert named == {name(path).split("/")[0].removesuffix(".py") for path in FILES} - {"__init__", "__main__"}


def test_importing_the_kit_is_quick_and_brings_nobody_else():
    script = (
        "import sys, time; known = set(sys.modules); begun = time.perf_counter(); import kit; "
        "print(time.perf_counter() - begun); print(*{m.split('.')[0] for m in set(sys.modules) - known})"
    )
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
        seconds, modules = done.stdout.splitlines()
        assert {module for module in modules.split() if module not in sys.stdlib_module_names} == {"kit"}
        runs.append(float(seconds))
    assert min(runs) < 0.3


def test_third_parties_are_imported_where_they_are_used():
    found = {
        (name(path), module)
        for path in FILES
        for module, with_file in imports(path)
        if with_file and module not in sys.stdlib_module_names | LIGHT | {"kit"}
    }
    # Classes that JupyterLab's scheduler loads by name, in its own process; nobody else imports the file.
    assert {file for file, _ in found} <= {"interface/scheduler.py"}


@pytest.mark.parametrize("module", HOMES)
def test_each_heavy_third_party_has_one_home(module):
    assert {name(path) for path in FILES if module in dict(imports(path))} <= HOMES[module]


# --- constructs


def test_only_the_interface_prints():
    found = [
        f"{name(path)}:{call.lineno}"
        for path in FILES
        for call in calls(path)
        if isinstance(call.func, ast.Name) and call.func.id == "print" and not name(path).startswith("interface/")
    ]
    assert found == []


def test_nothing_is_executed_that_came_as_data():
    for path in FILES:
        assert not {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"} & set(dict(imports(path))), path
        for call in calls(path):
            where = f"{name(path)}:{call.lineno}"
            called = ast.unparse(call.func)
            assert called not in {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"}, where
            assert not called.endswith("unsafe_load"), where
            options = {option.arg: ast.unparse(option.value) for option in call.keywords}
            assert options.get("shell", "False") == "False", where
            assert options.get("trust_remote_code", "False") == "False", where
            assert called != "torch.load" or options.get("weights_only") == "True", where


def built_text(node):
    """Whether an expression puts text together: f-string, +, % or .format."""
    formatted = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"
    return formatted or isinstance(node, (ast.JoinedStr, ast.BinOp))


def test_filters_are_expressions_and_never_text():
    for path in FILES:
        for call in calls(path):
            if isinstance(call.func, ast.Attribute) and call.func.attr in FILTERS:
                given = [*call.args, *(option.value for option in call.keywords)]
                assert not any(built_text(part) for part in given), f"{name(path)}:{call.lineno}"


def test_what_is_handed_on_loads_nothing_from_outside():
    for path in (ROOT / "kit").rglob("*"):
        if path.is_file() and path.parent.name in ("templates", "starter", "prompts") and path.suffix not in (".xlsx", ".pptx"):
            assert not re.search(r"https?://|(?:src|href)=[\"']//|@import", path.read_text(encoding="utf-8")), path


def test_no_file_of_the_repository_names_a_place_of_its_author():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")
    files = [ROOT / file for file in listed if file and (ROOT / file).is_file()]
    assert len(files) > 100
    found = []
    for file in files:
        text = file.read_bytes().decode("utf-8", "ignore")
        found += [f"{file.relative_to(ROOT)}: {match[0]}" for match in OWN_PLACE.finditer(text)]
    assert found == []
