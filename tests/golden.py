"""Make the golden store of this release: ``python -m tests.golden tests/data/store-3``.

Every later release opens a copy of it, verifies and searches it, or refuses it in words. A new format gets a new folder.
"""

import sys
from pathlib import Path

from kit.knowledge.store import Store
from kit.records import Block, Document, Place

TRAVEL = "出張の日当は一般職が2,200円、課長職が2,800円とする。"
SALARY = "役員報酬の改定案は三月に審議する。"


def make(folder):
    """Make a store with one document for everyone and one for ``hr``."""
    store = Store(folder)
    place = Place(page=2, headings=("第2章 旅費",))
    store.add(
        [
            Document("1" * 64, "規程/旅費.pdf", "旅費規程", (Block(TRAVEL, place),), date="2024-04-01"),
            Document("2" * 64, "人事/報酬.docx", "役員報酬", (Block(SALARY, Place()),), ("hr",)),
        ]
    )
    store._corpus._database.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    (Path(sys.argv[1]) / ".writer.lock").unlink()
