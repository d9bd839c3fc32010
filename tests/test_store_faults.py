"""What the store promises, under faults made on purpose (``tests/faults.py``); the long forms run for hours, by hand."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kit.knowledge.store import Store
from tests.evaluations import make_document
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
def test_ctrl_c_leaves_a_store_that_goes_on():
    assert made("interrupt", 20)["faults"] == 20


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
@pytest.mark.parametrize(("fault", "count"), [("kill", 1000), ("power", 1000), ("interrupt", 1000), ("flip", 1000), ("full", 31), ("crowd", 50)])
def test_the_same_at_length(fault, count):
    result = made(fault, count, seed=2, prefix=ISOLATED if fault == "full" else ())
    assert result.get("bad", []) == []


# --- the golden stores ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", ["store-3"])
def test_a_golden_store_opens_verifies_and_is_searched(tmp_path, golden):
    store = Store(shutil.copytree(ROOT / "tests" / "data" / golden, tmp_path / golden))
    assert store.verify().ok
    hits = store.search("出張の日当", as_user="hr", since="2024-01-01")
    assert [(hit.chunk.document, hit.chunk.text, hit.chunk.place.page) for hit in hits] == [("規程/旅費.pdf", TRAVEL, 2)]
    assert store.search("役員報酬") == []
    assert [hit.chunk.text for hit in store.search("役員報酬", as_user="hr")] == [SALARY]
    assert store.add([make_document("c.txt", "年次有給休暇は半日単位で取得できる。")]).new == 1
    assert store.rollback() and sorted(store.documents()) == ["人事/報酬.docx", "規程/旅費.pdf"]
    assert store.verify().ok
