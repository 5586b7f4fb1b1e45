"""An event camera: brightness over time in, events with time stamps of a microsecond out.

A pixel fires when its log intensity has moved by its threshold since it fired last, then rests for the refractory time and starts anew from the
intensity it finds (Lichtsteiner et al., "A 128x128 120 dB 15 us latency asynchronous temporal contrast vision sensor", 2008, fig. 3). Between two
rendered images log intensity is a straight line, so the time of each crossing has a closed form (Rebecq et al., "ESIM: an open event camera
simulator", CoRL 2018). Thresholds differ between pixels; noise events are Poisson, and hot pixels fire all the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..runtime.events import EVENT


@dataclass(frozen=True)
class EventCamera:
    """threshold: of log intensity; mismatch: its standard deviation over pixels, as a share; refractory: ms; noise: events per pixel and ms;
    hot: share of pixels that fire in every ms."""

    threshold: float = 0.2
    mismatch: float = 0.03
    refractory: float = 0.5
    noise: float = 0.001
    hot: float = 0.001

    def frames(self, brightness: torch.Tensor, random: np.random.Generator) -> np.ndarray:
        """(samples, steps + 1, h, w) log intensity, one image a ms → (samples, steps, h, w) uint8: 1 where at least one event fell."""
        samples, images, *size = brightness.shape
        fired = torch.zeros(samples, images - 1, *size, dtype=torch.bool)
        for step, crossed, _, _ in self._crossings(brightness, random):
            fired[:, step] |= crossed
        return (fired | self._noise(fired.shape, random)).to(torch.uint8).numpy()

    def events(self, brightness: torch.Tensor, random: np.random.Generator) -> list[np.ndarray]:
        """The same recordings event by event: one `EVENT` array a sample, in the order of time."""
        parts = []
        for step, crossed, brighter, share in self._crossings(brightness, random):
            sample, y, x = torch.nonzero(crossed, as_tuple=True)
            parts.append((sample, 1000 * (step + share[sample, y, x]), x, y, brighter[sample, y, x]))
        sample, step, y, x = torch.nonzero(self._noise((len(brightness), brightness.shape[1] - 1, *brightness.shape[2:]), random), as_tuple=True)
        at = 1000 * (step + torch.from_numpy(random.random(len(step))))
        parts.append((sample, at, x, y, torch.from_numpy(random.random(len(step)) < 0.5)))
        sample, at, x, y, polarity = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
        recordings = []
        for index in range(len(brightness)):
            mine = np.flatnonzero(sample == index)
            mine = mine[np.argsort(at[mine], kind="stable")]
            events = np.empty(len(mine), EVENT)
            for name, column in (("t", at), ("x", x), ("y", y), ("p", polarity)):
                events[name] = column[mine]
            recordings.append(events)
        return recordings

    def _crossings(self, brightness: torch.Tensor, random: np.random.Generator) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """(step, who fires, who of them brighter, when as a share of the step), as often in a step as pixels still fire."""
        samples, images, *size = brightness.shape
        spread = torch.from_numpy(random.standard_normal((samples, *size))).to(brightness.dtype)
        threshold = self.threshold * (1 + self.mismatch * spread)
        level, ready = brightness[:, 0].clone(), torch.zeros(samples, *size)
        for step in range(images - 1):
            before = brightness[:, step]
            slope = brightness[:, step + 1] - before
            while True:
                rising = slope > 0
                wanted = level + torch.where(rising, threshold, -threshold)
                share = torch.maximum(torch.where(slope == 0, torch.inf, (wanted - before) / slope), ready)
                # A pixel that wakes beyond the other threshold fires at once, whichever way the light is going.
                passed = (before + ready * slope - level).abs() > threshold
                share = torch.where(passed, ready, share)
                crossed = share < 1
                if not crossed.any():
                    break
                brighter = before + share * slope > level
                yield step, crossed, brighter, share
                awake = share + self.refractory
                ready = torch.where(crossed, awake, ready)
                level = torch.where(crossed, before + awake.clamp(max=1) * slope, level)
            ready = (ready - 1).clamp(min=0)
            if step + 2 < images:  # who sleeps into the next step takes the level it wakes to
                asleep = ready > 0
                following = brightness[:, step + 1] + ready * (brightness[:, step + 2] - brightness[:, step + 1])
                level = torch.where(asleep, following, level)

    def _noise(self, shape: tuple[int, ...], random: np.random.Generator) -> torch.Tensor:
        """(samples, steps, h, w) bool: noise events and hot pixels."""
        hot = random.random((shape[0], 1, *shape[2:])) < self.hot
        return torch.from_numpy((random.random(shape, dtype=np.float32) < self.noise) | hot)
