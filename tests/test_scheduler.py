"""JupyterLab's scheduler with the shipped configuration: real jobs through its REST interface."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "kit" / "interface" / "jupyter_server_config.py"
DECLARED = "words: list[str] = ['a']  # 言葉\nnumber: int = 3  # 数\nfail: bool = False  # 失敗させる"
CODE = 'import kit\nfrom kit.errors import DataError\nif fail: raise DataError("何か", "原因", "次")\nwords * (number + 1)'


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab on loopback; call it with a path and, to post, a body."""
    folder = tmp_path_factory.mktemp("lab")
    book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    first = nbformat.v4.new_code_cell(DECLARED, metadata={"tags": ["parameters"]})
    book.cells = [first, nbformat.v4.new_code_cell(CODE)]
    nbformat.write(book, folder / "small.ipynb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("RUNTIME", "CONFIG", "DATA")}
    environment = os.environ | own | {"PYTHONPATH": str(ROOT), "JUPYTER_TOKEN": "t", "KIT_RUNS": str(folder / "runs")}
    words = [f"--config={CONFIG}", f"--ServerApp.port={port}", f"--ServerApp.root_dir={folder}", "--allow-root"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", *words], cwd=folder, env=environment, stdout=log, stderr=log
        )

    def call(path, body=None):
        sent = json.dumps(body).encode() if body is not None else None
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", sent, {"Authorization": "token t"})
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return json.load(reply)

    call.folder = folder
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and server.poll() is None:
            with suppress(OSError):
                call("/scheduler/config")
                break
            time.sleep(0.2)
        yield call
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture
def ended(lab):
    """Run a job with these parameters and return what the scheduler says of it, and its staged files."""

    def run(**parameters):
        about = {"input_uri": "small.ipynb", "runtime_environment_name": "kit", "name": "j", "output_formats": ["ipynb", "html"]}
        job = lab("/scheduler/jobs", about | {"parameters": parameters})["job_id"]
        end = time.monotonic() + 120
        while (told := lab(f"/scheduler/jobs/{job}"))["status"] not in ("COMPLETED", "FAILED"):
            assert time.monotonic() < end, told
            time.sleep(0.2)
        return told, sorted((lab.folder / "runs" / "jobs" / "staging" / job).iterdir())

    return run


@pytest.mark.notebooks
def test_texts_of_the_form_become_typed_parameters(lab, ended):
    told, files = ended(words='["い", "ろ"]', number="1")
    assert (told["status"], told["status_message"]) == ("COMPLETED", None)
    executed = next(file for file in files if file.suffix == ".ipynb" and file.name != "small.ipynb")
    assert "['い', 'ろ', 'い', 'ろ']" in executed.read_text(encoding="utf-8")
    assert "<html" in next(file for file in files if file.suffix == ".html").read_text(encoding="utf-8")
    assert len(files) == 3, "nothing else is left"
    assert (lab.folder / "runs" / "jobs" / "jobs.sqlite").is_file()
    assert (lab.folder / "runs" / "jobs").stat().st_mode & 0o077 == 0


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("parameters", "lines"),
    [
        ({"nubmer": "1"}, ["small.ipynb にパラメータ「nubmer」はありません。", "考えられる原因: 「number」の書き間違いではありませんか。"]),
        ({"number": "二"}, ["small.ipynb のパラメータ「number」に '二' は使えません。"]),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_a_failed_job_with_the_three_lines(ended, parameters, lines):
    told, files = ended(**parameters)
    assert told["status"] == "FAILED"
    assert told["status_message"].split("\n")[: len(lines)] == lines
    assert len(told["status_message"].split("\n")) == 3
    assert [file.name for file in files] == ["small.ipynb"], "no kernel was started"


@pytest.mark.notebooks
def test_a_cell_that_fails_is_a_failed_job_with_its_output(ended):
    told, files = ended(fail="true")
    assert (told["status"], told["status_message"]) == ("FAILED", "small: 何か\n考えられる原因: 原因\n次にすること: 次")
    assert len(files) == 3, "what was executed is kept, and nothing half"


@pytest.mark.notebooks
def test_the_form_offers_one_environment_and_what_really_works(lab):
    (environment,) = lab("/scheduler/runtime_environments")
    assert (environment["name"], [f["name"] for f in environment["output_formats"]]) == ("kit", ["ipynb", "html"])
    offered = {name for name, is_offered in lab("/scheduler/config")["supported_features"].items() if is_offered}
    assert offered == {"job_name", "job_definition", "parameters", "output_formats", "stop_job", "delete_job"}
