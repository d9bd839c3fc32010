"""A small project as a team would fill it in: five documents, one of them for some readers only, and few questions."""

import json

DOCUMENTS = {
    "旅費規程.md": "# 旅費規程\n\n## 第5条(日当)\n\n国内出張の日当は1日3,000円とする。\n\n## 第6条(宿泊)\n\n宿泊費は1泊12,000円を上限とする。\n",
    "就業規則.txt": "就業規則\n\n年次有給休暇は、入社6か月後に10日付与する。\n始業時刻は午前8時30分とする。\n",
    "購買規程.html": "<html><head><title>購買規程</title></head><body><h1>承認</h1><p>10万円以上の購入は部長の承認を要する。</p></body></html>",
    "内線表.csv": "部署,内線\n総務課,2201\n情報システム課,2205\n",
    "役員報酬.md": "# 役員報酬規程\n\n常勤役員の報酬月額は120万円とする。\n",
}
ACL = "パス,閲覧者\n*,everyone\n役員報酬.md,executives\n"
ANSWERED = {
    "国内出張の日当はいくらですか": ("3,000円", "旅費規程.md"),
    "出張の宿泊費の上限はいくらですか": ("12,000円", "旅費規程.md"),
    "年次有給休暇は何日付与されますか": ("10日", "就業規則.txt"),
    "始業時刻は何時ですか": ("8時30分", "就業規則.txt"),
    "10万円以上の購入はだれの承認が要りますか": ("部長", "購買規程.html"),
    "情報システム課の内線番号を教えてください": ("2205", "内線表.csv"),
}
UNANSWERED = ("社員食堂の来月の献立は何ですか", "社長の好きな音楽は何ですか")
CRITERIA = """\
title: 小さなPoC
hypothesis: 社員の問い合わせの大半は、社内文書から答えられる。
owner: 総務課
approvers: [総務部長]
cases: questions.jsonl
kpis:
  - metric: right
    role: gate
    bar: 0.30
    reason: 3割が窓口に来なければ、窓口の兼任を1名減らせる。
  - metric: wrong_answer
    role: gate
    bar: 0.60
    reason: 誤りが多いと、確かめ直しの手間が上回る。
"""


def small_project(folder, repeat=2):
    """Fill a folder; every question is asked in ``repeat`` wordings, so that a run can be made longer."""
    documents = folder / "documents"
    documents.mkdir(parents=True)
    for name, text in DOCUMENTS.items():
        (documents / name).write_text(text, encoding="utf-8")
    (documents / "acl.csv").write_text(ACL, encoding="utf-8")
    (folder / "criteria.yaml").write_text(CRITERIA, encoding="utf-8")
    cases = [
        {"question": f"{question}（{number}）", "answers": [[answer]], "evidence": [{"document": document}]}
        for number in range(repeat)
        for question, (answer, document) in ANSWERED.items()
    ]
    cases += [{"question": f"{q}（{n}）", "answers": [], "evidence": []} for n in range(repeat) for q in UNANSWERED]
    lines = (json.dumps({"id": f"q-{n}", **case}, ensure_ascii=False) + "\n" for n, case in enumerate(cases, 1))
    (folder / "questions.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder
