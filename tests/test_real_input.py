"""The PoC on real files as a user would run it: JSQuAD's paragraphs, and office files and PDFs of public bodies.

What comes out is recorded, not judged: DECISIONS.md holds the figures.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from kit.interface.project import find_project
from kit.knowledge.store import Store
from tests.real_input.build_project import build_government, build_jsquad

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.notebooks, pytest.mark.timeout(900)]

# Started apart, so that the memory is that of this run's processes alone.
MEASURE = """
import json, resource, subprocess, sys, time
begun = time.monotonic()
done = subprocess.run([sys.executable, "-m", "kit", "poc", sys.argv[1]], capture_output=True, text=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr, "seconds": time.monotonic() - begun,
                  "peak_mib": usage.ru_maxrss / 1024, "cpu_seconds": usage.ru_utime + usage.ru_stime}))
"""


def run(project, folder):
    """Run the PoC; return (figures, run folder)."""
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, project.name], cwd=folder, env=os.environ | {"KIT_RUNS": "runs"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    figures = json.loads(measured.stdout)
    assert figures["code"] == 0, figures["err"]
    decided = re.fullmatch(r"DECISION: (GO|NO-GO|EXTEND)  (runs/[^/]+)/summary\.html  \2/summary\.pdf\n", figures["out"])
    assert decided, figures["out"]
    return figures | {"decision": decided[1]}, folder / decided[2]


def record(name, figures, run_folder, folder):
    """Keep the figures as JSON and tell them."""
    decision = json.loads((run_folder / "decision.json").read_text(encoding="utf-8"))
    shown = {
        "project": name,
        "decision": figures["decision"],
        "reason": decision["reason"],
        "kpis": [
            {"label": k["kpi"]["label"], "role": k["kpi"]["role"], "bar": k["kpi"]["bar"], "n": k["n"], "point": k["point"],
             "low": k["low"], "high": k["high"], "baseline": k["baseline"], "outcome": k["outcome"]}
            for k in decision["kpis"]
        ],
        "seconds": round(figures["seconds"]),
        "cpu_seconds": round(figures["cpu_seconds"]),
        "peak_mib": round(figures["peak_mib"]),
        "notebooks": re.findall(r"^  (\S+) +([\d.]+) 秒$", figures["err"], re.MULTILINE),
    }  # fmt: skip
    text = json.dumps(shown, ensure_ascii=False, indent=1)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    sys.stdout.write(f"\n{folder / name}.json\n{text}\n")
    return shown


def check(run_folder, questions):
    """Every sample is there, none failed, and the summary can be read."""
    rows = [json.loads(line) for line in (run_folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({(row["case"], row["arm"]) for row in rows}) == len(rows) == 2 * questions
    failed = [(row["case"], row["arm"], row["state"], row["error"]) for row in rows if row["state"] != "answered"]
    assert failed == []
    assert "DOCTYPE" in (run_folder / "summary.html").read_text(encoding="utf-8")[:200]


def accounted(project, unreadable):
    """Every file is either in the store or named with one Japanese line."""
    named = dict(line.split(": ", 1) for line in unreadable)
    assert all("\n" not in line for line in unreadable)
    assert all(re.search(r"[ぁ-んァ-ヶ一-龠]", reason) for reason in named.values()), unreadable
    files = {path.relative_to(project.documents).as_posix() for path in project.documents.rglob("*") if path.is_file()}
    stored = set(Store(project.store).documents())
    assert stored | set(named) == files
    assert not stored & set(named)


def test_jsquad(shared, tmp_path):
    project = find_project(build_jsquad(tmp_path / "jsquad", shared))
    figures, run_folder = run(project, tmp_path)
    shown = record("jsquad", figures, run_folder, tmp_path)
    check(run_folder, 300)
    accounted(project, [])
    assert shown["peak_mib"] < 4096


def test_public_bodies_files(shared, tmp_path):
    project = find_project(build_government(tmp_path / "government", shared))
    figures, run_folder = run(project, tmp_path)
    shown = record("government", figures, run_folder, tmp_path)
    check(run_folder, 30)
    accounted(project, [])
    facts = json.loads((run_folder / "decision.json").read_text(encoding="utf-8"))["facts"]
    assert len(facts["notes"]) == 1 and "同梱" in facts["notes"][0], "there are no development questions"
    assert shown["peak_mib"] < 4096


def test_files_that_cannot_be_read_are_named_one_by_one(shared, tmp_path):
    project = find_project(build_government(tmp_path / "p", shared))
    shutil.rmtree(project.documents / "gov_pdf")
    shutil.copytree(shared / "bad_files", project.documents / "壊れたもの")
    done = subprocess.run(
        [sys.executable, "-m", "kit", "store", "p", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert len(result["unreadable"]) >= 10
    accounted(project, result["unreadable"])
    sys.stdout.write("\n".join(["", *result["unreadable"], ""]))
