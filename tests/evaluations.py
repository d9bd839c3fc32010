"""Questions, criteria, toy arms and sealed runs for the tests of evaluation and improving."""

import hashlib
from pathlib import Path

from kit.evaluation import metrics
from kit.evaluation.cases import cases_sha256, question_hashes
from kit.evaluation.evaluate import evaluate
from kit.knowledge.store import Store
from kit.records import Answer, Block, Case, Citation, Criteria, Document, Evidence, Kpi, Place, Row
from kit.trust import ledger
from kit.trust.seal import seal

GOLD = "規程.docx"
RIGHT = Kpi("right", "正しさ", 0.7, "理由")
SECONDS = 0.25


def make_cases(answerable, unanswerable=0):
    """Questions Q1, Q2, … with the answers 1日, 2日, …, then some that the documents do not answer."""
    found = [Case(f"a{i}", f"Q{i}", ((f"{i}日",),), (Evidence(GOLD),)) for i in range(1, answerable + 1)]
    return (*found, *(Case(f"u{i}", f"U{i}") for i in range(1, unanswerable + 1)))


def make_criteria(cases, *kpis, **changes):
    """Criteria as ``read_criteria`` would give them for these questions, under the metric code of today."""
    given = {
        "title": "題", "hypothesis": "", "owner": "", "approvers": ("部長",), "kpis": kpis or (RIGHT,), "alpha": 0.05,
        "error_budget": 0.05, "deadline": "", "monthly_questions": 420.0, "minutes_per_question": 10.0,
        "text": "title: 題\n", "cases_name": "質問表.xlsx", "cases_sha256": cases_sha256(cases),
        "cases_count": len(cases), "questions": question_hashes(cases),
        "metrics_sha256": metrics.code_sha256(),
    }  # fmt: skip
    return Criteria(**given | changes)


def make_answer(text, document=GOLD, **fields):
    """An answer with one citation, that took a fixed time."""
    citation = Citation(document, "規程", Place(), text, "c1")
    return Answer(text, **{"citations": (citation,), "confidence": 0.5, "seconds": SECONDS} | fields)


ABSTAINED = Answer("資料に見当たりません。", abstained=True, seconds=SECONDS)


class Oracle:
    """An arm that is right but for the questions of ``replies``, where it gives, or raises, what stands there."""

    name = "全問正解"

    def __init__(self, cases, replies=None, identity="1"):
        self.identity = identity
        self.asked = []
        self._replies = {
            case.question: make_answer("、".join(part[0] for part in case.answers)) if case.answerable else ABSTAINED
            for case in cases
        } | (replies or {})

    def __call__(self, question, *, user=""):
        self.asked.append(question)
        reply = self._replies[question]
        if isinstance(reply, BaseException):
            raise reply
        return reply


def wrong_arm(cases):
    """An arm that never finds anything right, nor abstains."""
    return Oracle(cases, {case.question: make_answer("99年", "別.pdf") for case in cases})


def make_row(case, **fields):
    """A right and finished row of one answerable question."""
    given = {
        "case": case.id, "arm": "candidate", "state": "answered", "text": "", "shown": "", "abstained": False,
        "confidence": 0.5, "cited": case.evidence, "retrieved": case.evidence, "seconds": SECONDS, "prompt_tokens": 0,
        "completion_tokens": 0, "yen": 0.0,
    }  # fmt: skip
    words = "、".join(part[0] for part in case.answers)
    return Row(**given | {"text": words, "shown": words} | fields)


def sealed_run(runs, cases, arms, *kpis, run="20261121-090000-p", workers=0, progress=None, **changes):
    """Seal criteria for these questions beside the runs, then run them."""
    sealed = seal(make_criteria(cases, *kpis, **changes), runs / ledger.NAME)
    return evaluate(arms, cases, seal=sealed, run=runs / run, workers=workers, progress=progress)


MACHINES = (
    "旋盤", "溶接機", "圧縮機", "昇降機", "空調機", "発電機", "冷凍庫", "塗装機", "搬送車", "検査機",
    "印刷機", "洗浄機", "送風機", "変圧器", "研磨機", "射出機", "切断機", "乾燥炉", "包装機", "計量器",
)  # fmt: skip
STRANGERS = ("原子炉", "潜水艦", "宇宙船", "気球", "天文台", "望遠鏡", "灯台", "風車", "水車", "馬車")


def make_store(folder):
    """A store of one document per machine, each with the interval of its inspection."""
    store = Store(folder)
    texts = {f"{name}.txt": f"{name}の点検は{i}日ごとに行う。" for i, name in enumerate(MACHINES, 1)}
    store.add(make_document(name, text) for name, text in texts.items())
    return store


def make_document(name, text):
    """A document of one paragraph, readable by everyone."""
    return Document(hashlib.sha256(text.encode()).hexdigest(), name, Path(name).stem, (Block(text, Place()),))


def machine_cases(unanswerable=10):
    """Questions about all machines, which the store of machines answers, and some that it does not."""
    known = [
        Case(f"m{i}", f"{name}の点検は何日ごとですか", ((f"{i}日",),), (Evidence(f"{name}.txt"),))
        for i, name in enumerate(MACHINES, 1)
    ]
    unknown = [Case(f"s{i}", f"{name}の点検は何日ごとですか") for i, name in enumerate(STRANGERS[:unanswerable], 1)]
    return (*known, *unknown)
