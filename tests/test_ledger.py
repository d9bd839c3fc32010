import hashlib
import json
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest

from kit.errors import DataError, LedgerError, RunError
from kit.trust import ledger, signing
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


def test_of_several_who_add_the_same_at_once_the_first_does(path):
    first = ledger.append(path, "seal", {"questions": ("a", "b")}, once=True)
    ledger.append(path, "run", {})
    assert ledger.append(path, "seal", {"questions": ["a", "b"]}, once=True) == ledger.entries(path)[0]
    ledger.append(path, "seal", {"questions": ["a"]}, once=True)
    assert first.sequence == 1 and [entry.kind for entry in ledger.entries(path)] == ["seal", "run", "seal"]


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
    body = {key: records[2][key] for key in ("sequence", "at", "boot", "monotonic_ns", "kind", "content", "previous")}
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
@pytest.mark.parametrize("field", ["sequence", "at", "boot", "monotonic_ns", "kind", "content", "previous", "hash"])
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
        forged = {"sequence": number + 1, "at": "2026-11-22T00:00:00+00:00", "kind": "seal", "content": {}, "previous": before}
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
    for position in range(len(whole) - 1):
        for bit in (0, 5):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            with pytest.raises(LedgerError):
                ledger.entries(path)
    path.write_bytes(whole[:-1] + b"\x0b")  # the last line end: what is whole is no torn line
    with pytest.raises(LedgerError, match="2 行目"):
        ledger.entries(path)


@pytest.mark.parametrize("line", [b"\n", b"{\n", b"[]\n", b"null\n", b"{}\n", b'{"sequence":NaN}\n', b"\xff\xfe\n", b"\x00\x00\n"])
def test_lines_that_are_no_entries_are_a_broken_chain(path, lines, line):
    assert_broken(path, [*lines, line], 5)
    assert_broken(path, [line, *lines], 1)


def test_a_second_key_of_the_same_name_is_found(path, lines):
    forged = lines[0].replace(b'"kind":"seal"', b'"kind":"none","kind":"seal"')
    assert_broken(path, [forged, *lines[1:]], 1)


def test_an_entry_stays_when_its_line_end_is_taken_away(path, lines):
    known = ledger.entries(path)
    path.write_bytes(b"".join(lines)[:-1])
    assert ledger.entries(path) == known
    assert not ledger.append(path, "run", {}).recovered_torn_line
    assert path.read_bytes().splitlines(keepends=True)[:4] == lines and len(ledger.entries(path)) == 5
    forged = rehash(json.loads(lines[3]) | {"previous": "0" * 64})
    for last in (spell(forged)[:-1], lines[3][:-1].replace(b"GO", b"NO")):
        assert_broken(path, [*lines[:3], last], 4)


@pytest.mark.parametrize("end", [b"\r", b"\r\n", b"\n\r", b" ", b""])
def test_a_ledger_with_other_line_ends_is_refused_and_kept(path, lines, end):
    assert_broken(path, [b"".join(lines).replace(b"\n", end)], 2 if end == b"\n\r" else 1)
    with pytest.raises(LedgerError) as caught:
        ledger.entries(path)
    assert len(str(caught.value).split("\n")) == 3


def test_a_torn_last_line_is_dropped_and_noted(path, lines):
    for cut in (1, len(lines[3]) // 2, len(lines[3]) - 2):
        path.write_bytes(b"".join(lines[:3]) + lines[3][:cut])
        assert [entry.kind for entry in ledger.entries(path)] == ["seal", "run", "rows"]
        written = ledger.append(path, "decision", CONTENTS[3])
        assert (written.content, written.recovered_torn_line) == (CONTENTS[3], True)
        assert not ledger.append(path, "run", {}).recovered_torn_line
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


@pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_eight_writers_killed_at_random_lose_no_acknowledged_entry(path, rounds):
    rng, told = random.Random(8), []
    for number in range(rounds):
        writers = [append_elsewhere(path, f"{number}.{name}", 10**6) for name in range(8)]
        told += [int(writer.stdout.readline()) for writer in writers]  # all of them write by now
        for writer in rng.sample(writers, 8):
            time.sleep(rng.random() * 0.05)
            writer.kill()
        for writer in writers:
            rest = writer.communicate()[0].splitlines(keepends=True)
            told += [int(line) for line in rest if line.endswith("\n")]
            assert writer.returncode == -signal.SIGKILL
        content = path.read_bytes()
        entries = ledger.entries(path)
        assert sorted(told) == sorted({*told}) and max(told) <= len(entries)
        assert len(content.splitlines()) - len(entries) in (0, 1)  # a torn line was never told to anybody
        assert len(entries) - len(told) <= 8 * (number + 1)  # written, but killed before it could be told
        for writer in writers:
            name = f"{number}.{writers.index(writer)}"
            written = [entry.content["number"] for entry in entries if entry.content["by"] == name]
            assert written == list(range(len(written))) != []


# --- clocks


class Clock:
    """A wall clock and a monotonic one, of which the first can be set."""

    def __init__(self):
        self.wall, self.ticks, self.boot = datetime(2026, 11, 22, tzinfo=UTC), 10**12, "boot-1"

    def now(self, zone):
        return self.wall.astimezone(zone)

    def fromisoformat(self, text):
        return datetime.fromisoformat(text)

    def monotonic_ns(self):
        return self.ticks

    def go_on(self, seconds):
        self.wall, self.ticks = self.wall + timedelta(seconds=seconds), self.ticks + round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(ledger, "datetime", made)
    monkeypatch.setattr(ledger, "time", made)
    monkeypatch.setattr(ledger, "_boot", lambda: made.boot)
    return made


@pytest.mark.parametrize("seed", range(3))
def test_fifty_clock_jumps_change_no_order_and_are_all_told(path, clock, seed):
    rng, jumps = random.Random(seed), []
    for number in range(120):
        clock.go_on(rng.uniform(0, 3600))
        if number % 2 and len(jumps) < 50:
            jump = rng.choice([-1, 1]) * 10 ** rng.uniform(0.5, 7)  # 3 seconds to 4 months
            clock.wall += timedelta(seconds=jump)
            jumps.append((number + 1, jump))
        ledger.append(path, "run", {"number": number})
    entries = ledger.entries(path)
    assert [entry.content["number"] for entry in entries] == list(range(120))
    assert [entry.monotonic_ns for entry in entries] == sorted(entry.monotonic_ns for entry in entries)
    assert len(jumps) == 50
    assert [(e.sequence, round(j, 1)) for e, j in ledger.drifts(entries)] == [(n, pytest.approx(j, abs=0.1)) for n, j in jumps]


def test_between_boots_only_a_step_back_can_be_seen(path, clock):
    for boot, seconds, ticks in (("a", 0, 900), ("b", 86_400, 5), ("a", -60, 1000), ("", 60, 7), ("", -1, 3)):
        clock.boot, clock.wall, clock.ticks = boot, clock.wall + timedelta(seconds=seconds), ticks
        ledger.append(path, "run", {})
    assert [(entry.sequence, jump) for entry, jump in ledger.drifts(ledger.entries(path))] == [(3, -60), (5, -1)]


def test_an_entry_knows_its_boot(path):
    first, second = (ledger.append(path, "run", {}) for _ in range(2))
    assert first.boot == second.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert 0 < first.monotonic_ns <= second.monotonic_ns <= time.monotonic_ns()


# --- checkpoints


def test_a_checkpoint_signs_the_chain_before_it(path, lines):
    head = ledger.entries(path)[-1]
    entry = ledger.checkpoint(path)
    assert (entry.kind, entry.content["sequence"], entry.content["head"]) == ("checkpoint", 4, head.hash)
    assert signing.stands(entry.content) and not signing.stands(entry.content | {"head": "0" * 64})
    assert ledger.checkpoint(path) == entry  # nothing followed it
    assert len(ledger.entries(path)) == 5


def test_the_private_key_stays_away_from_the_runs(path, lines):
    entry, key = ledger.checkpoint(path), signing.machine_key()
    assert path.parent not in key.parents
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (beside,) = path.parent.glob("*.pem")
    assert beside.name == f"ledger-{entry.content['key'][:16]}.pem"
    assert beside.read_text() == entry.content["public_key"] and "PRIVATE" not in beside.read_text()


def test_a_signature_that_does_not_verify_is_not_entered(path, lines):
    signed = ledger.checkpoint(path).content
    for content in (signed | {"head": "0" * 64}, signed | {"note": ""}, {"signature": ""}):
        with pytest.raises(DataError, match="署名が内容と合わない") as caught:
            ledger.append(path, "approval", content)
        assert len(str(caught.value).split("\n")) == 3
    assert len(ledger.entries(path)) == 5


# --- speed


def test_an_entry_is_added_to_a_thousand_without_checking_them_anew(path, lines):
    """Each step of a run reads the ledger: a line is checked once a process, however often it is read."""
    record = json.loads(lines[3])
    for _ in range(996):
        body = record | {"sequence": record["sequence"] + 1, "previous": record["hash"], "content": {"questions": ["0" * 12] * 50}}
        record = rehash(body)
        lines.append(spell(record))
    path.write_bytes(b"".join(lines))
    assert len(ledger.entries(path)) == 1000
    read = ledger._line.cache_info().misses
    ledger.append(path, "run", {})  # 4 ms; 236 ms before lines were kept
    assert ledger._line.cache_info().misses == read
    ledger.entries(path)
    assert ledger._line.cache_info().misses == read + 1


@pytest.mark.parametrize(
    "change", [{"at": "2026"}, {"at": "2026-11-22T00:00:00"}, {"content": []}, {"kind": 1}, {"monotonic_ns": 1.5}, {"note": ""}]
)
def test_a_line_of_another_shape_is_no_entry_whatever_its_hash(path, lines, change):
    assert_broken(path, [*lines[:3], spell(rehash(json.loads(lines[3]) | change))], 4)
