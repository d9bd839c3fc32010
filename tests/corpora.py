"""Counts of small corpora for the tests of ranking and reading."""

from collections import Counter

from kit.knowledge.corpus import Statistics


def statistics_of(texts):
    """The statistics of texts given by their tokens, each taken for one sentence."""
    texts = [list(tokens) for tokens in texts]
    frequencies = Counter(token for tokens in texts for token in set(tokens))
    length = sum(map(len, texts))
    return Statistics((len(texts), len(texts), length, length), (), lambda _: frequencies)
