"""Pages from templates: HTML and Markdown by jinja2, PDF by typst. The same values give the same bytes."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TEMPLATES = Path(__file__).parent / "templates"


def page(template: str, *, finalize: Callable[[object], str] | None = None, **values: Any) -> str:
    """Fill a template of HTML (escaped) or of another text.

    Args:
        template: Name of a file in ``templates/``.
        finalize: What each value goes through before it is written.
        values: What the template names.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=template.endswith(".html"),
        finalize=finalize,
    )
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(**values))


def pdf(template: str, values: Any) -> bytes:
    """Set a PDF without date, in the fonts that the kit's packages bring, whatever fonts the machine has.

    Args:
        template: Name of a ``.typ`` file in ``templates/``; it reads the values by ``json(bytes(sys.inputs.values))``.
        values: Plain JSON values. Their texts stay texts, never markup; 〓 stands for a letter that they lack.
    """
    import typst

    from kit.reporting.charts import drawable, font, spare_font

    def known(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: known(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [known(item) for item in value]
        return drawable(value) if isinstance(value, str) else value

    given = {"values": json.dumps(known(values), ensure_ascii=False)}
    return typst.compile(
        _TEMPLATES / template,
        font_paths=[font().parent, spare_font().parent],
        ignore_system_fonts=True,
        sys_inputs=given,
        pdf_standards=["ua-1"],  # read aloud in the right order: tagged, with alternative texts and a language
    )
