"""LoRA adapters: size and memory by formula, and a real training step on a tiny random model.

Formula (Hu et al. 2021, arXiv 2106.09685): a rank-r adapter of a d_out × d_in matrix has r (d_in + d_out) parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kit import views


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a decoder-only model, as its config.json names it."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    parameters: float
    """Total parameters of the base model."""


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "8B級（例: Llama 3.1 8B 系）": Shape(4096, 32, 32, 8, 14336, 8.03e9),
        "13B級（例: Llama 2 13B 系）": Shape(5120, 40, 40, 40, 13824, 13.0e9),
    }
)
"""Shapes to estimate with, by the name a user chooses; from the models' config.json."""


@dataclass(frozen=True, slots=True)
class AdapterSize:
    """What an adapter adds and what training it needs, without activations."""

    parameters: int
    file_mib: float
    """At 2 bytes per parameter."""
    training_gib: float
    """Base weights at 2 bytes, adapter weights, gradients and AdamW moments at 4 bytes each."""

    def _repr_html_(self) -> str:
        rows = [
            ("追加パラメータ", f"{self.parameters:,} 個"),
            ("アダプターのファイル", f"約 {self.file_mib:,.0f} MiB"),
            ("学習に要るメモリー（活性化を除く）", f"約 {self.training_gib:,.1f} GiB"),
        ]
        return views.table(("項目", "見積もり"), rows)


def matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    """Return the (d_in, d_out) of each linear layer of one decoder block, by its usual name."""
    head = shape.hidden // shape.heads
    keys = shape.key_value_heads * head
    return {
        "q_proj": (shape.hidden, shape.hidden),
        "k_proj": (shape.hidden, keys),
        "v_proj": (shape.hidden, keys),
        "o_proj": (shape.hidden, shape.hidden),
        "gate_proj": (shape.hidden, shape.intermediate),
        "up_proj": (shape.hidden, shape.intermediate),
        "down_proj": (shape.intermediate, shape.hidden),
    }


def adapter_size(shape: Shape, *, rank: int, targets: tuple[str, ...] = ("q_proj", "v_proj")) -> AdapterSize:
    """Compute size and memory of a LoRA adapter.

    Args:
        shape: The base model.
        rank: LoRA rank r, 1 or more.
        targets: Names of the adapted matrices (see ``matrices``).

    Raises:
        ValueError: An unknown matrix name or a rank below 1.
    """
    known = matrices(shape)
    if rank < 1 or not set(targets) <= set(known):
        raise ValueError(f"rank must be >= 1 and targets among {sorted(known)}")
    parameters = shape.layers * sum(rank * sum(known[name]) for name in targets)
    training_bytes = shape.parameters * 2 + parameters * 4 * 4
    return AdapterSize(parameters, parameters * 2 / 2**20, training_bytes / 2**30)


@dataclass(frozen=True, slots=True)
class Training:
    """Two or more real steps on a tiny random model: proof that the tool chain works, not a useful adapter."""

    losses: tuple[float, ...]
    trained_parameters: int
    expected_parameters: int
    seconds: float

    def _repr_html_(self) -> str:
        rows = [
            ("損失の推移", " → ".join(f"{loss:.4f}" for loss in self.losses)),
            ("学習したパラメータ", f"{self.trained_parameters:,} 個（式による見積もり {self.expected_parameters:,} 個）"),
            ("所要時間", f"{self.seconds:.1f} 秒"),
        ]
        return views.table(("項目", "結果"), rows)


def train_tiny(texts: list[str], *, steps: int = 2, rank: int = 4, seed: int = 0) -> Training:
    """Train a LoRA adapter on a tiny random Llama over the bytes of some texts.

    Args:
        texts: Training texts, for example questions with their answers.
        steps: Optimiser steps; one more loss is measured after the last.
        rank: LoRA rank.
        seed: Makes the random model and the order repeatable.
    """
    import warnings
    from time import perf_counter

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    begun = perf_counter()
    torch.manual_seed(seed)
    shape = Shape(hidden=64, layers=2, heads=4, key_value_heads=2, intermediate=128, parameters=0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=shape.hidden, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads, intermediate_size=shape.intermediate, max_position_embeddings=128,
    )
    targets = ("q_proj", "v_proj")
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type="CAUSAL_LM")
    with warnings.catch_warnings():  # peft asks transformers by a name that is to go
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        model = get_peft_model(LlamaForCausalLM(config), lora)
    batch = torch.tensor([list(text.encode()[:96].ljust(96, b" ")) for text in texts[:8]])
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    losses = []
    for step in range(steps + 1):
        loss = model(input_ids=batch, labels=batch).loss
        losses.append(float(loss.detach()))
        if step < steps:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    expected = adapter_size(shape, rank=rank, targets=targets).parameters
    return Training(tuple(losses), trained, expected, perf_counter() - begun)
