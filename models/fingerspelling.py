"""Procedural fingerspelling: the 24 static letters as a kinematic hand before an event camera, with known labels.

Each finger is a chain of three capsules whose joints bend by shares of 85, 105 and 60 degrees of one flexion in [0, 1]; the thumb is two
capsules, the palm four, the wrist one. The hand is drawn once (brightness of a lit cylinder, nearest surface in front), then moves, turns and
scales over a background that moves too, and an event camera (`dvs.py`) watches. The hand waves along one direction, another for every sample:
edges along it fire nothing, so that no single pixel tells a letter. J and Z are movements and left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from .dvs import EventCamera
from .reference import Samples

CANVAS, SIDE, STEPS = 96, 48, 35

# Flexion of index, middle, ring and little finger; spread; thumb: degrees outwards from upright, length; roll of the hand in degrees.
LETTERS = {
    "A": (1, 1, 1, 1, 0, 15, 1, 0),
    "B": (0, 0, 0, 0, 0, -60, 0.8, 0),
    "C": (0.45, 0.45, 0.45, 0.45, 0.1, 50, 1, 25),
    "D": (0, 0.8, 0.8, 0.8, 0, -25, 0.9, 0),
    "E": (0.75, 0.75, 0.75, 0.75, 0, -85, 0.7, 0),
    "F": (0.6, 0, 0, 0, 0.35, -10, 0.9, 0),
    "G": (0, 1, 1, 1, 0, 10, 0.9, 90),
    "H": (0, 0, 1, 1, 0, -50, 0.7, 90),
    "I": (1, 1, 1, 0, 0, -60, 0.8, 0),
    "K": (0, 0.25, 1, 1, 0.3, 20, 1.1, 0),
    "L": (0, 1, 1, 1, 0, 85, 1.2, 0),
    "M": (0.65, 0.65, 0.65, 1, 0.25, -95, 0.5, 0),
    "N": (0.72, 0.72, 1, 1, 0.25, -70, 0.5, 0),
    "O": (0.62, 0.62, 0.62, 0.62, 0, -5, 0.9, 25),
    "P": (0, 0.25, 1, 1, 0.3, 20, 1.1, 150),
    "Q": (0, 1, 1, 1, 0, 30, 1, 160),
    "R": (0, 0, 1, 1, -0.25, -60, 0.8, 0),
    "S": (1, 1, 1, 1, 0, -75, 1.2, 0),
    "T": (0.8, 1, 1, 1, 0.15, -15, 1, 0),
    "U": (0, 0, 1, 1, 0, -60, 0.8, 0),
    "V": (0, 0, 1, 1, 0.4, -60, 0.8, 0),
    "W": (0, 0, 0, 1, 0.4, -70, 0.8, 0),
    "X": (0.45, 1, 1, 1, 0, -60, 0.8, 0),
    "Y": (1, 1, 1, 0, 0.3, 80, 1.2, 0),
}
KNUCKLES, LENGTHS = (-0.33, -0.11, 0.11, 0.33), (0.78, 0.86, 0.8, 0.62)
BONES = ((0.48, 85), (0.3, 105), (0.22, 60))  # share of the finger's length, bend in degrees at full flexion
SWAY, PLACE, SCALE, TURN = (0.08, 0.2), 0.045, (0.88, 1.12), 5.0  # reach and place in half hands, size of the hand, degrees
BEND, THUMB = 0.035, 4.0  # how much joints vary: a share of their range, and degrees of the thumb
CAMERA = EventCamera()


def letters(count: int, seed: int, steps: int = STEPS, batch: int = 100) -> Samples:
    """Event frames (count, steps, 48, 48) uint8 under the name `events`, labels (count,) in [0, 24)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(LETTERS), count)
    parts = [labels[start : start + batch] for start in range(0, count, batch)]
    frames = [CAMERA.frames(film(part, random, (SIDE, SIDE), steps).brightness, random) for part in parts]
    return Samples({"events": np.concatenate(frames)}, labels.astype(np.int64))


def recordings(count: int, seed: int, size: tuple[int, int] = (SIDE, SIDE), steps: int = STEPS) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """(event arrays, labels (count,), centres (count, 2)): the same hands before a sensor of `size` (height, width), 48 x 48 to 346 x 260.

    Each event array has the fields of `runtime.events.EVENT`, t in us. On sensors larger than 48 pixels the hand keeps to about 48 of them and lies
    anywhere; centres are (y, x) of its palm in the middle of the recording.
    """
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(LETTERS), count)
    events, centres = [], []
    for label in labels:
        scene = film(np.array([label]), random, size, steps)
        events += CAMERA.events(scene.brightness, random)
        centres.append(scene.centres[0])
    return events, labels.astype(np.int64), np.stack(centres)


def draw(labels: np.ndarray, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(images (samples, 96, 96), roll (samples,) in degrees) of hands whose joints vary a little."""
    capsules, roll = _hand(labels, random)
    axis = torch.linspace(-1.7, 1.7, CANVAS)
    row, column = torch.meshgrid(-axis, axis, indexing="ij")
    nearest = torch.full((len(labels), CANVAS, CANVAS), -9.0)
    image = torch.zeros_like(nearest)
    for index in range(capsules.shape[1]):
        x0, y0, z0, x1, y1, z1, radius = (capsules[:, index, k, None, None] for k in range(7))
        dx, dy, along_x, along_y = column - x0, row + 0.35 - y0, x1 - x0, y1 - y0
        share = ((dx * along_x + dy * along_y) / (along_x**2 + along_y**2 + 1e-6)).clamp(0, 1)
        distance = (dx - share * along_x) ** 2 + (dy - share * along_y) ** 2
        height = torch.sqrt((radius**2 - distance).clamp(min=0))
        depth = z0 + share * (z1 - z0) + height
        front = (distance < radius**2) & (depth > nearest)
        nearest = torch.where(front, depth, nearest)
        image = torch.where(front, 0.35 + 0.65 * height / radius + 0.25 * depth, image)
    return image.clamp(0, 1.6), roll


def _hand(labels: np.ndarray, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(capsules (samples, parts, 7): both ends and radius, roll in degrees)."""
    count = len(labels)
    pose = torch.tensor(list(LETTERS.values()), dtype=torch.float32)[torch.from_numpy(labels)]
    pose[:, :4] = (pose[:, :4] + BEND * _normal(random, count, 4)).clamp(0, 1)
    pose[:, 4] += BEND * _normal(random, count)
    pose[:, 5] += THUMB * _normal(random, count)
    zero = torch.zeros(count)
    parts: list[torch.Tensor] = []
    for finger, (knuckle, length) in enumerate(zip(KNUCKLES, LENGTHS, strict=True)):
        point = (zero + knuckle, zero + 0.95 - 0.05 * abs(finger - 1.3), zero)
        aside, bend = (finger - 1.5) * 0.45 * pose[:, 4], zero
        for bone, (share, angle) in enumerate(BONES):
            bend = bend + torch.deg2rad(pose[:, finger] * angle)
            flat = torch.cos(bend) * length * share
            step = (torch.sin(aside) * flat, torch.cos(aside) * flat, torch.sin(bend) * length * share)
            point = _capsule(parts, point, step, 0.105 - 0.012 * bone)
    thumb, point = torch.deg2rad(pose[:, 5]), (zero - 0.36, zero + 0.35, zero + 0.12)
    for length, reach in ((0.36, 1.0), (0.3, 0.8)):
        step = (-torch.sin(thumb) * length * pose[:, 6], torch.cos(thumb) * length * reach * pose[:, 6], zero + 0.08)
        point = _capsule(parts, point, step, 0.12)
    for x in (-0.3, -0.1, 0.1, 0.3):
        _capsule(parts, (zero + 0.7 * x, zero, zero), (zero + 0.3 * x, zero + 0.95, zero), 0.15)
    _capsule(parts, (zero, zero - 0.7, zero - 0.05), (zero, zero + 0.75, zero), 0.26)
    return torch.stack(parts, 1), pose[:, 7]


def _capsule(parts: list[torch.Tensor], start: tuple, step: tuple, radius: float) -> tuple:
    end = tuple(a + b for a, b in zip(start, step, strict=True))
    parts.append(torch.stack([*start, *end, torch.full_like(start[0], radius)], -1))
    return end


@dataclass(frozen=True)
class Film:
    """brightness: (samples, steps + 1, h, w), log intensity, one image a ms; centres: (samples, 2), the hand's middle in pixels (y, x)."""

    brightness: torch.Tensor
    centres: np.ndarray


def film(labels: np.ndarray, random: np.random.Generator, size: tuple[int, int], steps: int) -> Film:
    """What a sensor of `size` (height, width) sees of moving hands."""
    image, roll = draw(labels, random)
    count = len(labels)
    hand, background, centres = _movement(roll, random, size, steps)
    texture = functional.interpolate(_uniform(random, count, 1, 12, 12), size=(CANVAS, CANVAS), mode="bilinear") * 0.25 + 0.15
    lit = image * (0.7 + 0.6 * _uniform(random, count, 1, 1))
    covered, shade = _view(torch.stack([(image > 0).to(lit.dtype), lit], 1), hand, size).unbind(1)
    seen = torch.where(covered > 0.5, shade, _view(texture, background, size, "border")[:, 0])
    return Film(torch.log(0.1 + seen), centres)


def _movement(roll: torch.Tensor, random: np.random.Generator, size: tuple[int, int], steps: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Affine maps (samples, steps + 1, 2, 3) of the hand, which sways and turns, and of the background behind it; the hand's centres."""
    count = len(roll)
    extent = torch.tensor([size[1], size[0]], dtype=torch.float32) / SIDE  # of the sensor, in hands
    time = torch.arange(steps + 1) / steps
    rate, phase = 1 + _uniform(random, count, 3, 1), 2 * math.pi * _uniform(random, count, 3, 1)
    sway = (0.5 + 0.5 * _uniform(random, count, 3, 1)) * torch.sin(2 * math.pi * rate * time + phase)
    # The hand waves along one direction, which no two samples share: only edges across it fire.
    heading, reach = math.pi * _uniform(random, count, 1), SWAY[0] + (SWAY[1] - SWAY[0]) * _uniform(random, count, 1)
    along, across = reach * sway[:, 0], 0.25 * reach * sway[:, 1]
    moved = torch.stack([torch.cos(heading) * along - torch.sin(heading) * across, torch.sin(heading) * along + torch.cos(heading) * across], 1)
    place = (2 * _uniform(random, count, 2, 1) - 1) * (extent - 1).clamp(min=0)[None, :, None] + PLACE * _normal(random, count, 2, 1)
    scale = SCALE[0] + (SCALE[1] - SCALE[0]) * _uniform(random, count, 1)
    angle = torch.deg2rad(roll + TURN * _normal(random, count))[:, None] + 0.06 * sway[:, 2]
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    shift = moved + place  # in half hands, x and y
    rows = [
        torch.stack([cosine * extent[0], -sine * extent[1], -cosine * shift[:, 0] + sine * shift[:, 1]], -1),
        torch.stack([sine * extent[0], cosine * extent[1], -sine * shift[:, 0] - cosine * shift[:, 1]], -1),
    ]
    behind = torch.zeros(count, steps + 1, 2, 3)
    behind[..., 0, 0] = behind[..., 1, 1] = 0.5
    behind[..., 0, 2] = 0.08 * sway[:, 1] * _uniform(random, count, 1) / extent[0]
    middle = place[:, :, 0].numpy()[:, ::-1] * (SIDE / 2) + np.array(size) / 2
    return torch.stack(rows, -2), behind, middle


def _view(images: torch.Tensor, maps: torch.Tensor, size: tuple[int, int], outside: str = "zeros") -> torch.Tensor:
    """Images (samples, channels, ...) under each map at the sensor's size, (samples, channels, steps + 1, h, w)."""
    frames, height = maps.shape[1], size[0]
    y, x = (torch.arange(-side + 1, side, 2) / side for side in size)
    # All frames of a sample are sampled as one tall image: no copies of its picture.
    rows, columns = maps[..., 1] * y[:, None, None, None], maps[..., 0] * x[:, None, None, None]
    grid = rows.permute(1, 2, 0, 3)[:, :, :, None] + columns.permute(1, 2, 0, 3)[:, :, None] + maps[:, :, None, None, :, 2]
    seen = functional.grid_sample(images, grid.flatten(1, 2), align_corners=False, padding_mode=outside)
    return seen.unflatten(2, (frames, height))


def _normal(random: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(random.standard_normal(shape)).to(torch.float32)


def _uniform(random: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(random.random(shape)).to(torch.float32)
