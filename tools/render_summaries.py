"""Run four small PoCs on the sample, write their summaries in every format, and draw every page: for eyes, before a landing.

``python tools/render_summaries.py OUT`` leaves ``OUT/runs`` (run folders and their ledger), ``OUT/summaries/NAME`` and
``OUT/pictures/NAME``. Runs that are there are kept, so that only what is written and drawn is made anew. The run ``void``
has a first attempt in its history whose model was swapped under way. Takes two minutes on two cores.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

import kit
from kit.errors import RunError
from kit.evaluation.evaluate import System
from kit.records import Answer
from kit.serving.wire import swapped

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample"


class Swapped:
    """An arm until another model answers in its place."""

    def __init__(self, system: Any, after: int) -> None:
        self.name, self.identity, self._system, self._left = system.name, system.identity, system, after

    def __call__(self, question: str, *, user: str = "") -> Answer:
        """Answer as long as it is there."""
        if not self._left:
            raise swapped("モデル「抽出型リーダー」の代わりに、別のモデルが回答しました。")
        self._left -= 1
        answer: Answer = self._system(question, user=user)
        return answer


def run(out: Path, name: str, told: dict[str, Any]) -> None:
    """Seal, run and judge a scenario."""
    project = out / "project"
    project.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SAMPLE / "documents", project / "documents", dirs_exist_ok=True)
    shutil.copy(SAMPLE / "development.jsonl", project)
    questions = (SAMPLE / "questions.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (project / "questions.jsonl").write_text("".join(questions[told["first"] :][: told["count"]]), encoding="utf-8")
    (project / "criteria.yaml").write_text(told["criteria"].lstrip(), encoding="utf-8")
    poc = kit.find_project(project)
    store, _ = kit.build_store(poc)
    arms = kit.arms(store, poc.development())
    sealed = kit.seal(kit.read_criteria(poc.criteria))
    given: dict[str, Any] = {"seal": sealed, "about": kit.about(poc, store, arms), "workers": 1}
    if "swapped_after" in told:
        broken: dict[str, System] = {**arms, "candidate": Swapped(arms["candidate"], told["swapped_after"])}
        with suppress(RunError):
            kit.evaluate(broken, poc.cases(), run=out / "runs" / f"{name}-swapped", **given)
    kit.decide(kit.evaluate(arms, poc.cases(), run=out / "runs" / name, **given))


def draw(file: Path, to: Path) -> None:
    """Draw every page of a file as PNG, of a web page what a screen shows and what is printed; Markdown is text."""
    stem = f"{to}/{file.name}"
    if file.suffix in (".pptx", ".xlsx"):
        office = ["soffice", f"-env:UserInstallation=file://{to.parent}/.office", "--headless", "--convert-to", "pdf", "--outdir", str(to), str(file)]
        subprocess.run(office, check=True, capture_output=True)
        file = (to / f"{file.stem}.pdf").rename(f"{stem}.pdf")
    if file.suffix == ".html":
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(file.as_uri())
            page.screenshot(path=f"{stem}.png", full_page=True)
            page.pdf(path=f"{stem}.pdf", prefer_css_page_size=True)
            browser.close()
        file = Path(f"{stem}.pdf")
    if file.suffix == ".pdf":
        subprocess.run(["pdftoppm", "-r", "90", "-png", file, stem], check=True)


def main(out: Path) -> None:
    """Run what has not been run, then write and draw."""
    os.environ["KIT_RUNS"] = str(out / "runs")
    for name, told in tomllib.loads(Path(__file__).with_name("summaries.toml").read_text(encoding="utf-8")).items():
        if not (out / "runs" / name / "decision.json").exists():
            run(out, name, told)
        decision = kit.read_decision(out / "runs" / name)
        print(f"{name}: {decision.outcome} {decision.reason}")
        pictures = out / "pictures" / name
        shutil.rmtree(pictures, ignore_errors=True)
        pictures.mkdir(parents=True)
        for lang in ("ja", "en"):
            for file in kit.write_summary(decision, to=out / "summaries" / name, lang=lang):
                draw(file, pictures)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
