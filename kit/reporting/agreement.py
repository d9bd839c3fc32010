"""The 判定基準書: what was sealed, on one page of A4, with its hash and boxes for the signatures of the 稟議."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kit.evaluation.designs import spend
from kit.evaluation.metrics import METRICS
from kit.records import Case, Criteria, KpiResult, Seal
from kit.reporting import wording
from kit.reporting.paper import page, pdf
from kit.reporting.wording import plain, quantity
from kit.trust.durable import write_atomically
from kit.trust.seal import Approval

STAGES = {"stage": "次の段階", "kpi": "KPI", "budget": "予算"}
SCOPES = {"demonstration": "デモ（投資判断には使わない）", "internal": "社内利用", "commercial": "商用"}
ROLES = {"gate": "判定", "guardrail": "安全条件（比較対象との差）", "info": "参考"}
_REASONS = 600  # letters that the reasons of all KPIs share, so that all stays on one page
_ROWS, _BOXES = 10, 8
_CUT = "「…」で終わる文、表に載せきれない項目の全文は、封印した criteria.yaml にあります。"


def write_agreement(sealed: Seal, cases: Sequence[Case], to: Path, approvals: Sequence[Approval] = ()) -> list[Path]:
    """Write the page as PDF and HTML, named after the seal; the same seal and signatures give the same bytes.

    Args:
        sealed: The sealed criteria.
        cases: The sealed questions.
        to: The folder to write into; made where absent.
        approvals: Electronic signatures under the seal; all other approvers get a box to sign in.

    Raises:
        RunError: The folder cannot be written.
    """
    values = _values(sealed, cases, {approval.name: approval for approval in approvals})
    written: dict[str, str | bytes] = {".pdf": pdf("agreement.typ", values), ".html": page("agreement.html", s=values)}
    paths = [to / f"判定基準書-{sealed.sha256[:12]}{suffix}" for suffix in written]
    for path, content in zip(paths, written.values(), strict=True):
        write_atomically(path, content)
    return paths


def _values(sealed: Seal, cases: Sequence[Case], signed: Mapping[str, Approval]) -> dict[str, Any]:
    """Return all that the page shows: texts, and pairs of name and text."""
    agreed = sealed.criteria
    kpis = sorted(agreed.kpis, key=lambda kpi: [*ROLES].index(kpi.role))
    lines = [KpiResult(kpi, sum(map(METRICS[kpi.metric].applies, cases)), 0, 0, 0, None, None, "") for kpi in kpis[:_ROWS]]
    room = _REASONS // max(1, len(lines))
    boxes = list(dict.fromkeys(agreed.approvers))
    values: dict[str, Any] = {
        "title": _cut(agreed.title, 50),
        "hypothesis": _cut(agreed.hypothesis, 120),
        "short": sealed.sha256[:12],
        "amended": f"前の基準（{sealed.parent[:12]}…）からの変更です。" if sealed.parent else "",
        "facts": [
            ("用途", SCOPES[agreed.scope]),
            ("責任者", _cut(agreed.owner, 24) or "未記入"),
            ("質問", f"{agreed.cases_count:,}問"),
            ("封印", f"{wording.moment(sealed.at, 'ja')}、台帳{sealed.sequence}行目"),
        ],
        "kpis": [
            (ROLES[r.kpi.role], _cut(r.kpi.label, 26), wording.bar(r, "ja"), f"{r.n:,}問", _cut(r.kpi.reason, room))
            for r in lines
        ],
        "rules": _rules(agreed),
        "sealed": [
            ("候補のモデル", _cut(agreed.model, 64) or "指定なし"), ("採点するモデル", _cut(agreed.judge, 64) or "なし"), ("質問", agreed.cases_sha256), ("指標の計算方法", agreed.metrics_sha256),
            ("プロンプト", agreed.prompts_sha256 or "指定なし"), ("単価表", agreed.prices_sha256 or "指定なし"),
            ("改定前の封印", sealed.parent or "なし"), ("この封印", sealed.sha256),
        ],
        "boxes": [_box(name, signed.get(name)) for name in boxes[:_BOXES]],
    }  # fmt: skip
    left_out = len(kpis) > _ROWS or len(boxes) > _BOXES
    return values | {"note": _CUT if left_out or '…"' in json.dumps(values, ensure_ascii=False) else ""}


def _rules(agreed: Criteria) -> list[tuple[str, str]]:
    """Say in words how is decided, and when one gives up."""
    exits = [
        agreed.deadline and f"期限（{agreed.deadline}）を過ぎた",
        agreed.budget_yen and f"変動費の合計が{quantity([agreed.budget_yen], 'yen', 'ja')}を超えた",
        agreed.safety_hits >= 0 and f"示してはならない内容を含む回答が{agreed.safety_hits}件を超えた",
        agreed.scope != "demonstration" and "最後の回でも決着しない",
    ]
    lost = quantity([agreed.error_budget], "share", "ja", digits=",.10g")
    wrong = quantity([agreed.alpha], "share", "ja", digits=",.10g")
    return [
        ("GO", "「判定」の指標がすべて、区間の不利な端でも基準を満たし、「安全条件」も守られたとき。"),
        ("NO-GO", "区間の有利な端でも基準を満たさない「判定」の指標があるか、撤退の条件に当たるとき。"),
        ("EXTEND", "上のどちらでもないとき。理由と、決着に必要な質問数を示す。"),
        ("誤って GO となる確率", f"実力が基準に届かない候補に GO が出る確率は、全部の回を合わせても {wrong}以下（片側）。"),
        ("実行できない質問", f"失敗も分母に残す。基盤の障害・採点の失敗・未実行が {lost}を超えた実行からは、GO を出さない。"),
        ("測る回数", _looks(agreed)),
        ("撤退（NO-GO）の条件", "／".join(text for text in exits if text) or "定めなし"),
        ("GO のあと", _cut("／".join(f"{STAGES.get(name, name)}: {text}" for name, text in agreed.scale_up), 120) or "定めなし"),
    ]


def _looks(agreed: Criteria) -> str:
    if agreed.scope == "demonstration":
        return "定めない。同じ質問で何度でも測れるが、新しい証拠とは数えない。"
    each = f"{agreed.per_look:,}問" if agreed.per_look else "未使用の質問すべて"
    shares = "、".join(f"第{look}回 {alpha:.2%}" for look, alpha in enumerate(spend(agreed.alpha, agreed.looks), 1))
    return f"{agreed.looks}回まで、毎回まだ使っていない質問で（1回 {each}）。各回に割り当てる誤りの確率は、{shares}。"


def _box(name: str, approval: Approval | None) -> dict[str, Any]:
    key, at = (approval.key, wording.moment(approval.at, "ja").split(" ")[0]) if approval else ("", "")
    return {"name": _cut(name, 14), "key": [key[:32], key[32:]] if key else [], "at": at}


def _cut(text: str, room: int) -> str:
    """Return a text in one line, as much of it as there is room for."""
    line = " ".join(plain(text, None).split())
    return line if len(line) <= room else line[: room - 1] + "…"
