"""Generated hyperspectral road scenes with a known material at every pixel.

    x_b = l_b * sum_m f_m s_(m, b) + noise

s: (6, 16) reflectance of road, sky, vegetation, building, vehicle and person in sixteen bands; f: fractions of materials in a pixel, one at its
inside and mixed with its neighbours at borders; l: light of the scene, a level in [0.4, 1.2] with a slope and a bow over the bands. Vegetation,
vehicle and person differ from others by narrow features, road and building by little more than a slope, so that light must be told from material.
"""

from __future__ import annotations

import numpy as np

from ..reference import Samples

SIDE, BANDS, CLASSES = 32, 16, 6
ROAD, SKY, VEGETATION, BUILDING, VEHICLE, PERSON = range(CLASSES)
NOISE = 0.04


def spectra() -> np.ndarray:
    """(6, 16) reflectances; bands are sixteenths of 470 to 630 nm."""
    band = np.linspace(0, 1, BANDS)

    def line(at: float, width: float) -> np.ndarray:
        return np.asarray(np.exp(-(((band - at) / width) ** 2)))

    road, building = 0.35 + 0.05 * band, 0.33 + 0.12 * band
    sky = 0.75 - 0.3 * band
    vegetation = 0.3 + 0.12 * line(0.5, 0.15) - 0.03 * band
    vehicle = 0.36 + 0.06 * band - 0.1 * line(0.3, 0.06)
    person = 0.34 + 0.1 * band - 0.08 * line(0.7, 0.06)
    return np.stack([road, sky, vegetation, building, vehicle, person])


def layout(random: np.random.Generator) -> np.ndarray:
    """(32, 32) materials: sky over buildings and trees over a road that narrows to the horizon, with vehicles and persons on it."""
    row, column = np.mgrid[:SIDE, :SIDE]
    horizon = random.integers(10, 16)
    scene = np.where(row < horizon, SKY, BUILDING)
    for _ in range(random.integers(2, 6)):  # skyline and trees
        left, width, top = random.integers(0, SIDE - 3), random.integers(3, 10), random.integers(1, horizon)
        inside = (column >= left) & (column < left + width) & (row >= top) & (row < horizon + 3)
        scene[inside] = BUILDING if random.random() < 0.5 else VEGETATION
    verge = VEGETATION if random.random() < 0.5 else BUILDING
    scene[row >= horizon] = verge
    middle, spread = random.uniform(10, 22), random.uniform(0.5, 1.4)
    scene[(row >= horizon) & (np.abs(column - middle) < 2 + spread * (row - horizon))] = ROAD
    for kind, count in ((VEHICLE, random.integers(0, 4)), (PERSON, random.integers(0, 4))):
        for _ in range(count):
            foot = int(random.integers(horizon + 2, SIDE))
            size = 2 + (foot - int(horizon)) // (3 if kind == VEHICLE else 6)
            start, height = int(random.integers(0, SIDE - size)), size if kind == VEHICLE else 2 * size
            scene[max(foot - height, 0) : foot, start : start + size] = kind
    return scene


def scenes(count: int, seed: int) -> Samples:
    """x (count, 16, 32, 32) reflectance under unknown light; labels (count, 32, 32) materials."""
    random = np.random.default_rng(seed)
    labels = np.stack([layout(random) for _ in range(count)])
    pure = np.eye(CLASSES, dtype=np.float32)[labels]
    padded = np.pad(pure, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    fractions = 0.6 * pure + 0.1 * around
    band = np.linspace(-1, 1, BANDS)
    level, slope, bow = random.uniform(0.4, 1.2, (count, 1)), random.uniform(-0.35, 0.35, (count, 1)), random.uniform(-0.15, 0.15, (count, 1))
    light = level * (1 + slope * band + bow * (band**2 - 0.5))
    x = np.einsum("nhwm,mb->nbhw", fractions, spectra().astype(np.float32)) * light[:, :, None, None].astype(np.float32)
    x += NOISE * random.standard_normal(x.shape, dtype=np.float32)
    return Samples({"x": x.astype(np.float32)}, labels.astype(np.int64))
