"""Parsing alone, against markitdown and pypdf: speed, completeness, failures by cause. Shares 0–1, times in CPU seconds.

python -m tests.bench.ingest DIR [--peers PYTHON] [--questions JSONL] [--json]

``--peers`` is the Python of an environment of its own in which ``markitdown[docx,pptx,xlsx,pdf]`` and ``pypdf`` are
installed for this bench only; who is absent there is skipped. Each system reads all files of one kind in one process, the
first of them once before the clock starts. ``characters_s`` counts a system's own text without white space.

``recovered`` is the share of a passage's characters (NFKC, letters and digits only) that stand in the text in runs of at
least six; a shorter passage must stand there whole. The passages come from programs that take no part: LibreOffice's text export of DOCX and PPTX, the strings in the
XML of XLSX, poppler's ``pdftotext -raw`` of PDF, cut at line ends and blanks (cells of a table), from 8 letters on; ``gold`` are the quotes that prove
the answers of ``tests/real_input/gif_gov_questions.jsonl``, cut at blanks, as far as their files are in DIR.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS = 120
"""Clock time after which a file counts as hanging."""
RUN = 6
KINDS = (".docx", ".pptx", ".xlsx", ".pdf", ".html", ".csv")


class HangError(Exception):
    """A file took longer than ``SECONDS``."""


def reader(system: str) -> Callable[[Path], str]:
    if system == "kit":
        from kit.knowledge.worker import parse

        def read(path: Path) -> str:
            reading = parse(path.name, path.read_bytes())
            if reading.problem:
                raise ValueError(reading.problem)
            return "\n".join(block.text for block in reading.blocks)

        return read
    if system == "pypdf":
        import pypdf

        return lambda path: "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    import markitdown

    converter = markitdown.MarkItDown()
    return lambda path: str(converter.convert(path).text_content)


def work(system: str) -> None:
    """Read the files named on standard input and write one JSON line for each."""
    paths = [Path(line) for line in sys.stdin.read().splitlines()]
    read = reader(system)

    def hang(*_: object) -> None:
        raise HangError(f"longer than {SECONDS} s")

    signal.signal(signal.SIGALRM, hang)
    for number, path in enumerate([paths[0], *paths]):
        signal.alarm(SECONDS)
        begun = time.process_time()
        try:
            text, cause = read(path), ""
        except Exception as error:
            text, cause = "", f"{type(error).__name__}: {error}"[:120] if system != "kit" else str(error)
        taken = time.process_time() - begun
        signal.alarm(0)
        cause = cause or ("" if text.strip() else "no text")
        if number:
            answer = {"path": str(path), "text": text, "cause": cause, "seconds": taken}
            sys.stdout.write(json.dumps(answer, ensure_ascii=True) + "\n")


def run(python: str, system: str, paths: list[Path]) -> list[dict[str, Any]]:
    """Have one system read some files; none where it is not installed."""
    present = "import kit" if system == "kit" else f"import {system}"
    if subprocess.run([python, "-c", present], cwd=ROOT, capture_output=True, check=False).returncode:
        return []
    command = [python, "-W", "ignore", "-m", "tests.bench.ingest", "--work", system]
    names = "\n".join(map(str, paths))
    done = subprocess.run(command, cwd=ROOT, input=names, capture_output=True, text=True, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"path"')]
    lost = paths[len(found) :]  # the process died at the first of them
    return found + [{"path": str(path), "text": "", "cause": "process died", "seconds": 0.0} for path in lost]


# --- what should be found


def passages(paths: list[Path]) -> dict[Path, list[str]]:
    """Cells of text of at least eight letters, for each file, by a program that takes no part."""
    lines: dict[Path, list[str]] = {}
    for kind, target in ((".docx", "txt:Text (encoded):UTF8"), (".pptx", "pdf")):
        lines |= converted([path for path in paths if path.suffix.lower() == kind], target)
    for path in paths:
        if path.suffix.lower() == ".pdf":
            lines[path] = printed(path)
        elif path.suffix.lower() == ".xlsx":
            with suppress(zipfile.BadZipFile, SyntaxError, UnicodeDecodeError):  # a damaged file has no passages
                lines[path] = shared_strings(path)
    cells = {path: map(bare, " ".join(lines.get(path, ())).split()) for path in paths}
    return {path: [cell for cell in cells[path] if len(cell) >= 8] for path in paths}


def converted(paths: list[Path], target: str) -> dict[Path, list[str]]:
    """Lines of office files by one call of LibreOffice."""
    if not paths:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        out.mkdir()
        links = [Path(folder, f"{number}{path.suffix}") for number, path in enumerate(paths)]
        for link, path in zip(links, paths, strict=True):
            link.symlink_to(path.resolve())
        profile = f"-env:UserInstallation=file://{folder}/profile"
        command = ["soffice", profile, "--headless", "--convert-to", target, "--outdir", str(out), *map(str, links)]
        subprocess.run(command, capture_output=True, check=False, timeout=1800)
        made = {path.stem: path for path in out.iterdir()}
        found = [made.get(str(number)) for number in range(len(paths))]
        read = [
            [] if file is None else printed(file) if file.suffix == ".pdf" else file.read_text("utf-8-sig").splitlines()
            for file in found
        ]
        return dict(zip(paths, read, strict=True))


def printed(path: Path) -> list[str]:
    """Lines of a PDF by poppler."""
    done = subprocess.run(["pdftotext", "-raw", "-enc", "UTF-8", path, "-"], capture_output=True, check=False)
    return done.stdout.decode(errors="replace").splitlines()


def shared_strings(path: Path) -> list[str]:
    """Return the texts of a workbook's cells, without the readings above them."""
    with zipfile.ZipFile(path) as package:
        if "xl/sharedStrings.xml" not in package.namelist():
            return []
        xml = package.read("xl/sharedStrings.xml").decode()
    from lxml import etree

    xml = re.sub(r"<rPh.*?</rPh>", "", xml, flags=re.DOTALL)
    items = etree.fromstring(xml.encode()).iterfind("{*}si")
    return ["".join(item.itertext()).strip() for item in items]


def bare(text: str) -> str:
    """NFKC letters and digits, no more: what no layout changes."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", text) if letter.isalnum())


@dataclass(frozen=True)
class Text:
    """A file's text as one system read it (as ``bare``), and all its runs of ``RUN`` letters."""

    whole: str
    runs: frozenset[str]

    @classmethod
    def of(cls, text: str) -> "Text":
        whole = bare(text)
        return cls(whole, frozenset(whole[start : start + RUN] for start in range(len(whole) - RUN + 1)))

    def recovered(self, passage: str) -> int:
        """Characters of a passage that lie in a run of ``RUN`` that the text holds, too."""
        if len(passage) < RUN:
            return len(passage) * (passage in self.whole)
        marks = bytearray(len(passage))
        for start in range(len(passage) - RUN + 1):
            if passage[start : start + RUN] in self.runs:
                marks[start : start + RUN] = b"\1" * RUN
        return sum(marks)


def share(pairs: list[tuple[str, Text]]) -> float:
    """Share of the passages' characters that their texts hold."""
    total = sum(len(passage) for passage, _ in pairs)
    return sum(text.recovered(passage) for passage, text in pairs) / total if total else 0.0


def gold(questions: Path, folder: Path) -> list[tuple[Path, str]]:
    """File and quote of every evidence whose file is in the folder."""
    found = []
    for line in questions.read_text(encoding="utf-8").splitlines():
        for evidence in json.loads(line)["evidence"]:
            path = next(folder.rglob(Path(evidence["document"]).name), None)
            if path:
                found += [(path, bare(cell)) for cell in evidence["quote"].split()]
    return found


def measure(folder: Path, peers: str, questions: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in KINDS and not path.name.startswith("~$"))
    expected = passages(files)
    quotes = gold(questions, folder)
    result: dict[str, Any] = {"files": len(files), "passages": sum(map(len, expected.values())), "quotes": len(quotes)}
    texts: dict[str, dict[Path, Text]] = {}
    for system, python in (("kit", sys.executable), ("markitdown", peers), ("pypdf", peers)):
        for kind in KINDS:
            paths = [path for path in files if path.suffix.lower() == kind]
            if not paths or not python or (system == "pypdf" and kind != ".pdf"):
                continue
            answers = run(python, system, paths)
            if not answers:
                continue
            known = texts.setdefault(system, {})
            known |= {Path(answer["path"]): Text.of(answer["text"]) for answer in answers}
            seconds = sum(answer["seconds"] for answer in answers)
            characters = sum(len("".join(answer["text"].split())) for answer in answers)
            result.setdefault(system, {})[kind] = {
                "seconds": round(seconds, 2),
                "characters": characters,
                "characters_s": round(characters / max(seconds, 1e-9)),
                "recovered": round(share([(line, known[path]) for path in paths for line in expected[path]]), 4),
                "failures": dict(Counter(answer["cause"] for answer in answers if answer["cause"])),
            }
        if system in texts:
            there = [(quote, texts[system][path]) for path, quote in quotes if path in texts[system]]
            result[system]["gold"] = round(share(there), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--peers", default="", help="Python of the environment that holds the peers")
    parser.add_argument("--questions", type=Path, default=ROOT / "tests" / "real_input" / "gif_gov_questions.jsonl")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    result = measure(options.folder, options.peers, options.questions)
    print(json.dumps(result, ensure_ascii=False, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
