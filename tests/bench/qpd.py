"""How often the true quality per money lies outside its bounds, each one-sided at .05.

    python -m tests.bench.qpd [--runs 1000]

Each line is a world: how many questions and in how many documents, how good both arms are, how skewed their costs are
(lognormal of this sigma, on top of a fixed cost of that many times its mean). Questions of a document are alike
(correlation .2: its share is drawn from a beta), and arms are alike on a question (a common draw half of the time). Told
are the shares of runs with the candidate's QPD, and the difference of the two, below the lower and above the upper bound.
"""

import argparse
import math

import numpy as np

from kit.evaluation.resampling import resampled
from kit.reporting.qpd import YEN, _spans

ALPHA, LIKE = 0.05, 0.2
# questions, documents (0: unrelated), shares of both arms, sigma, fixed cost
WORLDS = (
    (60, 0, (0.4, 0.6), 0.5, 100.0), (60, 0, (0.4, 0.6), 1.0, 0.0), (60, 0, (0.9, 0.95), 1.0, 0.0), (200, 0, (0.4, 0.6), 1.0, 0.0),
    (200, 0, (0.9, 0.95), 0.5, 100.0), (200, 20, (0.4, 0.6), 0.5, 100.0), (200, 20, (0.4, 0.6), 1.0, 0.0), (200, 40, (0.85, 0.9), 1.0, 0.0),
    (200, 40, (0.6, 0.6), 0.5, 0.0), (100, 10, (0.4, 0.6), 0.5, 100.0), (50, 5, (0.4, 0.6), 0.5, 100.0),
)  # fmt: skip


def world(random: np.random.Generator, n: int, documents: int, shares, sigma: float, fixed: float):
    """Draw columns (quality and money of both arms, 1) and the document of each question."""
    names = np.arange(n) if not documents else random.integers(0, documents, n)
    spread = 1 / LIKE - 1
    alike, common = random.random(n), random.random(n) < 0.5
    columns = []
    for share in shares:
        level = random.beta(share * spread, (1 - share) * spread, documents)[names] if documents else np.full(n, share)
        columns.append((np.where(common, alike, random.random(n)) < level).astype(float))
    columns += [fixed + np.exp(sigma * random.standard_normal(n) - sigma**2 / 2) for _ in shares]
    return np.array([*columns, np.ones(n)]).T, [str(name) for name in names]


def missed(runs: int, number: int, *of) -> np.ndarray:
    """Return the shares of runs whose truth lies below and above the bounds: of the candidate's QPD, of the difference."""
    random, (shares, fixed) = np.random.default_rng(number), (of[2], of[4])
    truth = YEN * shares[1] / (1 + fixed), YEN * (shares[1] - shares[0]) / (1 + fixed)
    outside = np.zeros(4)
    for _ in range(runs):
        columns, names = world(random, *of)
        spans = _spans(resampled(columns, names), columns, names, 2, ALPHA, True)
        outside += [side for span, true in zip((spans[5], spans[6]), truth, strict=True) for side in (true < span.low, true > span.high)]
    return outside / runs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    print(f"{'world':55} QPD below, above   difference below, above   (noise {1.96 * math.sqrt(ALPHA * (1 - ALPHA) / runs):.3f})")
    for number, of in enumerate(WORLDS):
        print(f"{of!s:55} " + "  ".join(f"{share:.3f}" for share in missed(runs, number, *of)), flush=True)


if __name__ == "__main__":
    main()
