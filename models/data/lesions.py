"""Slices through organs with lesions: blobs of several sizes whose class depends on what lies around them.

An organ is a large blob, a lesion a small one inside an organ; the same small blob outside is a vessel and belongs to the background. So a small blob
is classified only with the coarse scale, and its outline is drawn only with the fine one.
"""

from __future__ import annotations

import numpy as np

CLASSES = ("background", "organ", "lesion")


def slices(count: int, seed: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 1, side, side), grey values about 0 with a deviation near 1; labels (count, side, side), indices of CLASSES."""
    random = np.random.default_rng(seed)
    axis = np.linspace(0, 1, side)
    labels = np.zeros((count, side, side), np.int64)
    image = np.zeros((count, side, side))
    for _ in range(2):
        organ = _blob(random, count, side, random.uniform(0.15, 0.85, (2, count)), random.uniform(0.14, 0.28, count), lobes=3)
        labels[organ] = 1
    contrast = random.uniform(0.5, 1.2, (count, 1, 1)) * random.choice([-1.0, 1.0], (count, 1, 1))
    image += contrast * (labels == 1)
    for _ in range(6):
        small = _blob(random, count, side, random.uniform(0.08, 0.92, (2, count)), random.uniform(0.035, 0.08, count), lobes=2)
        labels[small & (labels == 1)] = 2
        image = np.where(small, 1.8, image)
    field = sum(
        random.uniform(-0.6, 0.6, (count, 1, 1)) * np.cos(np.pi * (i * axis[:, None] + j * axis) + random.uniform(0, 2 * np.pi, (count, 1, 1)))
        for i, j in ((0, 1), (1, 0), (1, 1))
    )
    image = image + field + 0.5 * random.standard_normal(image.shape)
    return image[:, None].astype(np.float32), labels


def _blob(random: np.random.Generator, count: int, side: int, centre: np.ndarray, radius: np.ndarray, lobes: int) -> np.ndarray:
    """(count, side, side): r(angle) = radius (1 + 0.25 cos(lobes angle + phase)) about `centre` (2, count); lengths in sides."""
    axis = (np.arange(side) + 0.5) / side
    down, right = axis[None, :, None] - centre[0, :, None, None], axis[None, None] - centre[1, :, None, None]
    angle = lobes * np.arctan2(down, right) + random.uniform(0, 2 * np.pi, (count, 1, 1))
    return np.hypot(down, right) < radius[:, None, None] * (1 + 0.25 * np.cos(angle))
