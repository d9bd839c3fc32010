"""LoRA adapters: sizes worked out by hand, and real training steps on a tiny random model."""

import pytest

from kit.improving.adapters import SHAPES, Shape, adapter_size, matrices, train_tiny

SMALL = Shape(hidden=8, layers=3, heads=4, key_value_heads=2, intermediate=20, parameters=1000)
LLAMA = SHAPES["8B級（例: Llama 3.1 8B 系）"]


def test_matrices_of_a_block():
    assert matrices(SMALL) == {
        "q_proj": (8, 8), "k_proj": (8, 4), "v_proj": (8, 4), "o_proj": (8, 8), "gate_proj": (8, 20), "up_proj": (8, 20),
        "down_proj": (20, 8),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rank", "targets", "parameters"),
    [
        (1, ("q_proj",), 3 * 16),
        (2, ("q_proj", "v_proj"), 3 * 2 * (16 + 12)),
        (4, ("down_proj",), 3 * 4 * 28),
        (1, tuple(matrices(SMALL)), 3 * (16 + 12 + 12 + 16 + 28 + 28 + 28)),
    ],
)
def test_parameters_by_formula(rank, targets, parameters):
    size = adapter_size(SMALL, rank=rank, targets=targets)
    assert size.parameters == parameters
    assert size.file_mib == parameters * 2 / 1048576
    assert size.training_gib == pytest.approx((2000 + 16 * parameters) / 2**30)


def test_a_model_everybody_knows():
    size = adapter_size(LLAMA, rank=16)  # 32 layers × 16 × ((4096 + 4096) + (4096 + 1024))
    assert (size.parameters, size.file_mib) == (6_815_744, 13.0)
    assert size.training_gib == pytest.approx(15.06, abs=0.01)  # 16.06 GB of weights, 0.11 GB for the adapter
    assert "6,815,744 個" in size._repr_html_()
    all_linear = adapter_size(LLAMA, rank=8, targets=tuple(matrices(LLAMA)))
    assert all_linear.parameters == 20_971_520


@pytest.mark.parametrize(("rank", "targets"), [(0, ("q_proj",)), (-1, ("q_proj",)), (4, ("q",)), (4, ("q_proj", "lm_head"))])
def test_what_cannot_be_adapted(rank, targets):
    with pytest.raises(ValueError, match="q_proj"):
        adapter_size(SMALL, rank=rank, targets=targets)


@pytest.mark.slow
def test_real_training_lowers_the_loss():
    texts = ["質問: 年休は何日ですか。 回答: 初年度は10日です。", "質問: 締め日はいつですか。 回答: 毎月20日です。"]
    made = train_tiny(texts, steps=4, rank=4)
    assert len(made.losses) == 5
    assert made.losses[-1] < made.losses[0]
    assert made.trained_parameters == made.expected_parameters == 2 * 4 * ((64 + 64) + (64 + 32))
    assert train_tiny(texts, steps=4, rank=4).losses == pytest.approx(made.losses)
    assert train_tiny(texts, steps=1, rank=2, seed=1).losses != made.losses[:2]
    assert "→" in made._repr_html_()
