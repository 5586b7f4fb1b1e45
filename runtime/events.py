"""An event camera's output, event by event, as the frames that a spiking bundle takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .manifest import TensorSpec

EVENT = np.dtype([("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "u1")])  # t: us, p: 1 brighter, 0 darker
STEP = 1000  # us
LONGEST = 100_000  # steps: beyond, time stamps were hardly counted from the window's start


def is_events(array: Any) -> bool:
    """Whether it is a structured array, such as `EVENT`, rather than frames."""
    return isinstance(array, np.ndarray) and array.dtype.names is not None


def frames(events: np.ndarray, shape: Sequence[int], steps: int | None = None) -> np.ndarray:
    """(steps, *shape) uint8: 1 where at least one event fell into that millisecond.

    events: fields t (us from the window's start), x (column), y (row), p; shape: (h, w), or (1, h, w), or (2, h, w) with p as the channel.
    steps: of 1 ms each, None: up to the last event; what comes later is left out. Raises InputError, with the index of the first wrong event,
    for times that fall back or lie before the window, and for places off the sensor.
    """
    shape = tuple(shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 2)):
        raise InputError(f"an event array needs an input of (height, width), one or two channels; this one is {shape}: give frames of that shape.")
    missing = [name for name in ("t", "x", "y", "p")[: 4 if shape[0] == 2 and len(shape) == 3 else 3] if name not in (events.dtype.names or ())]
    if missing or events.ndim != 1:
        raise InputError(f"an event array is one-dimensional with fields t, x, y, p; this one has {events.dtype.names} and shape {events.shape}.")
    t, x, y = (events[name].astype(np.int64) for name in ("t", "x", "y"))
    _check(t, x, y, shape[-2:])
    step = t // STEP
    length = steps if steps is not None else int(step[-1]) + 1 if len(step) else 1
    if length > LONGEST:
        raise InputError(f"event {len(t) - 1} is at {t[-1]} us, over {LONGEST} ms: count t from the window's start (take the first time off).")
    found = np.zeros((length, 2 if len(shape) == 3 and shape[0] == 2 else 1, *shape[-2:]), np.uint8)
    inside = step < length
    channel = events["p"][inside].astype(np.int64) if found.shape[1] == 2 else np.zeros(inside.sum(), np.int64)
    if channel.max(initial=0) > 1 or channel.min(initial=0) < 0:
        raise InputError("polarity p must be 0 or 1: map -1 to 0 first.")
    found[step[inside], channel, y[inside], x[inside]] = 1
    return found.reshape(length, *shape)


def _check(t: np.ndarray, x: np.ndarray, y: np.ndarray, size: tuple[int, ...]) -> None:
    backwards = np.flatnonzero(np.diff(t) < 0)
    if len(backwards):
        at = int(backwards[0]) + 1
        raise InputError(f"event {at} is out of order: t falls from {t[at - 1]} to {t[at]} us. Sort the events by t.")
    if len(t) and t[0] < 0:
        raise InputError(f"event 0 lies before the window: t is {t[0]} us. Count t from the window's start.")
    outside = np.flatnonzero((x < 0) | (x >= size[1]) | (y < 0) | (y >= size[0]))
    if len(outside):
        at = int(outside[0])
        raise InputError(
            f"event {at} is off the sensor: x {x[at]}, y {y[at]}, while the bundle takes {size[0]} rows and {size[1]} columns "
            f"({len(outside)} such events). Crop or scale the recording first."
        )


def batched(given: Any, spec: TensorSpec) -> tuple[Any, bool]:
    """(frames (n, steps, ...), whether one single sample was given): from event arrays, one sample's frames, or a batch as it is."""
    size = tuple(int(axis) for axis in spec.shape[2:])
    if is_events(given):
        return frames(given, size)[None], True
    if isinstance(given, np.ndarray) and given.ndim == len(spec.shape) - 1 and given.shape[1:] == size:
        return given[None], True
    return given, False
