"""Boxes before a wall: a colour image with texture that depth does not have, and the depth of every pixel.

Each surface (the wall and each box) is a plane with a colour and a stripe pattern of its own; nearer ones cover those behind. Posters change the
colour of what they lie on and never its depth, so an edge in the image need not be one in depth.
"""

from __future__ import annotations

import numpy as np


def scenes(count: int, seed: int, side: int = 32, boxes: int = 3, posters: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 3, side, side) in [0, 1] and depths (count, 1, side, side) in metres, 0.5 to 6."""
    random = np.random.default_rng(seed)
    depth = _plane(random, count, side, np.full(count, 4.5), slope=1.0)
    image = _texture(random, count, side)
    for index in range(boxes):
        inside = _rectangle(random, count, side)
        near = random.uniform(1.0, 3.9 - 0.6 * (boxes - 1 - index) / max(1, boxes - 1), count)
        plane = _plane(random, count, side, near, slope=0.6)
        visible = inside & (plane < depth)
        depth = np.where(visible, plane, depth)
        image = np.where(visible[:, None], _texture(random, count, side), image)
    for _ in range(posters):
        tint = random.uniform(-0.4, 0.4, (count, 3, 1, 1))
        image = image + tint * _rectangle(random, count, side)[:, None]
    image = image + 0.02 * random.standard_normal(image.shape)
    return np.clip(image, 0, 1).astype(np.float32), depth[:, None].astype(np.float32)


def coarse(depth: np.ndarray, factor: int, noise: float, seed: int) -> np.ndarray:
    """What a low-resolution sensor sees: means over factor x factor pixels, with noise in metres."""
    count, channels, side, _ = depth.shape
    blocks = depth.reshape(count, channels, side // factor, factor, side // factor, factor).mean((3, 5))
    return (blocks + noise * np.random.default_rng(seed).standard_normal(blocks.shape)).astype(np.float32)


def edges(depth: np.ndarray, step: float = 0.2) -> np.ndarray:
    """Pixels beside a jump in depth of more than `step` metres, as a mask of the same shape."""
    found = np.zeros(depth.shape, bool)
    down, right = (np.abs(np.diff(depth, axis=axis)) > step for axis in (-2, -1))
    found[..., :-1, :] |= down
    found[..., 1:, :] |= down
    found[..., :-1] |= right
    found[..., 1:] |= right
    return found


def _plane(random: np.random.Generator, count: int, side: int, level: np.ndarray, slope: float) -> np.ndarray:
    """(count, side, side): level plus at most `slope` metres of tilt from the middle to a border, in each direction."""
    axis = np.linspace(-1, 1, side)
    tilt = random.uniform(-slope / 2, slope / 2, (2, count, 1, 1))
    return level[:, None, None] + tilt[0] * axis[:, None] + tilt[1] * axis


def _rectangle(random: np.random.Generator, count: int, side: int) -> np.ndarray:
    """(count, side, side): a rectangle of a fifth to a half of the picture's side."""
    axis = np.arange(side)
    extent = random.uniform(0.2, 0.5, (2, count, 1)) * side
    start = random.uniform(-0.1, 1.0, (2, count, 1)) * (side - 0.5 * extent)
    rows, columns = ((axis >= first) & (axis < first + size) for first, size in zip(start, extent, strict=True))
    return rows[:, :, None] & columns[:, None]


def _texture(random: np.random.Generator, count: int, side: int) -> np.ndarray:
    """(count, 3, side, side): one colour with stripes of a random direction, period (3 to 10 pixels) and contrast."""
    axis = np.arange(side)
    angle, period = random.uniform(0, np.pi, (count, 1, 1)), random.uniform(3, 10, (count, 1, 1))
    phase = 2 * np.pi * ((np.cos(angle) * axis[:, None] + np.sin(angle) * axis) / period + random.random((count, 1, 1)))
    stripes = np.sign(np.sin(phase)) * random.uniform(0, 0.2, (count, 1, 1))
    return random.uniform(0.2, 0.8, (count, 3, 1, 1)) + stripes[:, None]
