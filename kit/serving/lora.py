"""LoRA adapters of a running server: load, unload, list, under names that say what is in them.

A name ends in the hash of the adapter's content, so that a result can be traced to the weights that gave it. vLLM reads
from the kit's own copy, which is made first and checked and hashed after: what is loaded is what was hashed.
"""

import json
import re
import shutil
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from kit import settings
from kit.errors import DataError, ServerError, reason
from kit.serving import logs, preflight
from kit.trust import checksums, durable

if TYPE_CHECKING:
    from kit.serving.server import Server

LOADS = 7
"""How many times one server takes an adapter, those counted that were unloaded again: vLLM 0.32 keeps those, too.

Past that it would put adapters out and read them again at a request, unchecked; a file that is missing then ends it. And
its CPU build computes what is asked of the base model, where that shares a batch with an adapter, with the adapter in
the last place (index -1): one place more than loads stays empty, and so adds nothing."""
_DIGITS = 12


def options(*, on_card: bool) -> list[str]:
    """Return what vLLM is started with so that adapters can be loaded.

    Args:
        on_card: Whether a card computes: its kernels do not mix, and each place takes memory of the card.
    """
    places = ["--max-loras", "2" if on_card else str(LOADS + 1), "--max-cpu-loras", str(LOADS + 1)]
    return ["--enable-lora", "--max-lora-rank", str(preflight.MAX_RANK), *places]


def load(server: "Server", folder: str | Path) -> str:
    """Load an adapter; one that is loaded already stays as it is.

    Args:
        server: A server that was started with ``adapters=True``.
        folder: An adapter as ``peft`` saves it, relative to the working folder or to that of kit.toml.

    Returns:
        The name to ask for: the folder's name and a hash of the adapter's content. The same content keeps the name
        that it got first, whatever its folder is called later.

    Raises:
        DataError: The adapter is refused (see ``preflight.check_adapter``), or the kit's copy of it was changed.
        ServerError: The server takes no adapters, has taken its ``LOADS``, refuses this one, or does not answer.
    """
    if not server.adapters:
        raise ServerError(
            "このモデルサーバーにはアダプターを読み込めません。", "アダプターを使わない設定で起動しています。",
            f'起動し直してください: kit stop のあと kit.serve("{server.folder}", adapters=True)',
        )
    found = preflight.folder_of(folder, settings.load().root)
    home = server.log.with_name("adapters")
    with durable.JsonLines(home / "loads.jsonl") as loads:  # one at a time, from whatever process
        copy = _keep(found, home, server.folder)
        name = copy.name
        if name in names(server):
            return name
        life = {"pid": server.pid, "started": server.started}
        if sum(life.items() <= record.items() for record in loads.records) >= LOADS:
            raise ServerError(
                f"このモデルサーバーには、アダプターをもう読み込めません（上限は {LOADS} 回）。",
                "外したアダプターも、サーバーを止めるまではメモリーに残るため、回数に数えます。",
                f'起動し直してください: kit stop のあと kit.serve("{server.folder}", adapters=True)',
            )
        loads.append({**life, "name": name, "folder": str(found), "sha256": _digest(copy)})
        _ask(server, "/load_lora_adapter", {"lora_name": name, "lora_path": str(copy)})
    return name


def unload(server: "Server", name: str) -> None:
    """Take an adapter out: from now on its name is unknown. The kit's copy stays, for results that name it.

    Raises:
        ServerError: No such adapter is loaded, or the server does not answer.
    """
    if name not in (loaded := names(server)):
        raise ServerError(
            f"アダプター「{name}」は読み込まれていません。", "名前の書き間違いか、もう外してあります。",
            f"読み込まれているもの: {'、'.join(loaded) or 'なし'}",
        )
    _ask(server, "/unload_lora_adapter", {"lora_name": name})


def names(server: "Server") -> tuple[str, ...]:
    """Return the names of the adapters that are loaded, in the order of loading."""
    served = json.loads(_ask(server, "/models"))["data"]
    return tuple(entry["id"] for entry in served if entry.get("parent"))


def _keep(folder: Path, home: Path, base: Path) -> Path:
    """Return the kit's own copy, whose name says its content; make it where there is none."""
    preflight.check_adapter(folder, base)
    fresh = home / ".new"
    shutil.rmtree(fresh, ignore_errors=True)  # of one who was killed here
    try:
        fresh.mkdir()
        for file in preflight.ADAPTER_FILES:
            Path(shutil.copyfile(folder / file, fresh / file)).chmod(0o400)
        preflight.check_adapter(fresh, base)  # again: the folder may have changed since, the copy cannot
        digest = _digest(fresh)
        if not (copy := next(home.glob(f"*-{digest[:_DIGITS]}"), None)):
            plain = unicodedata.normalize("NFKC", folder.name)
            readable = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:40] or "adapter"
            copy = fresh.rename(home / f"{readable}-{digest[:_DIGITS]}")
    except OSError as error:
        raise DataError(
            f"アダプター {folder} を {home} に保管できません（{reason(error)}）。",
            "ディスクの空きがないか、読み書きの権限がありません。", "空き容量と権限を確かめて、もう一度読み込んでください。",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if _digest(copy) != digest:
        raise DataError(
            f"保管してあるアダプター {copy.name} の中身が、名前と合いません。", "壊れたか、書き換えられています。",
            f"元のアダプターが正しいことを確かめてから、消して読み込み直してください: rm -rf '{copy}'",
        )
    return copy


def _digest(folder: Path) -> str:
    files = {name: checksums.sha256(folder / name) for name in preflight.ADAPTER_FILES if (folder / name).is_file()}
    return durable.digest_of(files)


def _ask(server: "Server", path: str, body: dict[str, str] | None = None) -> str:
    status, said = server._call(path, body)
    if status == 200:
        return said
    if ended := server.failure():
        raise ended
    known = next(entry for entry in logs.KNOWN["adapter"] if re.search(entry["pattern"], said))
    what, remedy = f"モデルサーバーがアダプターの操作を断りました（{said[:600]}）。", known["remedy"].format(log=server.log)
    raise ServerError(what, known["cause"], remedy)
