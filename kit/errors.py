"""The error tree: every failure a user can meet tells three things in Japanese.

KitError
├── SettingsError      kit.toml or an environment variable is wrong
├── DataError          a file, sheet, row or question the user supplied is wrong
├── StoreError         the RAG store cannot be opened, written or searched
├── ServerError        the model server cannot be reached or answers wrongly
│   ├── UnreachableError  nobody answers at its address: no question can be asked, and none gets an end state
│   ├── SwappedError      another model answered: what was measured before and after cannot be mixed
│   └── ChatError      one reply could not be had, with the end state it gives the sample (kit.serving.chat)
├── ParameterError     a notebook parameter is unknown or of the wrong type
├── SealError          criteria were changed, or not sealed before the first sample
├── LedgerError        the hash chain of the ledger is broken
└── RunError           a run could not be finished

This module raises nothing itself and imports nothing of the kit: it is the ground that all rooms stand on.
"""

import errno

_REASONS = {
    errno.ENOENT: "見つかりません", errno.EACCES: "権限がありません", errno.EPERM: "権限がありません",
    errno.ENOSPC: "ディスクの空きがありません", errno.EDQUOT: "割り当てられた容量を使い切りました",
    errno.EROFS: "書き込めない場所です", errno.EISDIR: "フォルダです", errno.ENOTDIR: "フォルダではありません",
    errno.EEXIST: "同じ名前のものがあります", errno.ENAMETOOLONG: "名前が長すぎます",
    errno.ECONNREFUSED: "接続を断られました", errno.ETIMEDOUT: "応答がありません", errno.EHOSTUNREACH: "届きません",
}  # fmt: skip


def reason(error: OSError) -> str:
    """Say in Japanese why the operating system refused; the error's code where there is no word for it."""
    code = error.errno or 0
    return _REASONS.get(code) or errno.errorcode.get(code) or type(error).__name__


class KitError(Exception):
    """A failure with its likely cause and the next step, all in Japanese.

    Args:
        what: What happened, one sentence.
        cause: The likely cause, one sentence.
        remedy: What to do next, if possible a command to paste.
    """

    def __init__(self, what: str, cause: str, remedy: str) -> None:
        self.what = what
        self.cause = cause
        self.remedy = remedy
        super().__init__(what, cause, remedy)

    def __str__(self) -> str:
        return f"{self.what}\n考えられる原因: {self.cause}\n次にすること: {self.remedy}"

    def _render_traceback_(self) -> list[str]:
        """Let Jupyter show only the three lines; papermill still sees the exception and fails the run."""
        return str(self).split("\n")


class SettingsError(KitError):
    """kit.toml or an environment variable is wrong."""


class DataError(KitError):
    """A file, sheet, row or question that the user supplied is wrong."""


class StoreError(KitError):
    """The RAG store cannot be opened, written or searched."""


class ServerError(KitError):
    """The model server cannot be reached or answers wrongly."""


class UnreachableError(ServerError):
    """No connection to the model server could be made, try after try: whatever needs it stops, to go on later."""


class SwappedError(ServerError):
    """Another model answered than the one that was asked before: whatever is measured with it ends here."""


class ParameterError(KitError):
    """A notebook parameter is unknown or of the wrong type."""


class SealError(KitError):
    """Criteria were changed, or were not sealed before the first sample."""


class LedgerError(KitError):
    """The hash chain of the ledger is broken."""


class RunError(KitError):
    """A run could not be finished."""
