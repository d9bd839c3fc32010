"""Charts as self-contained SVG text: the same look, and the same bytes, in a notebook and in every export.

Form carries the meaning, colour only helps: blue and orange of Okabe and Ito, told apart in grey and by the
colour-blind. Letters are outlines of a font shipped by a package, so that nothing depends on the machine.
"""

import importlib.util
import io
import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from html import escape
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from kit.evaluation.metrics import METRICS
from kit.evaluation.recall import Depth
from kit.knowledge.atlas import CorpusMap
from kit.records import KpiResult, Step
from kit.reporting import wording
from kit.reporting.blocks import Chart, Plot
from kit.reporting.wording import Language

if TYPE_CHECKING:  # it brings the chat client
    from kit.serving.load import LoadTest

BLUE, ORANGE, INK, PALE, SOFT, GREY = "#0072B2", "#D55E00", "#222222", "#E3EEF5", "#5A646E", "#C9CED3"
COLORS = (BLUE, ORANGE, "#00785A", "#AA4E87", "#8A6D00", "#3A7CA5", "#6B6B6B")
TONES = {"GO": "#0B6B4F", "NO-GO": "#9B1C1C", "EXTEND": "#855400"}
_FORMS = tuple(zip("ospD8hX", COLORS, strict=True))
PERCENT = ([0, 0.2, 0.4, 0.6, 0.8, 1.0], ["0", "20", "40", "60", "80", "100%"])
_DEPTH_MARKS = "塗り: 正しく対応\n白抜き: 根拠が検索に出た"
_INVISIBLE = re.compile("[\u200b-\u200d\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]")  # joiners, and which variant of a letter
_STYLE = Path(__file__).parent / "templates" / "chart.mplstyle"


def kpi_chart(results: Sequence[KpiResult], *, lang: Language = "ja") -> Chart | None:
    """Draw the interval of each share against its bar.

    Measures in other units have no scale in common, and guardrails are differences: those are in the table only.

    Args:
        results: The judged KPIs.
        lang: Language of the legend and of standard measure names.

    Returns:
        The chart, or None where no KPI is a share.
    """
    rows = [r for r in results if METRICS[r.kpi.metric].kind in ("share", "judged") and r.kpi.role != "guardrail"]
    if not rows:
        return None
    with house_style():
        figure, ax = new_axes(5.8, 0.37 * len(rows) + 0.72, left=0.4, right=0.955, top=0.4, bottom=0.3)
        for place, result in enumerate(rows):
            _draw_row(ax, place, result, wording.words(lang))
        ax.set(xlim=(0, 1))
        ax.set_xticks(*PERCENT)
        name_rows(ax, [two_lines(wording.label(r, lang)) for r in rows])
        marks = {text: mark for mark, text in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(marks.values(), marks, loc="upper right", ncols=3, handletextpad=0.5, columnspacing=1.4)
        return finished(figure, _alt(rows, lang), plot=_ranges(rows, lang))


def depth_chart(depths: Sequence[Depth], *, title: str = "") -> Chart:
    """Draw accuracy (0–100 %, with bounds) against time per question, one marker form per depth.

    Hollow markers show the share of questions whose evidence was found.

    Args:
        depths: The depths, in the order of the legend.
        title: A line above the chart.
    """
    with house_style():
        figure, ax = new_axes(7.2, 3.6, left=0.1, right=0.76, top=0.4, bottom=0.6)
        for depth, marker in zip(depths, "osD^vP*X" * len(depths), strict=False):
            spread = [[depth.accuracy - depth.low], [depth.high - depth.accuracy]]
            look = {"fmt": marker, "ms": 9, "color": BLUE, "mec": "white", "elinewidth": 2, "capsize": 5}
            ax.errorbar(depth.seconds, depth.accuracy, yerr=spread, label=depth.label, **look)
            found = depth.found / (depth.evidenced or math.nan)
            ax.plot(depth.seconds, found, marker, ms=8, mfc="white", mec=ORANGE, mew=1.8)
        ax.set(xlabel="1問あたりの時間（秒）", ylabel="質問に占める割合", title=title, ylim=(0, 1.02))
        ax.set_xlim(0, 1.15 * max((depth.seconds for depth in depths), default=1.0))
        ax.set_yticks(*PERCENT)
        ax.grid(axis="y")
        if depths:
            ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), alignment="left", title=_DEPTH_MARKS)
        shares = ((d, f"{d.accuracy:.1%}（{d.low:.1%}〜{d.high:.1%}）、根拠 {d.found}/{d.evidenced}問") for d in depths)
        return finished(figure, "正しさと時間: " + "／".join(f"{d.label} {text}、{d.seconds:.3f}秒" for d, text in shares))


def load_chart(test: "LoadTest") -> Chart:
    """Draw a load test against the number of requests at once: tokens per second, and the time to the first token.

    The second is drawn from the median (dot) to the 90th percentile (dash); levels without an answer stay empty.

    Args:
        test: What ``kit.load_test`` measured.
    """
    levels, places = test.levels, range(len(test.levels))
    rates = [level.tokens_per_s for level in levels]
    with house_style():
        figure, left = new_axes(7.2, 3.1, left=0.02, right=0.46, top=0.4, bottom=0.9)
        right = figure.add_axes(left.get_position().translated(0.52, 0))
        bars = left.bar(places, rates, 0.6, color=BLUE)
        left.bar_label(bars, [f"{rate:,.0f}" for rate in rates], padding=3)
        for place, level in enumerate(levels):
            median, most = level.ttft.p50 * 1000, level.ttft.p90 * 1000
            right.plot([place, place], [median, most], color=ORANGE, lw=2.4)
            right.plot(place, most, "_", color=ORANGE, ms=12, mew=2.4)
            right.plot(place, median, "o", color=ORANGE, ms=9, mec="white", zorder=4)
        left.set(title="生成の速さ〔トークン/秒、全体〕", ylim=(0, 1.15 * max(rates, default=0) or 1))
        left.yaxis.set_visible(False)
        left.spines["left"].set_visible(False)
        right.set(title="最初の文字までの時間〔ミリ秒〕", ylim=(0, None))
        right.grid(axis="y", lw=0.6)
        right.yaxis.set_major_formatter("{x:,g}")
        for ax in (left, right):
            ax.set(xlabel="同時の件数", xlim=(-0.6, len(levels) - 0.4))
            ax.set_xticks(places, [f"{level.concurrency}" for level in levels])
            ax.tick_params(axis="x", length=0)
        figure.text(0.02, 0.035, f"右の図: 丸は中央値、横線は90%点\n{test.scope}", size=8.8, linespacing=1.5)
        told = (f"{p.concurrency} 件で {p.tokens_per_s:,.0f} トークン/秒、最初の文字まで {p.ttft} ミリ秒" for p in levels)
        return finished(figure, f"同時の件数と速さ（時間は中央値／90%点／99%点）: {'；'.join(told)}")


def map_chart(found: CorpusMap) -> Chart:
    """Draw the map of a store: a dot for each document, formed by its top folder, and the strongest words of each group.

    Args:
        found: What ``kit.corpus_map`` laid out.
    """
    folders = [folder for folder, _ in Counter(dot.folder for dot in found.dots).most_common()]
    forms = {folder: min(place, len(_FORMS) - 1) for place, folder in enumerate(folders)}
    lines = ["番号: 言葉の似たまとまり"]
    for number, words in enumerate(found.groups, 1):
        lines += textwrap.wrap(f"{number}: {drawable('・'.join(words))}", 19, subsequent_indent="　")
    size = min(12, max(5, 110 / math.sqrt(len(found.dots) or 1)))
    legend = 0.45 + 0.24 * len(set(forms.values()))
    height = max(4.0, legend + 0.22 * len(lines) + 0.6)
    with house_style():
        figure, ax = new_axes(7.2, height, left=0.01, right=0.62, top=0.1, bottom=0.5)
        for form in dict.fromkeys(forms.values()):
            dots = [dot for dot in found.dots if forms[dot.folder] == form]
            marker, color = _FORMS[form]
            name = "そのほか" if form == len(_FORMS) - 1 else two_lines(dots[0].folder) or "（直下）"
            look = {"ms": size, "color": color, "mec": "white", "mew": 0.8, "label": name}
            ax.plot([dot.x for dot in dots], [dot.y for dot in dots], marker, **look)
        for dot in found.dots if size > 8 else ():
            ax.text(dot.x, dot.y, f"{dot.group + 1}", color="white", size=size * 0.66, ha="center", va="center_baseline")
        for group in range(len(found.groups)) if size <= 8 else ():  # too many dots to number each
            x, y = (median(getattr(dot, axis) for dot in found.dots if dot.group == group) for axis in "xy")
            ax.text(x, y, f"{group + 1}", size=17, ha="center", va="center_baseline", bbox={"fc": "white", "ec": "none", "alpha": 0.8})
        ax.margins(0.06)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if folders:
            side = {"loc": "upper left", "alignment": "left", "borderaxespad": 0}
            ax.legend(bbox_to_anchor=(1.03, 1), title="形と色: フォルダ", markerscale=9 / size, **side)
        figure.text(0.635, 1 - legend / height, "\n".join(lines), va="top", linespacing=1.5)
        note = "点1つが文書1件。近い文書ほど、使われている言葉が似ています。" if found.dots else "文書が少なく、地図を描けません。"
        others = f"描いていない文書: {found.left_out:,} 件（閲覧者を限ったもの、間引いたもの）" if found.left_out else ""
        figure.text(0.02, 0.08 / height, f"{note}\n{others}".strip(), size=8.8, linespacing=1.5)
        sizes = Counter(dot.group for dot in found.dots)
        told = (f"{'・'.join(words)}（{sizes[group]} 件）" for group, words in enumerate(found.groups))
        return finished(figure, f"文書の地図: {len(found.dots)} 文書、{len(found.groups)} のまとまり。{'、'.join(told)}")


def trace_chart(trace: Sequence[Step]) -> Chart:
    """Draw the steps of an answer as bars on one line of time, one below the other, with what each of them found.

    Args:
        trace: ``Answer.trace``; steps follow each other.
    """
    ends = [*accumulate(step.seconds for step in trace)]
    whole = max(ends, default=0.0) or 1.0
    names = [two_lines(step.name) for step in trace]
    left = 0.04 + 0.02 * max((len(line) for name in names for line in name.split("\n")), default=0)
    with house_style():
        figure, ax = new_axes(7.2, 0.55 * len(trace) + 0.75, left=left, right=0.97, top=0.1, bottom=0.6)
        for place, (step, end) in enumerate(zip(trace, ends, strict=True)):
            width = max(step.seconds, whole / 200)  # the shortest step is seen, too
            ax.barh(place, width, 0.34, end - step.seconds, color=(BLUE, ORANGE)[place % 2], align="edge")
            took = f"{step.seconds * 1000:,.1f} ミリ秒"
            detail = drawable(step.detail)
            ax.text(0, place - 0.06, f"{took}　{detail[:35]}{'…' * (len(detail) > 35)}", va="bottom", size=8.8)
        name_rows(ax, names)
        ax.set(xlim=(0, whole * 1.01), ylim=(len(trace) - 0.45, -0.55), xlabel="質問からの時間〔ミリ秒〕")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value * 1000:,g}")
        told = (f"{n}. {s.name} {s.seconds * 1000:,.1f} ミリ秒" + f"（{s.detail}）" * bool(s.detail) for n, s in enumerate(trace, 1))
        return finished(figure, f"答えまでの道筋: {'→ '.join(told) or '記録なし'}")


def _draw_row(ax: Any, place: int, result: KpiResult, text: dict[str, Any]) -> None:
    """Draw one KPI: the side of the bar that passes, the bar, the interval, the candidate and the baseline."""
    bar = result.kpi.bar
    start, width = (bar, 1 - bar) if METRICS[result.kpi.metric].higher_is_better else (0, bar)
    ax.barh(place, width, 0.62, start, color=PALE, zorder=0)
    ax.plot([result.low, result.high], [place, place], "|-", color=BLUE, lw=3.2, ms=10, mew=2, zorder=4)
    dot = {"lw": 3.2, "ms": 8, "color": BLUE, "mec": "white", "mew": 1.2, "zorder": 5}
    ax.plot(result.point, place, "o-", label=text["chart_value"], clip_on=False, **dot)
    ax.plot(bar, place, "|", label=text["chart_bar"], ms=19, mew=2.2, color=INK, zorder=3)
    if result.baseline is not None:
        diamond = {"ms": 7, "mfc": "white", "mec": ORANGE, "mew": 1.8, "zorder": 6}
        ax.plot(result.baseline, place, "D", label=text["baseline"], clip_on=False, **diamond)


def _ranges(rows: Sequence[KpiResult], lang: Language) -> Plot:
    """Return what the chart draws, as figures."""
    words = wording.words(lang)
    names = ("chart_value", "chart_low", "chart_high", "bar", "baseline")
    values = zip(*((r.point, r.low, r.high, r.kpi.bar, r.baseline) for r in rows), strict=True)
    known = (tuple(v if v is not None and math.isfinite(v) else None for v in column) for column in values)
    labels = tuple(two_lines(wording.label(r, lang)).replace("\n", " " if lang == "en" else "") for r in rows)
    return Plot("ranges", labels, tuple(zip((words[name] for name in names), known, strict=True)), "0%")


def _alt(rows: Sequence[KpiResult], lang: Language) -> str:
    text = wording.words(lang)
    lines = (
        f"{wording.label(r, lang)} {wording.measured(r, r.point, lang)} ({wording.interval(r, lang)}), "
        f"{text['bar']} {wording.bar(r, lang)}"
        for r in rows
    )
    return f"{text['chart_alt']}: {'; '.join(lines)}"


def new_axes(width: float, height: float, *, left: float, right: float, top: float, bottom: float) -> tuple[Any, Any]:
    """Return a figure of a size in inches and its axes; left and right are shares, top and bottom margins inches."""
    from matplotlib.figure import Figure  # not pyplot: no window, no global state, nothing to close

    figure = Figure(figsize=(width, height))
    return figure, figure.add_axes((left, bottom / height, right - left, 1 - (top + bottom) / height))


def name_rows(ax: Any, names: Sequence[str], pad: float = 9) -> None:
    """Let one thing stand in each row, named at its left, the first on top."""
    ax.set(ylim=(max(1, len(names)) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0, pad=pad)
    ax.spines["left"].set_visible(False)


def house_style() -> AbstractContextManager[None]:
    """Set the one look, whatever the user's own matplotlib settings are, and put those back afterwards."""
    from matplotlib import font_manager, style

    if not any(font.name == "IPAexGothic" for font in font_manager.fontManager.ttflist):
        font_manager.fontManager.addfont(font())
    context: AbstractContextManager[None] = style.context(["default", _STYLE])
    return context


@cache
def font() -> Path:
    """Return the font of the package matplotlib-fontja; importing that package would change global settings."""
    spec = importlib.util.find_spec("matplotlib_fontja")
    assert spec and spec.origin, "matplotlib-fontja is in requirements/notebooks.in"
    return Path(spec.origin).parent / "fonts" / "ipaexg.ttf"


@cache
def spare_font() -> Path:
    """Return the font of matplotlib that has signs which the first lacks, as ≤ and ⚠."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _known() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset().union(*(FT2Font(path).get_charmap() for path in (font(), spare_font())))


def drawable(text: str) -> str:
    """Return a text in one line without invisible letters; 〓 stands for a letter that no font of ours has."""
    shown = _INVISIBLE.sub("", " ".join(text.split()))
    return shown.translate({ord(c): "〓" for c in {*shown} if ord(c) not in _known()})


def two_lines(text: str) -> str:
    """Break a label into at most two lines of what fits."""
    shown = drawable(text)
    room = 32 if shown.isascii() else 16
    if len(shown) > 2 * room:
        shown = shown[: 2 * room - 1] + "…"
    even = room if shown.isascii() else max(math.ceil(len(shown) / 2), 8)
    return textwrap.fill(shown, room if len(shown) <= room else even, max_lines=2, placeholder="…")


def finished(figure: Any, alt: str, title: str = "", plot: Plot | None = None) -> Chart:
    """Return the figure as an SVG element without prologue, date, addresses, and comments, which repeat each text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    body = re.sub(r"<!--.*?-->\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", body, count=2).replace("xlink:href", "href").strip()
    return Chart(body.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1), alt, title, plot)
