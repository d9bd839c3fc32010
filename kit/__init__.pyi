"""The public surface: the one list that editors, mypy and ``__init__.py`` read; "as" marks a name as meant for others."""

from kit import settings as settings
from kit.answering.extractive import ExtractiveReader as ExtractiveReader
from kit.answering.llm import LLMReader as LLMReader
from kit.answering.rag import KeywordSearch as KeywordSearch, Rag as Rag
from kit.evaluation.arms import arms as arms
from kit.evaluation.calibration import calibrate as calibrate, reliability as reliability
from kit.evaluation.cases import read_cases as read_cases, read_development as read_development
from kit.evaluation.comparisons import compare as compare, slices as slices
from kit.evaluation.criteria import read_criteria as read_criteria
from kit.evaluation.decide import decide as decide, read_decision as read_decision
from kit.evaluation.evaluate import evaluate as evaluate, rehearse as rehearse
from kit.evaluation.failures import answers as answers, attribute as attribute, causes as causes
from kit.evaluation.fusion import fit_weight as fit_weight
from kit.evaluation.monitoring import noise_floor as noise_floor, trend as trend
from kit.evaluation.planning import plan as plan
from kit.evaluation.portfolio import portfolio as portfolio
from kit.evaluation.raters import agreement as agreement
from kit.evaluation.recall import compare_depths as compare_depths, measure_recall as measure_recall
from kit.evaluation.runs import read_evaluation as read_evaluation
from kit.improving.adapters import SHAPES as SHAPES, adapter_size as adapter_size, train_tiny as train_tiny
from kit.improving.feedback import give_feedback as give_feedback, read_feedback as read_feedback
from kit.improving.synonyms import best_replay as best_replay, propose as propose
from kit.interface.project import find_project as find_project, init as init
from kit.interface.scoring import score_answers as score_answers
from kit.interface.shown import ask as ask, show as show
from kit.interface.steps import (
    about as about,
    decided_run as decided_run,
    decided_runs as decided_runs,
    open_run as open_run,
)
from kit.interface.stores import (
    build_store as build_store,
    open_store as open_store,
    reading_report as reading_report,
    try_embedder as try_embedder,
)
from kit.interface.widgets import Bar as Bar, controls as controls, form as form
from kit.knowledge.atlas import corpus_map as corpus_map
from kit.knowledge.files import load as load
from kit.knowledge.fitting import fit_embedder as fit_embedder
from kit.knowledge.store import Store as Store
from kit.prices import read_prices as read_prices
from kit.reporting.charts import (
    depth_chart as depth_chart,
    kpi_chart as kpi_chart,
    load_chart as load_chart,
    map_chart as map_chart,
    trace_chart as trace_chart,
)
from kit.reporting.charts_evaluation import (
    failures_chart as failures_chart,
    operating_chart as operating_chart,
    pairs_chart as pairs_chart,
    slices_chart as slices_chart,
    trend_chart as trend_chart,
)
from kit.reporting.charts_qpd import calibration_chart as calibration_chart
from kit.reporting.economics import economics as economics
from kit.reporting.export import draw_summary as draw_summary, write_summary as write_summary
from kit.reporting.outlook import next_steps as next_steps
from kit.reporting.qpd import qpd as qpd
from kit.reporting.quarters import quarters as quarters
from kit.serving.catalogue import recommend as recommend
from kit.serving.chat import connect as connect
from kit.serving.load import load_test as load_test
from kit.serving.local import inspect_model as inspect_model, local_models as local_models
from kit.serving.server import running as running, serve as serve
from kit.trust.check import check as check
from kit.trust.seal import seal as seal

__version__: str
