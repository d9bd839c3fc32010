"""The evidence: which of the kit's promises its own tests have shown here, for the very code that is installed.

A promise of ``claims.toml`` is proven only if all its tests passed, the ledger vouches for the record of it, and the code
that was tested is the code that reads the record. In every other case it is unproven, and it is said why.
"""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from xml.etree import ElementTree

import kit
from kit.errors import LedgerError, RunError
from kit.trust import ledger
from kit.trust.checksums import sha256
from kit.trust.durable import digest_of, write_atomically
from kit.trust.seal import today

NAME = "evidence.json"
"""The record lies beside the ledger, whose last entry of kind ``evidence`` holds its hash."""
CLAIMS = Path(__file__).with_name("claims.toml")
Lack = Literal["", "untested", "absent", "edited", "version", "failed"]
"""Why a claim is unproven: it has no test; nothing is recorded; the ledger does not vouch for the record; other code was
tested; a test did not pass. "" where it is proven."""
_LAST_WORDS_S = 10.0
"""How long an interrupted test may take to stop what it started."""
_HERE = "キットのフォルダ（kit と tests があるところ）で `make setup` をしてから、`.venv/bin/kit evidence` を実行してください。"


@dataclass(frozen=True, slots=True)
class Claim:
    """A promise; texts by language (``ja``, ``en``)."""

    key: str
    says: dict[str, str]
    limits: dict[str, str]
    """What the tests do not show."""
    tests: tuple[str, ...]
    """Ids as pytest takes them; one without parameters means all of its cases."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What stands behind one claim."""

    claim: Claim
    lack: Lack
    files: dict[str, str]
    """Test file → sha256 (64 hex digits) when it was run; {} where the claim is unproven."""
    day: str
    """ISO date of the tests in Japan; "" where the claim is unproven."""


def claims() -> tuple[Claim, ...]:
    """Return all promises, in the order in which people read them."""
    table = tomllib.loads(CLAIMS.read_text(encoding="utf-8"))
    return tuple(Claim(key, {"ja": e["ja"], "en": e["en"]}, e["limits"], tuple(e["tests"])) for key, e in table.items())


def code_sha256() -> str:
    """Return the hash (64 hex digits) of the installed kit: all its files, templates and claims among them."""
    root = Path(kit.__file__).parent
    files = (file for file in root.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return digest_of({file.relative_to(root).as_posix(): sha256(file) for file in files})


def prove(runs: Path) -> tuple[Proof, ...]:
    """Run the tests of all claims, write down how they ended, and enter the record's hash into the ledger.

    What pytest tells goes to stderr. When it is interrupted nothing is written: what was recorded before stays.

    Args:
        runs: The folder of runs and ledger.

    Raises:
        RunError: There are no tests beside the kit, pytest cannot run them, or the code changed meanwhile.
        LedgerError: The ledger's chain is broken.
    """
    root = Path(kit.__file__).parents[1]
    tests = [*dict.fromkeys(test for claim in claims() for test in claim.tests)]
    names = sorted({test.partition("::")[0] for test in tests})
    if missing := [name for name in names if not (root / name).is_file()]:
        raise RunError(f"実証の試験が見つかりません（{missing[0]}）。", "キットが tests フォルダのない形で導入されています。", _HERE)
    code, files = code_sha256(), {name: sha256(root / name) for name in names}
    outcomes = _run(root, tests)
    if code != code_sha256() or any(sha256(root / name) != digest for name, digest in files.items()):
        raise RunError(
            "試験をしている間にキットのプログラムが変わったため、結果を記録しません。", "編集や更新が同時に行われました。",
            "変更を終えてから、`kit evidence` をもう一度実行してください。",
        )
    record = {"day": today(), "code_sha256": code, "files": files, "tests": outcomes}
    ledger.entries(runs / ledger.NAME)  # tells a broken chain before the record is replaced
    write_atomically(runs / NAME, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    ledger.append(runs / ledger.NAME, "evidence", {"sha256": sha256(runs / NAME), "code_sha256": code})
    with suppress(RunError):  # no home to keep a key in: as with a decision, the record then stands unsigned
        ledger.checkpoint(runs / ledger.NAME)
    return read_evidence(runs)


def read_evidence(runs: Path) -> tuple[Proof, ...]:
    """Return what stands behind each claim; where there is no record, or no ledger, everything is unproven.

    Args:
        runs: The folder of runs and ledger.
    """
    record, lack = _record(runs)
    return tuple(_proof(claim, record, lack) for claim in claims())


def _record(runs: Path) -> tuple[dict[str, Any], Lack]:
    """Return the record and what speaks against all of it."""
    try:
        entered = ledger.find(runs / ledger.NAME, "evidence")
        if not entered or not (runs / NAME).is_file():
            return {}, "absent"
        if entered[-1].content.get("sha256") != sha256(runs / NAME):
            return {}, "edited"
        record: dict[str, Any] = json.loads((runs / NAME).read_bytes())
        whole = {"day": str, "code_sha256": str, "files": dict, "tests": dict}
        if not all(isinstance(record[key], kind) for key, kind in whole.items()):
            return {}, "edited"
    except (LedgerError, OSError, ValueError, LookupError, TypeError):  # the ledger may vouch for what ``prove`` never wrote
        return {}, "edited"
    return record, "" if record["code_sha256"] == code_sha256() else "version"


def _proof(claim: Claim, record: dict[str, Any], lack: Lack) -> Proof:
    if not claim.tests:
        return Proof(claim, "untested", {}, "")
    ended = {record.get("tests", {}).get(test, "absent") for test in claim.tests}
    if lack or ended != {"passed"}:
        return Proof(claim, lack or ("absent" if "absent" in ended else "failed"), {}, "")
    files = {name: record["files"].get(name, "") for name in dict.fromkeys(test.partition("::")[0] for test in claim.tests)}
    return Proof(claim, "", files, record["day"]) if all(files.values()) else Proof(claim, "absent", {}, "")


def _run(root: Path, tests: Sequence[str]) -> dict[str, str]:
    """Return test → ``passed``, ``skipped``, ``failed``, or ``absent`` where pytest knows of none; the worst of its cases."""
    # Neither the settings nor the options of pytest and Python of whoever calls may change what is tested: a settings file
    # that deselects some cases of a test would let the rest pass for all, PYTHONOPTIMIZE leaves asserts out.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KIT_", "PYTEST_", "PYTHON"))}
    environment["PYTHONPATH"] = str(root)  # what a test starts elsewhere must find this kit, too
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "--no-header", "-p", "no:cacheprovider", "-m", "not long", "-o", "addopts=--import-mode=importlib", "-o", "junit_family=xunit1", f"--junitxml={report}"]
        code = _wait([sys.executable, "-m", "pytest", *options, *tests], root, environment)
        if code not in (0, 1):  # neither all passed nor some failed: pytest itself could not do it
            raise RunError(f"試験を実行できませんでした（pytest の終了コード {code}）。", "pytest が導入されていないか、試験の名前が変わっています。", _HERE)
        cases = [*ElementTree.parse(report).iter("testcase")]
    ended: dict[str, list[str]] = {test: [] for test in tests}
    for case in cases:
        name = f"{case.get('file')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        state = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        for test in tests:
            if name == test or name.startswith(f"{test}["):
                ended[test].append(state)
    return {test: next((s for s in ("failed", "skipped", "passed") if s in states), "absent") for test, states in ended.items()}


def _wait(command: Sequence[str], root: Path, environment: dict[str, str]) -> int:
    """Run a command to its end and return its exit code; whatever ends the waiting ends it, and all that it started."""
    with subprocess.Popen(command, cwd=root, env=environment, stdout=2, start_new_session=True) as child:
        try:
            return child.wait()
        except BaseException:
            child.send_signal(signal.SIGINT)  # a test then stops what it started
            with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                child.wait(_LAST_WORDS_S)
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
