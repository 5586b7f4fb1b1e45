"""Series whose mean and spread depend on where in a daily cycle they are: both are known, hour by hour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PERIOD, CHANNELS = 24, 4


@dataclass(frozen=True)
class Cycle:
    """mean, spread: (period, channels)."""

    mean: np.ndarray
    spread: np.ndarray


def cycle(seed: int = 0) -> Cycle:
    """One fixed cycle per channel: two harmonics and a narrow rush hour in the mean; a spread of 0.2 by night and up to 3 at its peak."""
    random = np.random.default_rng(seed)
    hour = np.arange(PERIOD)[:, None]
    angle = 2 * np.pi * hour / PERIOD
    turns = random.uniform(0, 2 * np.pi, (2, CHANNELS))
    rush = np.exp(-0.5 * ((hour - random.integers(5, 20, CHANNELS)) / 1.2) ** 2)
    mean = 1.5 * np.sin(angle + turns[0]) + 0.7 * np.sin(2 * angle + turns[1]) + 3.0 * rush
    busy = np.exp(-0.5 * ((hour - random.integers(6, 18, CHANNELS)) / 2.5) ** 2)
    return Cycle(mean, 0.2 + 2.8 * busy)


def series(steps: int, seed: int, memory: float = 0.97) -> np.ndarray:
    """(steps, channels) float32: mean[p] + spread[p] z_t at phase p = t mod 24; z is a first-order autoregression of unit variance."""
    random, known = np.random.default_rng(seed), cycle()
    shocks = np.sqrt(1 - memory**2) * random.standard_normal((steps, CHANNELS))
    z = np.zeros((steps, CHANNELS))
    z[0] = random.standard_normal(CHANNELS)
    for t in range(1, steps):
        z[t] = memory * z[t - 1] + shocks[t]
    phase = np.arange(steps) % PERIOD
    return (known.mean[phase] + known.spread[phase] * z).astype(np.float32)
