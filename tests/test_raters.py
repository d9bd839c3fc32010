"""How far two people agree, against the worked example of the literature."""

import pytest

from kit.errors import RunError
from kit.evaluation import scores
from kit.evaluation.raters import agreement
from kit.evaluation.scoring_sheet import drawn, say, write_sheet
from tests.evaluations import Oracle, make_cases, sealed_run

CASES = make_cases(50)


@pytest.fixture
def made(tmp_path):
    return sealed_run(tmp_path / "runs", CASES, {"candidate": Oracle(CASES)})


def rate(made, *counts):
    """Enter verdicts of both raters: (number, A's, B's) each."""
    write_sheet(made.folder)
    items = iter(drawn(made).items)
    said = [
        score
        for number, *pair in counts
        for item in [next(items) for _ in range(number)]
        for rater, value in zip(("採点者A", "採点者B"), pair, strict=True)
        for score in say(item, rater, value)
    ]
    scores.append(made.folder, said, "test")
    (found,) = agreement(made.folder)
    return found


def test_kappa_of_the_textbook(made):
    """20 both yes, 5 and 10 mixed, 15 both no: kappa 0.4 (Cohen's example as in Wikipedia)."""
    found = rate(made, (20, 1.0, 1.0), (5, 1.0, 0.0), (10, 0.0, 1.0), (15, 0.0, 0.0))
    assert (found.n, found.agreed) == (50, 35)
    assert found.kappa == pytest.approx(0.4)
    assert found.interval == (pytest.approx(0.15, abs=0.01), pytest.approx(0.65, abs=0.01))
    assert len(found.differ) == 15 and found.differ[0][1:] in (("正しい", "誤り"), ("誤り", "正しい"))
    assert str(found).startswith("採点者Aと採点者Bの一致: 50 件のうち 35 件（70%）、κ係数 0.40（95%区間 0.15〜0.65）。")
    assert "話し合い" not in str(found)
    assert "食い違った回答" in found._repr_html_()


def test_little_agreement_is_a_warning(made):
    found = rate(made, (5, 1.0, 0.0), (5, 0.0, 1.0), (10, 1.0, 1.0), (2, None, 0.0))
    assert found.kappa < 0.4
    assert "△ 一致が低く" in str(found)


def test_not_able_to_judge_is_a_verdict_and_a_blank_is_none(made):
    found = rate(made, (3, None, None), (3, 1.0, 1.0))
    assert (found.n, found.agreed, found.kappa) == (6, 6, pytest.approx(1.0))


def test_where_one_rater_never_varies_there_is_no_interval(made):
    found = rate(made, (3, 1.0, 1.0), (1, 1.0, 0.0))
    assert (found.kappa, found.interval) == (0.0, None)
    assert "区間はまだ求められません" in str(found) and "△" in str(found)


def test_where_all_verdicts_are_alike_there_is_no_kappa(made):
    found = rate(made, (10, 1.0, 1.0))
    assert (found.n, found.kappa) == (10, None)
    assert "求められません" in str(found)


def test_nothing_scored_twice_yet(made):
    with pytest.raises(RunError, match="まだ抽選されていません"):
        agreement(made.folder)
    found = rate(made)
    assert (found.n, found.kappa) == (0, None)
    assert "まだありません" in str(found)
