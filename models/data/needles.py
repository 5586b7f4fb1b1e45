"""Facts in a long text of filler: pairs of names that stand side by side, and questions at the end that take one of them or a chain of two.

... filler ... b c ... filler ... a b ... | a    the answer is c, and to b too
"""

from __future__ import annotations

import numpy as np

NAMES, FILLER = 32, 96
CHAINS, OTHERS = 2, 2  # asked about, and facts that are not
QUESTIONS = 8


def needles(count: int, seed: int, length: int = 128, most: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens (count, length), the last 8 of which ask; answers (count, 8), names; how many facts each takes, (count, 8), up to `most`.

    Tokens below NAMES are names. A chain's two facts stand in either order; no name stands in two chains, and no two facts side by side.
    """
    random = np.random.default_rng(seed)
    names = random.permuted(np.tile(np.arange(NAMES), (count, 1)), axis=1)
    chains, others = np.split(names[:, : 3 * CHAINS + 2 * OTHERS], [3 * CHAINS], axis=1)
    chains = chains.reshape(count, CHAINS, 3)
    facts = np.concatenate([chains[:, :, :2], chains[:, :, 1:], others.reshape(count, OTHERS, 2)], 1)
    text = NAMES + random.integers(0, FILLER, (count, length))
    slots = np.tile(np.arange((length - QUESTIONS) // 4), (count, 1))
    begin = 4 * random.permuted(slots, axis=1)[:, : facts.shape[1]] + random.integers(0, 3, (count, 1))
    for side in range(2):
        np.put_along_axis(text, begin + side, facts[:, :, side], 1)
    asked, taken = random.integers(0, CHAINS, (count, QUESTIONS)), random.integers(1, most + 1, (count, QUESTIONS))
    text[:, -QUESTIONS:] = np.take_along_axis(chains.reshape(count, -1), 3 * asked + 2 - taken, 1)
    return text, np.take_along_axis(chains[:, :, 2], asked, 1), taken
