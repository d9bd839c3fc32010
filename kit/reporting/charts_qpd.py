"""The charts of quality per money and of calibration, in the one look of ``charts``."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kit.evaluation.metrics import METRICS
from kit.evaluation.resampling import Span
from kit.reporting import wording
from kit.reporting.blocks import Chart, Plot
from kit.reporting.charts import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    PERCENT,
    finished,
    house_style,
    new_axes,
    two_lines,
)
from kit.reporting.wording import Language

if TYPE_CHECKING:  # it draws these
    from kit.evaluation.calibration import Bin
    from kit.reporting.qpd import Qpd
    from kit.reporting.quarters import Quarter


def frontier_chart(found: "Qpd", names: Mapping[str, str], lang: Language = "ja") -> Chart:
    """Draw quality against money, one arm a point with both intervals; the filled ones are efficient.

    Args:
        found: What ``qpd`` computed.
        names: Arm → name.
        lang: The language.
    """
    words, share = wording.words(lang), METRICS[found.metric].kind == "share"
    least = min(0.0, *(r.quality.low for r in found.routes))
    most_yen, most = 1.3 * max(r.yen.high for r in found.routes), 1.3 * max(r.quality.high for r in found.routes)
    with house_style():
        figure, ax = new_axes(5.4, 2.7, left=0.13, right=0.97, top=0.2, bottom=0.95)
        for route, form in zip(found.routes, "osD^vP*X" * len(found.routes), strict=False):
            slope = route.qpd.point / 1000
            ax.plot([0, most_yen], [0, slope * most_yen], ":", color=GREY, lw=1.2, zorder=1)
            color = BLUE if route.efficient else ORANGE
            ends = {"xerr": _reach(route.yen), "yerr": _reach(route.quality)}
            look = {"fmt": form, "ms": 9, "color": color, "mec": color, "mfc": color if route.efficient else "white", "mew": 1.8}
            ax.errorbar(route.yen.point, route.quality.point, **ends, **look, elinewidth=2, capsize=5, zorder=4)
            right = route.yen.point > most_yen / 2
            at = {"xytext": (-12 if right else 12, 0), "textcoords": "offset points", "ha": "right" if right else "left"}
            back = {"fc": "white", "ec": "none", "pad": 1.5}
            ax.annotate(two_lines(names[route.arm]), (route.yen[1 if right else 2], route.quality.point), va="center", bbox=back, zorder=3, **at)
        ax.set(xlim=(0, most_yen), ylim=(1.1 * least, min(1.0, most) if share else most), xlabel=words["qpd_chart_yen"], ylabel=words[f"qpd_chart_{found.metric}"])
        if share:
            ax.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.3g}%")
        ax.xaxis.set_major_formatter("{x:,g}")
        figure.text(0.02, 0.03, words["qpd_chart_marks"], size=8.8)
        unit = "share" if share else "amount"
        texts = (f"{names[r.arm]} {told(r.quality, unit, lang)}{words['comma']}{told(r.yen, 'yen', lang)}" for r in found.routes)
        points = [(names[r.arm], r.yen.point, r.quality) for r in found.routes]
        plot = _cloud(points, words["qpd_chart_yen"], words[f"qpd_chart_{found.metric}"], "0%" if share else "0.0")
        return finished(figure, f"{words['qpd_chart']}: {'; '.join(texts)}", words["qpd_chart"], plot)


def quarters_chart(found: Sequence["Quarter"], axis: str, lang: Language = "ja") -> Chart:
    """Draw QPD with its interval by quarter, between the control limits that the quarters before give.

    Args:
        found: What ``quarters`` computed, oldest first.
        axis: What is drawn.
        lang: The language.
    """
    words, places = wording.words(lang), range(len(found))
    with house_style():
        figure, ax = new_axes(5.4, 2.9, left=0.11, right=0.97, top=0.4, bottom=0.95)
        low, high = ([getattr(quarter, end) for quarter in found] for end in ("low", "high"))
        ax.fill_between(places, low, high, color=PALE, step="mid", lw=0, label=words["quarter_limits"])
        ax.plot(places, [quarter.qpd.point for quarter in found], color=BLUE, lw=1.6, zorder=3)
        for outside, form, color, name in ((False, "o", BLUE, "quarter_inside"), (True, "s", ORANGE, "quarter_outside")):
            at = [place for place in places if found[place].outside == outside]
            look = {"fmt": form, "ms": 8, "color": color, "mec": "white", "elinewidth": 2, "capsize": 5, "zorder": 4}
            spans = [found[place].qpd for place in at]
            ax.errorbar(at, [span.point for span in spans], yerr=_reach(*spans), label=words[name] if at else None, **look)
        ax.set(title=axis, xlim=(-0.5, max(len(found), 1) - 0.5), ylim=(0, None))
        ax.set_xticks(places, [words["quarter_short"].format(year=q.year, number=q.number) for q in found])
        ax.yaxis.set_major_formatter("{x:,g}")
        ax.grid(axis="y")
        figure.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=3, columnspacing=1.6)
        names = tuple(words["quarter"].format(year=q.year, number=q.number) for q in found)
        texts = (f"{name} {told(q.qpd, f'qpd_{q.metric}', lang)}" for name, q in zip(names, found, strict=True))
        series = ((axis, tuple(q.qpd.point for q in found)), *(
            (f"{words['quarter_limits']} {end}", tuple(None if math.isnan(v) else v for v in values)) for end, values in (("−", low), ("+", high))
        ))  # fmt: skip
        return finished(figure, f"{axis}: {'; '.join(texts)}", plot=Plot("lines", names, series, "#,##0.00", axis))


def calibration_chart(found: Sequence["Bin"], lang: Language = "ja") -> Chart:
    """Draw how often answers were right against how sure they were: a reliability diagram with exact intervals.

    Args:
        found: What ``reliability`` counted.
        lang: The language.
    """
    words = wording.words(lang)
    with house_style():
        figure, ax = new_axes(4.6, 3.6, left=0.15, right=0.95, top=0.4, bottom=0.6)
        ax.plot([0, 1], [0, 1], "--", color=INK, lw=1, label=words["reliability_line"])
        for b in found:
            ax.errorbar(b.confidence, b.share.point, yerr=_reach(b.share), fmt="o", ms=9, color=BLUE, mec="white", elinewidth=2, capsize=5)
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=words["reliability_x"], ylabel=words["reliability_y"], title=words["reliability_title"])
        ax.set_xticks(*PERCENT)
        ax.set_yticks(*PERCENT)
        ax.legend(loc="upper left")
        names = tuple(words["reliability_bin"].format(confidence=f"{b.confidence:.0%}", n=b.n) for b in found)
        texts = (f"{name} {told(b.share, 'share', lang)}" for name, b in zip(names, found, strict=True))
        points = [(name, b.confidence, b.share) for name, b in zip(names, found, strict=True)]
        plot = _cloud(points, words["reliability_x"], words["reliability_y"], "0%")
        return finished(figure, f"{words['reliability_title']}: {'; '.join(texts)}", plot=plot)


def _cloud(points: Sequence[tuple[str, float, Span]], x: str, y: str, number: str) -> Plot:
    """Return named points as figures: where each stands, and its span upwards."""
    names, *columns = [*zip(*((name, at, *span) for name, at, span in points), strict=True)] or [()] * 5
    return Plot("points", names, tuple(zip((x, y, "low", "high"), columns, strict=True)), number, y)


def _reach(*spans: Span) -> list[list[float]]:
    """Return how far the bounds are below and above the points."""
    return [[max(0.0, s.point - s.low) for s in spans], [max(0.0, s.high - s.point) for s in spans]]


def told(span: Span, unit: str, lang: Language) -> str:
    """Write a value with its interval."""
    return str(wording.words(lang)["qpd_span"].format(wording.quantity([span.point], unit, lang), wording.quantity(span[1:], unit, lang)))
