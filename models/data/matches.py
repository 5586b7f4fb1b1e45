"""Putative matches between an image and a point cloud, few of them right, the image's depth known up to a factor.

A camera sees scene points z (u, v, 1) with z the depth; a monocular network estimates s z (1 + e), s unknown, one for an image. The cloud holds the
same points turned and moved. A wrong match names another point of the scene.
"""

from __future__ import annotations

import numpy as np

from .clouds import rotations

FEWEST, MOST = 0.1, 0.5  # share of right matches
DEPTH_ERROR = 0.015  # relative
SMALLEST_SCALE, LARGEST_SCALE = 0.3, 3.0


def matches(count: int, seed: int, points: int = 64, scale: float | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lifted image points (count, points, 3), cloud points (count, points, 3), and 1 where they are the same point, (count, points).

    scale: s for all; by default log-uniform in [0.3, 3].
    """
    random = np.random.default_rng(seed)
    camera = _seen(random, count, points)
    s = np.exp(random.uniform(np.log(SMALLEST_SCALE), np.log(LARGEST_SCALE), (count, 1, 1)))
    s = s if scale is None else np.full_like(s, scale)
    lifted = s * camera * (1 + DEPTH_ERROR * random.standard_normal((count, points, 1)))
    right = random.random((count, points)) < random.uniform(FEWEST, MOST, (count, 1))
    named = np.where(right[..., None], camera, _seen(random, count, points))
    cloud = named @ rotations(random, (count,)) + random.uniform(-3, 3, (count, 1, 3))
    return lifted.astype(np.float32), cloud.astype(np.float32), right.astype(np.int64)


def _seen(random: np.random.Generator, count: int, points: int) -> np.ndarray:
    """Points in the camera's frame, depth 1 to 5."""
    across = random.uniform(-0.6, 0.6, (count, points, 2))
    depth = random.uniform(1, 5, (count, points, 1))
    return depth * np.concatenate([across, np.ones_like(depth)], -1)
