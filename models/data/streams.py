"""Known shapes hidden in a noisy stream: where is the one that was asked for?

Shapes are series of three UCR archives that aeon ships, each a kind of its own. A stream of noise holds one of the kind asked for and one of another
kind, stretched to lengths of their own, never overlapping; the span of the first is the truth. Archives' own train and test parts stay apart.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ...errors import MissingError

KINDS = ("gunpoint", "arrow_head", "italy_power_demand")
SHORTEST, LONGEST = 12, 24  # steps


def streams(count: int, seed: int, part: str, steps: int = 64, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Streams (count, steps, 1), queries (count, 3) one-hot over KINDS, spans (count, 2): first step and the one after the last.

    part: "train" or "test" series; noise: standard deviation beside shapes of deviation 1.
    """
    random, known = np.random.default_rng(seed), _series(part)
    x = noise * random.standard_normal((count, steps))
    kind = random.integers(len(KINDS), size=count)
    other = (kind + random.integers(1, len(KINDS), size=count)) % len(KINDS)
    lengths = random.integers(SHORTEST, LONGEST + 1, (count, 2))
    spans = np.zeros((count, 2), np.int64)
    for index in range(count):
        gaps = np.sort(random.integers(0, steps - lengths[index].sum() + 1, 2))
        order = random.permutation(2)  # which of the two comes first
        for place, which in enumerate(order):
            start = gaps[place] + (lengths[index, order[0]] if place else 0)
            pool = known[(kind, other)[which][index]]
            x[index, start : start + lengths[index, which]] += _stretched(pool[random.integers(len(pool))], lengths[index, which])
            if which == 0:
                spans[index] = start, start + lengths[index, 0]
    return x[..., None].astype(np.float32), np.eye(len(KINDS), dtype=np.float32)[kind], spans


@cache
def _series(part: str) -> tuple[np.ndarray, ...]:
    """Per kind, (series, samples), each of mean 0 and deviation 1."""
    try:
        from aeon import datasets
    except ImportError:
        raise MissingError("the shapes come with aeon: pip install 'edgeattn[zoo]'.") from None
    found = []
    for kind in KINDS:
        series = np.asarray(getattr(datasets, f"load_{kind}")(split=part)[0], np.float64)[:, 0]
        found.append((series - series.mean(1, keepdims=True)) / series.std(1, keepdims=True))
    return tuple(found)


def _stretched(series: np.ndarray, steps: int) -> np.ndarray:
    return np.interp(np.linspace(0, len(series) - 1, steps), np.arange(len(series)), series)
