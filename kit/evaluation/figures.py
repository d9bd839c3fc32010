"""The figures of a KPI in the words of a Japanese reader."""

import math

from kit.evaluation.metrics import Metric


def show(metric: Metric, value: float, *, signed: bool = False) -> str:
    """Write a value as a Japanese reader expects it: shares in percent, times in seconds, money in yen."""
    sign = "+" if signed else ""
    if not math.isfinite(value):
        return "求められません"
    written = {
        "share": f"{value * 100:{sign}.1f}{'ポイント' if signed else '%'}",
        "p95": f"{value:{sign}.2f}秒",
        "judged": f"{value * 100:{sign}.1f}{'ポイント' if signed else '%'}",
        "mean": f"{value:{sign}.3f}",
        "amount": f"{value:{sign},.1f}分",
        "yen_per_right": f"{value:{sign},.2f}円",
    }
    return written[metric.kind].replace("-", "−")
