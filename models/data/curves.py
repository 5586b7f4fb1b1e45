"""Smooth random curves on [0, 1]: Gaussian processes of which a few noisy points are seen.

    f ~ GP(0, k),   k(a, b) = exp(-(a - b)^2 / (2 l^2)),   y_i = f(x_i) + noise

The best possible forecast, E f(x) given all y, is kernel ridge regression with the process' own k and the noise's variance as ridge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOISE = 0.2  # standard deviation; a curve's is 1
SHORTEST, LONGEST = 0.08, 0.25  # length scales


@dataclass(frozen=True)
class Curves:
    """seen_at, seen: (curves, points), noisy; asked_at, truth: (curves, questions), without noise; scale: (curves,) length scales."""

    seen_at: np.ndarray
    seen: np.ndarray
    asked_at: np.ndarray
    truth: np.ndarray
    scale: np.ndarray


def curves(count: int, points: int, questions: int, seed: int) -> Curves:
    """Curves, each with a length scale of its own, seen at uniformly random places and asked at others."""
    random = np.random.default_rng(seed)
    at = random.random((count, points + questions))
    scale = random.uniform(SHORTEST, LONGEST, count)
    factor = np.linalg.cholesky(kernel(at, at, scale) + 1e-6 * np.eye(points + questions))
    values = (factor @ random.standard_normal((count, points + questions, 1)))[..., 0]
    seen = values[:, :points] + NOISE * random.standard_normal((count, points))
    return Curves(at[:, :points], seen, at[:, points:], values[:, points:], scale)


def kernel(a: np.ndarray, b: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """k between all places of each curve; a: (curves, m), b: (curves, n) → (curves, m, n)."""
    return np.exp(-((a[:, :, None] - b[:, None]) ** 2) / (2 * scale[:, None, None] ** 2))


def posterior(given: Curves) -> np.ndarray:
    """The best possible answer of who knows each curve's length scale, (curves, questions)."""
    ridge = kernel(given.seen_at, given.seen_at, given.scale) + NOISE**2 * np.eye(given.seen.shape[1])
    return (kernel(given.asked_at, given.seen_at, given.scale) @ np.linalg.solve(ridge, given.seen[..., None]))[..., 0]
