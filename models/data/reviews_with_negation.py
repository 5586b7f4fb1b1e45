"""Film reviews of a small language in which "not" turns the next opinion round: counting words does not tell what was meant."""

from __future__ import annotations

import numpy as np

PADDING = 0
PRAISE, BLAME, NEGATORS, FILLERS = (np.arange(*bounds) for bounds in ((1, 13), (13, 25), (25, 28), (28, 80)))
VOCABULARY = 80


def reviews(count: int, length: int, seed: int, negated: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(word ids (count, length) int64, padded with 0; labels (count,) int64; counting (count, length) bool: the words that decide).

    A review has 16 words or more, three to seven of them opinions; an opinion is turned round, with probability `negated`, by a negator one to
    three words before it. Label 1: praise outweighs blame, as meant; ties do not occur, because the opinions are an odd number.
    """
    random = np.random.default_rng(seed)
    ids, labels, counting = np.zeros((count, length), np.int64), np.zeros(count, np.int64), np.zeros((count, length), bool)
    for index in range(count):
        words = int(random.integers(16, length + 1))
        opinions = int(random.choice([n for n in (3, 5, 7) if 4 * n <= words]))
        ids[index, :words] = random.choice(FILLERS, words)
        places = _places(random, words, opinions)
        meant = 0
        for place in places:
            good, turned = random.random() < 0.5, random.random() < negated
            ids[index, place] = random.choice(PRAISE if good else BLAME)
            counting[index, place] = True
            if turned:
                before = place - int(random.integers(1, 4))
                ids[index, before], counting[index, before] = random.choice(NEGATORS), True
            meant += 1 if good != turned else -1
        labels[index] = meant > 0
    return ids, labels, counting


def _places(random: np.random.Generator, words: int, opinions: int) -> np.ndarray:
    """Opinions with at least three words before each, so that every negator has one opinion to turn."""
    slack = words - 4 * opinions
    gaps = np.sort(random.integers(0, slack + 1, opinions))
    return gaps + 4 * np.arange(opinions) + 3
