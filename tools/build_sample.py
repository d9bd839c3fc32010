"""Build data/sample/ (documents in eight formats, acl.csv, questions) from data/sample/sources/.

``sources/<部門>/<名前>.<ext>.md`` becomes ``documents/<部門>/<名前>.<ext>``; the parts in ``sources/questions/`` become
``questions.jsonl`` and ``development.jsonl``, each evidence with the place where its quote stands. Building twice gives
the same bytes; ``tests/test_sample.py`` compares them with what is committed and checks that the questions are sound.
"""

import json
import random
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from unicodedata import normalize

from sample.documents import WRITERS, Text, places
from sample.source import plain, read_source

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "sample"


def build(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """All files by path below data/sample/, and the quotes that are not in their document."""
    files, texts, faults = {}, {}, []
    acl = "パス,閲覧者\n*,everyone\n"
    for source in map(read_source, sorted(folder.glob("*/*.md"))):
        document = WRITERS[source.suffix](source)
        files[f"documents/{source.name}"] = document
        texts[source.name] = [(place, normal(text)) for place, text in places(source, document)]
        if "readers" in source.head:
            acl += f"{source.name},{';'.join(source.head['readers'])}\n"
    files["documents/acl.csv"] = acl.encode()
    parts = set((folder / "questions").glob("*.jsonl"))
    development = set((folder / "questions").glob("*.dev.jsonl"))
    for name, paths in {"questions.jsonl": parts - development, "development.jsonl": development}.items():
        cases = [json.loads(line) for path in sorted(paths) for line in path.read_text(encoding="utf-8").splitlines()]
        for case in cases:
            faults += locate(case, texts)
        random.Random(20261102).shuffle(cases)
        files[name] = "".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases).encode()
    return files, faults


def locate(case: dict[str, Any], texts: dict[str, list[Text]]) -> list[str]:
    """Put places instead of quotes in the evidence of a question; returns what was not found."""
    faults = []
    for item in case["evidence"]:
        document, quote, row = item["document"], item.pop("quote"), item.pop("row", "")
        item["place"] = find(normal(quote), normal(row), texts.get(document, []))
        if item["place"] is None:
            faults.append(f"{case['id']}: not in {document}: {quote} {row}")
    return faults


def find(quote: str, row: str, texts: list[Text]) -> dict[str, Any] | None:
    """The first place of a quote; with ``row``, the one that stands nearest after that text."""
    hits = [
        (match.end() - text.rfind(row, 0, match.end()), place)
        for place, text in texts
        for match in re.finditer(re.escape(quote), text)
        if row in text[: match.end()]
    ]
    return min(hits, key=lambda hit: hit[0])[1] if hits else None


def normal(text: str) -> str:
    """Text as it is compared: NFKC, without white space and marks of Markdown."""
    return re.sub(r"[\s|]", "", normalize("NFKC", plain(text)))


def main() -> None:
    files, faults = build(SAMPLE / "sources")
    if faults:
        sys.exit("\n".join(faults))
    shutil.rmtree(SAMPLE / "documents", ignore_errors=True)
    for name, data in files.items():
        (SAMPLE / name).parent.mkdir(parents=True, exist_ok=True)
        (SAMPLE / name).write_bytes(data)
    print(f"{len(files)} files written to {SAMPLE}")


if __name__ == "__main__":
    main()
