"""Rain cells carried by a known wind over hills, seen by a radar every 15 minutes.

    r(x, t) = sum_i a_i e^(g_i t) s_i^2 / s_i(t)^2 exp(-|x - c_i - w t|^2 / (2 s_i(t)^2)) * (1 + k max(0, w . grad h)),   s_i(t)^2 = s_i^2 + 2 D t

w: wind, pixels a step, one a scene; c_i, s_i: first place and width of a cell (pixels), a_i: its peak (cm/h), g_i: growth a step; D: diffusion
(pixels^2 a step); h: terrain (km), which lifts the air that climbs it. The radar multiplies by speckle; the truth to forecast has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIFFUSION, LIFT = 0.08, 6.0


@dataclass(frozen=True)
class Rain:
    """past: (scenes, past, side, side) as the radar sees it, future: (scenes, future, side, side), terrain: (scenes, 1, side, side),
    wind: (scenes, 2)."""

    past: np.ndarray
    terrain: np.ndarray
    future: np.ndarray
    wind: np.ndarray


def scenes(count: int, seed: int, past: int, future: int, side: int = 16, cells: int = 5) -> Rain:
    """Rain rates in cm/h and terrain in km; wind in pixels a step, down and right."""
    random = np.random.default_rng(seed)
    speed, heading = random.uniform(0.15, 0.7, count), random.uniform(0, 2 * np.pi, count)
    wind = np.stack([speed * np.cos(heading), speed * np.sin(heading)], 1)
    terrain = _hills(random, count, side)
    time = np.arange(-past + 1, future + 1)
    field = np.zeros((count, past + future, side, side))
    axis = np.arange(side)
    for _ in range(cells):
        start = random.uniform(-4, side + 4, (count, 2))
        width, peak, growth = random.uniform(1.0, 2.2, count), random.uniform(0.4, 1.6, count), random.uniform(-0.06, 0.04, count)
        centre = start[:, None] + wind[:, None] * time[None, :, None]
        variance = width[:, None] ** 2 + 2 * DIFFUSION * (time + past)[None]
        strength = peak[:, None] * np.exp(growth[:, None] * time) * width[:, None] ** 2 / variance
        down, right = ((axis - centre[..., i, None]) ** 2 for i in range(2))
        field += (
            strength[..., None, None]
            * np.exp(-down / (2 * variance[..., None]))[..., None]
            * np.exp(-right / (2 * variance[..., None]))[..., None, :]
        )
    climb = (np.stack(np.gradient(terrain, axis=(1, 2)), -1) * wind[:, None, None]).sum(-1)
    field *= 1 + LIFT * np.maximum(0, climb)[:, None]
    seen = field[:, :past] * np.exp(0.15 * random.standard_normal((count, past, side, side)))
    return Rain(seen.astype(np.float32), terrain[:, None].astype(np.float32), field[:, past:].astype(np.float32), wind.astype(np.float32))


def _hills(random: np.random.Generator, count: int, side: int) -> np.ndarray:
    """(count, side, side): a sum of waves of 8 pixels and longer, 0 to about 2 km."""
    axis = np.arange(side) / side
    height = np.full((count, side, side), 1.0)
    for _ in range(4):
        wave = random.uniform(-2, 2, (2, count, 1, 1))
        phase = 2 * np.pi * (wave[0] * axis[:, None] + wave[1] * axis + random.random((count, 1, 1)))
        height += random.uniform(0, 0.4, (count, 1, 1)) * np.cos(phase)
    return height
