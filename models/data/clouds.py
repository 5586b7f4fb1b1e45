"""Point clouds with normals, of known surfaces: scenes of spheres, cubes, tori and cones at random places, sizes and attitudes.

Points are uniform by area and shuffled, as a depth sensor's or a map's are in no useful order. No face, size or place tells the kind of a surface:
all kinds have the same root-mean-square radius on average, and every attitude is as likely as any other.
"""

from __future__ import annotations

import numpy as np

KINDS = ("sphere", "cube", "torus", "cone")
NOISE = 0.02  # of a point's coordinates; objects have a radius of about half a unit


def scenes(count: int, seed: int, objects: int = 3, points: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """(count, objects x points, 6): coordinates within about 1.6 units of the middle, then unit normals; (count, objects x points): the kinds."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, len(KINDS), (count, objects))
    place, normal = (np.zeros((count, objects, points, 3)) for _ in range(2))
    for kind, surface in enumerate((_sphere, _cube, _torus, _cone)):
        chosen = kinds == kind
        place[chosen], normal[chosen] = surface(random, int(chosen.sum()), points)
    place -= place.mean(2, keepdims=True)
    place *= random.uniform(0.4, 0.6, (count, objects, 1, 1)) / np.sqrt((place**2).sum(-1).mean(-1))[..., None, None]
    turn = rotations(random, (count, objects))
    place, normal = (x @ turn for x in (place, normal))
    place += _centres(random, count, objects)[:, :, None] + NOISE * random.standard_normal(place.shape)
    order = random.permuted(np.tile(np.arange(objects * points), (count, 1)), axis=1)
    cloud = np.take_along_axis(np.concatenate([place, normal], -1).reshape(count, -1, 6), order[..., None], 1)
    return cloud.astype(np.float32), np.take_along_axis(kinds.repeat(points, 1), order, 1)


def _centres(random: np.random.Generator, count: int, objects: int) -> np.ndarray:
    """(count, objects, 3): uniform in the cube of side 2, at least one unit apart: the best of 16 draws where none is."""
    draws = random.uniform(-1, 1, (16, count, objects, 3))
    apart = np.linalg.norm(draws[:, :, :, None] - draws[:, :, None], axis=-1) + 9 * np.eye(objects)
    nearest = apart.min((-1, -2))
    first = np.where((nearest > 1.0).any(0), (nearest > 1.0).argmax(0), nearest.argmax(0))
    return draws[first, np.arange(count)]


def rotations(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rotations, uniformly distributed, from unit quaternions: (*shape, 3, 3)."""
    q = random.standard_normal((*shape, 4))
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _sphere(random: np.random.Generator, count: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    normal = random.standard_normal((count, points, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return normal, normal


def _cube(random: np.random.Generator, count: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    face = np.eye(3)[random.integers(0, 3, (count, points))]
    normal = face * random.choice([-1.0, 1.0], (count, points, 1))
    return np.where(face > 0, normal, random.uniform(-1, 1, (count, points, 3))), normal


def _torus(random: np.random.Generator, count: int, points: int, thickness: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Around the z axis, its tube of `thickness`; the angle about the tube has density 1 + thickness cos, drawn by rejection."""
    around = random.uniform(0, 2 * np.pi, (count, points))
    tries = random.uniform(0, 2 * np.pi, (24, count, points))
    taken = random.uniform(0, 1 + thickness, tries.shape) < 1 + thickness * np.cos(tries)
    about = np.take_along_axis(tries, taken.argmax(0)[None], 0)[0]
    normal = np.stack([np.cos(about) * np.cos(around), np.cos(about) * np.sin(around), np.sin(about)], -1)
    ring = np.stack([np.cos(around), np.sin(around), np.zeros_like(around)], -1)
    return ring + thickness * normal, normal


def _cone(random: np.random.Generator, count: int, points: int, height: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Its tip up, radius 1 at the base, which is closed."""
    slant = np.hypot(1, height)
    base = random.random((count, points)) < 1 / (1 + slant)
    radius, around = np.sqrt(random.random((count, points))), random.uniform(0, 2 * np.pi, (count, points))
    across = np.stack([np.cos(around), np.sin(around), np.zeros_like(around)], -1)
    up = np.array([0.0, 0.0, 1.0])
    place = radius[..., None] * across + (np.where(base, 0.0, height * (1 - radius)))[..., None] * up
    return place, np.where(base[..., None], -up, (height * across + up) / slant)
