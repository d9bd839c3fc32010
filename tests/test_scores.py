"""Scores: appended, vouched for by the ledger, corrected by a later line, never overwritten."""

import hashlib
import json
import threading

import pytest

from kit.errors import DataError, RunError, SealError
from kit.evaluation import scores
from kit.evaluation.evaluate import evaluate
from kit.evaluation.scores import Score
from kit.evaluation.scoring_sheet import DEFAULTS, METRIC, TIMES, draw, write_sheet, write_times
from kit.records import Kpi
from kit.trust import ledger
from kit.trust.durable import canonical, to_json
from kit.trust.seal import seal
from tests.evaluations import Oracle, make_cases, make_criteria, sealed_run

CASES = make_cases(3, 1)
AT = "2026-11-22T09:00:00+00:00"


@pytest.fixture
def run(tmp_path):
    return sealed_run(tmp_path / "runs", CASES, {"candidate": Oracle(CASES)}).folder


def score(case="a1", value=1.0, by="採点者A", **fields):
    """A score by a metric of nobody's but these tests."""
    return Score(**{"case": case, "arm": "candidate", "metric": "tidiness", "value": value, "by": by, "at": AT} | fields)


def entered(run):
    return [entry.content for entry in ledger.find(run.parent / ledger.NAME, "scores", run=run.name)]


def assert_refused(run):
    with pytest.raises(SealError, match="台帳と一致しません"):
        scores.read(run)


def test_what_was_said_comes_back_and_the_ledger_knows_the_file(run):
    said = [score(), score("a2", None, note="資料が古い"), score("a1", 0.0, "採点者B")]
    assert scores.append(run, said, "採点シート_採点者A.xlsx") == 3
    assert scores.read(run) == said
    digest = hashlib.sha256((run / scores.FILE).read_bytes()).hexdigest()
    assert entered(run) == [{"run": run.name, "sha256": digest, "count": 3, "source": "採点シート_採点者A.xlsx"}]


def test_nobody_has_scored_yet(run):
    assert scores.read(run) == []
    assert scores.append(run, [], "") == 0
    assert entered(run) == []


def test_saying_the_same_again_adds_nothing_and_a_correction_adds_a_line(run):
    assert scores.append(run, [score(), score()], "1") == 1
    assert scores.append(run, [score(at="2026-11-23T09:00:00+00:00")], "2") == 0
    assert scores.append(run, [score(value=0.0)], "3") == 1
    assert scores.append(run, [score(value=1.0)], "4") == 1, "said before, but not last"
    assert [s.value for s in scores.read(run)] == [1.0, 0.0, 1.0]
    assert [content["source"] for content in entered(run)] == ["1", "3", "4"]


def test_the_last_word_of_the_first_named_holds(run):
    said = [score(value=None), score(value=None, by="採点者B"), score(value=1.0, by="採点者B"), score(value=0.0), score("a2", None)]
    assert scores.final(said) == {
        ("a1", "candidate", "tidiness"): 0.0, ("a2", "candidate", "tidiness"): None,
    }  # fmt: skip


def test_of_judges_the_last_holds(run):
    said = [score(by="judge:old", value=1.0), score(by="judge:new", value=0.0)]
    assert list(scores.final(said).values()) == [0.0]


def test_only_a_finished_run_is_scored(tmp_path):
    sealed = seal(make_criteria(CASES), tmp_path / ledger.NAME)
    with pytest.raises(KeyboardInterrupt):
        evaluate({"candidate": Oracle(CASES, {"Q2": KeyboardInterrupt()})}, CASES, seal=sealed, run=tmp_path / "r")
    with pytest.raises(RunError, match="評価が終わっていない"):
        scores.append(tmp_path / "r", [score()], "")
    assert not (tmp_path / "r" / scores.FILE).exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [lines[0].replace('"value":0.0', '"value":1.0'), *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: lines[:-1],
        lambda lines: lines[::-1],
        lambda lines: [*lines, canonical(to_json(score("a3"))) + "\n"],
    ],
    ids=["edited", "first gone", "last gone", "reordered", "added"],
)
def test_an_edited_file_is_refused(run, edit):
    scores.append(run, [score(value=0.0), score("a2", 0.0)], "x")
    path = run / scores.FILE
    path.write_text("".join(edit(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")
    assert_refused(run)


def test_a_file_without_a_ledger_entry_and_an_entry_without_a_file_are_refused(run):
    (run / scores.FILE).write_text(canonical(to_json(score())) + "\n", encoding="utf-8")
    assert_refused(run)
    (run / scores.FILE).unlink()
    scores.append(run, [score()], "x")
    (run / scores.FILE).unlink()
    assert_refused(run)
    with pytest.raises(SealError):
        scores.append(run, [score()], "x")


@pytest.mark.parametrize("before", [0, 2])
def test_what_a_kill_left_without_its_entry_was_never_said(run, monkeypatch, before):
    scores.append(run, [score("a1"), score("a2")][:before], "x")
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scores.append(run, [score("a3"), score("u1")], "killed")
    assert_refused(run)
    assert scores.append(run, [score("u1", 0.0)], "again") == 1
    assert [s.case for s in scores.read(run)] == [*["a1", "a2"][:before], "u1"]


def test_many_writers_lose_nothing(run):
    def write(number):
        for case in ("a1", "a2", "a3"):
            scores.append(run, [score(case, by=f"採点者{number}")], str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scores.read(run)) == 12
    assert [content["count"] for content in entered(run)] == list(range(1, 13))


def test_a_line_holds_plain_json(run):
    scores.append(run, [score(value=None)], "x")
    (line,) = (run / scores.FILE).read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == to_json(score(value=None))


# --- corrections


def decided(run):
    ledger.append(run.parent / ledger.NAME, "decision", {"run": run.name, "outcome": "EXTEND"})


def corrections(run):
    return scores.corrected(run), scores.corrected(run, decided=True)


def test_a_first_word_after_a_decision_corrects_nothing(run):
    scores.append(run, [score(value=None, note="drawn")], "drawn")
    assert corrections(run) == (0, 0)
    decided(run)
    scores.append(run, [score(), score(value=0.0, by="採点者B")], "the sheet came back")
    scores.append(run, [score(value=1.0, by="採点者B"), score(note="確かめた")], "the second rater does not count, nor does a note")
    assert corrections(run) == (0, 0)


@pytest.mark.parametrize("before", [0.0, None])
def test_what_was_said_and_is_changed_is_told_and_whether_it_was_decided_on(run, before):
    scores.append(run, [score(value=before), score("a2", 0.0), score("a3")], "x")
    scores.append(run, [score("a2", 1.0)], "a slip, mended before anything was decided")
    assert corrections(run) == (1, 0)
    decided(run)
    scores.append(run, [score(value=before, note="確かめた")], "x")
    scores.append(run, [score(value=1.0), score("a3", 1.0)], "x")
    assert corrections(run) == (2, 1)
    scores.append(run, [score(value=before)], "x")
    assert corrections(run) == (2, 1), "the same one again"


def test_a_judge_that_is_asked_again_corrects_nothing_but_another_judge_does(run):
    judged = {"metric": "right_by_judge", "by": "judge:m"}
    scores.append(run, [score(value=None, **judged)], "the server was gone")
    decided(run)
    scores.append(run, [score(value=0.0, **judged)], "asked again")
    assert corrections(run) == (0, 0)
    decided(run)
    scores.append(run, [score(value=1.0, **judged | {"by": "judge:other"})], "another")
    assert corrections(run) == (1, 1)


# --- who may say what

PEOPLE = {"metric": METRIC}


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": "部長"}, {"by": "judge:m"}, {"case": "a4"}, {"arm": "baseline"}, {"note": "drawn"}, {"metric": "minutes_saved"},
    ],
    ids=["another rater", "a model", "another question", "another arm", "as if drawn", "what was not drawn"],
)
def test_only_who_was_drawn_says_what_was_drawn(run, wrong):
    write_sheet(run)
    before = scores.read(run)
    with pytest.raises(DataError, match="採点として記録できません") as caught:
        scores.append(run, [score("a1", **PEOPLE), score(**{"case": "a2"} | PEOPLE | wrong)], "API")
    assert "採点者A、採点者B" in caught.value.cause or "抽選前" in caught.value.cause
    assert scores.read(run) == before, "not the good one either"


def test_a_score_of_people_before_the_draw_is_refused_and_cannot_outrank_the_drawn_rater(run):
    for source in ("API", "drawn"):
        with pytest.raises(DataError, match="抽選前"):
            scores.append(run, [score(by="部長", value=None, note=source * (source == "drawn"), **PEOPLE)], source)
    write_sheet(run)
    with pytest.raises(DataError):
        scores.append(run, [score(**PEOPLE)], "drawn")
    scores.append(run, [score(by="採点者B", value=0.0, **PEOPLE)], "x")
    scores.append(run, [score(**PEOPLE)], "x")
    assert scores.final(scores.read(run))["a1", "candidate", METRIC] == 1.0


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (METRIC, 5.0), (METRIC, 0.5), ("first_contact", -1.0), ("edit_saved", 7.0), ("edit_saved", float("nan")),
        ("minutes_saved", float("inf")), ("minutes_saved", float("-inf")), ("minutes_saved", float("nan")), ("minutes_saved", 1_441.0),
        ("right_by_judge", 0.5), ("preferred_by_judge", 2.0), ("right_by_judge", float("nan")),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_never_reaches_the_file(run, metric, value):
    with pytest.raises(DataError, match="使えません"):
        scores.append(run, [score(value=value, metric=metric, by="judge:m" if "judge" in metric else "採点者A")], "API")
    assert scores.read(run) == []


def test_people_do_not_speak_for_the_judge(run):
    with pytest.raises(DataError, match="LLM だけ"):
        scores.append(run, [score(metric="right_by_judge")], "API")
    assert scores.append(run, [score(metric="right_by_judge", by="judge:m")], "judge") == 1


def test_times_within_a_day_are_taken(tmp_path):
    made = sealed_run(tmp_path, CASES, {"candidate": Oracle(CASES)}, Kpi("minutes_saved", "時間", 1.0, "理由"))
    write_times(made.folder)
    times = [score(f"a{i}", value, "記録者", metric="minutes_saved") for i, value in enumerate((-1440.0, 1440.0, 0.5), 1)]
    assert scores.append(made.folder, times, "x") == 3


def test_what_was_drawn_is_not_drawn_again_in_other_company(tmp_path):
    kpis = [Kpi(metric, "", 0.1, "") for metric in ("minutes_saved", "edit_saved")]
    made = sealed_run(tmp_path, CASES, {"candidate": Oracle(CASES)}, *kpis)
    write_times(made.folder)
    with pytest.raises(SealError, match="別の条件ですでに抽選"):
        draw(made, DEFAULTS | {"raters": ["別の人"]}, form=TIMES)
    assert len(ledger.find(tmp_path / ledger.NAME, "drawn")) == 1
