"""Sovereign AI notebook kit: find out on your own premises whether a Japanese AI is worth the money.

Importing the kit sets every offline switch first. The names below are the whole public surface; each is loaded
from its room when it is first used, so that ``import kit`` stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kit import settings

settings.go_offline()

if TYPE_CHECKING:  # what editors and mypy see; "as" says that a name is meant for others
    from kit.answering.extractive import ExtractiveReader as ExtractiveReader
    from kit.answering.llm import LLMReader as LLMReader
    from kit.answering.rag import KeywordSearch as KeywordSearch, Rag as Rag
    from kit.evaluation.answers import answers as answers
    from kit.evaluation.arms import arms as arms
    from kit.evaluation.calibration import calibrate as calibrate
    from kit.evaluation.cases import read_cases as read_cases, read_development as read_development
    from kit.evaluation.criteria import read_criteria as read_criteria
    from kit.evaluation.decide import decide as decide, read_decision as read_decision
    from kit.evaluation.depths import compare_depths as compare_depths
    from kit.evaluation.evaluate import evaluate as evaluate, rehearse as rehearse
    from kit.evaluation.runs import read_evaluation as read_evaluation
    from kit.improving.adapters import SHAPES as SHAPES, adapter_size as adapter_size, train_tiny as train_tiny
    from kit.improving.attribution import attribute as attribute
    from kit.improving.synonyms import best_replay as best_replay, propose as propose
    from kit.interface.project import find_project as find_project
    from kit.interface.steps import (
        about as about,
        build_store as build_store,
        decided_run as decided_run,
        open_run as open_run,
        open_store as open_store,
        show as show,
    )
    from kit.interface.templates import init as init
    from kit.interface.widgets import Bar as Bar, form as form
    from kit.knowledge.files import load as load
    from kit.knowledge.store import Store as Store
    from kit.prices import read_prices as read_prices
    from kit.reporting.charts import depth_chart as depth_chart, kpi_chart as kpi_chart, load_chart as load_chart
    from kit.reporting.cost import cost as cost
    from kit.reporting.scenario import scenario as scenario
    from kit.reporting.summary import write_summary as write_summary
    from kit.serving.catalogue import recommend as recommend
    from kit.serving.chat import connect as connect
    from kit.serving.load import load_test as load_test
    from kit.serving.local import inspect_model as inspect_model, local_models as local_models
    from kit.serving.server import running as running, serve as serve
    from kit.trust.check import check as check
    from kit.trust.seal import seal as seal

_SURFACE = {
    "answering.extractive": "ExtractiveReader",
    "answering.llm": "LLMReader",
    "answering.rag": "KeywordSearch Rag",
    "evaluation.answers": "answers",
    "evaluation.arms": "arms",
    "evaluation.calibration": "calibrate",
    "evaluation.cases": "read_cases read_development",
    "evaluation.criteria": "read_criteria",
    "evaluation.decide": "decide read_decision",
    "evaluation.depths": "compare_depths",
    "evaluation.evaluate": "evaluate rehearse",
    "evaluation.runs": "read_evaluation",
    "improving.adapters": "SHAPES adapter_size train_tiny",
    "improving.attribution": "attribute",
    "improving.synonyms": "best_replay propose",
    "interface.project": "find_project",
    "interface.steps": "about build_store decided_run open_run open_store show",
    "interface.templates": "init",
    "interface.widgets": "Bar form",
    "knowledge.files": "load",
    "knowledge.store": "Store",
    "prices": "read_prices",
    "reporting.charts": "depth_chart kpi_chart load_chart",
    "reporting.cost": "cost",
    "reporting.scenario": "scenario",
    "reporting.summary": "write_summary",
    "serving.catalogue": "recommend",
    "serving.chat": "connect",
    "serving.load": "load_test",
    "serving.local": "inspect_model local_models",
    "serving.server": "running serve",
    "trust.check": "check",
    "trust.seal": "seal",
}
"""Module → its public names."""

_HOMES = {name: f"kit.{module}" for module, names in _SURFACE.items() for name in names.split()}
__all__ = sorted([*_HOMES, "settings"])
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
