"""The summary in files: one writer per format, all of the same ``Summary`` value."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from kit import settings
from kit.errors import KitError, ParameterError, RunError
from kit.prices import Prices, read_prices
from kit.records import Decision
from kit.reporting import wording
from kit.reporting.paper import page, pdf
from kit.reporting.slides import deck
from kit.reporting.spreadsheet import workbook
from kit.reporting.summary import Summary, summarise
from kit.reporting.wording import Language
from kit.trust.durable import write_atomically


def draw_summary(
    decision: Decision | Sequence[Decision], *, lang: Language = "ja", prices: Prices | None = None
) -> Summary:
    """Return what every format of the summary shows.

    Args:
        decision: The decision of a sealed run, or several: the newest leads, the others stand in the overview.
        lang: ``ja`` or ``en``; free text from the criteria stays as it was agreed.
        prices: The price table; by default the one that was in force at the leading run, so that a redrawn summary
            says the same, else the one that the settings name.

    Raises:
        ParameterError: No decision is given.
        SettingsError: The price table cannot be read.
    """
    first, *others = _newest_first(decision)
    kept = first.facts.get("prices")
    return summarise(first, prices or (Prices(**kept) if kept else read_prices(settings.load().prices)), lang, others)


def write_summary(
    decision: Decision | Sequence[Decision],
    *,
    to: str | Path = "",
    formats: Sequence[str] = (),
    lang: Language = "ja",
    prices: Prices | None = None,
) -> list[Path]:
    """Write a summary, one file a format: ``summary.html``; ``summary.en.html`` in English.

    Args:
        decision: One decision or several (see ``draw_summary``).
        to: The folder to write into; made where absent. By default that of the leading run.
        formats: Some of ``FORMATS``; all of them by default.
        lang: ``ja`` or ``en``.
        prices: The price table (see ``draw_summary``).

    Returns:
        The files written, in the order of ``formats``.

    Raises:
        ParameterError: A format or language is unknown.
        SettingsError: The price table cannot be read.
        RunError: The folder cannot be written, or a format cannot be made; the others are written.
    """
    if not {*formats} <= {*FORMATS} or lang not in ("ja", "en"):
        raise ParameterError(
            f"サマリーの形式「{','.join(formats)}」か言語「{lang}」は使えません。",
            f"形式は {'、'.join(FORMATS)}、言語は ja と en です。",
            f"例: kit summary runs/実行フォルダ --formats {','.join(FORMATS)} --lang ja",
        )
    summary = draw_summary(decision, lang=lang, prices=prices)
    leading = _newest_first(decision)[0]
    folder = Path(to or leading.folder)
    writers: dict[str, Callable[[Summary], str | bytes]] = {**_WRITERS, "xlsx": partial(workbook, decision=leading)}
    files = {name: folder / f"summary{'.en' if lang == 'en' else ''}.{name}" for name in dict.fromkeys(formats or FORMATS)}
    failed: dict[str, Exception] = {}
    for name, path in files.items():
        try:
            write_atomically(path, writers[name](summary))
        except Exception as error:  # whatever the library of one format raises, the others are wanted no less
            failed[name] = error
    if failed:
        raise _unwritten(failed, [name for name in files if name not in failed]) from next(iter(failed.values()))
    return [*files.values()]


def _newest_first(decision: Decision | Sequence[Decision]) -> list[Decision]:
    given = [decision] if isinstance(decision, Decision) else decision
    if not given:
        raise ParameterError("サマリーにする実行がありません。", "実行が1つも選ばれていません。", "実行を1つ以上選んでください。")
    once = {(each.folder.resolve(), each.facts["finished"]): each for each in given}  # a run named twice would count twice
    return sorted(once.values(), key=lambda each: str(each.facts["finished"]), reverse=True)


def _unwritten(failed: dict[str, Exception], written: Sequence[str]) -> RunError:
    """Return one error that tells of all formats that failed, and which ones were written."""
    told = [error if isinstance(error, KitError) else _surprise(name, error) for name, error in failed.items()]
    whats, causes, remedies = (" ".join(dict.fromkeys(getattr(error, part) for error in told)) for part in ("what", "cause", "remedy"))
    kept = f"{'、'.join(written)} は書き出しました。" if written else ""
    return RunError(f"サマリーの {'、'.join(failed)} を書き出せませんでした。{whats}{kept}", causes, remedies)


def _surprise(name: str, error: Exception) -> RunError:
    return RunError(
        f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}。", f"{name} を作る部品で、想定外のエラーが起きました。",
        "ほかの形式をお使いください。同じエラーが続くときは、この3行をキットの担当者に伝えてください。",
    )


def html(summary: Summary) -> str:
    """Return the summary as one HTML page that loads nothing."""
    return page("summary.html", s=summary, w=wording.words(summary.lang))


def _markdown(summary: Summary) -> str:
    return page("summary.md", finalize=_escape_markdown, s=summary, w=wording.words(summary.lang))


def _pdf(summary: Summary) -> bytes:
    return pdf("summary.typ", {"s": asdict(summary), "w": wording.words(summary.lang)})


def _escape_markdown(value: object) -> str:
    """Take from a text what Markdown or HTML would read as markup, and its line ends, which would end a table row."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(str(value).split()))


_WRITERS: dict[str, Callable[[Summary], str | bytes]] = {"html": html, "md": _markdown, "pdf": _pdf, "pptx": deck}
FORMATS = (*_WRITERS, "xlsx")
"""The formats of a summary. A workbook also lists what was measured, so it takes the decision, too."""
