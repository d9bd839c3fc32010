"""Which model fits this machine? The catalogue of Japanese models, and the memory that one of them needs.

The facts stand in ``models.toml`` with their source; a field named in ``unchecked`` could not be read in the model's
own papers. An estimate is arithmetic, not a measurement: only a start on the machine itself proves that a model fits.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import settings, views
from kit.errors import DataError, ParameterError
from kit.trust.model_files import tensors

RESERVE_GIB = 2.0
"""Set aside for the CUDA context, graphs and activations of one card; a rule of thumb, not measured here."""
GPU_FRACTION = 0.9
"""The share of the card that vLLM takes by default."""
_FILE = Path(__file__).with_name("models.toml")
_GIB = 2**30
_NUMBERS = ("parameters", "layers", "kv_heads", "head_dim", "context", "bytes_per_weight")


@dataclass(frozen=True, slots=True)
class Shape:
    """What the memory estimate needs to know of a model.

    Attributes:
        layers: Layers with a key-value cache.
        kv_heads: Key-value heads of one layer.
        head_dim: Width of one head.
        parameters: Number of stored weights.
        bytes_per_weight: Mean over all weights: 2 for 16 bit, about 0.6 for 4 bit with 16-bit embeddings.
        cache_bytes_per_value: 2 for a 16-bit cache, 1 for an 8-bit one.
    """

    layers: int
    kv_heads: int
    head_dim: int
    parameters: float
    bytes_per_weight: float
    cache_bytes_per_value: float = 2.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in GiB (2**30 bytes)."""

    weights_gib: float
    cache_gib: float
    reserve_gib: float

    @property
    def total_gib(self) -> float:
        """All three together."""
        return self.weights_gib + self.cache_gib + self.reserve_gib

    def __str__(self) -> str:
        return f"{self.total_gib:.1f}（{self.weights_gib:.1f}＋{self.cache_gib:.1f}＋{self.reserve_gib:.1f}）"


@dataclass(frozen=True, slots=True)
class Variant:
    """A quantised edition of a model."""

    id: str
    format: str
    bytes_per_weight: float


@dataclass(frozen=True, slots=True)
class Model:
    """What is reckoned with of an entry of ``models.toml``; None = not known. Maker, licence and source are for people."""

    id: str
    commercial: str
    """What the licence allows a company to do, in short."""
    unchecked: tuple[str, ...]
    """Fields whose value (or absence) was not confirmed in the model's own papers."""
    parameters: float | None = None
    layers: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    context: int | None = None
    """Longest context in tokens."""
    bytes_per_weight: float | None = None
    custom_code: bool = False
    """It needs Python code shipped with the weights, which this kit does not run."""
    quantised: tuple[Variant, ...] = ()

    def shape(self, bytes_per_weight: float) -> Shape | None:
        """Return the shape of an edition of the model, or None where a number is missing."""
        if self.layers and self.kv_heads and self.head_dim and self.parameters and bytes_per_weight:
            return Shape(self.layers, self.kv_heads, self.head_dim, self.parameters, bytes_per_weight)
        return None


@dataclass(frozen=True, slots=True)
class Fit:
    """The verdict on one model or variant. ``fits`` None = cannot be told."""

    id: str
    format: str
    memory: Memory | None
    fits: bool | None
    reason: str
    commercial: str


_MARKS = {True: "○ 載る", False: "× 載らない", None: "－ 不明"}


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What fits a card, what does not and why, and what cannot be promised."""

    gpu_gb: float
    context: int
    users: int
    fits: tuple[Fit, ...]
    """Those that fit first, the largest first; then those that cannot be told; then the others."""
    caveats: tuple[str, ...]

    @property
    def title(self) -> str:
        """What was asked for."""
        return f"GPU {self.gpu_gb:g} GB・文脈長 {self.context:,} トークン・同時 {self.users} 人"

    def __str__(self) -> str:
        lines = [f"{_MARKS[fit.fits]} {fit.id}（{fit.format}）: {fit.reason}" for fit in self.fits]
        return "\n".join([self.title, *lines, *self.caveats])

    def _repr_html_(self) -> str:
        rows = [(_MARKS[fit.fits], fit.id, fit.format, fit.memory or "未確認", fit.reason, fit.commercial) for fit in self.fits]
        head = ("判定", "モデル", "形式", "必要なメモリー〔GiB〕", "理由", "商用利用")
        parts = "メモリーは、合計（重み＋キャッシュ＋余裕）です。"
        return views.table(head, rows, self.title) + views.paragraphs(parts, *self.caveats)


def models() -> tuple[Model, ...]:
    """Return the catalogue, in the order of the file."""
    found = []
    for entry in settings.read_toml(_FILE)["model"]:
        variants = tuple(Variant(**variant) for variant in entry.get("quantised", ()))
        known = {name: entry[name] for name in Model.__slots__ if name in entry}
        found.append(Model(**known | {"unchecked": tuple(entry["unchecked"]), "quantised": variants}))
    return tuple(found)


def memory(shape: Shape, *, context: int, users: int) -> Memory:
    """Estimate the GPU memory of a served model.

    weights = parameters × bytes_per_weight
    cache   = 2 × layers × kv_heads × head_dim × cache_bytes_per_value × context × users   (keys and values; as vLLM
              allocates them for full attention; layers with a sliding window need less)
    reserve = ``RESERVE_GIB``

    Args:
        shape: The model.
        context: Tokens of one conversation, question and answer together.
        users: Conversations at once, each filled to ``context``.
    """
    token = 2 * shape.layers * shape.kv_heads * shape.head_dim * shape.cache_bytes_per_value
    return Memory(shape.parameters * shape.bytes_per_weight / _GIB, token * context * users / _GIB, RESERVE_GIB)


def read_shape(folder: Path) -> Shape:
    """Read the shape of a model from its folder: config.json and the headers of the safetensors files.

    Weights that are stored packed (4 bit in 32-bit words) are counted as stored; parameters × bytes_per_weight is the
    size of the files either way.

    Raises:
        DataError: config.json or the weights are missing, cannot be read or lack a number.
    """
    from safetensors import SafetensorError

    stored = size = 0
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        text = config.get("text_config", config)  # where a model of text and pictures keeps the part that writes
        heads = text["num_attention_heads"]
        layers, kv_heads = text["num_hidden_layers"], text.get("num_key_value_heads") or heads
        head_dim = text.get("head_dim") or text["hidden_size"] // heads
        for path in folder.glob("*.safetensors"):
            stored += sum(math.prod(shape) for _, shape in tensors(path).values())
            size += path.stat().st_size
        if not all(type(number) is int and number > 0 for number in (layers, kv_heads, head_dim, stored)):
            raise ValueError(f"層 {layers}、ヘッド {kv_heads}×{head_dim}、重み {stored}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError, SafetensorError) as error:
        raise DataError(
            f"{folder} からモデルの大きさを読めません（{type(error).__name__}: {error}）。",
            "モデルのフォルダではないか、config.json か *.safetensors が足りない・壊れています。",
            f"中身を確かめてください: ls -l {folder}",
        ) from error
    return Shape(layers, kv_heads, head_dim, stored, size / stored)


def recommend(*, gpu_gb: float, context: int = 8192, users: int = 4) -> Recommendation:
    """Say which models of the catalogue fit one card.

    Args:
        gpu_gb: Memory of the card as sold, in GiB (24, 48, 80). A card with error correction shows up to 6 % less:
            then give what ``nvidia-smi`` shows.
        context: Tokens of one conversation, question and answer together.
        users: Conversations at once.

    Raises:
        ParameterError: A number is not above 0.
    """
    if not (0 < gpu_gb < math.inf and context > 0 and users > 0):
        raise ParameterError(
            f"gpu_gb={gpu_gb}、context={context}、users={users} では見積もれません。",
            "どれも 0 より大きい数で書きます。", "例: kit.recommend(gpu_gb=24, context=8192, users=4)",
        )  # fmt: skip
    usable = gpu_gb * GPU_FRACTION
    found = []
    for model in models():
        editions = (Variant(model.id, "公開版", model.bytes_per_weight or 0.0), *model.quantised)
        found += [_judge(model, edition, usable, context, users) for edition in editions]
    order = [True, None, False]
    found.sort(key=lambda fit: (order.index(fit.fits), -(fit.memory.weights_gib if fit.memory else 0)))
    caveats = tuple(text.format(reserve=RESERVE_GIB) for text in settings.read_toml(_FILE)["caveats"])
    return Recommendation(gpu_gb, context, users, tuple(found), caveats)


def _judge(model: Model, edition: Variant, usable: float, context: int, users: int) -> Fit:
    shape = model.shape(edition.bytes_per_weight)
    need = memory(shape, context=context, users=users) if shape else None
    fits, reason = _verdict(model, need, usable, context, users)
    mark = "※" if need and not {*_NUMBERS}.isdisjoint(model.unchecked) else ""
    return Fit(edition.id, edition.format, need, fits, reason + mark, model.commercial)


def _verdict(model: Model, need: Memory | None, usable: float, context: int, users: int) -> tuple[bool | None, str]:
    if model.custom_code:
        return False, "付属の Python コードを実行しないと動かないため、このキットでは起動しません。"
    if model.context and context > model.context:
        return False, f"文脈長の上限は {model.context:,} トークンです。"
    if need is None:
        return None, "層の数などが未確認のため、見積もれません。入手後に config.json から計算できます。"
    fixed, one = need.weights_gib + need.reserve_gib, need.cache_gib / users
    most = math.floor((usable - fixed) / one + 1e-9)  # rounding must not cost the last user
    if most < 1:
        return False, f"1人分で {fixed + one:.1f} GiB。使える {usable:.1f} GiB に収まりません。"
    unknown = "" if model.context else "文脈長の上限は未確認です。"
    return most >= users, f"同時 {most} 人まで{'。' if most >= users else 'なら載ります。'}{unknown}"
