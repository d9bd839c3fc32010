"""Project folders from real files of ../shared/data, as a team would fill in what ``kit init`` makes.

The bars below were fixed before the first run and are never tuned: DECISIONS.md records whatever comes out.
``python -m tests.real_input.build_project jsquad|government FOLDER`` builds one to look at.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

from kit.evaluation.cases import read_cases, read_squad
from kit.trust.durable import to_json

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "data"
SEED, QUESTIONS, DEVELOPMENT = 20261121, 300, 60

_CRITERIA = """\
title: {title}
hypothesis: 手を入れていない実データでも、問い合わせの大半に出典つきで正しく答えられる。
owner: キットの開発チーム
approvers: [キットの開発チーム]
cases: questions.jsonl
monthly_questions: 400
minutes_per_question: 15
kpis:
  - metric: right
    role: gate
    bar: 0.70
    reason: 7割の問い合わせが人手を離れて初めて、兼任の窓口担当を1名減らせる。
  - metric: wrong_answer
    role: gate
    bar: 0.15
    reason: 誤りの確かめ直しに1件20分かかり、15%を超えると削減効果の3割近くが消える。
  - metric: latency_p95
    role: {latency_role}
    bar: 3.0
    reason: {latency_reason}
  - metric: right
    role: guardrail
    bar: 0.05
    reason: いまの検索より目立って悪くなるなら、乗り換える理由がない。
"""
_LATENCY = "3秒を超えると「電話した方が早い」と言われ、使われなくなる。"


def squad_documents(path):
    """Return (file name, text) for every paragraph of a SQuAD file; the title is the text's first line."""
    return [(f"{paragraph.name}.txt", f"{paragraph.title}\n\n{paragraph.text}\n") for paragraph in read_squad(path)]


def build_jsquad(folder, shared=SHARED):
    """Build (a): all 1,145 paragraphs as documents, 300 seeded questions and 60 others for development."""
    source = shared / "jsquad" / "valid.json"
    documents = folder / "documents"
    documents.mkdir(parents=True)
    for name, text in squad_documents(source):
        (documents / name).write_text(text, encoding="utf-8")
    # By the hash of seed and id, the choice does not depend on which other questions count as repeated.
    chosen = sorted(read_cases(source), key=lambda case: hashlib.sha256(f"{SEED} {case.id}".encode()).digest())
    _write_cases(folder / "questions.jsonl", [to_json(case) for case in chosen[:QUESTIONS]])
    _write_cases(folder / "development.jsonl", [to_json(case) for case in chosen[QUESTIONS : QUESTIONS + DEVELOPMENT]])
    criteria = _CRITERIA.format(title="実データ確認（JSQuAD 1,145段落）", latency_role="gate", latency_reason=_LATENCY)
    (folder / "criteria.yaml").write_text(criteria, encoding="utf-8")
    return folder


def build_government(folder, shared=SHARED):
    """Build (b): real office files and PDFs with 30 questions; without development questions, as many a team begins."""
    for name in ("gif_office", "gov_pdf"):
        shutil.copytree(shared / name, folder / "documents" / name, ignore=shutil.ignore_patterns("index.json"))
    lines = (HERE / "gif_gov_questions.jsonl").read_text(encoding="utf-8").splitlines()
    _write_cases(folder / "questions.jsonl", [_place_evidence(json.loads(line)) for line in lines])
    criteria = _CRITERIA.format(
        title="実データ確認（官公庁の文書）", latency_role="info", latency_reason=f"{_LATENCY}30問では判定に使えないので参考にとどめる。"
    )
    (folder / "criteria.yaml").write_text(criteria, encoding="utf-8")
    return folder


def _place_evidence(case):
    """The questions keep the quote that proves them; the kit wants the place."""
    parts = ("page", "sheet", "row", "slide", "headings")
    evidence = [
        {"document": item["document"], "place": {part: item[part] for part in parts if part in item}}
        for item in case["evidence"]
    ]
    return case | {"evidence": evidence}


def _write_cases(path, cases):
    path.write_text("".join(json.dumps(case, ensure_ascii=False) + "\n" for case in cases), encoding="utf-8")


if __name__ == "__main__":
    {"jsquad": build_jsquad, "government": build_government}[sys.argv[1]](Path(sys.argv[2]))
