"""Nested brackets of several kinds between filler words: which bracket is open at each place, known exactly from a stack."""

from __future__ import annotations

import numpy as np

from ..reference import Samples

KINDS, DEEPEST, LENGTH = 6, 5, 32
VOCABULARY = 1 + 2 * KINDS  # 0: a filler word; 1 ... KINDS open; KINDS + 1 ... 2 KINDS close


def nested_brackets(count: int, seed: int, length: int = LENGTH) -> Samples:
    """tokens (count, length) int64; labels (count, length): the kind of the innermost open bracket after each token, 0 where none is open.

    A place is a filler word with probability 0.3, else it opens a random kind or closes the innermost one; at most DEEPEST are open.
    """
    random = np.random.default_rng(seed)
    tokens, labels = np.zeros((count, length), np.int64), np.zeros((count, length), np.int64)
    stack, depth, row = np.zeros((count, DEEPEST + 1), np.int64), np.zeros(count, np.int64), np.arange(count)
    for place in range(length):
        filler = random.random(count) < 0.3
        opens = (random.random(count) < 0.55) & (depth < DEEPEST) | (depth == 0)
        kind = np.where(opens, random.integers(1, KINDS + 1, count), stack[row, depth])
        depth = np.where(filler, depth, np.where(opens, depth + 1, depth - 1))
        stack[row, depth] = np.where(opens & ~filler, kind, stack[row, depth])
        stack[:, 0] = 0
        tokens[:, place] = np.where(filler, 0, np.where(opens, kind, kind + KINDS))
        labels[:, place] = stack[row, depth]
    return Samples({"tokens": tokens}, labels)
