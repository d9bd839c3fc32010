"""The child process that parses: it may die, hang or swell; the parent goes on."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import openpyxl
import pytest

from kit.errors import RunError
from kit.knowledge import worker
from kit.knowledge.worker import Worker, parse, sniff

ROOT = Path(__file__).parents[1]
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500


def large_book(rows=8_000):
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in range(rows):
        sheet.append([row, "日本", "東京", "大阪"])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


# --- what a file is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.docx", OLE + "EncryptedPackage".encode("utf-16-le"), "パスワード"),
        ("a.doc", OLE, "旧形式"),
        ("a.docx", OLE, "旧形式"),
        ("a.png", b"\x89PNG\r\n", "画像はOCR"),
        ("a.pdf", b"\xff\xd8\xff\xe0", "壊れて"),
        ("a.xyz", "日本語".encode(), "対応していない形式（.xyz）"),
        ("README", b"hello", "拡張子なし"),
        ("a.docx", b"\x00\x01binary\x02", "壊れて"),
        ("a.docx", b"{\\rtf1 text}", "壊れて"),
        ("a.txt", b"  \n\n ", "文字がありません"),
    ],
)
def test_what_is_not_read_says_why_in_one_line(name, data, words):
    problem = parse(name, data).problem
    assert words in problem
    assert "\n" not in problem
    assert problem.endswith("。")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.xlsx", "品名,数量\nボルト,1\n".encode("cp932"), "csv"),
        ("a.xls", b"<html><table><tr><td>1</td></tr></table></html>", "html"),
        ("a.txt", b"%PDF-1.4 ...", "pdf"),
        ("a.CSV", b"a,b", "csv"),
    ],
)
def test_content_decides(name, data, kind):
    assert sniff(name, data) == kind


def test_a_wrong_ending_is_read_and_said():
    reading = parse("a.xlsx", "品名,数量\nボルト,1\n".encode())
    assert reading.blocks[0].text == "品名: ボルト / 数量: 1"
    assert "「.xlsx」" in reading.doubts[0]


# --- the child --------------------------------------------------------------------------------------------------------


def test_one_child_reads_many_files_and_ends_with_its_parent():
    with Worker() as reader:
        assert reader.read("a.txt", "一".encode()) == parse("a.txt", "一".encode())
        first = reader._child.process.pid
        assert reader.read("b.txt", "二".encode()).blocks[0].text == "二"
        assert reader._child.process.pid == first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_places_and_doubts_cross_the_pipe():
    data = large_book(3)
    with Worker() as reader:
        assert reader.read("a.xlsx", data) == parse("a.xlsx", data)


def test_a_file_that_takes_too_long_is_given_up_and_the_next_one_read():
    data = large_book()
    with Worker(seconds=0.05) as reader:
        begun = time.monotonic()
        assert reader.read("a.xlsx", data).problem == worker.TOO_SLOW
        assert time.monotonic() - begun < 5
    with Worker() as reader:
        reader._seconds = 0.05
        reader.read("a.xlsx", data)
        reader._seconds = 20.0
        assert reader.read("b.txt", "次".encode()).blocks[0].text == "次"


def clocked(beats):
    """The exit of a process that computes ten times for less than its clock allows, and says or does not say: finished."""
    code = (
        "import signal, time; from kit.knowledge.texts import finished\n"
        "signal.setitimer(signal.ITIMER_PROF, 0.2, 0.2)\n"
        "for _ in range(10):\n"
        "    end = time.process_time() + 0.08\n"
        "    while time.process_time() < end: pass\n"
        f"    {'finished()' if beats else 'pass'}\n"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode


def test_the_clock_starts_anew_with_every_finished_page():
    assert clocked(beats=True) == 0
    assert clocked(beats=False) == -signal.SIGPROF


def test_nothing_in_the_child_opens_a_socket():
    code = (
        "import ctypes, socket, subprocess, sys; from kit.knowledge.worker import close_network; close_network()\n"
        "try: socket.socket()\n"
        "except PermissionError: print('python refused')\n"
        "print('C:', ctypes.CDLL(None).socket(2, 1, 0))\n"
        "child = 'import socket; socket.socket()'\n"
        "print('child:', subprocess.run([sys.executable, '-c', child], capture_output=True).returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["python refused", "C: -1", "child: 1"], done.stderr
    with Worker() as reader:
        reader.read("a.txt", b"a")
        assert "Seccomp:\t2" in Path(f"/proc/{reader._child.process.pid}/status").read_text()


def test_a_child_is_replaced_after_many_files(monkeypatch):
    monkeypatch.setattr(worker, "FILES_PER_CHILD", 2)
    with Worker() as reader:
        pids = []
        for _ in range(5):
            assert reader.read("a.txt", b"a").blocks
            pids.append(reader._child.process.pid)
    assert [pids.index(pid) for pid in pids] == [0, 0, 2, 2, 4]


def test_a_dead_child_is_replaced_and_the_file_tried_again():
    with Worker() as reader:
        reader.read("a.txt", b"a")
        os.kill(reader._child.process.pid, signal.SIGKILL)
        assert reader.read("b.txt", "次".encode()).blocks[0].text == "次"


class DeadlyPipe:
    """A pipe to a child that is killed as soon as it is sent a certain file."""

    def __init__(self, child):
        self._child = child

    def __getattr__(self, name):
        return getattr(self._child.pipe, name)

    def send_bytes(self, data):
        if data == b"deadly":  # before the child can answer
            self._child.process.kill()
            self._child.process.wait()
        self._child.pipe.send_bytes(data)


def test_a_file_that_kills_every_child_is_a_problem(monkeypatch):
    start = worker._start

    def started():
        child = start()
        return child._replace(pipe=DeadlyPipe(child))

    monkeypatch.setattr(worker, "_start", started)
    with Worker() as reader:
        reader.read("a.txt", b"a")
        assert reader.read("a.txt", b"deadly").problem == worker.DIED
        assert reader.read("b.txt", "次".encode()).blocks[0].text == "次"


def test_memory_is_limited():
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (250 << 20, 250 << 20));"
    code = limit + "from kit.knowledge.worker import parse; print(parse('a.txt', b'abc ' * (12 << 20)).problem)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == worker.TOO_LARGE, done.stderr


def test_too_much_text_is_refused(monkeypatch):
    monkeypatch.setattr(worker, "REPLY_BYTES", 1000)
    with Worker() as reader:
        assert reader.read("a.txt", b"abc " * 1000).problem == worker.TOO_LARGE
        assert reader.read("a.txt", b"abc").blocks


def test_an_interrupt_passes_through_and_leaves_no_child():
    data = large_book()
    reader = Worker()
    reader.read("a.txt", b"a")
    pid = reader._child.process.pid
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(1000):
            reader.read("a.xlsx", data)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert reader.read("a.txt", b"a").blocks
    reader.close()


def test_a_child_that_cannot_start_is_an_error_in_three_lines(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/does/not/exist")
    with pytest.raises(RunError) as caught, Worker() as reader:
        reader.read("a.txt", b"a")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("how", ["-c", "-"])
def test_it_works_where_the_main_module_cannot_be_imported_again(how, tmp_path):
    """As from ``python -c``, standard input or a notebook's kernel; a module in the folder must not be picked up."""
    (tmp_path / "a.txt").write_text("日本語")
    (tmp_path / "charset_normalizer.py").write_text("raise SystemExit('picked up')")
    (tmp_path / "json.py").write_text("raise SystemExit('picked up')")
    code = "import sys; sys.path[:] = [p for p in sys.path if p]\nfrom kit.knowledge.files import load\nprint([d.text for d in load('a.txt')])"
    done = subprocess.run(
        [sys.executable, "-P", *([how, code] if how == "-c" else [how])],
        input=code if how == "-" else None,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['日本語']"
    assert done.stderr == ""


def test_the_child_does_not_outlive_a_killed_parent(tmp_path):
    code = (
        "import os, signal; from kit.knowledge.worker import Worker; w = Worker(); w.read('a.txt', b'a');"
        "print(w._child.process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    state = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + 20
    while (lives := state.exists() and " Z " not in state.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not lives


def test_importing_costs_little():
    code = "import sys, json; import kit.knowledge.files; print(json.dumps([m for m in sys.modules if '.' not in m]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"pypdfium2", "docx", "pptx", "openpyxl", "bs4", "lxml", "charset_normalizer", "markdown_it", "numpy"}
    assert not heavy & set(json.loads(done.stdout))


def test_rows_of_a_table_tell_no_edition_but_the_lines_above_it_do():
    rows = "品名,数量,備考\n溶剤,18,2026年3月改訂\n油,20,2026-03-01更新\n"
    assert parse("一覧.csv", rows.encode()).date == ""
    assert parse("一覧.csv", f"薬品一覧 2025年7月1日改訂,,\n{rows}".encode()).date == "2025-07-01"
