"""The attention front end of arXiv 2605.06005: where on a large sensor is the hand? Proto-object saliency in spiking neurons, events in, events out.

    VM(x, y; a) = exp(k rho r0 cos(phi - a)) / I0(r - r0)               an arc of radius r0 that faces angle a (von Mises)
    m_t = exp(-1/tau) m_(t-1) + (VM_a * e_t) - z_(t-1),   z_t = [m_t > 1]     one neuron per pixel, angle and scale

(r, phi): polar coordinates about a point r0 - 1 pixels behind the filter's middle, so that the arc passes it; I0: the modified Bessel function; e_t:
the events of one millisecond, (h, w) of 0 and 1; * is correlation. Saliency is the number of spikes over angles, scales and time; its peak is the
middle of the region of interest, which is cut out and scaled to the network's input. Constants are the paper's; filters are scaled here so
that each sums to `GAIN`. The scales are a true pyramid: events pooled by 2 and 3, saliency brought back to the sensor's size.
After Iacono et al., "Proto-object based saliency for event-driven cameras" (IROS 2019) and Russell et al. (2014).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch.nn import functional

from ..runtime.events import frames

KERNEL, RADIUS, RHO, THICKNESS, OFFSET, RESCALE = 13, 15.0, 0.09, 9.0, 1.0, 3
ANGLES, SCALES, TAU = 8, (1, 2, 3), 33.0  # TAU in ms
GAIN = 4.0  # sum of one filter's weights: a patch where every fourth pixel fires drives its neuron over the threshold at once
SHARE = 250 / 260  # of the sensor's height that the paper cuts out


@cache
def filters() -> torch.Tensor:
    """(angles, 39, 39) von Mises filters."""
    axis = torch.arange(KERNEL, dtype=torch.float64)
    y, x = torch.meshgrid((KERNEL - 1) / 2 - axis, axis - (KERNEL - 1) / 2, indexing="ij")  # the paper halves KERNEL: half a pixel off
    found = []
    for angle in torch.arange(ANGLES, dtype=torch.float64) * (2 * math.pi / ANGLES):
        behind = RADIUS - OFFSET
        right, up = x + behind * torch.cos(angle), y + behind * torch.sin(angle)
        along = THICKNESS * RHO * RADIUS * torch.cos(torch.atan2(up, right) - angle)
        found.append(torch.exp(along) / torch.special.i0(torch.hypot(right, up) - RADIUS))
    arcs = functional.interpolate(torch.stack(found)[:, None], scale_factor=RESCALE, mode="bilinear")[:, 0]
    return (GAIN * arcs / arcs.sum((1, 2), keepdim=True)).to(torch.float32)


def saliency(events: np.ndarray) -> np.ndarray:
    """events: frames (steps, h, w) of 0 and 1 → spikes per pixel (h, w) float32, over angles, scales and steps."""
    seen = torch.from_numpy(np.ascontiguousarray(events)).to(torch.float32)
    total = torch.zeros(seen.shape[1:])
    for scale in SCALES:
        pooled = functional.max_pool2d(seen[:, None], scale, ceil_mode=True)[:, 0] if scale > 1 else seen
        spikes = _spikes(pooled)
        total += functional.interpolate(spikes[None, None], size=tuple(total.shape), mode="bilinear")[0, 0]
    return total.numpy()


def _spikes(seen: torch.Tensor) -> torch.Tensor:
    """Frames (steps, h, w) → spikes (h, w) of all angles over all steps; the filters run as products of spectra."""
    steps, height, width = seen.shape
    kernels = filters()
    side = kernels.shape[1]
    size = (next_fast_len(height + side - 1), next_fast_len(width + side - 1))
    spectrum = torch.fft.rfft2(kernels.flip(1, 2), s=size)
    membrane, count = torch.zeros(ANGLES, height, width), torch.zeros(height, width)
    start, leak = side // 2, math.exp(-1 / TAU)
    fired = torch.zeros_like(membrane)
    for step in range(steps):
        current = torch.fft.irfft2(torch.fft.rfft2(seen[step], s=size) * spectrum, s=size)[:, start : start + height, start : start + width]
        membrane = leak * membrane + current - fired
        fired = (membrane > 1).to(torch.float32)
        count += fired.sum(0)
    return count


def region(events: np.ndarray, sensor: tuple[int, int], steps: int) -> tuple[int, int]:
    """The most salient point (y, x) of the first `steps` ms; events: fields t, x, y, p; sensor: (h, w)."""
    seen = saliency(frames(events, sensor, steps))
    best = np.argwhere(seen == seen.max())
    y, x = np.rint(best.mean(0)).astype(int)  # a plateau's middle
    return int(y), int(x)


def cut_out(events: np.ndarray, sensor: tuple[int, int], centre: tuple[int, int], side: int, size: int) -> np.ndarray:
    """The events within `side` pixels about the centre (moved to lie on the sensor), scaled to `size` x `size` pixels."""
    left, top = (min(max(middle - side // 2, 0), max(extent - side, 0)) for middle, extent in ((centre[1], sensor[1]), (centre[0], sensor[0])))
    x, y = events["x"].astype(np.int64) - left, events["y"].astype(np.int64) - top
    inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    found = events[inside].copy()
    found["x"], found["y"] = x[inside] * size // side, y[inside] * size // side
    return found
