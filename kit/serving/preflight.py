"""May this model folder be started here? Answered before vLLM is: what is refused here costs a second, not minutes.

Weights are read from safetensors only, nothing in the folder may bring code along, and what was there at the first
start must still be there, byte for byte, at every later one.
"""

import hashlib
import json
import math
import re
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kit.errors import ServerError, reason
from kit.serving import catalogue
from kit.trust import durable, model_files
from kit.trust.check import Card
from kit.trust.model_files import damaged, refuse

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What of a LoRA adapter is read; the rest of its folder (README, tokenizer) is not."""
MAX_RANK = 64
"""Highest LoRA rank: vLLM sets memory aside for it (--max-lora-rank)."""
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
_LORA = re.compile(r"base_model\.model\.(.+)\.lora_(embedding_)?([AB])\b.*")
_STRETCHED = ("linear", "dynamic")
"""Kinds of RoPE scaling whose factor is not yet in max_position_embeddings (vLLM 0.32, config/model.py)."""
_HUGE = 1e100
"""No length or factor is larger: tokenizers without a bound write 1e30."""


def folder_of(model: str | Path, root: Path) -> Path:
    """Return a model's folder: relative to the working folder, else to the project's root."""
    named = Path(model).expanduser()
    return (named if named.is_dir() else root / named).resolve()


def check_model(folder: Path) -> None:
    """Refuse a model folder that is incomplete, or that could run code when it is loaded.

    Allowed are plain files of known kinds; hidden ones, which no loader reads, are not looked at.

    Args:
        folder: A local model folder as ``transformers`` writes it.

    Raises:
        DataError: The folder is no model, holds a file of another kind (pickle, Python), asks for code (``auto_map``),
            links to the outside, or has damaged weights or settings.
    """
    if not (folder / "config.json").is_file():
        refuse(
            f"モデルのフォルダ {folder} を使えません。",
            "フォルダがないか、config.json が入っていません。モデルIDではなく、手元のフォルダを指定します。",
            "取得するには: kit models fetch モデルID --to models（社外に接続する唯一のコマンドです）",
        )
    model_files.check(folder)
    own_context(folder)  # which reads the settings that a start needs
    index, stored = folder / "model.safetensors.index.json", {path.name for path in folder.glob("*.safetensors")}
    wanted = _shards(index) if index.is_file() else stored or {"*.safetensors"}
    if missing := sorted(wanted - stored):
        refuse(
            f"モデルの重み {'、'.join(missing[:3])} が {folder} にありません。",
            "コピーが途中で終わったか、safetensors 形式で配布されていないモデルです。",
            "フォルダ全体をコピーし直すか、safetensors 形式の版を選んでください。",
        )


def check_adapter(folder: Path, base: Path) -> None:
    """Refuse a LoRA adapter that could run code, that this server cannot take, or that was made for another model.

    vLLM 0.32 takes no notice of tensors whose place the model does not have: an adapter of another model may answer
    like the bare model. Where both name a place the sizes are compared; a place that only one of them knows counts as
    wrong if the model knows it in another layer, or if it knows none of them at all.

    Args:
        folder: An adapter as ``peft`` saves it.
        base: The folder of the model that it is for.

    Raises:
        DataError: It is refused.
    """
    if missing := [name for name in ADAPTER_FILES if not (folder / name).is_file()]:
        refuse(
            f"アダプターのフォルダ {folder} を使えません（{'、'.join(missing)} がありません）。",
            "フォルダが違うか、safetensors 以外の形式で保存したアダプターです。",
            "peft で保存したフォルダを指定してください。保存し直すには: model.save_pretrained(フォルダ, safe_serialization=True)",
        )
    model_files.check(folder)
    config = _json(folder / ADAPTER_FILES[0])
    config = config if isinstance(config, dict) else {}
    kind, pattern = config.get("peft_type"), config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [pattern])]
    if kind != "LORA" or not all(type(rank) is int and 1 <= rank <= MAX_RANK for rank in ranks):
        refuse(
            f"このアダプターは使えません（種類 {kind or '不明'}、ランク {'、'.join(map(str, ranks))}）。",
            f"読み込めるのは peft の LoRA で、ランク（r）が {MAX_RANK} 以下のものです。",
            "adapter_config.json の peft_type と r を確かめ、条件に合うアダプターを選ぶか、学習し直してください。",
        )
    if wrong := _misfit(folder, base, 0 if pattern else ranks[0], bool(config.get("fan_in_fan_out"))):
        refuse(
            f"このアダプターは、モデル {base.name} に合いません（{wrong}）。",
            f"別のモデルで学習したアダプターです（学習に使ったモデル: {config.get('base_model_name_or_path') or '記載なし'}）。",
            "学習に使ったモデルを起動してから読み込んでください: kit stop と kit serve モデルのフォルダ --adapters",
        )


def check_unchanged(folder: Path, manifests: Path) -> str:
    """Compare every file with the sha256 taken at the first use; the first use takes it.

    Args:
        folder: A model folder that passed ``check_model``.
        manifests: The kit's own folder for manifests: the model's may be read-only, or the very one tampered with.

    Returns:
        The SHA-256 over the names and hashes of all files: what the model is, wherever its folder lies.

    Raises:
        DataError: A file was changed, added or removed since.
    """
    manifest = manifests / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"
    digests = model_files.digests(folder)
    whole = durable.digest_of(digests)
    if not manifest.exists():
        durable.write_atomically(manifest, durable.canonical({"folder": str(folder.resolve()), "files": digests}))
        return whole
    known = {}
    with suppress(ValueError, LookupError, TypeError):  # a damaged manifest vouches for nothing
        known = dict(_json(manifest)["files"])
    if changed := sorted(name for name in digests | known if digests.get(name) != known.get(name)):
        refuse(
            f"モデルのファイルが最初の起動のときと違います: {'、'.join(changed[:3])}（計 {len(changed)} 件）。",
            "モデルを入れ替えたか、ファイルが壊れたか、書き換えられています。",
            f"入れ替えた覚えがあるときだけ、記録を消してから起動し直してください: rm '{manifest}'",
        )
    return whole


def own_context(folder: Path) -> int:
    """Return the longest context the model was made for, in tokens; 0 where its files do not say.

    The same rule as vLLM's: the least of config and tokenizer, times the factor of a RoPE scaling that is not in it.

    Raises:
        DataError: A value that counts is not what it must be.
    """
    path, beside = folder / "config.json", folder / "tokenizer_config.json"
    whole = _object(path)
    config = _part(path, whole, "text_config") or whole
    tokenizer = _object(beside) if beside.is_file() else {}
    rope = _part(path, config, "rope_parameters") or _part(path, config, "rope_scaling")
    stretched = rope.get("rope_type", rope.get("type")) in _STRETCHED
    factor = _number(path, "factor", rope.get("factor", 1.0)) if stretched else 1.0
    named = [_number(path, name, config[name]) for name in _CONTEXT if config.get(name) is not None]
    if (longest := tokenizer.get("model_max_length")) is not None:
        named.append(_number(beside, "model_max_length", longest))
    return int(min((value for value in named if value), default=0) * factor)


def own_precision(folder: Path) -> str:
    """Return the number format that config.json names, for example ``bfloat16``; "" where it names none."""
    config = _object(folder / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "")


class Estimate(NamedTuple):
    """The memory that a model needs where it is to be loaded, and the GiB that it may take there."""

    place: str
    budget: float
    one: catalogue.Memory
    all: catalogue.Memory


def estimate(folder: Path, context: int, users: int, gpu_fraction: float, card: Card | None) -> Estimate:
    """Estimate the memory.

    Args:
        folder: The model folder.
        context: Tokens of one conversation.
        users: Conversations at the same time.
        gpu_fraction: Share of the card that the server may take.
        card: The card that takes the weights; None for main memory.
    """
    import psutil  # type: ignore[import-untyped]

    shape = catalogue.read_shape(folder)
    if card:
        place, budget = f"GPU（{card.name}）", card.gib * gpu_fraction
    else:
        place, budget = "主記憶", psutil.virtual_memory().available / 2**30
        if own_precision(folder) == "float32":
            shape = replace(shape, cache_bytes_per_value=4.0)
    one, all_ = (catalogue.memory(shape, context=context, users=n) for n in (1, users))
    return Estimate(place, budget, one, all_)


def check_memory(folder: Path, context: int, users: int, gpu_fraction: float, card: Card | None) -> tuple[int, str]:
    """Refuse a start that cannot succeed for want of memory; arguments as for ``estimate``.

    Returns:
        GiB to set aside for the cache, and a Japanese note where that is less than all users want ("" if not).

    Raises:
        ServerError: Not even one conversation fits.
    """
    place, budget, one, all_ = estimate(folder, context, users, gpu_fraction, card)
    if one.total_gib > budget:
        raise ServerError(
            f"{place}のメモリーが足りません（見積り {one.total_gib:.1f} GiB、使えるのは {budget:.1f} GiB）。",
            f"重みに {one.weights_gib:.1f} GiB、1人分の文脈（{context:,} トークン）に {one.cache_gib:.1f} GiB が要ります。",
            "文脈長（--context）を短くするか、量子化版か小さいモデルを選んでください。目安の表: kit models recommend",
        )
    room = budget - all_.weights_gib - all_.reserve_gib
    if all_.cache_gib <= room:
        return math.ceil(all_.cache_gib), ""
    fitting = int(users * room / all_.cache_gib)
    note = f"文脈をいっぱいに使うと同時に約 {fitting} 人分です（希望は {users} 人分）。超えた分は順番を待ちます。"
    return max(1, int(room)), note


def free_port(port: int) -> int:
    """Return the port if it is free on 127.0.0.1, or any free one for 0.

    Raises:
        ServerError: Something listens there already.
    """
    try:
        with socket.create_server(("127.0.0.1", port)) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ServerError(
            f"ポート {port} では起動できません（{reason(error)}）。", "別のプログラムがそのポートを使っています。",
            f"ポート（--port）を指定しなければ空きを選びます。使っているものを調べるには: ss -ltnp 'sport = :{port}'",
        ) from error


def _misfit(folder: Path, base: Path, rank: int, transposed: bool) -> str:
    """Name a place of an adapter that its model certainly does not have so; "" for none. Rank 0 is not compared."""
    model = {name: shape for path in base.glob("*.safetensors") for name, shape in _shapes(path).items()}
    places = {name.rpartition(".")[0] for name in model} | {"lm_head"}  # which may be the embedding, stored once
    tails = set()
    for name, shape in _shapes(folder / ADAPTER_FILES[1]).items():
        if not (match := _LORA.fullmatch(name)):
            continue
        module, embedding, half = match.groups()
        tails.add(re.sub(r"^.*?\b(?=layers\.\d)", "", module))
        if module not in places and re.sub(r"\blayers\.\d+\.", "layers.0.", module) in places:
            return f"{module} がモデルにありません"
        if embedding or not shape:
            continue
        whole = model.get(f"{module}.weight")
        size, own = (shape[1], shape[0]) if half == "A" else shape
        if rank and own != rank:
            return f"{name} のランクが {own}、adapter_config.json では {rank}"
        if whole and not transposed and size != whole[half == "A"]:
            return f"{module} の大きさが {size}、モデルでは {whole[half == 'A']}"
    return "" if any(tail in place for tail in tails for place in places) else "対応する重みが1つもありません"


def _shapes(path: Path) -> dict[str, list[int]]:
    """Return the shape of each tensor; none of one that is no plain matrix (packed by quantising, for example)."""
    found = model_files.tensors(path).items()
    return {name: shape if len(shape) == 2 and re.match("B?F", kind) else [] for name, (kind, shape) in found}


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _object(path: Path) -> dict[str, Any]:
    """Read a file that must hold a JSON object."""
    try:
        content = _json(path)
    except (OSError, ValueError, RecursionError) as error:
        damaged(path, error)
    return content if isinstance(content, dict) else damaged(path, f"{_brief(content)} は設定の形ではありません")


def _part(path: Path, whole: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object within another; {} where it is missing or null."""
    part = whole.get(name)
    return (part or {}) if part is None or isinstance(part, dict) else damaged(path, f"{name} が {_brief(part)} です")


def _number(path: Path, name: str, value: Any) -> float:
    fits = type(value) in (int, float) and 0 <= value < _HUGE
    return float(value) if fits else damaged(path, f"{name} が {_brief(value)} です")


def _shards(index: Path) -> set[str]:
    """Return the names of the weight files that an index lists; all lie beside it."""
    names = [*_part(index, _object(index), "weight_map").values()]
    if wrong := [name for name in names if not (isinstance(name, str) and re.fullmatch(r"[^/]+\.safetensors", name))]:
        damaged(index, f"重みのファイル名が {_brief(wrong[0])} です")
    return {*names} or damaged(index, "weight_map が空です")


def _brief(value: object) -> str:
    return ascii(value)[:60]
