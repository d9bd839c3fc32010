"""The charts of the money, in the one look of ``charts``: hatching, marker and line style carry the meaning."""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from kit.reporting import wording
from kit.reporting.assumptions import PREFIXES, Use
from kit.reporting.blocks import Chart, Kind, Plot
from kit.reporting.charts import BLUE, GREY, INK, ORANGE, finished, house_style, name_rows, new_axes
from kit.reporting.economics import YEARS, Economics, cheaper_now, net_yen, settled_yen
from kit.reporting.wording import Language

GROUPS = ((0, 1), (2, 3), (4,), (5, 6))
"""Kinds of cost (places in ``economics.PARTS``) that are drawn as one."""
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": BLUE}, {"color": "#8FC1DE", "hatch": ".."}, {"color": ORANGE, "hatch": "///"}, {"color": GREY},
)  # fmt: skip
_LINES = (("o", "-", BLUE), ("s", "--", ORANGE), ("D", "-.", "#AA4E87"), ("^", ":", "#00785A"))
_UNITS = {"answered_share": "share", "wrong_share": "share", "monthly_questions": "questions", "audits_per_month": "questions",
          "minutes_per_question": "amount", "measured_minutes": "amount", "adoption_months": "months"}  # fmt: skip


def waterfall_chart(steps: Sequence[tuple[str, float]], total: str, *, title: str = "", lang: Language = "ja") -> Chart:
    """Draw gains and costs as a waterfall in yen that ends in their sum.

    Args:
        steps: Label and amount in yen, costs negative, in the order of drawing.
        total: Label of the sum.
        title: What stands above the chart.
        lang: How the amounts are written.
    """
    names, amounts = zip(*steps, (total, sum(amount for _, amount in steps)), strict=True)
    starts = [0.0, *accumulate(amounts[:-2]), 0.0]
    texts = [wording.quantity([amount], "yen", lang) for amount in amounts]
    with house_style():
        figure, ax = new_axes(5.4, 2.4, left=0.03, right=0.97, top=0.1, bottom=0.55)
        colors = [BLUE if amount >= 0 else ORANGE for amount in amounts[:-1]]
        hatches = ["" if amount >= 0 else "///" for amount in amounts[:-1]]
        bars = ax.bar(range(len(names)), amounts, 0.55, starts, color=[*colors, INK], hatch=[*hatches, ""], edgecolor="white")
        ax.bar_label(bars, texts, padding=3)
        ax.set_xticks(range(len(names)), names)
        ax.use_sticky_edges = False  # leave room above the bars, too
        ax.margins(y=0.12)
        ax.axhline(0, color=INK, lw=0.8)
        ax.yaxis.set_visible(False)
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(axis="x", length=0)
        plain = [name.replace("\n", "" if lang == "ja" else " ") for name in names]
        told = wording.words(lang)["comma"].join(f"{name} {text}" for name, text in zip(plain, texts, strict=True))
        return finished(figure, told, title, _plot("waterfall", plain, [(total, amounts)], lang))


def tco_chart(economics: Economics, lang: Language = "ja") -> Chart:
    """Draw the cost of all years at each place, stacked by kind of cost.

    Args:
        economics: With its places.
        lang: Language of the labels.
    """
    words, places = wording.words(lang), economics.places
    names = [place_name(place.name, lang) for place in places]
    series = [
        (words[f"money_part_{number}"], tuple(sum(year[part] for year in place.parts for part in parts) for place in places))
        for number, parts in enumerate(GROUPS)
    ]
    totals = [wording.quantity([place.total_yen()], "yen", lang) for place in places]
    title = words["money_tco_title"].format(years=YEARS)
    with house_style():
        figure, ax = new_axes(5.4, 0.48 * len(places) + 1.1, left=0.22, right=0.8, top=0.65, bottom=0.35)
        begin = [0.0] * len(places)
        for (label, values), look in zip(series, _LOOKS, strict=True):
            ax.barh(range(len(places)), values, 0.58, begin, label=label, edgecolor="white", linewidth=0.8, **look)
            begin = [at + value for at, value in zip(begin, values, strict=True)]
        for row, (end, total) in enumerate(zip(begin, totals, strict=True)):
            ax.text(end, row, f" {words['money_total'].format(total)}", va="center_baseline")
        name_rows(ax, names, 3.5)
        _money_ticks(ax.xaxis, lang, 4)
        figure.legend(loc="upper left", ncols=2, handletextpad=0.5, columnspacing=1.2)
        told = words["comma"].join(f"{name} {total}" for name, total in zip(names, totals, strict=True))
        return finished(figure, f"{title}: {told}", title, _plot("stacked", names, series, lang))


def breakeven_chart(economics: Economics, use: Use, lang: Language = "ja") -> Chart:
    """Draw the cost of a month at each place over the volume, with the volume assumed and the points of break-even.

    Args:
        economics: With its break-even points.
        use: Its assumptions.
        lang: Language of the labels.
    """
    words, even = wording.words(lang), [volume for _, volume in economics.breakeven if volume]
    most = max(4 * min(even, default=0), 10 * use.monthly_questions)  # of several the nearest: the others would flatten all lines
    volumes = [use.monthly_questions / 10 * (10 * most / use.monthly_questions) ** (step / 60) for step in range(61)]
    lines = [(name, [settled_yen(name, use, volume) / 12 for volume in volumes]) for name in PREFIXES]
    now, title = words["money_now"].format(f"{use.monthly_questions:,.0f}"), words["money_even_chart"]
    with house_style():
        figure, ax = new_axes(5.4, 2.9, left=0.15, right=0.97, top=0.85, bottom=0.55)
        for (name, costs), (marker, style, color) in zip(lines, _LINES, strict=True):
            ax.plot(volumes, costs, style, marker=marker, markevery=10, ms=6, color=color, lw=1.8, mec="white", label=place_name(name, lang))
        top = 1.25 * max(lines[0][1][-1], *(costs[0] for _, costs in lines))
        ax.axvline(use.monthly_questions, color=INK, lw=0.9, ls=(0, (4, 3)))
        ax.text(use.monthly_questions, top, f" {now}", va="bottom", size=8.8)
        for volume in (each for each in even if each <= most):
            height = settled_yen(use.own, use, volume) / 12
            ax.plot(volume, height, "o", ms=12, mfc="none", mec=INK, mew=1.4, zorder=6)
            ax.annotate(wording.quantity([volume], "questions", lang), (volume, height), (0, 11), textcoords="offset points", ha="center")
        ax.set(xscale="log", xlabel=words["money_even_x"], ylim=(0, top), xlim=(volumes[0], volumes[-1]))
        ax.xaxis.set_major_formatter(lambda volume, _: wording.quantity([volume], "questions", lang))
        ax.grid(axis="y")
        _money_ticks(ax.yaxis, lang)
        figure.legend(loc="upper left", ncols=2, handlelength=3.2, columnspacing=1.4)
        axis = (wording.quantity([float(f"{volume:.2g}")], "questions", lang) for volume in volumes[::10])  # few, so that none is torn
        series = ((place_name(name, lang), costs[::10]) for name, costs in lines)
        return finished(figure, f"{title}: {' '.join(even_sentences(economics, use, lang))}", title, _plot("lines", axis, series, lang))


def tornado_chart(economics: Economics, use: Use, lang: Language = "ja") -> Chart:
    """Draw what one assumption at a time does to the net of all years, the largest effect on top.

    Args:
        economics: With its sensitivity.
        use: Its assumptions.
        lang: Language of the labels.
    """
    words, base, effects = wording.words(lang), net_yen(use), economics.sensitivity
    labels = [f"{assumption(effect.field, lang)}\n{_ends(effect.field, effect.ends, lang)}" for effect in effects]
    flat = tuple(label.replace("\n", " ") for label in labels)
    ends = [(words[key], [effect.net_yen[at] for effect in effects]) for at, key in enumerate(("money_at_low", "money_at_high"))]
    title, told = words["money_tornado_title"].format(years=YEARS), wording.quantity([base], "yen", lang)
    with house_style():
        figure, ax = new_axes(5.4, 0.33 * len(effects) + 1.05, left=0.36, right=0.95, top=0.4, bottom=0.6)
        for (name, values), look in zip(ends, ({"color": ORANGE, "hatch": "///"}, {"color": BLUE}), strict=True):
            ax.barh(range(len(effects)), [value - base for value in values], 0.6, base, label=name, edgecolor="white", linewidth=0.8, **look)
        ax.axvline(base, color=INK, lw=1.2)
        ax.set(xlabel=words["money_tornado_x"].format(told))
        name_rows(ax, labels, 3.5)
        _money_ticks(ax.xaxis, lang, 3)
        figure.legend(loc="upper right", ncols=2)
        texts = (f"{label} → {wording.quantity(effect.net_yen, 'yen', lang)}" for label, effect in zip(flat, effects, strict=True))
        return finished(figure, f"{title}: {'; '.join(texts)}", title, _plot("tornado", flat, ends, lang, base))


def place_name(place: str, lang: Language) -> str:
    """Return how a place is called."""
    return str(wording.words(lang)[f"money_place_{place}"])


def assumption(field: str, lang: Language) -> str:
    """Return how an assumption is called; of a place's own the same word serves all places."""
    words = wording.words(lang)
    return str(words.get(f"money_of_{field}") or words[f"money_of_{field.partition('_')[2]}"])


def even_sentences(economics: Economics, use: Use, lang: Language) -> list[str]:
    """Say for each other place from which volume the own one is cheaper."""
    words, now = wording.words(lang), wording.quantity([use.monthly_questions], "questions", lang)
    own = place_name(use.own, lang)
    kinds = {None: "money_even_never", 0.0: "money_even_always"}
    cheaper = {name for name, volume in economics.breakeven if volume is None and cheaper_now(use, use.own, name)}
    return [
        words["money_even_now" if name in cheaper else kinds.get(volume, "money_even_from")].format(
            volume=wording.quantity([volume or 0], "questions", lang), own=own, other=place_name(name, lang), now=now
        )
        for name, volume in economics.breakeven
    ]


def _ends(field: str, ends: tuple[float, float], lang: Language) -> str:
    unit = _UNITS.get(field) or ("hours" if "hours" in field else "yen")
    return wording.quantity(ends, unit, lang)


def _money_ticks(axis: Any, lang: Language, most: int = 5) -> None:
    axis.get_major_locator().set_params(nbins=most)
    axis.set_major_formatter(lambda value, _: wording.quantity([value], "yen", lang))


def _plot(kind: Kind, names: Iterable[str], series: Iterable[tuple[str, Sequence[float]]], lang: Language, base: float = 0.0) -> Plot:
    """Return figures in yen as people read them on an axis: in 万円, or in thousands of yen."""
    unit, axis = (1e4, "万円") if lang == "ja" else (1e3, "thousand yen")
    scaled = tuple((name, tuple(value / unit for value in values)) for name, values in series)
    return Plot(kind, tuple(names), scaled, axis=axis, base=base / unit)
