import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from kit.errors import RunError
from kit.trust.durable import JsonLines, canonical, read, write_atomically

ROOT = Path(__file__).parents[1]
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SURROGATES = st.characters() | st.characters(categories=("Cs",))
ANY_TEXT = st.text(SURROGATES, max_size=8)
ANY_JSON = st.recursive(
    SCALAR | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT | st.integers(), inner, max_size=4),
    max_leaves=12,
)
CLEAN = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
CLEAN_JSON = st.recursive(
    SCALAR | CLEAN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(CLEAN, inner, max_size=4), max_leaves=12
)


def python(code, *arguments, **more):
    """Start a fresh interpreter on some code."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **more)


def on_a_small_disk(folder, size, code):
    """Run code with a disk of its own mounted on the folder, in a private mount namespace; return what it prints."""
    mount = 'mount -t tmpfs -o size=$1 none "$0" && shift && exec "$@"'
    inside = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", mount]
    if not shutil.which("unshare") or subprocess.run([*inside, folder, size, "true"], capture_output=True).returncode:
        pytest.skip("no private mount namespace here (needs root or user namespaces)")
    command = [*inside, folder, size, sys.executable, "-c", textwrap.dedent(code), folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@settings(deadline=None, max_examples=40)
@given(CLEAN_JSON)
def test_canonical_loses_nothing(value):
    assert json.loads(canonical(value)) == value


@settings(deadline=None, max_examples=60)
@given(ANY_JSON)
def test_canonical_of_what_was_stored_is_the_same(value):
    text = canonical(value)
    assert canonical(json.loads(text)) == text  # else a hash could never be checked again
    text.encode("utf-8")
    assert "\n" not in text and "\r" not in text


def test_canonical_is_one_spelling():
    assert canonical({"b": [1, 2.5], "a": "日本", "c": None}) == '{"a":"日本","b":[1,2.5],"c":null}'
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1})
    assert canonical({10: 1, 9: 2}) == '{"10":1,"9":2}'
    assert canonical(["\ud800"]) == '["?"]'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_canonical_refuses_what_json_cannot_say(value):
    with pytest.raises(ValueError):
        canonical(value)


def test_records_come_back_in_order(tmp_path):
    path = tmp_path / "new" / "a.jsonl"
    with JsonLines(path) as file:
        assert (file.records, file.torn) == ([], False)
        file.append({"n": 1, "t": "改行\nと\u2028\x85"})
    with JsonLines(path) as file:
        file.append({"n": 2})
        assert len(file.records) == 1  # what the file held when it was opened
    assert read(path) == [{"n": 1, "t": "改行\nと\u2028\x85"}, {"n": 2}]


def test_no_file_holds_no_records(tmp_path):
    assert read(tmp_path / "absent.jsonl") == []
    assert list(tmp_path.iterdir()) == []


def test_a_record_is_on_disk_before_append_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    with JsonLines(tmp_path / "a.jsonl") as file:
        monkeypatch.setattr(os, "fsync", lambda fd: (real(fd), synced.append(read(tmp_path / "a.jsonl"))))
        file.append({"n": 1})
        assert synced == [[{"n": 1}]]


def test_wherever_the_last_line_is_torn_the_rest_stands(tmp_path):
    path = tmp_path / "a.jsonl"
    with JsonLines(path) as file:
        file.append({"n": 1})
        file.append({"n": 2, "t": "日本語"})
    content = path.read_bytes()
    whole = content.index(b"\n") + 1
    for cut in range(whole, len(content) - 1):  # all but the last line end: a whole record, see below
        path.write_bytes(content[:cut])
        assert read(path) == [{"n": 1}]
        with JsonLines(path) as file:
            assert (file.records, file.torn) == ([{"n": 1}], cut > whole)
            file.append({"n": 3})
        assert read(path) == [{"n": 1}, {"n": 3}]


def test_a_whole_last_record_without_its_line_end_counts_and_gets_it_at_the_next_append(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":2}')
    assert read(path) == [{"n": 1}, {"n": 2}]
    with JsonLines(path) as file:
        assert (file.records, file.torn) == ([{"n": 1}, {"n": 2}], False)
        file.append({"n": 3})
        file.append({"n": 4})
    assert path.read_bytes() == b'{"n":1}\n{"n":2}\n{"n":3}\n{"n":4}\n'


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b" ", b"\0", b""])
def test_a_file_with_other_line_ends_is_refused_and_not_touched(tmp_path, end):
    path = tmp_path / "a.jsonl"
    path.write_bytes(end.join([b'{"n":1}', b'{"n":2}', b'{"n":3']))  # the last one is torn, too
    before = path.read_bytes()
    for use in (read, JsonLines):
        with pytest.raises(RunError, match="1 行目を読めません") as caught:
            use(path)
        assert len(str(caught.value).split("\n")) == 3 and ("CRLF" in caught.value.what) == (b"\r" in end)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "line", [b"{", b"[1]", b"1", b"", b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\xff"}', b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b"[" * 99999]
)
def test_a_damaged_line_is_named_and_nothing_is_written(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n":1}\n' + line + b'\n{"n":3}\n')
    before = path.read_bytes()
    for use in (read, JsonLines):
        with pytest.raises(RunError, match="2 行目"):
            use(path)
    assert path.read_bytes() == before


def test_a_second_writer_is_refused_or_waits(tmp_path):
    path = tmp_path / "a.jsonl"
    with JsonLines(path) as first:
        with pytest.raises(RunError, match="書き込み中"):
            JsonLines(path, wait=False)
        waiting = threading.Thread(target=lambda: JsonLines(path).__exit__())
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        first.append({"n": 1})
    waiting.join(10)
    assert not waiting.is_alive()
    with JsonLines(path, wait=False) as again:
        assert again.records == [{"n": 1}]


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.jsonl", tmp_path):
        with pytest.raises(RunError) as caught:
            JsonLines(path)
        assert str(path) in caught.value.what


APPEND = """
    import sys
    from pathlib import Path
    from kit.trust.durable import JsonLines
    path, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    for number in range(count):
        with JsonLines(path) as file:
            file.append({"name": name, "number": number, "text": "あ" * 500})
        print(number, flush=True)
"""


def test_two_processes_append_without_loss(tmp_path):
    writers = [python(APPEND, tmp_path / "a.jsonl", name, 20) for name in "ab"]
    for writer in writers:
        writer.communicate()
    records = read(tmp_path / "a.jsonl")
    for name in "ab":
        assert [r["number"] for r in records if r["name"] == name] == list(range(20))
    assert len(records) == 40


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path):
    path = tmp_path / "a.jsonl"
    for attempt in range(5):
        writer = python(APPEND, path, attempt, 10**6)
        acknowledged = [int(writer.stdout.readline()) for _ in range(5 + attempt)]
        time.sleep(attempt / 2000)  # into the middle of a write
        writer.kill()
        rest, _ = writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        acknowledged += [int(line) for line in rest.splitlines(True) if line.endswith("\n")]
        found = [record["number"] for record in read(path) if record["name"] == str(attempt)]
        assert found == list(range(len(found)))
        assert len(acknowledged) <= len(found) <= len(acknowledged) + 1
    assert {record["name"] for record in read(path)} == {str(attempt) for attempt in range(5)}


def test_a_full_disk_keeps_the_earlier_records_and_recovers(tmp_path):
    code = """
        import json, sys
        from pathlib import Path
        from kit.errors import RunError
        from kit.trust.durable import JsonLines, read
        folder = Path(sys.argv[1])
        path, ballast = folder / "a.jsonl", folder / "ballast"
        told = []
        for filler in range(1, 5000, 500):  # the disk fills up at another byte of a line each time
            path.unlink(missing_ok=True)
            ballast.write_bytes(b"0" * 8192)
            (folder / "filler").write_bytes(b"0" * filler)
            number = 0
            try:
                with JsonLines(path) as file:
                    while True:
                        file.append({"n": number, "t": "x" * 1500})
                        number += 1
            except RunError as error:
                told.append(str(error))
            assert [record["n"] for record in read(path)] == list(range(number)) and number
            assert path.read_bytes().endswith(b"\\n")
            ballast.unlink()
            with JsonLines(path) as file:
                assert not file.torn
                file.append({"n": number})
            assert len(read(path)) == number + 1
        print(json.dumps(told))
    """
    told = on_a_small_disk(tmp_path, "64k", code)
    assert len(told) == 10
    assert all(str(tmp_path / "a.jsonl") in message and "空き" in message for message in told)


def test_one_writer_goes_on_after_the_disk_has_space_again(tmp_path):
    code = """
        import json, sys
        from pathlib import Path
        from kit.errors import RunError
        from kit.trust.durable import JsonLines, read
        folder = Path(sys.argv[1])
        ballast = folder / "ballast"
        ballast.write_bytes(b"0" * 32768)
        with JsonLines(folder / "a.jsonl") as file:
            file.append({"n": 0})
            try:
                file.append({"n": 1, "t": "x" * 60000})
            except RunError:
                ballast.unlink()
            file.append({"n": 2})
        print(json.dumps([record["n"] for record in read(folder / "a.jsonl")]))
    """
    assert on_a_small_disk(tmp_path, "64k", code) == [0, 2]


def test_a_whole_file_is_replaced_and_nothing_is_left_over(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, "一\ud800")
    write_atomically(path, b"\xff\x00")
    assert path.read_bytes() == b"\xff\x00"
    assert list(path.parent.iterdir()) == [path]


def test_the_content_is_on_disk_before_the_name_changes_and_the_name_before_the_return(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    seen = []
    real = os.fsync
    open_file = Path("/proc/self/fd")
    monkeypatch.setattr(
        os, "fsync", lambda fd: (real(fd), seen.append(((open_file / str(fd)).readlink(), path.read_text())))
    )
    write_atomically(path, "new")
    (temporary, before), after = seen
    assert (temporary.parent, temporary.suffix, before) == (tmp_path, ".tmp", "old") and after == (tmp_path, "new")


def test_several_who_write_one_file_at_once_do_not_meet(tmp_path):
    path, failed = tmp_path / "a.txt", []

    def write(letter):
        try:
            for _ in range(20):
                write_atomically(path, letter * 50_000)
        except RunError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == [] and path.read_text() in {letter * 50_000 for letter in "abcd"}
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing_and_the_rights_are_those_of_any_file(tmp_path, monkeypatch):
    (tmp_path / "any").touch()
    write_atomically(tmp_path / "a.txt", "old")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "any").stat().st_mode
    monkeypatch.setattr(os, "fsync", lambda fd: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", "new")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.txt", "any"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_file_that_cannot_be_written_is_explained_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "file" / "a.txt", tmp_path / "folder", tmp_path / ("長" * 90)):
        with pytest.raises(RunError) as caught:
            write_atomically(path, "x")
        assert str(path) in caught.value.what
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder"]


def test_a_kill_leaves_the_old_content_or_the_new(tmp_path):
    path = tmp_path / "a.txt"
    code = """
        import sys
        from pathlib import Path
        from kit.trust.durable import write_atomically
        while True:
            for letter in "ab":
                write_atomically(Path(sys.argv[1]), letter * 300_000)
                print(letter, flush=True)
    """
    for attempt in range(3):
        writer = python(code, path)
        writer.stdout.readline()
        for _ in range(20):
            assert path.read_text() in ("a" * 300_000, "b" * 300_000)  # a reader beside it sees whole files, too
        time.sleep(attempt / 1000)
        writer.kill()
        writer.communicate()
        assert path.read_text() in ("a" * 300_000, "b" * 300_000)
    rest = [item.name for item in tmp_path.iterdir() if item != path]
    assert len(rest) <= 3 and all(name.startswith(".") and name.endswith(".tmp") for name in rest)  # one a kill at most


def test_a_full_disk_keeps_the_old_file(tmp_path):
    code = """
        import json, sys
        from pathlib import Path
        from kit.errors import RunError
        from kit.trust.durable import write_atomically
        path = Path(sys.argv[1]) / "a.txt"
        write_atomically(path, "old")
        try:
            write_atomically(path, "x" * 200_000)
        except RunError as error:
            print(json.dumps([str(error), path.read_text(), [item.name for item in path.parent.iterdir()]]))
    """
    message, content, names = on_a_small_disk(tmp_path, "64k", code)
    assert (content, names) == ("old", ["a.txt"])
    assert "空き" in message
