"""Looks and monitor runs: what the ledger allows, whatever anybody asks for."""

import dataclasses
import shutil

import pytest

from kit.errors import SealError
from kit.evaluation.cases import question_hash
from kit.evaluation.decide import decide, read_decision
from kit.evaluation.evaluate import evaluate
from kit.evaluation.looks import begun, finished, next_look, of_run, pooled
from kit.records import Kpi
from kit.trust import ledger
from kit.trust.seal import seal
from tests.evaluations import Oracle, make_answer, make_cases, make_criteria, sealed_run, wrong_arm

MANY = make_cases(120)
BAR = Kpi("right", "正しさ", 0.7, "理由")


def run(runs, cases, name, arm=None, **changes):
    """One sealed run of one arm under criteria that are meant for use."""
    given = {"scope": "internal", "looks": 2} | changes
    return sealed_run(runs, cases, {"a": arm or Oracle(MANY)}, BAR, run=f"20261121-09000{name}-p", **given)


def some_wrong(cases, number):
    """An arm that is wrong on the first questions."""
    return Oracle(MANY, {case.question: make_answer("99年", "別.pdf") for case in cases[:number]})


def test_a_demonstration_asks_all_and_spends_all_every_time(tmp_path):
    made = [sealed_run(tmp_path, MANY[:9], {"a": Oracle(MANY)}, BAR, run=f"20261121-09000{i}-p") for i in (1, 2)]
    looks = [of_run(one.folder.name, tmp_path / ledger.NAME) for one in made]
    assert {(look.kind, look.number, look.alpha) for look in looks} == {("demonstration", 1, 0.05)}
    assert [len(one.cases) for one in made] == [9, 9]


def test_the_same_questions_again_are_a_monitor_run_and_new_ones_a_look_of_their_own(tmp_path):
    path = tmp_path / ledger.NAME
    first, again, second, third = (
        run(tmp_path, MANY[:40], 1), run(tmp_path, MANY[:40], 2), run(tmp_path, MANY[:100], 3), run(tmp_path, MANY[:100], 4),
    )  # fmt: skip
    found = [of_run(one.folder.name, path) for one in (first, again, second, third)]
    assert [(look.kind, look.number) for look in found] == [("look", 1), ("monitor", 1), ("look", 2), ("monitor", 2)]
    assert found[0].alpha == pytest.approx(0.0056, abs=1e-4) and found[2].alpha == pytest.approx(0.0444, abs=1e-4)
    assert [case.id for case in second.cases] == [case.id for case in MANY[40:100]]
    assert {case.id for case in third.cases} == {case.id for case in second.cases}
    with pytest.raises(SealError, match="使い切った"):  # no look is left
        run(tmp_path, MANY, 5)
    assert pooled(found[2], second.folder.name, path) == (first.folder.name,)


def test_all_new_questions_under_the_same_title_are_the_next_look_not_a_first_one(tmp_path):
    made = [run(tmp_path, MANY[40 * (i - 1) : 40 * i], i) for i in (1, 2)]
    found = [of_run(one.folder.name, tmp_path / ledger.NAME) for one in made]
    assert [(look.kind, look.number) for look in found] == [("look", 1), ("look", 2)]
    assert sum(look.alpha for look in found) == pytest.approx(0.05)
    with pytest.raises(SealError, match="使い切った"):
        run(tmp_path, MANY[80:], 3)
    apart = run(tmp_path, make_cases(140)[120:], 4, title="別の題")
    assert of_run(apart.folder.name, tmp_path / ledger.NAME).number == 1


def test_a_changed_system_has_used_its_questions_up(tmp_path):
    run(tmp_path, MANY[:40], 1)
    second = run(tmp_path, MANY[:80], 2, Oracle(MANY, identity="2"))
    look = of_run(second.folder.name, tmp_path / ledger.NAME)
    assert (look.kind, look.number, len(second.cases)) == ("look", 2, 40)
    assert pooled(look, second.folder.name, tmp_path / ledger.NAME) == ()
    assert decide(second).kpis[0].n == 40


def test_looks_of_an_agreed_size_take_the_sealed_questions_in_turn(tmp_path):
    made = [run(tmp_path, MANY[:60], i, per_look=20, looks=3) for i in (1, 2, 3, 4)]
    asked = [{question_hash(case) for case in one.cases} for one in made]
    assert [len(questions) for questions in asked] == [20, 20, 20, 20]
    assert len(asked[0] | asked[1] | asked[2]) == 60 and asked[3] == asked[2]
    assert [of_run(one.folder.name, tmp_path / ledger.NAME).kind for one in made] == ["look", "look", "look", "monitor"]


def test_too_few_new_questions_are_refused_before_anything_is_asked(tmp_path):
    run(tmp_path, MANY[:40], 1, per_look=40)
    arm = Oracle(MANY)
    with pytest.raises(SealError) as caught:
        run(tmp_path, MANY[:50], 2, arm, per_look=40)
    assert "10 問しかありません" in str(caught.value) and not arm.asked


def test_criteria_amended_to_more_looks_do_not_spend_alpha_twice(tmp_path):
    run(tmp_path, MANY[:40], 1, looks=1)
    with pytest.raises(SealError, match="使い切った"):  # the one look that was agreed first has spent all of it
        next_look(make_criteria(MANY[:80], BAR, scope="internal", looks=4), MANY[:80], tmp_path / ledger.NAME)
    with pytest.raises(SealError, match="使い切った"):
        next_look(make_criteria(MANY[:80], BAR, scope="internal", looks=4, alpha=0.2), MANY[:80], tmp_path / ledger.NAME)
    other = tmp_path / "other"
    other.mkdir()
    for number in range(1, 5):
        run(other, MANY[: 30 * number], number, looks=2 if number == 1 else 4)
    entries = [entry.content for entry in ledger.find(other / ledger.NAME, "run")]
    assert [entry["kind"] for entry in entries] == ["look"] * 4
    assert sum(entry["alpha"] for entry in entries) <= 0.05 + 1e-12


def test_a_look_is_judged_with_all_answers_of_the_same_system(tmp_path):
    arm = some_wrong(MANY, 12)
    first = decide(run(tmp_path, MANY[:40], 1, arm))
    second = decide(run(tmp_path, MANY[:120], 2, arm))
    assert (first.outcome, first.kpis[0].n) == ("EXTEND", 40)
    assert (second.outcome, second.kpis[0].n, second.kpis[0].point) == ("GO", 120, 0.9), second.reason
    assert second.facts["look"]["pooled"] == [first.folder.name]
    assert read_decision(second.folder).outcome == "GO"


def test_a_last_look_that_settles_nothing_is_a_withdrawal(tmp_path):
    decision = decide(run(tmp_path, MANY[:40], 1, some_wrong(MANY, 8), looks=1))
    assert decision.outcome == "NO-GO" and decision.kpis[0].outcome == "EXTEND"
    assert "最後の判定" in decision.reason


def test_a_lower_bar_does_not_make_seen_questions_new(tmp_path):
    decided = decide(run(tmp_path, MANY[:60], 1, wrong_arm(MANY)))
    lower = Kpi("right", "正しさ", 0.01, "理由")
    sealed = seal(make_criteria(MANY[:60], lower, scope="internal", looks=2), tmp_path / ledger.NAME)
    again = decide(evaluate({"a": Oracle(MANY)}, MANY[:60], seal=sealed, run=tmp_path / "20261121-090009-p"))
    assert (decided.outcome, again.outcome) == ("NO-GO", "NO-GO"), "a closed PoC stays closed"
    assert again.facts["monitor"]["gains"] == 60 and "前の判定（NO-GO）のままです。" in again.reason
    assert again.kpis[0].outcome == "GO" and read_decision(again.folder).reason == again.reason


def test_changed_criteria_leave_open_what_was_open(tmp_path):
    decided = decide(run(tmp_path, MANY[:40], 1, some_wrong(MANY, 12)))
    lower = Kpi("right", "正しさ", 0.01, "理由")
    sealed = seal(make_criteria(MANY[:40], lower, scope="internal", looks=2), tmp_path / ledger.NAME)
    again = decide(evaluate({"a": Oracle(MANY)}, MANY[:40], seal=sealed, run=tmp_path / "20261121-090009-p"))
    assert (decided.outcome, again.outcome) == ("EXTEND", "EXTEND") and "変えた基準で判定するには" in again.reason


@pytest.mark.parametrize(("losses", "verdict"), [(0, "同等"), (1, "同等"), (20, "劣化")])
def test_a_monitor_run_says_better_same_or_worse_and_keeps_the_verdict(tmp_path, losses, verdict):
    first = decide(run(tmp_path, MANY, 1))
    again = decide(run(tmp_path, MANY, 2, some_wrong(MANY, losses)))
    stands = "EXTEND" if verdict == "劣化" else "GO"
    assert (first.outcome, again.outcome, again.facts["monitor"]["verdict"]) == ("GO", stands, verdict)


def test_a_run_that_was_given_up_uses_what_it_asked_and_is_counted(tmp_path):
    path = tmp_path / ledger.NAME
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, MANY[:40], 1, Oracle(MANY, {MANY[5].question: KeyboardInterrupt()}))
    runs = begun(make_criteria(MANY[:40], BAR, scope="internal", looks=2), path)
    assert len(runs) == 1 and finished(runs, path) == set()
    made = run(tmp_path, MANY[:40], 2)
    assert of_run(made.folder.name, path).number == 1
    assert [case.id for case in made.cases] == [case.id for case in MANY[5:40]]
    decision = decide(made)
    assert decision.facts["look"]["abandoned"] == 1 and "始めて終えなかった実行が 1 件" in decision.facts["notes"][0]


def test_a_run_whose_folder_is_gone_has_used_all_that_it_was_to_ask(tmp_path):
    made = run(tmp_path, MANY[:40], 1)
    shutil.rmtree(made.folder)
    assert of_run(run(tmp_path, MANY[:40], 2).folder.name, tmp_path / ledger.NAME).kind == "monitor"


def test_answers_seen_under_another_bar_do_not_count(tmp_path):
    high, low = dataclasses.replace(BAR, bar=0.85), dataclasses.replace(BAR, bar=0.72)
    arm = some_wrong(MANY, 26)  # 78 % of 119
    given = {"scope": "internal", "looks": 2}
    first = decide(sealed_run(tmp_path, MANY[:119], {"a": arm}, high, run="20261121-090001-p", **given))
    second = decide(sealed_run(tmp_path, MANY, {"a": arm}, low, run="20261121-090002-p", **given))
    assert first.outcome != "GO" and second.outcome != "GO"
    assert (second.kpis[0].n, second.facts["look"]["pooled"]) == (1, [])


def test_a_demonstration_uses_its_questions_up_for_looks(tmp_path):
    decide(sealed_run(tmp_path, MANY, {"a": Oracle(MANY)}, BAR, run="20261121-090001-p"))
    with pytest.raises(SealError, match="すべて使われている"):
        run(tmp_path, MANY, 2)
    assert len(run(tmp_path, (*MANY, *make_cases(0, 40)), 3).cases) == 40


def test_of_runs_begun_side_by_side_the_first_that_ends_is_the_look(tmp_path):
    class Stops(Oracle):
        def __call__(self, question, *, user=""):
            if self.stops:
                raise KeyboardInterrupt
            return super().__call__(question, user=user)

    sealed = seal(make_criteria(MANY, BAR, scope="internal", looks=1), tmp_path / ledger.NAME)
    arms = [Stops(MANY, identity=str(number)) for number in (1, 2)]
    for number, arm in enumerate(arms, 1):
        arm.stops = True
        with pytest.raises(KeyboardInterrupt):
            evaluate({"a": arm}, MANY, seal=sealed, run=tmp_path / f"20261121-09000{number}-p")
        arm.stops = False
    ends = [decide(evaluate({"a": arm}, MANY, seal=sealed, run=tmp_path / f"20261121-09000{n}-p")) for n, arm in ((2, arms[1]), (1, arms[0]))]
    assert [end.facts["look"]["kind"] for end in ends] == ["look", "monitor"]


def test_counts_and_money_of_looks_judged_together_are_of_the_same_questions(tmp_path):
    arm = Oracle(MANY, {case.question: make_answer("9日", yen=3.0, prompt_tokens=50, completion_tokens=4) for case in MANY[:100]})
    run(tmp_path, MANY[:40], 1, arm)
    facts = decide(run(tmp_path, MANY[:100], 2, arm)).facts
    assert (facts["planned"], facts["answerable"], facts["yen"], facts["tokens"]) == (100, 100, {"a": 300.0}, {"a": [5000, 400]})


def test_systems_of_which_nothing_is_known_are_not_pooled(tmp_path):
    arm = some_wrong(MANY, 12)
    arm.identity = ""
    run(tmp_path, MANY[:40], 1, arm)
    assert decide(run(tmp_path, MANY, 2, arm)).kpis[0].n == 80


def test_money_and_forbidden_content_are_reasons_to_withdraw(tmp_path):
    class Dear(Oracle):
        def __call__(self, question, *, user=""):
            import dataclasses

            return dataclasses.replace(super().__call__(question, user=user), yen=10.0)

    decision = decide(run(tmp_path, MANY, 1, Dear(MANY), budget_yen=1000.0))
    assert decision.outcome == "NO-GO" and "1,200円" in decision.reason
    assert decision.kpis[0].outcome == "GO"
