"""One year of use under given assumptions: what notebook 08 shows and its sliders change."""

from dataclasses import dataclass

from kit import views
from kit.evaluation.statistics import share_bounds
from kit.prices import Prices
from kit.records import OPEN_STATES, Decision
from kit.reporting.charts import waterfall_chart


@dataclass(frozen=True, slots=True)
class Scenario:
    """A year of use: its assumptions, and what follows from them per year."""

    monthly_questions: float
    minutes_per_question: float
    """Staff time that a right answer makes unnecessary."""
    answered_share: float
    """Share of the questions that are answered rightly, 0–1."""
    wrong_share: float
    """Share of the questions that are answered wrongly, 0–1; one of them costs the time that a right one saves."""
    staff_yen_per_hour: float
    yen_per_question: float
    """Machine and tokens for one question, right or wrong."""
    fixed_yen_per_month: float

    @property
    def hours(self) -> float:
        """Staff time saved: 12 × monthly_questions × (answered_share − wrong_share) × minutes_per_question / 60."""
        share = self.answered_share - self.wrong_share
        return 12 * self.monthly_questions * share * self.minutes_per_question / 60

    @property
    def value_yen(self) -> float:
        """Worth of that time: hours × staff_yen_per_hour."""
        return self.hours * self.staff_yen_per_hour

    @property
    def machine_yen(self) -> float:
        """Machine and tokens: 12 × monthly_questions × yen_per_question."""
        return 12 * self.monthly_questions * self.yen_per_question

    @property
    def fixed_yen(self) -> float:
        """Cost that does not depend on the volume: 12 × fixed_yen_per_month."""
        return 12 * self.fixed_yen_per_month

    @property
    def running_yen(self) -> float:
        """All cost."""
        return self.machine_yen + self.fixed_yen

    @property
    def net_yen(self) -> float:
        """Worth less all cost; negative where use costs more than it saves."""
        return self.value_yen - self.running_yen

    def _repr_html_(self) -> str:
        assumed = f"{self.monthly_questions:,.0f}件、1件{self.minutes_per_question:,.0f}分、1時間{self.staff_yen_per_hour:,.0f}円"
        lines = views.paragraphs(f"前提: 月{assumed}", f"省ける時間: 年{self.hours:,.0f}時間（誤った回答の手戻りを差し引き後）")
        steps = [("省ける時間の価値", self.value_yen), ("計算機とトークン", -self.machine_yen), ("固定費", -self.fixed_yen)]
        return lines + waterfall_chart(steps, "差引（年）").svg


def scenario(
    decision: Decision,
    prices: Prices,
    *,
    monthly_questions: float = 0.0,
    minutes_per_question: float = 0.0,
    staff_yen_per_hour: float = 0.0,
) -> Scenario:
    """Compute one year of use; 0 takes the sealed assumption or the price table's value.

    Args:
        decision: The run whose measured quality and cost per question are used.
        prices: The price table.
        monthly_questions: Questions per month.
        minutes_per_question: Staff minutes that a right answer saves.
        staff_yen_per_hour: Staff cost in yen per hour.
    """
    facts = decision.facts
    return Scenario(
        monthly_questions=monthly_questions or facts["monthly_questions"],
        minutes_per_question=minutes_per_question or facts["minutes_per_question"],
        answered_share=answered_share(decision)[1],
        wrong_share=facts["points"][decision.arms[-1]]["wrong_answer"],
        staff_yen_per_hour=staff_yen_per_hour or prices.staff_yen_per_hour,
        yen_per_question=facts["yen"][decision.arms[-1]] / facts["planned"],
        fixed_yen_per_month=prices.fixed_yen_per_month,
    )


def answered_share(decision: Decision) -> tuple[float, float, float]:
    """Return the share of all planned questions that the candidate answered rightly: low, measured, high.

    measured = (right × planned − refusal × unanswerable) / planned: a rightful abstention counts as right for the
    gate but saves nobody's time. Bounds are Clopper-Pearson at the sealed alpha; samples that infrastructure lost
    count as failed below and as answered above. The mix of questions is taken to be that of the real inquiries.
    """
    facts, arm, alpha = decision.facts, decision.arms[-1], decision.seal.criteria.alpha
    points, n = facts["points"][arm], facts["planned"]
    answered = round(points["right"] * n) - round((points["refusal"] or 0.0) * facts["unanswerable"])
    lost = sum(decision.states[arm].get(state, 0) for state in OPEN_STATES)
    return share_bounds(answered, n, alpha)[0], answered / n, share_bounds(answered + lost, n, alpha)[1]
