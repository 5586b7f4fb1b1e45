"""Procedural fingerspelling: the 24 static letters as a kinematic hand before an event camera, with known labels.

Each finger is a chain of three capsules whose joints bend by shares of 85, 105 and 60 degrees of one flexion in [0, 1]; the thumb is two
capsules, the palm four, the wrist one. The hand is drawn once (brightness of a lit cylinder, nearest surface in front), then moves, turns and
scales over a background that moves too. A pixel fires where its log intensity changed by more than 0.2 since it fired last (Lichtsteiner et
al., "A 128x128 120 dB 15 us latency asynchronous temporal contrast vision sensor", 2008); 0.1 % of pixels fire by noise in every step and
0.1 % are hot. J and Z are movements and left out.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from .reference import Samples

CANVAS, SIDE, STEPS = 96, 48, 35

# Flexion of index, middle, ring and little finger; spread; thumb: degrees outwards from upright, length; roll of the hand in degrees.
LETTERS = {
    "A": (1, 1, 1, 1, 0, 15, 1, 0),
    "B": (0, 0, 0, 0, 0, -60, 0.8, 0),
    "C": (0.45, 0.45, 0.45, 0.45, 0.1, 50, 1, 25),
    "D": (0, 0.8, 0.8, 0.8, 0, -25, 0.9, 0),
    "E": (0.75, 0.75, 0.75, 0.75, 0, -80, 0.7, 0),
    "F": (0.6, 0, 0, 0, 0.35, -10, 0.9, 0),
    "G": (0, 1, 1, 1, 0, 10, 0.9, 90),
    "H": (0, 0, 1, 1, 0, -50, 0.7, 90),
    "I": (1, 1, 1, 0, 0, -60, 0.8, 0),
    "K": (0, 0.25, 1, 1, 0.3, 20, 1.1, 0),
    "L": (0, 1, 1, 1, 0, 85, 1.2, 0),
    "M": (0.85, 0.85, 0.85, 1, 0.1, -95, 0.5, 0),
    "N": (0.85, 0.85, 1, 1, 0.1, -75, 0.6, 0),
    "O": (0.62, 0.62, 0.62, 0.62, 0, -5, 0.9, 25),
    "P": (0, 0.25, 1, 1, 0.3, 20, 1.1, 150),
    "Q": (0, 1, 1, 1, 0, 30, 1, 160),
    "R": (0, 0, 1, 1, -0.25, -60, 0.8, 0),
    "S": (1, 1, 1, 1, 0, -55, 0.9, 0),
    "T": (0.9, 1, 1, 1, 0.1, -35, 0.8, 0),
    "U": (0, 0, 1, 1, 0, -60, 0.8, 0),
    "V": (0, 0, 1, 1, 0.4, -60, 0.8, 0),
    "W": (0, 0, 0, 1, 0.4, -70, 0.8, 0),
    "X": (0.45, 1, 1, 1, 0, -60, 0.8, 0),
    "Y": (1, 1, 1, 0, 0.3, 80, 1.2, 0),
}
KNUCKLES, LENGTHS = (-0.33, -0.11, 0.11, 0.33), (0.78, 0.86, 0.8, 0.62)
BONES = ((0.48, 85), (0.3, 105), (0.22, 60))  # share of the finger's length, bend in degrees at full flexion
THRESHOLD, NOISE, HOT = 0.2, 0.001, 0.001


def letters(count: int, seed: int, steps: int = STEPS, batch: int = 100) -> Samples:
    """Event frames (count, steps, 48, 48) uint8 under the name `events`, labels (count,) in [0, 24)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(LETTERS), count)
    frames = [_record(labels[start : start + batch], random, steps) for start in range(0, count, batch)]
    return Samples({"events": np.concatenate(frames)}, labels.astype(np.int64))


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
    """(capsules (samples, parts, 7): both ends and radius, roll): joints vary by 5 % of their range, the thumb by 6 degrees."""
    count = len(labels)
    pose = torch.tensor(list(LETTERS.values()), dtype=torch.float32)[torch.from_numpy(labels)]
    pose[:, :4] = (pose[:, :4] + 0.05 * _normal(random, count, 4)).clamp(0, 1)
    pose[:, 4] += 0.05 * _normal(random, count)
    pose[:, 5] += 6 * _normal(random, count)
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


def _record(labels: np.ndarray, random: np.random.Generator, steps: int) -> np.ndarray:
    """What the event camera sees of moving hands, (samples, steps, 48, 48) uint8."""
    count = len(labels)
    image, roll = draw(labels, random)
    hand, background = _movement(roll, random, steps)
    texture = functional.interpolate(_uniform(random, count, 1, 12, 12), size=(CANVAS, CANVAS), mode="bilinear") * 0.25 + 0.15
    lit = image * (0.7 + 0.6 * _uniform(random, count, 1, 1))
    seen = torch.where(_view(image > 0, hand) > 0.5, _view(lit, hand), _view(texture[:, 0], background, "border"))
    brightness = torch.log(0.1 + seen)
    quiet = _uniform(random, count, steps, SIDE, SIDE) >= NOISE
    cold = _uniform(random, count, SIDE, SIDE) >= HOT
    last = brightness[:, 0]
    frames = torch.zeros(count, steps, SIDE, SIDE, dtype=torch.uint8)
    for step in range(steps):
        fired = (brightness[:, step + 1] - last).abs() > THRESHOLD
        last = torch.where(fired, brightness[:, step + 1], last)
        frames[:, step] = fired | ~quiet[:, step] | ~cold
    return frames.numpy()


def _movement(roll: torch.Tensor, random: np.random.Generator, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Affine maps (samples, steps + 1, 2, 3) of the hand, which sways and turns, and of the background behind it."""
    count = len(roll)
    time = torch.arange(steps + 1) / steps
    rate, phase, size = 1 + _uniform(random, count, 3, 1), 2 * math.pi * _uniform(random, count, 3, 1), 0.5 + 0.5 * _uniform(random, count, 3, 1)
    sway = size * torch.sin(2 * math.pi * rate * time + phase)
    offset = 0.04 * _normal(random, count, 2, 1)
    scale = 0.92 + 0.16 * _uniform(random, count, 1)
    angle = torch.deg2rad(roll + 4 * _normal(random, count))[:, None] + 0.06 * sway[:, 2]
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = [torch.stack([cosine, -sine, 0.1 * sway[:, 0] + offset[:, 0]], -1), torch.stack([sine, cosine, 0.1 * sway[:, 1] + offset[:, 1]], -1)]
    behind = torch.zeros(count, steps + 1, 2, 3)
    behind[..., 0, 0] = behind[..., 1, 1] = 0.5
    behind[..., 0, 2] = 0.08 * sway[:, 1] * _uniform(random, count, 1)
    return torch.stack(rows, -2), behind


def _view(image: torch.Tensor, maps: torch.Tensor, outside: str = "zeros") -> torch.Tensor:
    """The image under each map at the sensor's size, (samples, steps + 1, 48, 48)."""
    count, frames = maps.shape[:2]
    grid = functional.affine_grid(maps.reshape(-1, 2, 3), [count * frames, 1, SIDE, SIDE], align_corners=False)
    repeated = image.to(torch.float32)[:, None].repeat_interleave(frames, 0)
    return functional.grid_sample(repeated, grid, align_corners=False, padding_mode=outside).reshape(count, frames, SIDE, SIDE)


def _normal(random: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(random.standard_normal(shape)).to(torch.float32)


def _uniform(random: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(random.random(shape)).to(torch.float32)
