"""What is agreed before the first question is asked: the KPIs with their bars, the criteria, and their seal."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Kpi:
    """One agreed measure with its bar and the business reason for that bar."""

    metric: str
    label: str
    bar: float
    reason: str
    role: Literal["gate", "guardrail", "info"] = "gate"
    """``guardrail``: not worse than the baseline arm by more than ``bar``; ``info`` never decides."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """The agreed go/no-go criteria: what ``criteria.yaml`` says, checked."""

    title: str
    hypothesis: str
    owner: str
    approvers: tuple[str, ...]
    kpis: tuple[Kpi, ...]
    alpha: float
    error_budget: float
    deadline: str
    """ISO date after which no GO can be given; "" for none."""
    monthly_questions: float
    minutes_per_question: float
    text: str = field(repr=False)
    """The file's text, word for word: what the seal covers."""
    cases_name: str
    cases_sha256: str
    cases_count: int
    questions: tuple[str, ...] = field(repr=False)
    """A short hash of each question's wording, sorted: by them the ledger knows a question again in another file."""
    metrics_sha256: str
    """Version of the metric code that the seal covers."""
    scope: Literal["demonstration", "internal", "commercial"] = "demonstration"
    """What the decision is for. A demonstration has no looks: each run is judged anew, and nothing may rest on it."""
    looks: int = 1
    """Most often that new questions may be judged (1–4); the error alpha is spent over them."""
    per_look: int = 0
    """Questions of one look; 0 takes all that were not asked before."""
    budget_yen: float = 0.0
    """Money after which the PoC is withdrawn from, all runs under these criteria together; 0 for no limit."""
    safety_hits: int = -1
    """Policy violations of the candidate that are still borne; -1 for no limit."""
    scale_up: tuple[tuple[str, str], ...] = ()
    """What follows a GO: stage, its KPI, its budget, as pairs of name and text."""
    model: str = ""
    """The model that the candidate must be: a name or a hash that its identity has to hold; "" for any."""
    judge: str = ""
    """The model that judges, likewise; "" where none does."""
    prompts_sha256: str = ""
    prices_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Seal:
    """Proof that criteria were fixed: their hash and its place in the ledger."""

    criteria: Criteria = field(repr=False)
    sha256: str
    sequence: int
    at: str
    """UTC, ISO 8601."""
    parent: str = ""
    """Hash of the seal that these criteria replaced; "" for the first."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Seal":
        """Rebuild a seal and its criteria from ``to_json``."""
        agreed = data["criteria"]
        kpis = tuple(Kpi(**kpi) for kpi in agreed["kpis"])
        listed = {name: tuple(agreed[name]) for name in ("approvers", "questions")}
        listed["scale_up"] = tuple((name, text) for name, text in agreed.get("scale_up", ()))
        criteria = Criteria(**{**agreed, "kpis": kpis, **listed})
        return cls(**{**data, "criteria": criteria})
