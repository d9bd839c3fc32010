"""Sovereign AI notebook kit: find out on your own premises whether a Japanese AI is worth the money.

Importing the kit sets every offline switch first. The names below are the whole public surface; each is loaded
from its room when it is first used, so that ``import kit`` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kit import settings

settings.go_offline()

if TYPE_CHECKING:
    from kit.answering.extractive import ExtractiveReader
    from kit.answering.llm import LLMReader
    from kit.answering.rag import KeywordSearch, Rag
    from kit.evaluation.answers import answers
    from kit.evaluation.arms import arms
    from kit.evaluation.calibration import calibrate
    from kit.evaluation.cases import read_cases, read_development
    from kit.evaluation.criteria import read_criteria
    from kit.evaluation.decide import decide, read_decision
    from kit.evaluation.depths import compare_depths
    from kit.evaluation.evaluate import evaluate, rehearse
    from kit.evaluation.runs import read_evaluation
    from kit.improving.adapters import SHAPES, adapter_size, train_tiny
    from kit.improving.attribution import attribute
    from kit.improving.synonyms import best_replay, propose
    from kit.interface.project import find_project
    from kit.interface.steps import about, build_store, decided_run, open_run, open_store, show
    from kit.interface.templates import init
    from kit.interface.widgets import Bar, form
    from kit.knowledge.files import load
    from kit.knowledge.store import Store
    from kit.prices import read_prices
    from kit.reporting.charts import depth_chart, kpi_chart
    from kit.reporting.cost import cost
    from kit.reporting.scenario import scenario
    from kit.reporting.summary import write_summary
    from kit.serving.chat import connect
    from kit.trust.check import check
    from kit.trust.seal import seal

_HOMES = {
    "Bar": "kit.interface.widgets",
    "ExtractiveReader": "kit.answering.extractive",
    "KeywordSearch": "kit.answering.rag",
    "LLMReader": "kit.answering.llm",
    "Rag": "kit.answering.rag",
    "SHAPES": "kit.improving.adapters",
    "Store": "kit.knowledge.store",
    "about": "kit.interface.steps",
    "adapter_size": "kit.improving.adapters",
    "answers": "kit.evaluation.answers",
    "arms": "kit.evaluation.arms",
    "attribute": "kit.improving.attribution",
    "best_replay": "kit.improving.synonyms",
    "build_store": "kit.interface.steps",
    "calibrate": "kit.evaluation.calibration",
    "check": "kit.trust.check",
    "compare_depths": "kit.evaluation.depths",
    "connect": "kit.serving.chat",
    "cost": "kit.reporting.cost",
    "decide": "kit.evaluation.decide",
    "decided_run": "kit.interface.steps",
    "depth_chart": "kit.reporting.charts",
    "evaluate": "kit.evaluation.evaluate",
    "find_project": "kit.interface.project",
    "form": "kit.interface.widgets",
    "init": "kit.interface.templates",
    "kpi_chart": "kit.reporting.charts",
    "load": "kit.knowledge.files",
    "open_run": "kit.interface.steps",
    "open_store": "kit.interface.steps",
    "propose": "kit.improving.synonyms",
    "read_cases": "kit.evaluation.cases",
    "read_criteria": "kit.evaluation.criteria",
    "read_decision": "kit.evaluation.decide",
    "read_development": "kit.evaluation.cases",
    "read_evaluation": "kit.evaluation.runs",
    "read_prices": "kit.prices",
    "rehearse": "kit.evaluation.evaluate",
    "scenario": "kit.reporting.scenario",
    "seal": "kit.trust.seal",
    "show": "kit.interface.steps",
    "train_tiny": "kit.improving.adapters",
    "write_summary": "kit.reporting.summary",
}

__all__ = [
    "SHAPES",
    "Bar",
    "ExtractiveReader",
    "KeywordSearch",
    "LLMReader",
    "Rag",
    "Store",
    "about",
    "adapter_size",
    "answers",
    "arms",
    "attribute",
    "best_replay",
    "build_store",
    "calibrate",
    "check",
    "compare_depths",
    "connect",
    "cost",
    "decide",
    "decided_run",
    "depth_chart",
    "evaluate",
    "find_project",
    "form",
    "init",
    "kpi_chart",
    "load",
    "open_run",
    "open_store",
    "propose",
    "read_cases",
    "read_criteria",
    "read_decision",
    "read_development",
    "read_evaluation",
    "read_prices",
    "rehearse",
    "scenario",
    "seal",
    "settings",
    "show",
    "train_tiny",
    "write_summary",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
