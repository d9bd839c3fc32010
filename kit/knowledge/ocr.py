"""Reading pages of pictures by Tesseract, where it and its Japanese data are installed; nothing is downloaded."""

import io
import os
import re
import shutil
import subprocess
from functools import lru_cache
from typing import Any

from kit.knowledge.texts import CJK

_SECONDS = 25
"""Clock time for one page; the worker's own clock is a little longer."""
_DOTS_PER_INCH, _LONGEST_SIDE = 300, 5000
_BETWEEN = re.compile(rf"(?<=[{CJK}（）()]) (?=[{CJK}（）()])")


@lru_cache(maxsize=1)
def is_available() -> bool:
    """Whether Tesseract is installed with ``jpn``."""
    return bool(shutil.which("tesseract")) and "jpn" in _tesseract("--list-langs").decode("utf-8", "replace").split()


def recognise(page: Any) -> list[str]:
    """Return the lines that Tesseract sees on a page of pypdfium2; none where it fails or takes too long."""
    scale = min(_DOTS_PER_INCH / 72, _LONGEST_SIDE / max(page.get_size()))
    image = io.BytesIO()
    page.render(scale=scale, grayscale=True).to_pil().save(image, "PPM")
    text = _tesseract("stdin", "stdout", "-l", "jpn", image=image.getvalue()).decode("utf-8", "replace")
    # It writes a space between any two letters.
    return [_BETWEEN.sub("", line.strip()) for line in text.splitlines() if line.strip()]


def _tesseract(*options: str, image: bytes = b"") -> bytes:
    try:
        environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
        done = subprocess.run(["tesseract", *options], input=image, capture_output=True, timeout=_SECONDS, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return b""
    return done.stdout
