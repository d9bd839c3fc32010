"""What the store promises, under faults made on purpose (``tests/faults.py``); the long forms run for hours, by hand."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from kit.errors import DataError, KitError
from kit.knowledge.store import Store
from kit.records import EVERYONE, Block, Document, Place
from tests.golden import SALARY, TRAVEL

ROOT = Path(__file__).parents[1]
ISOLATED = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]


def made(fault, count, seed=1, prefix=()):
    """Run the faults and return what they came to."""
    command = [*prefix, sys.executable, "-m", "tests.faults", fault, "--count", str(count), "--seed", str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


# --- kills, power cuts, damage, full disks, crowds -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "power"])
def test_nothing_acknowledged_is_lost_and_nothing_partial_is_seen(fault):
    assert made(fault, 5)["faults"] == 5


@pytest.mark.slow
def test_a_flipped_bit_is_named_or_harmless():
    assert made("flip", 60)["bad"] == []


@pytest.mark.slow
def test_a_full_disk_loses_nothing():
    if not shutil.which("unshare") or subprocess.run([*ISOLATED, "true"], capture_output=True).returncode:
        pytest.skip("no private mount namespace here (needs root or user namespaces)")
    assert made("full", 1, prefix=ISOLATED)["disks"] == 1


@pytest.mark.slow
def test_sixteen_processes_write_at_once():
    assert made("crowd", 1)["processes"] == 16


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("fault", "count"), [("kill", 1000), ("power", 1000), ("flip", 1000), ("full", 31), ("crowd", 50)])
def test_the_same_at_length(fault, count):
    result = made(fault, count, seed=2, prefix=ISOLATED if fault == "full" else ())
    assert result.get("bad", []) == []


# --- who reads what ------------------------------------------------------------------------------------------------

CANARY = re.compile(r"カナリア\d+号")


def document(name, text, readers=(EVERYONE,), date=""):
    content = hashlib.sha256(f"{name}{text}".encode()).hexdigest()
    return Document(content, name, text[:12], (Block(text, Place()),), readers, date=date)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """Fifty canaries that hr or nobody may read among texts for everyone that say nearly the same."""
    store = Store(tmp_path_factory.mktemp("guarded"))
    same = "役員報酬の改定案は三月に極秘で審議する。"
    canaries = [
        document(f"極秘/{number}.txt", f"{same}カナリア{number}号。", ("hr",) if number % 2 else (), f"2024-04-{number % 28 + 1:02}")
        for number in range(50)
    ]
    public = [document(f"公開/{number}.txt", f"{same}公開{number}。", date=f"2023-04-{number + 1:02}") for number in range(20)]
    store.add([*canaries, *public])
    return store


def texts(hits):
    """Everything that a hit hands out, what is folded under it included."""
    return [piece for hit in hits for part in (hit, *hit.also) for piece in (repr(part), str(part))]


ATTACK = st.sampled_from(["'", '"', "%", "_", "|", "\n", "\\", ";", "--", ")", " OR ", "hr", "everyone", "|hr|", "*", "[!x]", "\x00", "a", "極秘/"])
HOSTILE = st.text(max_size=70) | st.lists(ATTACK, min_size=1, max_size=5).map("".join)


def assert_no_canary(guarded, user, documents, since, until, query="役員報酬の改定案 カナリア7号"):
    try:
        found = texts(guarded.search(query, k=50, as_user=user, documents=documents, since=since, until=until))
    except KitError as error:
        assert isinstance(error, DataError), error
        found = []
    if not user or re.fullmatch(r"[A-Za-z0-9_.@-]{1,64}", user):
        found += texts(guarded.keyword_search(query, k=70, as_user=user))
        assert found
    if user != "hr":
        assert not [text for text in found if CANARY.search(text)]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_name_or_filter_opens_a_restricted_text(guarded, user, documents, since, until):
    assert_no_canary(guarded, user, documents, since, until)
    assert len(guarded) == 70


@pytest.mark.long
@pytest.mark.timeout(0)
@settings(deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_ten_thousand_names_and_filters_open_no_restricted_text(guarded, user, documents, since, until):
    assert_no_canary(guarded, user, documents, since, until)
    assert len(guarded) == 70


def test_fifty_canaries_stay_with_those_who_may_read_them(guarded):
    for number in range(50):
        for user in ("", "everyone", "h", "hrx", "nobody"):
            assert_no_canary(guarded, user, "極秘/*" if number % 3 == 0 else "", "", "", f"役員報酬の改定案 カナリア{number}号")
    seen = {name for text in texts(guarded.search("カナリア", k=100, as_user="hr", fold=False)) for name in CANARY.findall(text)}
    assert seen == {f"カナリア{number}号" for number in range(1, 50, 2)}


# --- the golden stores ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", ["store-3"])
def test_a_golden_store_opens_verifies_and_is_searched(tmp_path, golden):
    store = Store(shutil.copytree(ROOT / "tests" / "data" / golden, tmp_path / golden))
    assert store.verify().ok
    hits = store.search("出張の日当", as_user="hr", since="2024-01-01")
    assert [(hit.chunk.document, hit.chunk.text, hit.chunk.place.page) for hit in hits] == [("規程/旅費.pdf", TRAVEL, 2)]
    assert store.search("役員報酬") == []
    assert [hit.chunk.text for hit in store.search("役員報酬", as_user="hr")] == [SALARY]
    assert store.add([document("c.txt", "年次有給休暇は半日単位で取得できる。")]).new == 1
    assert store.rollback() and sorted(store.documents()) == ["人事/報酬.docx", "規程/旅費.pdf"]
    assert store.verify().ok
