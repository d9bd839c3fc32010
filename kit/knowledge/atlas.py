"""A map of a store: documents that use the same words stand near each other.

Latent semantic analysis: truncated SVD of the documents' TF-IDF of words, Ward's clustering in its space, and of these the
two that tell the groups apart best. A picture to look around in, not a measurement: neighbours in it need not be alike.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import PurePosixPath

import numpy as np

from kit.knowledge import japanese
from kit.knowledge.store import Store
from kit.records import EVERYONE

_NOUN = re.compile(r"[一-龠々ァ-ヶー]{2,}|[a-z][a-z\d]{2,}")
"""Words that say what a document is about: no numbers, no hiragana."""
_LETTERS, _WORDS = 5_000, 10_000  # the beginning of each document; the words that most documents use
_DIMENSIONS, _MOST_GROUPS, _LABEL_WORDS = 12, 8, 3


@dataclass(frozen=True, slots=True)
class Dot:
    """A document on the map; x and y have no unit."""

    document: str
    folder: str
    """Its top folder, "" for none."""
    group: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class CorpusMap:
    """Documents in groups that share words."""

    dots: tuple[Dot, ...]
    groups: tuple[tuple[str, ...], ...]
    """Of each group, the words that set it apart most."""
    left_out: int
    """Documents of the store that are not drawn."""


def corpus_map(store: Store, *, user: str = "", limit: int = 300) -> CorpusMap:
    """Lay out the documents that a user may read.

    Args:
        store: The store.
        user: Reader name; "" is a member of ``everyone`` only, so that a picture handed on shows nothing restricted.
        limit: Of more documents than this, evenly spread ones by name are drawn.

    Returns:
        The map, the same for the same documents; without dots where there are fewer than three documents.
    """
    counts = {}
    names = sorted(store.documents())
    chunks = store.chunks(*names[:: math.ceil(len(names) / limit) or 1])  # one pass over the store
    readable = (chunk for chunk in chunks if {EVERYONE, user} & set(chunk.readers))
    for name, own in groupby(readable, key=attrgetter("document")):
        text = "\n".join(part for chunk in own for part in (chunk.title, *chunk.place.headings, chunk.text))
        words = Counter(filter(_NOUN.fullmatch, japanese.words(japanese.normalise(text[:_LETTERS]))))
        if words:
            counts[name] = words
    common = Counter(word for words in counts.values() for word in words).most_common()
    vocabulary = sorted([word for word, n in common if 1 < n <= len(counts) / 2][:_WORDS])
    if min(len(counts), len(vocabulary)) < 3:
        return CorpusMap((), (), len(names))
    weights, places = _projected(counts, vocabulary)
    labels, xy = _grouped(places)
    groups = tuple(_strongest(weights, labels == group, vocabulary) for group in range(labels.max() + 1))
    folders = [PurePosixPath(name).parts[0] if "/" in name else "" for name in counts]
    dots = (Dot(*dot) for dot in zip(counts, folders, map(int, labels), *map(np.ndarray.tolist, xy.T), strict=True))
    return CorpusMap(tuple(dots), groups, len(names) - len(counts))


def _projected(counts: Mapping[str, Counter[str]], vocabulary: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the TF-IDF of each document, and its place in the space of the largest singular values, both of length 1."""
    raw = np.array([[math.log1p(words[word]) for word in vocabulary] for words in counts.values()])
    weights = _unit(raw * np.log(len(counts) / (raw > 0).sum(axis=0)))
    left, sizes, _ = np.linalg.svd(weights, full_matrices=False)
    return weights, _unit((left * sizes)[:, :_DIMENSIONS].round(9))  # what has no length has no direction


def _grouped(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each document's group and its x and y: where the groups' centres differ most."""
    from scipy.cluster.hierarchy import fcluster, linkage

    number = min(_MOST_GROUPS, max(2, round(math.sqrt(len(places)))))
    labels = fcluster(linkage(places, "ward"), number, "maxclust") - 1
    middle = places.mean(axis=0)
    centres = np.array([places[labels == group].mean(axis=0) for group in range(labels.max() + 1)])
    axes = np.linalg.svd(centres - middle)[2][:2]
    flat = ((places - middle) @ axes.T).round(6)  # equal documents stay equal
    spread = flat.argsort(axis=0, kind="stable").argsort(axis=0) / len(flat)  # ranks draw the crowd around the middle apart
    return labels, flat / np.maximum(np.ptp(flat, axis=0), 1e-6) + spread


def _strongest(weights: np.ndarray, members: np.ndarray, vocabulary: list[str]) -> tuple[str, ...]:
    ahead = weights[members].mean(axis=0) - weights.mean(axis=0)
    return tuple(vocabulary[i] for i in np.argsort(-ahead, kind="stable")[:_LABEL_WORDS])


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = rows / np.maximum(lengths, 1e-12)
    return scaled
