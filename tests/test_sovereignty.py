"""The chapter on risks and on what is proven."""

import dataclasses
import json
import re

import pytest

from kit.reporting import sovereignty
from kit.trust import evidence, ledger
from kit.trust.checksums import sha256
from tests.test_summary import decision, facts_of


@pytest.fixture
def run(tmp_path):
    """A decision whose run folder lies in a place of its own."""
    return dataclasses.replace(decision("EXTEND"), folder=tmp_path / "20261121-224002-poc")


def record(runs, outcome="passed"):
    """Write what ``kit evidence`` would have."""
    ids = [test for claim in evidence.claims() for test in claim.tests]
    files = {test.partition("::")[0]: "abcdef012345" + "6" * 52 for test in ids}
    kept = {"day": "2026-11-21", "code_sha256": evidence.code_sha256(), "files": files, "tests": dict.fromkeys(ids, outcome)}
    (runs / evidence.NAME).write_text(json.dumps(kept))
    ledger.append(runs / ledger.NAME, "evidence", {"sha256": sha256(runs / evidence.NAME)})


def claims(run, lang="ja"):
    return sovereignty.section(run, lang).blocks[1]


def test_without_a_record_everything_is_unproven(run):
    made = sovereignty.section(run)
    assert (made.key, len(claims(run).rows)) == ("risks", len(evidence.claims()))
    assert {row[1] for row in claims(run).rows} == {"未実証（試験なし）", "未実証（記録なし）"}
    assert {row[2] for row in claims(run).rows} == {"—"} and "kit evidence" in claims(run).note
    assert "試験で実証したのは0項目" in made.lead and sovereignty.tests(run) is None


def test_a_green_row_has_its_tests_their_hashes_and_what_they_do_not_show(run):
    record(run.folder.parent)
    rows = {row[0]: row for row in claims(run).rows}
    assert sum(row[1] == "○ 実証" for row in rows.values()) == sum(bool(c.tests) for c in evidence.claims())
    sealed = next(row for name, row in rows.items() if "封印" in name)
    assert sealed[1:3] == ("○ 実証", "test_seal.py abcdef012345、test_decide.py abcdef012345") and sealed[3]
    assert claims(run).title.endswith("（試験日 2026-11-21）")
    assert rows["文書も質問も、社外へ一度も送られていない"][1] == "未実証（試験なし）"
    assert "kit evidence を実行" not in claims(run).note, "there is nothing left to test"
    table = sovereignty.tests(run)
    assert [row[1].split() for row in table.rows] == [[*claim.tests] for claim in evidence.claims() if claim.tests]


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_what_did_not_pass_is_not_green(run, outcome):
    record(run.folder.parent, outcome)
    assert {row[1] for row in claims(run).rows} == {"未実証（試験なし）", "未実証（不合格あり）"}


def test_the_risks_hold_the_figures_of_the_run(run):
    risks = {row[0]: row for row in sovereignty.section(run).blocks[0].rows}
    # 8.83 % and 17.01 % of 420 inquiries: 37.1 and 71.4
    assert risks["誤った回答を信じてしまう"][1] == "質問の12.5%で誤った回答を示した（区間 8.8〜17.0%）。月420件なら37〜71件にあたる"
    assert risks["処理が失敗する"][1].startswith("候補では200問中5問が失敗した")
    assert risks["基準への合意を示せない"][1] == "承認者2名のうち、封印への電子署名を確認できたのは0名"
    assert [row[3] for row in risks.values()] == ["B", "A", "A", "A", "—", "—"]
    assert "個人番号や根拠のない連絡先を示す" not in risks, "it was not measured"


def test_a_risk_with_no_case_is_told_with_what_the_number_of_questions_can_show(run):
    points = {arm: values | {"policy_violation": 0.0, "wrongly_refused": 0.72} for arm, values in run.facts["points"].items()}
    told = {r[0]: r[1] for r in sovereignty.section(dataclasses.replace(run, facts=run.facts | {"points": points})).blocks[0].rows}
    assert told["個人番号や根拠のない連絡先を示す"] == "200問中0問。区間の上端は1.5%"  # 1 − 0.05^(1/200) = 0.01487
    assert told["答えられるはずの質問に答えない"].startswith("文書に答えがある質問の72.0%で回答を控えた（区間 65.3〜78.0%）")


def test_data_sent_outside_comes_first(run):
    outside = dataclasses.replace(run, facts=facts_of(external=True))
    assert sovereignty.section(outside).blocks[0].rows[0][0] == "データが社外へ出る"


def test_the_chapter_in_english(run):
    record(run.folder.parent)
    made = sovereignty.section(run, "en")
    cells = [cell for block in made.blocks for row in (block.header, *block.rows) for cell in row]
    free = run.facts["calibration"]
    assert not [cell for cell in (made.title, made.lead, *cells) if re.search("[\u3040-\u30ff\u4e00-\u9fff、。]", cell.replace(free, "")) and "test_" not in cell]
