"""The model server behind the gateway: found again when it was restarted, and never spoken to once it is gone.

Its port may be somebody else's by then, and questions and the key would go there. So each request looks first whether
the very process still lives (40 µs); only when it does not, the state of ``kit serve`` is read anew.
"""

import asyncio
import json
import os
import re
import time
from contextlib import suppress
from functools import partial
from typing import Any

from kit import settings
from kit.errors import KitError, ServerError
from kit.serving import server
from kit.serving.rules import Refused
from kit.serving.wire import look
from kit.trust import egress

_FRESH_S, _ASK_S = 60.0, 5.0  # how long its word on the context holds, and how long that is waited for
_COUNT = re.compile(rb'"((?:prompt|completion)_tokens)"\s*:\s*(\d+)')  # not to be forged: quotes in a text are escaped
Row = dict[str, Any]


class Upstream:
    """The server of ``kit serve``, wherever it runs by now, or another one at an address that stays.

    Attributes:
        first: Where it was found when the gateway opened.

    Args:
        url: The model server; "" takes the one that ``kit.serve`` started. Another one's key: ``KIT_LLM_API_KEY``.

    Raises:
        SettingsError: The URL leads outside and is not named in kit.toml.
        ServerError: No URL was given and no server is running.
    """

    def __init__(self, url: str) -> None:
        self._look = partial(server.at, url) if url else server.running
        self._own = self._look()
        if not (url := url or (self._own.url if self._own else "")):
            raise ServerError(
                "共有するモデルサーバーがありません。",
                "kit serve で起動したサーバーが動いていません。",
                "先に起動してください: kit serve モデルのフォルダ",
            )
        self.first = egress.resolve(url.strip(), settings.load().allowed_hosts)
        self._key = "".join(os.environ.get("KIT_LLM_API_KEY", "").split())
        self._context, self._told = 0, -_FRESH_S

    async def place(self) -> tuple[str, dict[str, str]]:
        """Return its address, without ``/v1``, and the headers with its key.

        Raises:
            Refused: It was started here, and does not run any more.
        """
        if self._own and not self._own._alive():
            found = None
            with suppress(KitError):  # a process that does not end, or kit.toml
                found = await asyncio.to_thread(self._look)  # it clears up after a dead server, which may take a while
            if not found:
                raise Refused(502, "モデルサーバーが動いていません。起動し直すまで（kit serve）、質問できません。")
            self._own = found
        url, key = (self._own.url, self._own.key) if self._own else (self.first.url, self._key)
        return url.rstrip("/").removesuffix("/v1"), {"Authorization": f"Bearer {key}"} if key else {}

    async def context(self, session: Any, base: str, headers: dict[str, str]) -> int:
        """Return the longest conversation in tokens, by its own word where another started it; 0 where it is unknown."""
        if self._own:
            return self._own.context
        if time.monotonic() - self._told > _FRESH_S:
            told = await look(session, f"{base}/v1/models", _ASK_S, headers=headers)
            with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
                models = json.loads(told)["data"]
                self._context = max((int(model.get("max_model_len") or 0) for model in models), default=0)
                self._told = time.monotonic()
        return self._context


def count(content: bytes, row: Row) -> None:
    """Put the numbers of tokens that a reply, or a line of one, tells into its row of usage."""
    for name, number in _COUNT.findall(content):
        row[name.decode()] = int(number)
