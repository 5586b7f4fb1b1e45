"""DNA with planted motifs in a background of the same composition: where the evidence lies is known, letter by letter."""

from __future__ import annotations

import numpy as np

LETTERS = 4  # A, C, G, T
MOTIF = np.array([3, 2, 0, 1, 2, 3, 1, 0])  # TGACGTCA, the site of CREB


def sequences(count: int, length: int, seed: int, mutation: float = 0.12, copies: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(one-hot (count, 4, length) float32, labels (count,) int64, planted (count, length) bool).

    Label 1: `copies` of the motif, each letter mutated with probability `mutation`; label 0: the same letters, each copy shuffled, so that no
    count of single letters and no fixed position tells the classes apart.
    """
    random = np.random.default_rng(seed)
    letters = random.integers(0, LETTERS, (count, length))
    labels = random.integers(0, 2, count)
    planted = np.zeros((count, length), bool)
    slot = length // copies
    for index in range(count):
        for copy in range(copies):
            start = copy * slot + random.integers(0, slot - len(MOTIF) + 1)
            word = MOTIF if labels[index] else random.permutation(MOTIF)
            mutated = random.random(len(MOTIF)) < mutation
            letters[index, start : start + len(MOTIF)] = np.where(mutated, random.integers(0, LETTERS, len(MOTIF)), word)
            planted[index, start : start + len(MOTIF)] = True
    return np.eye(LETTERS, dtype=np.float32)[letters].transpose(0, 2, 1).copy(), labels, planted
