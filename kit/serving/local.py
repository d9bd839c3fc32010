"""The models at hand: which folders there are, and whether one can be started here, before anything is."""

from contextlib import suppress
from pathlib import Path

from kit import settings
from kit.errors import ServerError
from kit.serving import launch, preflight
from kit.trust.check import Checkup, Finding, cards, item


def local_models() -> list[str]:
    """Return the model folders in ``models/`` of the project, as ``kit.serve`` takes them."""
    root = settings.load().root
    return sorted(path.parent.relative_to(root).as_posix() for path in root.glob("models/*/config.json"))


def inspect_model(model: str | Path, *, context: int = 8192, users: int = 4, gpu_fraction: float = 0.9) -> Checkup:
    """Check what ``kit.serve`` would, and estimate the memory; nothing is started and nothing is written.

    Args:
        model: The model's folder, as for ``kit.serve``.
        context: Longest conversation, in tokens.
        users: Conversations at the same time that the memory is planned for.
        gpu_fraction: Share of the card's memory to take, 0–1.

    Returns:
        A table that ends with the first ×.
    """
    here, items = settings.load(), []
    folder = preflight.folder_of(model, here.root)

    def files(_: settings.Settings) -> Finding:
        preflight.check_model(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**30
        return True, f"受け入れられる形式だけです（{folder.name}、{size:,.2f} GiB）", ""

    def length(_: settings.Settings) -> Finding:
        longest = preflight.own_context(folder)
        if 0 < longest < context:
            return None, f"指定の {context:,} トークンを、このモデルの上限 {longest:,} に下げて起動します", ""
        return True, f"{context:,} トークン（モデルの上限: {f'{longest:,}' if longest else '記載なし'}）", ""

    def memory(here: settings.Settings) -> Finding:
        card = next(iter(cards()), None)
        with suppress(ServerError):  # without the environment, the card that is there
            _, card = launch.installed(here)
        plan = folder, min(context, preflight.own_context(folder) or context), users, gpu_fraction, card
        _, note = preflight.check_memory(*plan)
        place, budget, _, need = preflight.estimate(*plan)
        parts = f"重み {need.weights_gib:.1f}＋キャッシュ {need.cache_gib:.1f}＋余裕 {need.reserve_gib:.1f}"
        return None if note else True, f"{need.total_gib:.1f} GiB（{parts}）。{place}で使えるのは {budget:.1f} GiB です。{note}", ""

    def environment(here: settings.Settings) -> Finding:
        _, card = launch.installed(here)
        return True, f"GPU版（{card.name}）" if card else "CPU版（GPUは使いません）", ""

    looks = {"モデルのファイル": files, "文脈長": length, "メモリーの見積もり": memory, "サーバー用の環境": environment}
    for name, look in looks.items():
        items.append(item(name, look, here))
        if items[-1].ok is False:
            break
    return Checkup(tuple(items))
