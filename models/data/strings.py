"""A neutrino telescope of strings in water: Cherenkov light of tracks and showers among noise hits.

    track:   t_i = t_0 + (l_i + d_i tan theta) / c,   tan theta = sqrt(n^2 - 1)      l: along the track, d: distance from it
    shower:  t_i = t_0 + n r_i / c                                                   r: distance from it

Eight strings, one in the middle and seven on a circle of 60 m, of 24 modules each, 15 m apart. "Measured" events have more noise, weaker light and a
clock that is less exact than "simulated" ones. Half of the events are tracks from below (neutrinos), a quarter from above (muons), a quarter showers.
"""

from __future__ import annotations

import numpy as np

from ..reference import Samples

HITS = 64
SPEED, INDEX = 0.2998, 1.33  # m / ns; of water
LENGTH = 25.0  # m: attenuation of light
WINDOW = 2000.0  # ns
SCALE = np.array([60.0, 60.0, 180.0, WINDOW / 2])


def modules() -> np.ndarray:
    """(192, 3) m, the middle of the detector at the origin."""
    angle = 2 * np.pi * np.arange(7) / 7
    strings = np.concatenate([np.zeros((1, 2)), 60 * np.stack([np.cos(angle), np.sin(angle)], 1)])
    depth = 15 * (np.arange(24) - 11.5)
    return np.concatenate([np.concatenate([np.tile(string, (24, 1)), depth[:, None]], 1) for string in strings])


def events(count: int, seed: int, measured: bool) -> Samples:
    """hits (count, 64, 5) ordered in time, present (count, 64); labels (count, 67): light of each hit (-1: no hit), shower, neutrino, measured."""
    random, where = np.random.default_rng(seed), modules()
    kind = random.choice(4, count, p=(0.25, 0.25, 0.25, 0.25))  # 0, 1: neutrino; 2: muon; 3: shower
    middle = random.uniform(-1, 1, (count, 1, 3)) * np.array([40.0, 40.0, 120.0])
    away = where - middle
    up = np.where(kind < 2, 1, -1) * random.uniform(0.15, 1.0, count)
    angle, flat = random.uniform(0, 2 * np.pi, count), np.sqrt(1 - up**2)
    direction = np.stack([flat * np.cos(angle), flat * np.sin(angle), up], 1)[:, None]
    along = (away * direction).sum(-1)
    distance = np.linalg.norm(away, axis=-1)
    beside = np.sqrt(np.maximum(distance**2 - along**2, 1.0))
    shower = (kind == 3)[:, None]
    arrival = np.where(shower, INDEX * distance, along + beside * np.sqrt(INDEX**2 - 1)) / SPEED
    near = np.where(shower, distance, beside)
    bright = np.where(kind == 3, 40.0, 7.0) * np.exp(0.5 * random.standard_normal(count)) * (0.8 if measured else 1.0)
    light = random.poisson(bright[:, None] * np.exp(-near / LENGTH) / (1 + np.where(shower, (near / 8) ** 2, near / 3)))
    arrival = arrival + random.uniform(-200, 200, (count, 1)) + (5.0 if measured else 2.0) * random.standard_normal(arrival.shape)
    light[np.abs(arrival) > WINDOW / 2] = 0
    noise = random.poisson((0.29 if measured else 0.25) * np.ones(arrival.shape))
    charge = np.concatenate([light * random.lognormal(0, 0.25, light.shape), (noise > 0) * (0.3 + random.exponential(0.8, noise.shape))], 1)
    time = np.concatenate([arrival, random.uniform(-WINDOW / 2, WINDOW / 2, arrival.shape)], 1)
    order = np.argsort(np.where(charge > 0, random.random(charge.shape), 2.0), 1)[:, :HITS]  # a random part, where there are more
    charge, time = np.take_along_axis(charge, order, 1), np.take_along_axis(time, order, 1)
    sooner = np.argsort(np.where(charge > 0, time, np.inf), 1)
    order = np.take_along_axis(order, sooner, 1)
    charge, time = np.take_along_axis(charge, sooner, 1), np.take_along_axis(time, sooner, 1)
    present = charge > 0
    place = np.concatenate([where, where])[order]
    hits = np.concatenate([np.concatenate([place, time[..., None]], -1) / SCALE, np.log1p(charge)[..., None]], -1) * present[..., None]
    lit = np.where(present, order < len(where), -1)
    labels = np.concatenate([lit, (kind == 3)[:, None], (kind < 2)[:, None], np.full((count, 1), measured)], 1)
    return Samples({"hits": hits.astype(np.float32), "present": present}, labels.astype(np.float32))


def causal(samples: Samples) -> np.ndarray:
    """(events, 64): others that a hit could share its light with, |dr| <= 70 m and |dt| <= n |dr| / c + 15 ns; the classical cut asks for some."""
    place, time = (samples.inputs["hits"][..., :3] * SCALE[:3], samples.inputs["hits"][..., 3] * SCALE[3])
    apart = np.linalg.norm(place[:, :, None] - place[:, None], axis=-1)
    late = np.abs(time[:, :, None] - time[:, None])
    present = samples.inputs["present"]
    linked = (apart <= 70) & (late <= INDEX * apart / SPEED + 15) & present[:, None] & present[:, :, None]
    return linked.sum(-1) - present
