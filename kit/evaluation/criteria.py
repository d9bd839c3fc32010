"""``criteria.yaml``: the agreed go/no-go criteria, checked before they are sealed.

Criteria that can never lead to GO, or that say nothing, are refused here: after sealing it is too late to notice.
Everything that is wrong is told at once, by key and line.
"""

import hashlib
import math
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from kit import settings
from kit.evaluation import metrics
from kit.evaluation.cases import cases_sha256, question_hashes, read_cases, refuse_if_wrong
from kit.evaluation.designs import LOOKS, spend
from kit.evaluation.metrics import METRICS, Metric
from kit.evaluation.sheets import Problems, read_text, suggestion, unreadable
from kit.prices import METERING, read_prices
from kit.records import Case, Criteria, Kpi
from kit.trust.durable import canonical

KEYS = (
    "title", "hypothesis", "scope", "owner", "approvers", "cases", "model", "judge", "alpha", "error_budget", "looks", "per_look",
    "deadline", "budget_yen", "safety_hits", "scale_up", "monthly_questions", "minutes_per_question", "kpis",
)  # fmt: skip
SCOPES = ("demonstration", "internal", "commercial")
SCALE_UP = ("stage", "kpi", "budget")
KPI_KEYS = ("metric", "role", "bar", "reason", "label")
ROLES = {"gate": (0.001, 0.999), "guardrail": (0.001, 0.5), "info": (0.0, 1.0)}
"""Role → the lowest and the highest bar of a share; beyond them a gate would always or never be passed."""
MOST_GATES = 5
"""More gate KPIs than this cost so much power that GO becomes a matter of luck."""
_SLOWEST_S = 600
"""Nobody waits longer for an answer: a bar above it is one in milliseconds, which everything would pass."""


class _Mapping:
    """A YAML mapping of known keys with their lines; what is wrong goes into ``problems``."""

    def __init__(self, node: yaml.Node | None, known: Sequence[str], problems: Problems, prefix: str = "") -> None:
        self.problems, self.prefix = problems, prefix
        self.nodes: dict[str, yaml.Node] = {}
        self.lines = {"": _line(node)}
        if not isinstance(node, yaml.MappingNode):
            self.say("", "「項目: 値」の形で書きます（コロンは半角で、後ろに空白を入れます）。")
            return
        for key_node, value_node in node.value:
            key = str(key_node.value)
            self.lines[key] = _line(key_node)
            if key not in known:
                self.say(key, f"知らない項目です。{suggestion(key, known)}")
            elif key in self.nodes:
                self.say(key, "同じ項目が2回あります。")
            self.nodes[key] = value_node

    def say(self, key: str, what: str) -> None:
        """Note what is wrong at a key."""
        name = f"「{self.prefix}{key}」".replace(".」", "」").replace("「」", "")
        line = self.lines.get(key, self.lines[""])
        self.problems.append((line, f"{line}行目{name}: {what}"))

    def text(self, key: str, *, required: bool = False) -> str:
        """Return a text; numbers and dates are taken as they stand."""
        node = self.nodes.get(key)
        if node and not isinstance(node, yaml.ScalarNode):
            self.say(key, '文字列で書きます。必要なら "" で囲んでください。')
            return ""
        text = str(node.value).strip() if node else ""
        if required and not text:
            self.say(key, "空です。必ず書く項目です。")
        return text

    def number(self, key: str, default: str, low: float, high: float) -> float:
        """Return a number within low–high; NaN where it is none."""
        text = self.text(key) or default
        try:
            value = float(text)
        except ValueError:
            self.say(key, f"数値で書きます{'（例: 70% は 0.70）' if high <= 1 else ''}。今の値: {text or 'なし'}")
            return math.nan
        if not low <= value <= high:
            example = "（70% は 0.70）" if high <= 1 else ""
            self.say(key, f"{text} は使えません。{low:g} から {high:.10g} の数値で書きます{example}。")
        return value

    def count(self, key: str, default: str, low: int, high: int) -> int:
        """Return a whole number within low–high; ``low`` where it is none."""
        value = self.number(key, default, low, high)
        if not math.isnan(value) and value != int(value):
            self.say(key, f"{self.text(key)} は使えません。整数で書きます。")
        return low if math.isnan(value) else int(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; a single text counts as a list of one."""
        node = self.nodes.get(key)
        if not isinstance(node, yaml.SequenceNode):
            return tuple(filter(None, [self.text(key)]))
        if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
            self.say(key, "文字列のリストで書きます（例: [部長, 室長]）。")
        return tuple(str(item.value).strip() for item in node.value)


def read_criteria(path: str | Path) -> Criteria:
    """Read and check the criteria and the questions they name.

    Args:
        path: ``criteria.yaml``; the file under ``cases`` is taken relative to it.

    Raises:
        DataError: A file cannot be read, something in the criteria or the questions is wrong, or the questions are too
            few for the bars.
    """
    file = Path(path)
    problems: Problems = []
    text = read_text(file)
    top = _Mapping(_compose(file, text), KEYS, problems)
    kpis = _kpis(top)
    scope, looks = top.text("scope") or SCOPES[0], top.count("looks", "1", 1, LOOKS)
    if scope not in SCOPES:
        top.say("scope", f"「{scope}」は使えません。社内で使うなら internal、商用なら commercial と書きます。")
    elif scope == SCOPES[0] and looks > 1:
        top.say("looks", "デモ（scope: demonstration）では、判定を重ねられません。scope を internal か commercial にします。")
    agreed: dict[str, Any] = {
        "scope": scope,
        "looks": looks,
        "per_look": top.count("per_look", "0", 0, 1_000_000),
        "budget_yen": top.number("budget_yen", "0", 0, 1e12),
        "safety_hits": top.count("safety_hits", "-1", -1, 1_000_000),
        "scale_up": _scale_up(top),
        "model": top.text("model"),
        "judge": top.text("judge"),
        "title": top.text("title", required=True),
        "hypothesis": top.text("hypothesis"),
        "owner": top.text("owner"),
        "approvers": top.texts("approvers"),
        "cases_name": top.text("cases", required=True),
        "alpha": top.number("alpha", "0.05", 0.001, 0.2),
        "error_budget": top.number("error_budget", "0.05", 0, 0.5),
        "deadline": _deadline(top),
        "monthly_questions": top.number("monthly_questions", "0", 0, 1e9),
        "minutes_per_question": top.number("minutes_per_question", "0", 0, 1440),
    }
    refuse_if_wrong(file, problems)
    questions = file.parent / agreed["cases_name"]
    cases = read_cases(questions)
    last = spend(agreed["alpha"], looks)[-1]
    for kpi, entry in kpis:
        _check_reachable(kpi, entry, cases, last)
    if 0 < len(cases) < agreed["per_look"]:
        top.say("per_look", f"1回の判定に {agreed['per_look']} 問を使う約束ですが、質問は {len(cases)} 問しかありません。")
    cause = "質問が少なすぎて、最良の結果でも基準を満たすと言い切れないか、質問の正解・根拠文書の欄が空のままです。"
    refuse_if_wrong(file, problems, cause, questions)
    return Criteria(
        kpis=tuple(kpi for kpi, _ in kpis),
        text=text,
        cases_sha256=cases_sha256(cases),
        cases_count=len(cases),
        questions=question_hashes(cases),
        metrics_sha256=metrics.code_sha256(),
        prompts_sha256=prompts_sha256(),
        prices_sha256=prices_sha256(),
        **agreed,
    )


def prompts_sha256() -> str:
    """Return the hash of all prompts that readers and judge are asked by."""
    folders = [Path(__file__).parents[1] / room / "prompts" for room in ("answering", "evaluation")]
    files = sorted((file for folder in folders for file in folder.glob("*.txt")), key=lambda file: file.name)
    return hashlib.sha256(b"\0".join(part for file in files for part in (file.name.encode(), file.read_bytes()))).hexdigest()


def prices_sha256() -> str:
    """Return the hash of what the price table in force says of metering; a plan's assumptions may change after the seal."""
    path = settings.load().prices
    if not path.is_file():
        return hashlib.sha256(b"").hexdigest()  # that a table is missing is said where it is read
    prices = read_prices(path)
    said = {"prices": prices.metering, "notes": {name: prices.notes[name] for name in METERING}}
    return hashlib.sha256(canonical(said).encode()).hexdigest()


def cases_path(path: str | Path) -> Path:
    """Return the file of questions that a criteria file names, without reading it.

    Raises:
        DataError: The criteria file cannot be read or names none.
    """
    file = Path(path)
    name = _Mapping(_compose(file, read_text(file)), KEYS, []).text("cases")
    refuse_if_wrong(file, [] if name else [(1, "「cases」: 空です。質問のファイル名（例: 質問表.xlsx）を書きます。")])
    return file.parent / name


def _compose(path: Path, text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        cause = "字下げ、引用符、またはコロン（半角で、後ろに空白）の書き方に誤りがあります。"
        raise unreadable(path, "YAML ファイル", cause, mark.line + 1 if mark else 0) from error


def _line(node: yaml.Node | None) -> int:
    return int(node.start_mark.line) + 1 if node else 1


def _deadline(top: _Mapping) -> str:
    text = top.text("deadline")
    try:
        return text and date.fromisoformat(text).isoformat()
    except ValueError:
        top.say("deadline", f"「{text[:20]}」は日付として読めません。2026-12-31 の形で書くか、空にします。")
        return ""


def _scale_up(top: _Mapping) -> tuple[tuple[str, str], ...]:
    """Read what follows a GO."""
    if "scale_up" not in top.nodes:
        return ()
    entry = _Mapping(top.nodes["scale_up"], SCALE_UP, top.problems, "scale_up.")
    return tuple((key, text) for key in SCALE_UP if (text := entry.text(key)))


def _kpis(top: _Mapping) -> list[tuple[Kpi, _Mapping]]:
    node = top.nodes.get("kpis")
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        top.say("kpis", "KPI を「- metric: …」のリストで1つ以上書きます。")
        return []
    entries = [_Mapping(item, KPI_KEYS, top.problems, f"kpis[{i}].") for i, item in enumerate(node.value, 1)]
    kpis = [(kpi, entry) for entry in entries if (kpi := _kpi(entry))]
    gates = sum(kpi.role == "gate" for kpi, _ in kpis)
    if len(kpis) == len(entries) and not 1 <= gates <= MOST_GATES:
        top.say("kpis", f"判定に使う KPI（role: gate）は 1〜{MOST_GATES} 個にします。今は {gates} 個です。")
    return kpis


def _kpi(entry: _Mapping) -> Kpi | None:
    """Read one KPI; None where it is too wrong to count."""
    if not entry.nodes:
        return None
    name, role = entry.text("metric", required=True), entry.text("role") or "gate"
    metric = METRICS.get(name)
    is_share = metric is not None and metric.kind in ("share", "mean")
    if name and not metric:
        entry.say("metric", f"知らない指標「{name}」です。{suggestion(name, METRICS)}")
    if role not in ROLES:
        entry.say("role", f"知らない役割「{role}」です。{suggestion(role, ROLES)}")
    elif metric and role == "guardrail" and not (is_share and metric.paired):
        entry.say("role", f"「{metric.label}」は guardrail に使えません。比較対象でも測る、割合か平均の指標にするか、role を変えます。")
    reason = entry.text("reason", required=role == "gate")
    low, high = ROLES[role] if is_share and role in ROLES else (0.001, 1e6)
    bar = entry.number("bar", "", low, high)
    if metric and metric.kind == "p95" and _SLOWEST_S < bar <= high:
        entry.say("bar", f"{bar:,.10g}秒＝{bar / 60:,.4g}分です。ミリ秒ではありませんか。秒で、{_SLOWEST_S} 以下の数値で書きます（3秒は 3）。")
    if metric is None or role not in ROLES or math.isnan(bar):
        return None
    return Kpi(name, entry.text("label") or metric.label, bar, reason, role)  # type: ignore[arg-type]


def _check_reachable(kpi: Kpi, entry: _Mapping, cases: Sequence[Case], alpha: float) -> None:
    """Refuse a KPI without questions, and a gate bar that not even a perfect result could be shown to meet."""
    metric = METRICS[kpi.metric]
    n = sum(map(metric.applies, cases))
    needed = max(1, questions_to_show(metric, kpi.bar, alpha) if kpi.role == "gate" else 1)
    if n < needed:
        what = f"「{metric.label}」（基準 {kpi.bar:g}）には、{_kind(metric)}が {needed} 問以上必要です（今は {n} 問）。"
        entry.say("bar", f"{what}質問を足すか、基準を緩めるか、role を info（参考）にするか、この KPI を外します。")


def _kind(metric: Metric) -> str:
    """Say which questions a metric counts."""
    counts = metric.applies(Case("", "", (("",),))), metric.applies(Case("", ""))
    kinds = {(True, True): "質問", (True, False): "答えのある質問", (False, True): "文書に答えのない質問"}
    return kinds.get(counts, "根拠文書を書いた質問")


def questions_to_show(metric: Metric, bar: float, alpha: float) -> int:
    """Return the fewest questions with which a perfect result is past the bar at ``alpha``; 0 where none are needed.

    A share of n out of n, or a mean of n times 1, has the lower bound alpha^(1/n); a 95 % quantile has an upper bound
    once 0.95^n ≤ alpha.
    """
    if metric.kind == "yen_per_right":
        return 0
    base = 0.95 if metric.kind == "p95" else bar if metric.higher_is_better else 1 - bar
    return math.ceil(math.log(alpha) / math.log(base))
