"""The arms of a PoC: what the company has today against what it may buy."""

from collections.abc import Sequence

from kit.answering.extractive import ExtractiveReader
from kit.answering.rag import KeywordSearch, Rag
from kit.evaluation.calibration import calibrate
from kit.evaluation.evaluate import System
from kit.knowledge.store import Store
from kit.records import Case


def arms(store: Store, development: Sequence[Case] = (), *, llm: bool = False) -> dict[str, System]:
    """Build baseline and candidate over one store.

    Without a model the baseline is plain keyword search and the candidate the extractive reader; with one the
    baseline is the extractive reader and the candidate the model of ``kit.connect()``.

    Args:
        store: Where both arms search.
        development: Questions that thresholds are fitted on, never sealed ones.
        llm: Whether to put the connected model to the test.

    Raises:
        ServerError: ``llm`` is true and no server answers.
    """
    extractive = Rag(store, ExtractiveReader(calibrate(store, development)))
    if not llm:
        return {"baseline": KeywordSearch(store), "candidate": extractive}
    from kit.answering.llm import LLMReader
    from kit.serving.chat import connect

    return {"baseline": extractive, "candidate": Rag(store, LLMReader(connect()))}
