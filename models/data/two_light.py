"""Scenes seen in infrared and in visible light: one handwritten digit, blurred in the one, as edges in the other; on even pixels.

kind 0: both lights good; 1, day: warm spots clutter the infrared; 2, night: the visible channel is dark and noisy. Digits of the three parts of the
data (`rpattention.digits`' split of scikit-learn's) never mix.
"""

from __future__ import annotations

import numpy as np

from ..reference import Samples
from ..rpattention import digits

SIDE = 24  # pixels


def scenes(part: str, count: int, seed: int, kind: int | None = None) -> Samples:
    """x: (count, 2, 24, 24) float32, infrared and visible; labels: (count, 4) float32: digit, row and column of its middle, kind (None: mixed)."""
    random = np.random.default_rng(seed)
    source = digits(part)
    source = source.take(slice(0, len(source) // 5))  # not moved
    pick = random.integers(0, len(source), count)
    corner = 2 * random.integers(0, (SIDE - 8) // 2 + 1, (count, 2))
    rows = np.arange(count)[:, None, None]
    scene = np.zeros((count, SIDE, SIDE))
    scene[rows, corner[:, :1, None] + np.arange(8)[:, None], corner[:, 1:, None] + np.arange(8)] = source.inputs["x"][pick]
    kinds = random.integers(0, 3, count) if kind is None else np.full(count, kind)
    day, night = (kinds == 1)[:, None, None], (kinds == 2)[:, None, None]
    warm = np.where(day, 1.0, 0.15) * _spots(random, count)
    infrared = 1.3 * _blur(scene) + warm + 0.05 * random.standard_normal(scene.shape)
    edges = np.abs(scene - _blur(scene))
    light = np.where(night, random.uniform(0.0, 0.15, (count, 1, 1)), random.uniform(1.2, 1.8, (count, 1, 1)))
    visible = light * edges + np.where(night, 0.3, 0.08) * random.standard_normal(scene.shape)
    labels = np.concatenate([source.truth[pick][:, None], corner + 3.5, kinds[:, None]], 1)
    return Samples({"x": np.stack([infrared, visible], 1).astype(np.float32)}, labels.astype(np.float32))


def _blur(image: np.ndarray) -> np.ndarray:
    """Twice the binomial filter [1, 2, 1] / 4 along both axes: a standard deviation of one pixel."""
    for axis in (1, 2, 1, 2):
        padded = np.pad(image, [(0, 0), *[(1, 1) if axis == other else (0, 0) for other in (1, 2)]])
        before, middle, after = (np.take(padded, np.arange(SIDE) + shift, axis) for shift in range(3))
        image = (before + 2 * middle + after) / 4
    return image


def _spots(random: np.random.Generator, count: int, spots: int = 6) -> np.ndarray:
    """(count, 24, 24): warm spots of a digit's size and brightness at random places."""
    at = np.arange(SIDE)
    middle, width = random.uniform(0, SIDE, (count, spots, 2, 1)), random.uniform(1.5, 3.0, (count, spots, 1, 1))
    along = np.exp(-(((at - middle) / width) ** 2) / 2)
    height = random.uniform(0.4, 1.0, (count, spots))
    return np.einsum("ns,nsy,nsx->nyx", height, along[:, :, 0], along[:, :, 1])
