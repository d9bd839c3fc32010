"""Strict papermill: parameters are checked before a kernel starts, the output notebook is written atomically.

papermill alone only warns about an unknown parameter, and a mistyped bar would silently run with its default. Plain
papermill works on the same notebooks, without these checks.
"""

import ast
import builtins
import json
import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from tempfile import TemporaryFile
from typing import IO, Any
from uuid import uuid4

from kit import settings
from kit.errors import DataError, KitError, ParameterError, RunError, UnreachableError, reason
from kit.evaluation.sheets import suggestion
from kit.trust.durable import unwritable, write_atomically

_NAMES = {"str": "文字列", "int": "整数", "float": "数値", "bool": "true か false", "list[str]": "文字列のリスト", "list[int]": "整数のリスト"}
"""The types that a parameter may have, and what they are called."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared parameter: ``name: type = default``."""

    name: str
    type: str
    default: Any


def folder() -> Path:
    """Return the folder of the numbered notebooks: under the project's root, else the one of this checkout."""
    own = settings.load().root / "notebooks"
    return own if (own / "00_check.ipynb").is_file() else Path(__file__).parents[2] / "notebooks"


def numbered() -> list[Path]:
    """Return the notebooks 00 to 09 in order, without the copies that JupyterLab's users make beside them."""
    return sorted(path for path in folder().glob("*.ipynb") if re.fullmatch(r"\d\d_[a-z]+", path.stem))


def find(name: str) -> Path:
    """Return a notebook by path, name or number (``05``, ``05_evaluate``).

    Raises:
        DataError: There is none, naming those that exist.
    """
    given = Path(name)
    if given.suffix == ".ipynb" and given.is_file():
        return given
    known = numbered()
    found = [path for path in known if given.stem in (path.stem, path.stem[:2])]
    if found and given.name == name:
        return found[0]
    names = "、".join(path.stem for path in known)
    raise DataError(
        f"ノートブック「{name}」が見つかりません。", "名前の書き間違いか、番号が足りません。", f"次の中から選んでください: {names}"
    )


def parameters(path: Path) -> dict[str, Parameter]:
    """Read the parameters that a notebook declares in its cell tagged ``parameters``.

    Raises:
        DataError: The file is no whole notebook, or a declaration is not ``name: type = literal``.
    """
    import nbformat

    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        nbformat.validate(notebook)
        tagged = ("".join(c["source"]) for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))
        source = next(tagged, "")
        return {found.name: found for found in map(_declared, ast.parse(source).body)}
    except Exception as error:  # nbformat raises anything on a broken file
        raise DataError(
            f"{path} をノートブックとして読み取れません。", f"ファイルの形が崩れているか、parameters セルの書き方に誤りがあります（{_short(error)}）。",
            "JupyterLab で開いて保存し直してください。parameters セルは「名前: 型 = 値  # 説明」の行だけにします。",
        ) from error


def check(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given values if the notebook declares them all with fitting types.

    Raises:
        ParameterError: A name is unknown (the nearest one is offered) or a value has the wrong type.
    """
    declared = parameters(path)
    for name, value in given.items():
        if type(name) is not str or name not in declared:  # a text of another class may say another name when it is written
            why = suggestion(_told(name), declared)
            raise ParameterError(
                f"{path.name} にパラメータ「{_short(_told(name))}」はありません。",
                why if why.startswith("「") else "別のノートブックのパラメータか、名前の書き間違いです。",
                f"使える名前: {'、'.join(declared) or 'なし'}",
            )
        kind = declared[name].type
        if not _fits(value, kind):
            default = declared[name].default
            example = default if kind == "str" else json.dumps(default, ensure_ascii=False)
            raise ParameterError(
                f"{path.name} のパラメータ「{name}」に {_short(_told(value, repr))} は使えません。",
                f"{_NAMES[kind]}で指定するパラメータです（既定値: {_short(example)}）。",
                f"例: -p {name} {quote(example)}",
            )
    return {name: float(value) if declared[name].type == "float" else value for name, value in given.items()}


def parse(path: Path, texts: Mapping[str, str]) -> dict[str, Any]:
    """Turn command-line texts into values of the declared types; what does not fit is left for ``check`` to refuse."""
    values: dict[str, Any] = dict(texts)
    for name, declared in parameters(path).items():
        if name in texts and declared.type != "str":
            with suppress(ValueError):
                values[name] = json.loads(texts[name])
    return values


def read_values(path: Path) -> dict[str, Any]:
    """Read the parameter values of a YAML or JSON file, as papermill's ``-f`` takes it; ``check`` judges them.

    Raises:
        DataError: The file cannot be read, or does not hold names with values.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
        if not isinstance(values, dict):
            raise ValueError("名前: 値 の並びではありません")
        return {str(name): value for name, value in values.items()}
    except OSError as error:
        raise DataError(
            f"パラメータのファイル {path} を読み込めません（{reason(error)}）。", "ファイルの名前か場所が違うか、読む権限がありません。", "場所を確かめて、-f に指定してください。"
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"パラメータのファイル {path} を読み込めません。", f"書き方に誤りがあります（{_short(error)}）。",
            "1行に1つ「名前: 値」の形（YAML）で書いてください。例: project: data/sample",
        ) from error


def run(name: str, output: Path, given: Mapping[str, Any] | None = None) -> Path:
    """Run a notebook with checked parameters and return the path of its output.

    The output is written in one piece, also when a cell fails, so that what happened can be read there.

    Args:
        name: Path, name or number of the notebook.
        output: Where the executed notebook goes.
        given: Parameter values.

    Raises:
        DataError: There is no such notebook, or the file is not a whole one.
        ParameterError: A parameter is unknown or of the wrong type; no kernel was started.
        RunError: A cell failed. A kit error raised in the cell shows its own three lines.
        UnreachableError: A cell found no model server any more.
    """
    path = find(name)
    values = check(path, given or {})
    logging.getLogger("asyncio").addFilter(_no_given_up_cell)
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    running = output.with_name(f".{output.stem}.running.ipynb")  # saved after every cell; a kill leaves only this
    root = settings.load().root
    connection = _runtime_folder() / f"kernel-{uuid4()}.json"  # the sockets lie beside it
    told = TemporaryFile()  # noqa: SIM115 - closed below, after the last error has read it
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        execute_notebook(
            path, running, values, progress_bar=False, kernel_name="python3", language="python",
            cwd=path.parent if settings.find_root(path.parent) == root else root,  # cells find the same settings
            config=Config({"KernelManager": {"transport": kernel_transport(), "connection_file": str(connection)}}),
            kernel_manager_class=_kernel(told),
            coalesce_streams=True,  # a text that came in pieces is read as one
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # else Ctrl-C shows the kernel's own traceback
        )
    except PapermillExecutionError as error:
        raise _failed(path, output, error) from error
    except OSError as error:
        raise unwritable(output, error) from error
    except DeadKernelError as error:
        told.seek(0)
        words = _short(told.read().decode(errors="replace"))
        raise RunError(
            f"{path.stem}: 計算の途中でカーネルが止まりました。",
            "メモリーが足りないか、外から止められました。" + (f"カーネルの最後の出力: {words}" if words else ""),
            "ほかのプログラムを閉じて、同じコマンドをもう一度実行してください。記録済みの結果から再開します。",
        ) from error
    finally:
        if running.exists():
            write_atomically(output, running.read_bytes())
            running.unlink()
        told.close()
    return output


def _kernel(told: IO[bytes]) -> type:
    """Return the class of a kernel whose process writes what no cell printed to a file instead of the terminal.

    libzmq now and then aborts a kernel that is shutting down, with every result delivered: "Assertion failed" is no
    news for whom the decision is one line.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Kernel(AsyncKernelManager):
        def start_kernel(self, **kwargs: Any) -> Any:
            return super().start_kernel(stderr=told, **kwargs)

    return Kernel


def _no_given_up_cell(record: logging.LogRecord) -> bool:
    """After Ctrl-C the cell that nobody waits for any more may still notice that its kernel is gone: no news."""
    return "coro=<NotebookClient." not in record.getMessage()


def kernel_transport() -> str:
    """Return how to talk to kernels: through sockets in a folder of this user, not TCP ports anyone here can reach.

    A socket's path may have 107 bytes at most: where the home folder's name is too long, TCP on loopback remains.
    """
    longest = _runtime_folder() / "kernel-00000000-0000-0000-0000-000000000000-ipc-00000"
    return "ipc" if len(os.fsencode(longest)) <= 107 else "tcp"


def _runtime_folder() -> Path:
    """Return the folder of Jupyter's connection files, made where this user never ran Jupyter before."""
    from jupyter_core.paths import jupyter_runtime_dir

    folder = Path(jupyter_runtime_dir())
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _failed(path: Path, output: Path, error: Any) -> KitError:
    """Turn a failed cell into three lines: the cell's own where it raised a kit error."""
    if own := re.fullmatch(r"(.+)\n考えられる原因: (.+)\n次にすること: (.+)", str(error.evalue), re.DOTALL):
        kind = UnreachableError if error.ename == UnreachableError.__name__ else RunError
        return kind(f"{path.stem}: {own[1]}", own[2], own[3])
    return RunError(
        f"{path.name} のセル [{error.exec_count}] で想定外のエラーが起きました（{error.ename}: {_short(error.evalue)}）。",
        "環境の問題か、キットの不具合です。", f"{output} を開くと、止まったセルと詳細が見られます。",
    )


def _declared(node: ast.stmt) -> Parameter:
    """Read one ``name: type = literal`` line."""
    match node:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=ast.expr() as value):
            if ast.unparse(kind) in _NAMES:
                return Parameter(name, ast.unparse(kind), ast.literal_eval(value))
    raise ValueError(f"{node.lineno} 行目")


def _short(text: object) -> str:
    """Return a text as one line of at most 200 letters."""
    return " ".join(str(text).split())[:200]


def _told(value: object, how: Callable[[object], str] = str) -> str:
    """Return a value as text; where it will not be one, the name of its type."""
    try:
        return how(value)
    except Exception:  # a class of the caller's may raise anything; a whole number of 5,000 digits a ValueError
        return type(value).__name__


def _fits(value: Any, kind: str) -> bool:
    """Whether a value is of a type itself: papermill writes what merely calls itself ``str`` into the cell as code."""
    if kind.startswith("list["):
        return type(value) is list and all(_fits(item, kind[5:-1]) for item in value)
    if type(value) is int:  # 64 bits: beyond 4,300 digits Python neither writes nor reads one
        return kind in ("int", "float") and abs(value) < 2**63
    return type(value) is getattr(builtins, kind) and (kind != "float" or math.isfinite(value))
