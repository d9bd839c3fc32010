"""An embedding model fitted to a store's own chunks: no question is needed, and nothing is downloaded.

Each word and gram has a vector, and their mean is the text's. It starts from latent semantic analysis (Deerwester et al. 1990, by the
randomised decomposition of Halko et al. 2011) and learns by the inverse cloze task: which chunk was this sentence taken from? (Lee et al.
2019, arXiv 1906.00300; the others of a batch are the wrong answers.)
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.errors import DataError
from kit.knowledge import embedding
from kit.knowledge.embedding import Vectors
from kit.knowledge.rows import parts_of

if TYPE_CHECKING:
    from kit.knowledge.store import Store

_FEWEST, _MOST = 20, 50_000
"""Chunks; of a larger store, so many are drawn."""
_TOKENS = 50_000
_BATCH, _TEMPERATURE, _RATE = 256, 0.05, 0.001
_TITLES, _KEPT = 0.1, 0.1
"""Share of the pairs that ask by title and headings, and of those whose sentence stays in its chunk."""
Numbers = np.ndarray[Any, np.dtype[np.int64]]


def fit_embedder(
    store: "Store", to: str | Path, *, dimensions: int = 384, steps: int = 400, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Fit an embedding model to all chunks of a store, in minutes on a processor.

    Its vocabulary is taken from all documents, whoever may read them: keep the folder where the store is kept. After ``forget`` fit anew.

    Args:
        store: The store.
        to: The model's folder; must not exist.
        dimensions: Length of a vector at most; less in a store with fewer chunks or words.
        steps: Training steps of 256 pairs; 0 leaves it at latent semantic analysis.
        seed: Makes the result repeatable on one machine.
        progress: Called with (done, planned) steps.

    Returns:
        The folder, for ``store.embed``; whether it helps is for ``kit.fit_weight`` to say.

    Raises:
        DataError: The store has too few chunks, or the folder exists.
    """
    folder = Path(to).expanduser()
    if folder.exists():
        raise DataError(f"{folder} はすでにあります。", "前に作ったモデルか、別のファイルがあります。", "別の名前のフォルダを to= に指定してください。")
    random = np.random.default_rng(seed)
    parts = (parts_of(chunk.title, chunk.place.headings, chunk.text) for chunk in store.chunks())
    texts = [list(map(embedding.tokens, part)) for part in parts]
    if len(texts) < _FEWEST:
        raise DataError(
            f"断片が {len(texts)} 件しかなく、埋め込みモデルを作れません。", f"{_FEWEST} 件以上が必要です。",
            "文書を登録してから、もう一度実行してください: store.add(kit.load(フォルダ))",
        )  # fmt: skip
    if len(texts) > _MOST:
        texts = [texts[i] for i in random.choice(len(texts), _MOST, replace=False)]
    known, vectors = fit(texts, dimensions, steps, random, progress)
    embedding.save(known, vectors, folder)
    return folder


def fit(
    texts: Sequence[Sequence[Sequence[str]]], dimensions: int, steps: int, random: np.random.Generator,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[str], Vectors]:
    """Return the tokens that two texts at least hold, with their vectors.

    Args:
        texts: Of each text its parts, each as tokens without repeats: title and headings, then the sentences.
        dimensions: Length of a vector at most.
        steps: Training steps.
        random: Where chance comes from.
        progress: Called with (done, planned) steps.
    """
    held = Counter(token for parts in texts for token in set().union(*parts))
    known = sorted(token for token, number in held.most_common(_TOKENS) if number > 1)
    number = {token: row for row, token in enumerate(known)}
    chunks = [[np.array([number[token] for token in part if token in number], np.int64) for part in parts] for parts in texts]
    idf = np.log(len(texts) / np.array([held[token] for token in known], np.float32))
    return known, _learned(_semantic(chunks, idf, dimensions, random), chunks, steps, random, progress)


def _semantic(chunks: Sequence[Sequence[Numbers]], idf: Vectors, dimensions: int, random: np.random.Generator) -> Vectors:
    """Return token vectors by latent semantic analysis of tf-idf with tf 0 or 1; their mean length is 1."""
    from scipy.sparse import csr_array

    held = [np.unique(np.concatenate(parts)) for parts in chunks]
    weights = [idf[tokens] / max(float(np.linalg.norm(idf[tokens])), 1e-9) for tokens in held]
    ends = np.cumsum([0, *map(len, held)])
    matrix = csr_array((np.concatenate(weights), np.concatenate(held), ends), shape=(len(held), len(idf)))
    size = min(dimensions, *matrix.shape)
    basis = random.standard_normal((len(idf), min(size + 16, *matrix.shape)), np.float32)
    for _ in range(3):
        basis = np.linalg.qr(matrix.T @ np.linalg.qr(matrix @ basis)[0])[0]
    directions = np.linalg.svd(matrix @ basis, full_matrices=False)[2][:size]
    vectors = basis @ directions.T * idf[:, None]
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1).mean(), np.float32)


def _learned(
    vectors: Vectors, chunks: Sequence[Sequence[Numbers]], steps: int, random: np.random.Generator,
    progress: Callable[[int, int], None] | None,
) -> Vectors:
    """Train token vectors by the inverse cloze task."""
    import torch
    from torch.nn.functional import cross_entropy, embedding_bag, normalize

    table = torch.tensor(vectors, requires_grad=True)
    optimiser = torch.optim.Adam([table], lr=_RATE, fused=True)
    usable = [parts for parts in chunks if sum(map(len, parts)) > 3]

    def encoded(texts: Sequence[Numbers]) -> Any:
        starts = np.cumsum([0, *map(len, texts[:-1])])
        return normalize(embedding_bag(torch.from_numpy(np.concatenate(texts)), table, torch.from_numpy(starts)))

    for step in range(steps if len(usable) > 1 else 0):
        drawn = random.choice(len(usable), min(_BATCH, len(usable)), replace=False)
        questions, answers = zip(*(_pair(usable[i], random) for i in drawn), strict=True)
        loss = cross_entropy(encoded(questions) @ encoded(answers).T / _TEMPERATURE, torch.arange(len(drawn)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if progress:
            progress(step + 1, steps)
    return np.asarray(table.detach().numpy(), np.float32)


def _pair(parts: Sequence[Numbers], random: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Make a question and its answer of a chunk: a sentence and the rest, its title and the body, or two halves of it."""
    title, *body = parts[0], *(part for part in parts[1:] if len(part) > 2)
    if len(title) and body and random.random() < _TITLES:
        return title, np.unique(np.concatenate(body))
    if len(body) > 1:
        taken = int(random.integers(len(body)))
        rest = body if random.random() < _KEPT else body[:taken] + body[taken + 1 :]
        return body[taken], np.unique(np.concatenate([title, *rest]))
    whole = random.permutation(np.unique(np.concatenate(parts)))
    return whole[: len(whole) // 2], whole[len(whole) // 2 :]
