"""The charts of an evaluation, in the one look of ``charts``: form and hatching carry the meaning, colour only helps."""

import math
from typing import Any

from kit.evaluation.comparisons import Pairs, Slice, Slices
from kit.evaluation.failures import LABELS, Causes
from kit.evaluation.metrics import METRICS
from kit.evaluation.monitoring import Trend
from kit.evaluation.planning import Plan, show
from kit.reporting import wording
from kit.reporting.blocks import Chart, Plot
from kit.reporting.charts import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    PERCENT,
    drawable,
    finished,
    house_style,
    name_rows,
    new_axes,
    two_lines,
)
from kit.reporting.wording import Language

_HATCHED = {"edgecolor": "white", "linewidth": 0.8}
_ROW = 0.42  # inches
_LARGEST = 6  # slices of each way to cut


def pairs_chart(compared: Pairs) -> Chart:
    """Draw candidate − baseline with its interval, and beside it how many questions each arm did well on.

    Args:
        compared: What ``kit.compare`` found.
    """
    pairs = compared.pairs
    names = [two_lines(p.result.kpi.label) for p in pairs]
    reach = 1.1 * max((abs(end) for p in pairs for end in (p.result.low, p.result.high)), default=0.1)
    parts = (("両方とも良い", "both", BLUE, ""), ("候補だけ良い", "gained", BLUE, "///"), ("比較対象だけ良い", "lost", ORANGE, "\\\\\\"),
             ("どちらも良くない", "neither", GREY, ""))  # fmt: skip
    with house_style():
        figure, left = new_axes(7.6, _ROW * max(1, len(pairs)) + 1.15, left=0.31, right=0.6, top=0.65, bottom=0.5)
        right = figure.add_axes(left.get_position().translated(0.33, 0).shrunk(1.2, 1))
        for place, p in enumerate(pairs):
            _interval(left, place, p.result.point, p.result.low, p.result.high)
            begin = 0
            for label, name, color, hatch in parts:
                count = getattr(p, name)
                look = {"color": color, "hatch": hatch, **_HATCHED, "label": label if not place else None}
                right.barh(place, count, 0.56, begin, **look)
                if count >= 0.09 * p.result.n:
                    shown = {"color": INK if color == GREY else "white", "ha": "center", "va": "center_baseline", "size": 8.8}
                    back = {"fc": color, "ec": "none", "pad": 1} if hatch else None
                    right.text(begin + count / 2, place, f"{count}", bbox=back, **shown)
                begin += count
        left.axvline(0, color=INK, lw=1.2)
        left.set(title="候補 − 比較対象〔ポイント〕", xlabel="← 比較対象が良い　　候補が良い →", xlim=(-reach, reach))
        left.xaxis.set_major_formatter(lambda value, _: f"{value * 100:+.0f}".replace("-", "−").replace("+0", "0"))
        name_rows(left, names)
        right.set(title="質問の数")
        name_rows(right, [""] * len(names))
        right.xaxis.set_visible(False)
        right.spines["bottom"].set_visible(False)
        if pairs:
            figure.legend(*right.get_legend_handles_labels(), loc="lower right", ncols=2, fontsize=8.8, columnspacing=1.2)
        told = (
            f"{p.result.kpi.label} {_points(p.result.point)}（{_points(p.result.low)}〜{_points(p.result.high)}）、両方とも良い {p.both}・"
            f"候補だけ良い {p.gained}・比較対象だけ良い {p.lost}・どちらも良くない {p.neither} 問"
            for p in pairs
        )
        return finished(figure, f"質問ごとの比較: {'；'.join(told) or '比べるものがありません'}")


def slices_chart(found: Slices) -> Chart:
    """Draw the share of right answers by slice with its interval: the largest of each way to cut, and what differs.

    A square differs from the other questions by more than chance (Holm); a slice of few questions has a wide interval.

    Args:
        found: What ``kit.slices`` found.
    """
    title = "正しく対応できた割合（95%区間）"
    ways: dict[str, list[Slice]] = {}
    for s in found.slices:
        ways.setdefault(s.by, []).append(s)
    slices = [s for way in ways.values() for place, s in enumerate(way) if place < _LARGEST or s.p < 0.05]
    with house_style():
        figure, ax = new_axes(6.6, _ROW * max(1, len(slices)) + 1.15, left=0.36, right=0.95, top=0.35, bottom=0.7)
        for place, s in enumerate(slices):
            _interval(ax, place, s.hits / s.n, s.low, s.high, "s" if s.p < 0.05 else "o", ORANGE if s.p < 0.05 else BLUE)
            if place and slices[place - 1].by != s.by:  # another way to cut the same questions
                ax.axhline(place - 0.5, xmin=-0.6, color=GREY, lw=0.8, clip_on=False)
        left_out = len(found.slices) - len(slices)
        note = "四角: ほかの質問との差が偶然とは言いにくい区分（Holm法、5%）" + f"　描いていない小さな区分: {left_out}" * bool(left_out)
        figure.text(0.02, 0.08 / figure.get_figheight(), note, size=8.8)
        ax.set(xlim=(0, 1), title=title)
        ax.set_xticks(*PERCENT)
        ax.grid(axis="x")
        name_rows(ax, [two_lines(f"{s.name}（{s.n}問）") for s in slices])
        told = (f"{s.name} {s.hits / s.n:.1%}（{s.low:.1%}〜{s.high:.1%}、{s.n}問）" for s in slices)
        return finished(figure, f"区分ごとの{title}: {'；'.join(told) or '区分がありません'}")


def failures_chart(found: Causes) -> Chart:
    """Draw how many answers were wrong by cause, for each arm; the candidate's bars are the filled ones.

    Args:
        found: What ``kit.causes`` found.
    """
    arms = [*dict.fromkeys((*found.counts,)[i] for i in (-1, 0))]
    names = [name for name in LABELS.values() if any(found.counts[arm].get(name) for arm in arms)]
    names.sort(key=lambda name: -found.counts[arms[0]].get(name, 0))
    most = max((count for counts in found.counts.values() for count in counts.values()), default=1)
    with house_style():
        figure, ax = new_axes(6.6, 0.5 * max(1, len(names)) + 0.6, left=0.4, right=0.93, top=0.4, bottom=0.1)
        for at, (arm, called) in enumerate(zip(arms, ("候補", "比較対象"), strict=False)):
            counts = [found.counts[arm].get(name, 0) for name in names]
            look = {"color": ORANGE} if not at else {"color": "white", "hatch": "///", "edgecolor": INK, "linewidth": 0.8}
            bars = ax.barh([place + 0.36 * at - 0.18 for place in range(len(names))], counts, 0.32, label=called, **look)
            ax.bar_label(bars, [f"{count}" for count in counts], padding=4, size=8.8)
        ax.set(title="誤りの原因〔件〕", xlim=(0, 1.1 * most))
        ax.xaxis.set_visible(False)
        ax.spines["bottom"].set_visible(False)
        name_rows(ax, [*map(two_lines, names)])
        figure.legend(*ax.get_legend_handles_labels(), loc="upper right", ncols=2)
        told = (f"{name} 候補 " + "、比較対象 ".join(f"{found.counts[arm].get(name, 0)}件" for arm in arms) for name in names)
        return finished(figure, f"誤りの原因: {'；'.join(told) or '誤りはありません'}")


def operating_chart(planned: Plan) -> Chart:
    """Draw how often each outcome is seen if the truth is so and so: the operating characteristic of up to three KPIs.

    Args:
        planned: What ``kit.plan`` found; a KPI whose chances cannot be known beforehand is left out.
    """
    plans = [plan for plan in planned.kpis if plan.chances and plan.kpi.role == "gate"][:3]
    looks = (("GO", "go", BLUE, "", "white"), ("EXTEND", "extend", PALE, "...", INK), ("NO-GO", "no_go", ORANGE, "///", "white"))
    with house_style():
        figure, first = new_axes(7.6, 3.2, left=0.07, right=0.98, top=0.75, bottom=0.75)
        whole, width = first.get_position(), 1 / max(1, len(plans))
        for number, plan in enumerate(plans):
            ax = figure.add_axes(first.get_position()) if number else first
            ax.set_position(whole.shrunk(width - 0.035, 1).translated(whole.width * width * number, 0))
            begins = [0.0] * len(plan.chances)
            for name, field, color, hatch, ink in looks:
                shares = [getattr(chance, field) for chance in plan.chances]
                edge = {"edgecolor": GREY if name == "EXTEND" else "white", "linewidth": 0.6}
                ax.bar(range(len(shares)), shares, 0.8, begins, color=color, hatch=hatch, label=name, **edge)
                for place, (begin, share) in enumerate(zip(begins, shares, strict=True)):
                    if share >= 0.08:
                        back = {"fc": color, "ec": "none", "pad": 1} if hatch else None
                        at = {"ha": "center", "va": "center_baseline", "size": 7.6, "bbox": back}
                        ax.text(place, begin + share / 2, f"{share * 100:.0f}", color=ink, **at)
                begins = [begin + share for begin, share in zip(begins, shares, strict=True)]
            timed = METRICS[plan.kpi.metric].kind == "p95"  # the truth is the share of answers within the bar
            bar, title = (0.95, f"{plan.kpi.bar:g}秒以内に返る割合") if timed else (plan.kpi.bar, two_lines(plan.kpi.label))
            ax.set(ylim=(0, 1), xlabel="本当の値〔%〕", title=title)
            marked = (f"{c.truth * 100:.3g}" + "\n基準" * (abs(c.truth - bar) < 1e-9) for c in plan.chances)
            ax.set_xticks(range(len(plan.chances)), [*marked], size=8.8)
            ax.set_yticks(PERCENT[0], PERCENT[1] if not number else [])
            ax.tick_params(axis="x", length=0)
        if plans:
            figure.legend(*first.get_legend_handles_labels(), loc="upper right", ncols=3, columnspacing=1.4)
        else:
            first.set_axis_off()
        told = (
            f"{plan.kpi.label} が本当は {show(c.truth)} なら GO {c.go:.0%}・EXTEND {c.extend:.0%}・NO-GO {c.no_go:.0%}"
            for plan in plans for c in plan.chances
        )  # fmt: skip
        return finished(figure, f"本当の値と、1回目の判定の見込み: {'；'.join(told) or '前もって計算できる指標がありません'}")


def trend_chart(found: Trend, *, lang: Language = "ja") -> Chart:
    """Draw the monitor runs over time between their control limits; a run out of control is a square, not a dot.

    Args:
        found: What ``kit.trend`` found.
        lang: The language.
    """
    words, outside_name = wording.words(lang), wording.words(lang)["trend_out"]
    weeks, places = found.weeks, range(len(found.weeks))
    with house_style():
        figure, ax = new_axes(7.2, 2.9, left=0.09, right=0.97, top=0.4, bottom=0.75)
        ax.fill_between(places, [w.low for w in weeks], [w.high for w in weeks], color=PALE, step="mid", lw=0, label=words["quarter_limits"])
        ax.plot(places, [w.share for w in weeks], color=BLUE, lw=1.6, zorder=3)
        for outside, form, color, name in ((False, "o", BLUE, words["trend_value"]), (True, "s", ORANGE, outside_name)):
            at = [place for place in places if weeks[place].outside == outside]
            ax.plot(at, [weeks[place].share for place in at], form, ms=8, color=color, mec="white", zorder=4, label=name)
        ax.set(title=words["trend_chart"].format(name=drawable(found.label)), xlim=(-0.5, max(len(weeks), 1) - 0.5))
        shown = places[:: max(1, -(-len(weeks) // 9))]
        ax.set_xticks(shown, [weeks[place].day[5:10].replace("-", "/") for place in shown])
        ax.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.3g}%".replace("-", "−"))
        ax.grid(axis="y")
        figure.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=3, columnspacing=1.6)
        told = (f"{w.day} {w.share:.1%}{f'（{outside_name}）' if w.outside else ''}" for w in weeks)
        columns = ((words["trend_value"], [w.share for w in weeks]), (f"{words['trend_limits']} −", [w.low for w in weeks]), (f"{words['trend_limits']} +", [w.high for w in weeks]))
        series = tuple((name, tuple(None if math.isnan(value) else value for value in column)) for name, column in columns)
        plot = Plot("lines", tuple(w.day for w in weeks), series, "0.0%", words["trend_value"])
        return finished(figure, f"{words['trend_alt']}: {words['comma'].join(told) or words['trend_empty']}", plot=plot)


def _interval(ax: Any, place: int, point: float, low: float, high: float, form: str = "o", color: str = BLUE) -> None:
    ax.plot([low, high], [place, place], "|-", color=color, lw=3.2, ms=10, mew=2, zorder=4)
    ax.plot(point, place, form, color=color, ms=8, mec="white", mew=1.2, zorder=5, clip_on=False)


def _points(difference: float) -> str:
    return wording.quantity([difference], "points", "ja", signed=True)
