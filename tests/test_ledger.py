import hashlib
import json
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest

from kit.errors import LedgerError, RunError
from kit.trust import ledger
from kit.trust.durable import canonical

ROOT = Path(__file__).parents[1]
CONTENTS = [{"title": "基準", "n": 200}, {"run": "a", "arms": [["x", 1]]}, {"run": "a", "ok": True}, {"outcome": "GO"}]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / ledger.NAME


@pytest.fixture
def lines(path):
    """The lines of a ledger with four entries."""
    for kind, content in zip(("seal", "run", "rows", "decision"), CONTENTS, strict=True):
        ledger.append(path, kind, content)
    return path.read_bytes().splitlines(keepends=True)


def assert_broken(path, lines, number):
    """The lines are found to be broken at a line, both by a reader and by a writer, who adds nothing."""
    path.write_bytes(b"".join(lines))
    for use in (lambda: ledger.entries(path), lambda: ledger.append(path, "run", {})):
        with pytest.raises(LedgerError, match=f"{number} 行目"):
            use()
    assert path.read_bytes() == b"".join(lines)


def spell(record):
    return (canonical(record) + "\n").encode()


def rehash(record):
    """What a forger can do: give an entry a hash that fits its content."""
    body = {key: value for key, value in record.items() if key != "hash"}
    return body | {"hash": hashlib.sha256(canonical(body).encode()).hexdigest()}


def test_no_ledger_is_an_empty_one(path):
    assert ledger.entries(path) == []
    assert not path.parent.exists()


def test_entries_come_back_as_they_were_written(path):
    written = [ledger.append(path, "run", content) for content in CONTENTS]
    assert ledger.entries(path) == written
    assert [entry.sequence for entry in written] == [1, 2, 3, 4]
    assert [entry.content for entry in written] == CONTENTS
    for entry in written:
        at = datetime.fromisoformat(entry.at)
        assert at.utcoffset() == timedelta(0)
        assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)


def test_each_entry_holds_the_hash_of_the_one_before(path, lines):
    records = [json.loads(line) for line in lines]
    assert records[0]["previous"] == "0" * 64
    assert [record["previous"] for record in records[1:]] == [record["hash"] for record in records[:-1]]
    body = {key: records[2][key] for key in ("sequence", "at", "kind", "content", "previous")}
    assert records[2]["hash"] == hashlib.sha256(canonical(body).encode()).hexdigest()


def test_what_json_cannot_keep_does_not_break_the_chain(path):
    ledger.append(path, "run", {10: 1, 9: 2, "\ud800": 3, "z": ("a", "\udfff")})
    assert ledger.append(path, "run", {}).sequence == 2
    assert ledger.entries(path)[0].content == {"10": 1, "9": 2, "?": 3, "z": ["a", "?"]}


def test_what_json_cannot_say_is_not_written(path, lines):
    with pytest.raises(ValueError):
        ledger.append(path, "run", {"x": float("nan")})
    assert len(ledger.entries(path)) == 4


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("field", ["sequence", "at", "kind", "content", "previous", "hash"])
def test_every_edited_field_is_found(path, lines, number, field):
    record = json.loads(lines[number])
    old = record[field]
    new = {"sequence": 9, "content": {**CONTENTS[number], "x": 1}}.get(field, f"{old}x")
    for value in (new, None, [], str(old) if field == "sequence" else 1, float(old) if field == "sequence" else {}):
        assert_broken(path, [*lines[:number], spell(record | {field: value}), *lines[number + 1 :]], number + 1)
    without = {key: value for key, value in record.items() if key != field}
    assert_broken(path, [*lines[:number], spell(without), *lines[number + 1 :]], number + 1)
    assert_broken(path, [*lines[:number], spell(record | {"note": ""}), *lines[number + 1 :]], number + 1)


def test_an_edit_with_a_new_hash_is_found_at_the_next_entry(path, lines):
    for number in range(3):
        forged = rehash(json.loads(lines[number]) | {"kind": "forged"})
        assert_broken(path, [*lines[:number], spell(forged), *lines[number + 1 :]], number + 2)


def test_every_deletion_but_that_of_the_tail_is_found(path, lines):
    for number in range(3):
        assert_broken(path, lines[:number] + lines[number + 1 :], number + 1)
        assert_broken(path, lines[number + 1 :], 1)


def test_a_cut_tail_is_seen_by_the_head_alone(path, lines):
    head = ledger.entries(path)[-1].hash
    path.write_bytes(b"".join(lines[:3]))
    assert head not in {entry.hash for entry in ledger.entries(path)}  # why summaries print the head


def test_every_insertion_is_found(path, lines):
    for number in range(4):
        assert_broken(path, [*lines[:number], lines[number], *lines[number:]], number + 2)
        before = json.loads(lines[number - 1])["hash"] if number else "0" * 64
        forged = {"sequence": number + 1, "at": "", "kind": "seal", "content": {}, "previous": before}
        assert_broken(path, [*lines[:number], spell(rehash(forged)), *lines[number:]], number + 2)
        assert_broken(path, [*lines[:number], b"\n", *lines[number:]], number + 1)


def test_every_other_order_is_found(path, lines):
    for order in permutations(range(4)):
        if order != (0, 1, 2, 3):
            first = next(i for i, number in enumerate(order) if i != number)
            assert_broken(path, [lines[number] for number in order], first + 1)


def test_a_flipped_bit_anywhere_is_found(path):
    ledger.append(path, "seal", {"n": 1})
    ledger.append(path, "run", {"n": 2.5})
    whole = path.read_bytes()
    first = ledger.entries(path)[0]
    for position in range(len(whole) - 1):
        for bit in (0, 5):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(LedgerError):
                ledger.entries(path)
    path.write_bytes(whole[:-1] + b"\x0b")  # the last line end: a torn line
    assert ledger.entries(path) == [first]


@pytest.mark.parametrize("line", [b"\n", b"{\n", b"[]\n", b"null\n", b"{}\n", b'{"sequence":NaN}\n', b"\xff\xfe\n", b"\x00\x00\n"])
def test_lines_that_are_no_entries_are_a_broken_chain(path, lines, line):
    assert_broken(path, [*lines, line], 5)
    assert_broken(path, [line, *lines], 1)


def test_a_second_key_of_the_same_name_is_found(path, lines):
    forged = lines[0].replace(b'"kind":"seal"', b'"kind":"none","kind":"seal"')
    assert_broken(path, [forged, *lines[1:]], 1)


def test_a_torn_last_line_is_dropped_and_noted(path, lines):
    for cut in (1, len(lines[3]) // 2, len(lines[3]) - 1):
        path.write_bytes(b"".join(lines[:3]) + lines[3][:cut])
        assert [entry.kind for entry in ledger.entries(path)] == ["seal", "run", "rows"]
        assert ledger.append(path, "decision", CONTENTS[3]).content == CONTENTS[3] | {"recovered_torn_line": True}
        assert ledger.append(path, "run", {}).content == {}
        assert len(ledger.entries(path)) == 5


def test_a_ledger_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="書き込めません"):
        ledger.append(tmp_path / "file" / ledger.NAME, "run", {})


APPEND = textwrap.dedent("""
    import sys
    from pathlib import Path
    from kit.trust import ledger
    for number in range(int(sys.argv[3])):
        print(ledger.append(Path(sys.argv[1]), "run", {"by": sys.argv[2], "number": number}).sequence, flush=True)
""")


def append_elsewhere(path, name, count):
    command = [sys.executable, "-c", APPEND, str(path), name, str(count)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_one_intact_chain(path):
    writers = [append_elsewhere(path, name, 50) for name in "ab"]
    told = [int(line) for writer in writers for line in writer.communicate()[0].split()]
    entries = ledger.entries(path)
    assert sorted(told) == [entry.sequence for entry in entries] == list(range(1, 101))
    for name in "ab":
        assert [e.content["number"] for e in entries if e.content["by"] == name] == list(range(50))


def test_a_kill_loses_no_entry_that_was_acknowledged(path):
    for attempt in range(3):
        writer = append_elsewhere(path, str(attempt), 10**6)
        told = [int(writer.stdout.readline()) for _ in range(4 + attempt)]
        writer.kill()
        rest, _ = writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        told += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        sequences = [entry.sequence for entry in ledger.entries(path)]
        assert told[-1] <= sequences[-1] <= told[-1] + 1
