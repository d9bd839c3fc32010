"""Sovereign AI notebook kit: find out on your own premises whether a Japanese AI is worth the money.

Importing the kit sets every offline switch first. The whole public surface is listed in ``__init__.pyi``; each name is
loaded from its room when it is first used, so that ``import kit`` stays fast.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

from kit import settings

settings.go_offline()

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOMES = {alias.name: str(node.module) for node in _STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names}
__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
