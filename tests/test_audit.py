"""The audit: what was changed after it was entered is found, and what a crash or a clock leaves is not called tampering."""

import hashlib
import json
import random
import shutil
from collections import Counter
from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit.errors import DataError
from kit.evaluation.audit import audit
from kit.evaluation.decide import decide
from kit.evaluation.evaluate import JOURNAL
from kit.trust import ledger, signing
from kit.trust.durable import canonical
from kit.trust.seal import approve
from tests.evaluations import RIGHT, Oracle, make_answer, make_cases, sealed_run, wrong_arm

FILES = ("seal.json", "criteria.yaml", "cases.jsonl", JOURNAL, "decision.json", "scores.jsonl")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A ledger of three decided runs under two criteria, with scores, an approval and a checkpoint after each decision."""
    runs = tmp_path_factory.mktemp("made") / "runs"
    book = runs / ledger.NAME
    signing.make_key(runs.parent / "部長.pem")
    for number, count in enumerate((12, 14, 14), 1):
        cases = make_cases(count, 2)
        arms = {"baseline": wrong_arm(cases), "candidate": Oracle(cases, {f"Q{number}": make_answer("99年")})}
        run = sealed_run(runs, cases, arms, RIGHT, run=f"2026112{number}-090000-p", text=f"title: 題{count}\n")
        decide(run)
        ledger.checkpoint(book)
        scores = f'{{"case":"a{number}","value":1.0}}\n'.encode()
        (run.folder / "scores.jsonl").write_bytes(scores + b'{"case":"never acknowledged"}\n')
        digest = hashlib.sha256(scores).hexdigest()
        ledger.append(book, "scores", {"run": run.folder.name, "sha256": digest, "count": 1, "source": "採点シート.xlsx"})
    approve(run.seal.criteria, "部長", runs.parent / "部長.pem", book)
    ledger.checkpoint(book)
    return runs


@pytest.fixture
def runs(made, tmp_path):
    """The same in a place of its own, for a test to do with as it likes."""
    return shutil.copytree(made, tmp_path / "runs")


def head(runs):
    return ledger.entries(runs / ledger.NAME)[-1].hash


def failed(runs, **options):
    return {item.name: item for item in audit(runs / ledger.NAME, **options).items if item.ok is False}


# --- what is as it was ----------------------------------------------------------------------------------


def test_an_untouched_ledger_passes_with_one_line_a_check(runs):
    found = audit(runs / ledger.NAME, anchor=head(runs))
    assert found.ok
    lines = str(found).split("\n")
    assert [line[0] for line in lines] == ["○"] * 7 and len(found.items) == 7
    assert "、部長 " in lines[2] and "その後の記録: なし" in lines[3] and "測定記録・判定・採点が台帳と一致" in lines[4]


def test_the_anchor_tells_what_followed_it(runs):
    known = ledger.entries(runs / ledger.NAME)
    decided = next(entry for entry in known if entry.kind == "decision")
    (item,) = (i for i in audit(runs / ledger.NAME, anchor=f" {decided.hash[:12].upper()} ").items if i.name == "控えたハッシュ")
    assert item.ok and f"{decided.sequence} 行目（decision" in item.found
    assert f"{len(known)} 件" not in item.found and "decision 2 件" in item.found


def test_one_run_alone_may_be_checked(runs):
    (runs / "20261121-090000-p" / JOURNAL).write_bytes(b"")
    assert failed(runs, run="20261122-090000-p") == {}
    assert [*failed(runs, run="20261121-090000-p")] == ["実行 20261121-090000-p"]


@pytest.mark.parametrize("options", [{"anchor": "3f9a"}, {"anchor": "鍵" * 12}])
def test_what_cannot_be_looked_for_is_explained(runs, options):
    with pytest.raises(DataError) as caught:
        audit(runs / ledger.NAME, **options)
    assert len(str(caught.value).split("\n")) == 3


def test_no_ledger_has_nothing_wrong(tmp_path):
    assert audit(tmp_path / ledger.NAME).ok


def test_a_torn_last_line_is_a_remark(runs):
    book = runs / ledger.NAME
    anchor, whole = head(runs), book.read_bytes()
    book.write_bytes(whole + whole[:50])
    found = audit(book, anchor=anchor)
    assert found.ok and found.items[0].ok is None and "末尾の切り取りか" in found.items[0].found
    assert "改ざんではありません" not in str(found)  # a cut tail looks the same
    entry = ledger.append(book, "run", {"run": "next"})
    assert f"書きかけの行を取り除いてから書いた行: {entry.sequence} 行目" in audit(book).items[0].found


def test_one_byte_less_does_not_undo_what_was_entered_last(runs):
    book = runs / ledger.NAME
    anchor, whole, known = head(runs), book.read_bytes(), ledger.entries(book)
    book.write_bytes(whole[:-1])
    found = audit(book, anchor=anchor)
    assert found.ok and found.items[0].ok is None and f"{len(known)} 件" in found.items[0].found
    assert "改行が失われています" in found.items[0].found
    book.write_bytes(whole.replace(b"\n", b"\r"))
    assert not audit(book).ok and "CRLF" in audit(book).items[0].found


def test_a_stopped_run_is_a_remark(made, tmp_path):
    cases = make_cases(12)
    arms = {"candidate": Oracle(cases, {"Q3": KeyboardInterrupt()})}
    with pytest.raises(KeyboardInterrupt):
        sealed_run(tmp_path, cases, arms)
    found = audit(tmp_path / ledger.NAME)
    assert found.ok and "途中で止まっています" in str(found)


# --- what is not ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_each_changed_or_missing_file_of_a_run_is_named(runs, name):
    file = runs / "20261122-090000-p" / name
    for spoil in (lambda: file.write_bytes(file.read_bytes().replace(b"1", b"2")), lambda: file.write_bytes(b""), file.unlink):
        spoil()
        found = failed(runs)
        assert [*found] == ["実行 20261122-090000-p"]
        assert name in found["実行 20261122-090000-p"].found and found["実行 20261122-090000-p"].remedy


def test_the_hash_that_a_decision_names_itself_by_is_looked_at_too(runs):
    file = runs / "20261122-090000-p" / "decision.json"
    own = json.loads(file.read_bytes())["sha256"]
    file.write_bytes(file.read_bytes().replace(own.encode(), ("0" if own[0] != "0" else "1").encode() + own[1:].encode()))
    (name, item), = failed(runs).items()
    assert name == "実行 20261122-090000-p" and "decision.json" in item.found


def test_a_run_that_is_gone_renamed_or_unknown_is_found(runs):
    (runs / "20261122-090000-p").rename(runs / "20261130-090000-p")
    found = failed(runs)
    assert {*found} == {"実行 20261122-090000-p", "実行 20261130-090000-p"}
    assert "台帳に記録がありません" in found["実行 20261130-090000-p"].found
    assert [*failed(runs, run="p")] == ["実行 p"]


def test_an_approval_that_does_not_verify_is_named(runs):
    records = read(runs)
    approval = next(record for record in records if record["kind"] == "approval")
    approval["content"]["name"] = "社長"
    write(runs, chained(records))
    assert "社長の承認" in failed(runs)["署名"].found


@pytest.mark.parametrize("number", range(18))
def test_entries_without_what_belongs_in_them_are_found_and_no_traceback(runs, number):
    records = read(runs)
    for content in ({}, {name: [] for name in records[number]["content"]}):
        records[number]["content"] = content
        write(runs, chained(records))
        assert failed(runs)
        write(runs, resigned([record for record in records if record["kind"] != "approval"]))
        assert not audit(runs / ledger.NAME, anchor="0" * 64).ok


def test_a_clock_that_runs_backwards_within_one_boot_is_found(runs):
    records = read(runs)
    records[6]["monotonic_ns"] = records[5]["monotonic_ns"] - 1
    write(runs, chained(records))
    assert "7 行目" in failed(runs)["時計"].found


# --- a thousand tamperings ------------------------------------------------------------------------------


def read(runs):
    return [json.loads(line) for line in (runs / ledger.NAME).read_bytes().splitlines()]


def write(runs, records):
    (runs / ledger.NAME).write_bytes(b"".join((canonical(record) + "\n").encode() for record in records))


def rehashed(record):
    body = {key: value for key, value in record.items() if key != "hash"}
    return body | {"hash": hashlib.sha256(canonical(body).encode()).hexdigest()}


def chained(records):
    """Write the chain anew, as anybody can: right numbers, right hashes."""
    previous, made = "0" * 64, []
    for number, record in enumerate(records, 1):
        made.append(rehashed(record | {"sequence": number, "previous": previous}))
        previous = made[-1]["hash"]
    return made


def resigned(records):
    """The same, with all checkpoints signed by the forger's own key."""
    key, previous, made = Ed25519PrivateKey.generate(), "0" * 64, []
    for number, record in enumerate(records, 1):
        if record["kind"] == ledger.CHECKPOINT:
            chain = {"sequence": number - 1, "head": previous, "at": record["at"]}
            record = record | {"content": signing.sign(chain, key)}
        made.append(rehashed(record | {"sequence": number, "previous": previous}))
        previous = made[-1]["hash"]
    return made


def touched(record, rng):
    """Change one value of an entry's content."""
    content = dict(record["content"])
    name = rng.choice([*content])
    content[name] = {"GO": "NO-GO", "EXTEND": "GO"}.get(str(content[name]), "0" * 64 if isinstance(content[name], str) else 9)
    return record | {"content": content}


def edit(runs, records, rng):
    place = rng.randrange(len(records))
    forged = touched(records[place], rng)
    write(runs, [*records[:place], rng.choice([forged, rehashed(forged)]), *records[place + 1 :]])


def delete(runs, records, rng):
    place = rng.randrange(len(records) - 1)
    write(runs, records[:place] + records[place + 1 :])


def insert(runs, records, rng):
    place = rng.randrange(1, len(records))
    forged = touched(rng.choice(records), rng) | {"sequence": place + 1, "previous": records[place - 1]["hash"]}
    write(runs, [*records[:place], rehashed(forged), *records[place:]])


def reorder(runs, records, rng):
    a, b = rng.sample(range(len(records)), 2)
    records[a], records[b] = records[b], records[a]
    write(runs, records)


def backdate(runs, records, rng):
    """Set times back: of one entry as it is or with a new hash, or of all up to one, with the whole chain anew."""
    place, way = rng.randrange(len(records)), rng.choice(["plain", "rehashed", "chain"])
    for number, record in enumerate(records):
        if number == place or (way == "chain" and number < place):
            record["at"] = (datetime.fromisoformat(record["at"]) - timedelta(days=rng.randint(1, 900))).isoformat()
    records[place] = rehashed(records[place]) if way == "rehashed" else records[place]
    write(runs, chained(records) if way == "chain" else records)


def cut(runs, records, rng):
    write(runs, records[: -rng.randint(1, len(records) - 1)])


def rewrite(runs, records, rng):
    """Change something and write the whole chain anew: with the old checkpoints, without any, or signed by another key."""
    place = rng.randrange(len(records))
    records[place] = touched(records[place], rng)
    bare = [record for record in records if record["kind"] != ledger.CHECKPOINT] or records
    write(runs, rng.choice([lambda: chained(records), lambda: chained(bare), lambda: resigned(records)])())


def swap(runs, records, rng):
    """Change a file of a run, take it away, or put that of another run in its place."""
    folder, other = rng.sample(sorted(path for path in runs.iterdir() if path.is_dir()), 2)
    name = rng.choice(FILES)
    file, theirs = folder / name, (other / name).read_bytes()
    if theirs == file.read_bytes() or rng.random() < 0.3:
        return file.unlink()
    text = file.read_text(encoding="utf-8")
    places = [i for i, letter in enumerate(text[:-1]) if letter.isdigit()]
    if rng.random() < 0.5 or name in ("scores.jsonl", "criteria.yaml") or not places:
        return file.write_bytes(theirs)
    place = rng.choice(places)
    return file.write_text(text[:place] + str(9 - int(text[place])) + text[place + 1 :], encoding="utf-8")


KINDS = (edit, delete, insert, reorder, backdate, cut, rewrite, swap)


def tampered(made, folder, count):
    """Tamper ``count`` times; return of each kind how many the audit found with the anchor, and how many without."""
    rng, anchor, records = random.Random(20261122), head(made)[:16], read(made)
    with_anchor, without = Counter(), Counter()
    for number in range(count):
        kind, runs = KINDS[number % len(KINDS)], folder / "runs"
        shutil.copytree(made, runs)
        while read(runs) == records and kind is not swap:  # an edit may by chance write what stood there
            kind(runs, [dict(record) for record in records], rng)
        if kind is swap:
            kind(runs, records, rng)
        with_anchor[kind.__name__] += not audit(runs / ledger.NAME, anchor=anchor).ok
        without[kind.__name__] += not audit(runs / ledger.NAME).ok
        shutil.rmtree(runs)
    return with_anchor, without


@pytest.mark.parametrize("count", [80, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_tampering_is_found_with_the_anchor(made, tmp_path, count):
    with_anchor, without = tampered(made, tmp_path, count)
    assert with_anchor == {kind.__name__: count // len(KINDS) for kind in KINDS}
    for kind in (edit, delete, insert, reorder, swap):  # what the chain and the hashes show by themselves
        assert without[kind.__name__] == count // len(KINDS)
