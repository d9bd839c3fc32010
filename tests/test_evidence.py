"""What counts as proven, and ``kit evidence`` as a user meets it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit.errors import RunError
from kit.interface import cli
from kit.trust import evidence, ledger
from kit.trust.checksums import sha256
from kit.trust.evidence import claims, prove, read_evidence

ROOT = Path(__file__).parents[1]
PASSES, FAILS, SLEEPS = "tests/test_good.py::test_it", "tests/test_bad.py::test_it", "tests/test_sleepy.py::test_it"


def write_claims(path, **tests):
    """Write claims, each with its tests."""
    path.write_text("".join(
        f'[{key}]\nja = "約束 {key}"\nen = "claim {key}"\nlimits = {{ ja = "限界", en = "limits" }}\ntests = {json.dumps(ids)}\n'
        for key, ids in tests.items()
    ), encoding="utf-8")  # fmt: skip


@pytest.fixture
def kit_of_its_own(tmp_path, monkeypatch):
    """A checkout with a little kit and tests that pass, fail and wait; the claims are about these."""
    root = tmp_path / "checkout"
    for folder in ("kit", "tests"):
        (root / folder).mkdir(parents=True)
    (root / "kit" / "__init__.py").write_text("PROMISE = 1\n")
    (root / "tests" / "test_good.py").write_text("import pytest\n\n@pytest.mark.parametrize('n', [1, 2])\ndef test_it(n):\n    assert n\n")
    (root / "tests" / "test_bad.py").write_text("import pytest\n\n@pytest.mark.parametrize('n', [1, 0])\ndef test_it(n):\n    assert n\n")
    (root / "tests" / "test_skipped.py").write_text("import pytest\n\ndef test_it():\n    pytest.skip()\n")
    (root / "pytest.ini").write_text("[pytest]\nmarkers = long\n")
    monkeypatch.setattr(evidence.kit, "__file__", str(root / "kit" / "__init__.py"))
    monkeypatch.setattr(evidence, "CLAIMS", tmp_path / "claims.toml")
    write_claims(evidence.CLAIMS, good=[PASSES], bad=[PASSES, FAILS], skipped=["tests/test_skipped.py::test_it"], none=[])
    return root


def lacks(runs):
    return {proof.claim.key: proof.lack for proof in read_evidence(runs)}


def test_what_is_claimed_names_tests_that_there_are():
    for claim in claims():
        assert {*claim.says} == {*claim.limits} == {"ja", "en"} and all([*claim.says.values(), *claim.limits.values()])
        for test in claim.tests:
            file, _, name = test.partition("::")
            assert f"\ndef {name.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8"), test
    assert [claim.key for claim in claims() if not claim.tests] == ["egress", "instructions", "restored"]


def test_only_what_passed_in_full_is_proven(kit_of_its_own, tmp_path):
    runs = tmp_path / "runs"
    assert {*lacks(runs).values()} == {"absent", "untested"}
    proofs = prove(runs)
    assert {p.claim.key: p.lack for p in proofs} == {"good": "", "bad": "failed", "skipped": "failed", "none": "untested"}
    assert proofs == read_evidence(runs)
    assert proofs[0].files == {"tests/test_good.py": sha256(kit_of_its_own / "tests" / "test_good.py")} and len(proofs[0].day) == 10
    assert [p.files for p in proofs[1:]] == [{}, {}, {}]
    write_claims(evidence.CLAIMS, good=[PASSES, "tests/test_good.py::test_more"])
    assert lacks(runs) == {"good": "absent"}, "what was not run proves nothing"


def test_a_changed_record_a_broken_ledger_or_other_code_proves_nothing(kit_of_its_own, tmp_path):
    runs = tmp_path / "runs"
    prove(runs)
    code, record, book = kit_of_its_own / "kit" / "__init__.py", runs / evidence.NAME, runs / ledger.NAME
    for file, before, after, lack in (
        (record, b'"failed"', b'"passed"', "edited"), (book, b'"sha256"', b'"sha255"', "edited"), (code, b"1", b"2", "version"),
    ):  # fmt: skip
        kept = file.read_bytes()
        assert kept.replace(before, after) != kept
        file.write_bytes(kept.replace(before, after))
        assert {*lacks(runs).values()} == {lack, "untested"}, file
        file.write_bytes(kept)
        assert lacks(runs)["good"] == ""
    book.unlink()
    assert lacks(runs)["good"] == "absent", "a record that no ledger speaks of"


def test_nobody_passes_a_test_by_leaving_out_what_fails(kit_of_its_own, tmp_path, monkeypatch):
    (kit_of_its_own / "tests" / "test_optimised.py").write_text("def test_it():\n    assert not __debug__\n")
    write_claims(evidence.CLAIMS, bad=[FAILS], good=[PASSES], optimised=["tests/test_optimised.py::test_it"])
    (kit_of_its_own / "pytest.ini").write_text("[pytest]\nmarkers = long\naddopts = -k 'not 0' -W ignore\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k 'not 0'")
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    assert {proof.claim.key: proof.lack for proof in prove(tmp_path)} == {"bad": "failed", "good": "", "optimised": "failed"}


def test_a_template_is_code_and_a_record_of_another_shape_is_none(kit_of_its_own, tmp_path):
    page = kit_of_its_own / "kit" / "page.html"
    page.write_text("<p>")
    prove(tmp_path)
    page.write_text("<script>")
    assert {*lacks(tmp_path).values()} == {"version", "untested"}
    page.write_text("<p>")
    whole = json.loads((tmp_path / evidence.NAME).read_text())
    for record, lack in (([], "edited"), ({}, "edited"), ("{", "edited"), (whole | {"tests": None}, "edited"), (whole | {"files": {}}, "absent")):
        (tmp_path / evidence.NAME).write_text(record if record == "{" else json.dumps(record))
        ledger.append(tmp_path / ledger.NAME, "evidence", {"sha256": sha256(tmp_path / evidence.NAME)})
        assert lacks(tmp_path)["good"] == lack, record


def test_tests_that_cannot_be_run_are_an_error_and_what_was_recorded_stays(kit_of_its_own, tmp_path):
    prove(tmp_path)
    kept = (tmp_path / evidence.NAME).read_bytes()
    for name in ("tests/test_good.py::test_gone", "tests/test_gone.py::test_it"):
        write_claims(evidence.CLAIMS, good=[name])
        with pytest.raises(RunError, match="試験") as caught:
            prove(tmp_path)
        assert len(str(caught.value).splitlines()) == 3 and "kit evidence" in caught.value.remedy
    assert (tmp_path / evidence.NAME).read_bytes() == kept and [entry.kind for entry in ledger.entries(tmp_path / ledger.NAME)] == ["evidence", ledger.CHECKPOINT]


def test_a_stop_ends_the_tests_and_records_nothing(kit_of_its_own, tmp_path):
    waits = "import pathlib, time\n\ndef test_it():\n    try:\n        pathlib.Path('begun').touch()\n        time.sleep(60)\n    finally:\n        pathlib.Path('ended').touch()\n"
    (kit_of_its_own / "tests" / "test_sleepy.py").write_text(waits)
    write_claims(evidence.CLAIMS, sleepy=[SLEEPS])
    script = (
        "import sys, kit\nfrom pathlib import Path\nfrom kit.trust import evidence\n"
        "kit.__file__, evidence.CLAIMS = sys.argv[1], Path(sys.argv[2])\nevidence.prove(Path(sys.argv[3]))\n"
    )
    given = [kit_of_its_own / "kit" / "__init__.py", evidence.CLAIMS, tmp_path / "runs"]
    with subprocess.Popen([sys.executable, "-c", script, *given], cwd=ROOT, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 30
        while not (kit_of_its_own / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) != 0
    assert (kit_of_its_own / "ended").exists() and not (tmp_path / "runs").exists()


def test_the_verb_runs_real_tests_of_the_kit_and_tells_what_is_proven(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KIT_RUNS", raising=False)
    monkeypatch.setattr(evidence, "CLAIMS", tmp_path / "claims.toml")
    write_claims(evidence.CLAIMS, seal=["tests/test_seal.py::test_a_seal_after_the_first_sample_is_refused"], none=[])
    assert cli.main(["evidence"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[:2] == ["○ 約束 seal", "－ 約束 none（試験なし）"] and "2項目のうち1項目" in out
    assert "1 passed" in err
    (entry,) = ledger.find(tmp_path / "runs" / ledger.NAME, "evidence")
    assert entry.content == {"sha256": sha256(tmp_path / "runs" / evidence.NAME), "code_sha256": evidence.code_sha256()}
