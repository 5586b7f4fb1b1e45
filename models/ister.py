"""Ister: forecasting with dot-attention, O(N) in the number of series and element-wise.

    g = sum_n GELU(softmax_n(Q) * K)     (dim,)     one summary of all tokens
    Y = V * g                            (N, dim)   read by every token

Tokens are variables (an inverted transformer): each of N series of `length` values becomes one token. The series is split into trend
(moving average) and season; the season goes through dot-attention, the trend through an MLP; each series is normalised by its own mean and
deviation, which are given back at the end. x: (batch, length, variables) → (batch, horizon, variables). "Ister" (arXiv 2412.18798),
equations as in the authors' public code; the normalisation is that of Kim et al., "Reversible Instance Normalization" (ICLR 2022).
Task: nine accelerometer axes of a walking person, 16 steps (0.25 s) ahead.
"""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import MissingError
from ..runtime.manifest import TensorSpec
from .layers import Block, SelfAttention
from .metrics import MEAN_SQUARED_ERROR
from .operations import operations
from .reference import Reference, Samples
from .registry import weights_file
from .training import Progress, fit, metric_of

LENGTH, HORIZON, VARIABLES = 64, 16, 9


class DotAttention(nn.Module):
    """g = sum_n GELU(softmax_n(Q) * K), Y = V * g; x: (batch, tokens, dim) → (batch, tokens, dim). No tokens x tokens matrix."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = functional.softmax(self.query(x), 1)
        summary = functional.gelu(share * self.key(x)).sum(1, keepdim=True)
        return self.project(self.value(x) * summary)


class Ister(nn.Module):
    """Season by blocks of dot-attention, trend by an MLP; attention="softmax" gives the twin."""

    def __init__(
        self, length: int = LENGTH, horizon: int = HORIZON, dim: int = 64, depth: int = 2,
        heads: int = 4, kernel: int = 9, attention: str = "dot",
    ) -> None:  # fmt: skip
        super().__init__()
        self.kernel = kernel
        self.embed = nn.Linear(length, dim)
        mixers = [SelfAttention(dim, heads) if attention == "softmax" else DotAttention(dim) for _ in range(depth)]
        self.blocks = nn.ModuleList([Block(dim, mixer, expansion=2) for mixer in mixers])
        self.norm, self.season = nn.LayerNorm(dim), nn.Linear(dim, horizon)
        self.trend = nn.Sequential(nn.Linear(length, dim), nn.GELU(), nn.Linear(dim, horizon))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(1, keepdim=True)
        deviation = torch.sqrt(((x - mean) ** 2).mean(1, keepdim=True) + 1e-5)
        series = ((x - mean) / deviation).transpose(1, 2)
        slow = moving_average(series, self.kernel)
        tokens = self.embed(series - slow)
        for block in self.blocks:
            tokens = block(tokens)
        forecast = self.season(self.norm(tokens)) + self.trend(slow)
        return forecast.transpose(1, 2) * deviation + mean


def moving_average(series: torch.Tensor, kernel: int) -> torch.Tensor:
    """Centred mean over `kernel` (odd) steps of the last axis, the ends repeated; (batch, variables, length)."""
    half = kernel // 2
    first, last = series[..., :1].expand(-1, -1, half), series[..., -1:].expand(-1, -1, half)
    return functional.avg_pool1d(torch.cat([first, series, last], -1), kernel, stride=1)


def paper() -> Ister:
    """The paper's ETT setting: 96 steps in, 96 out, width 512."""
    return Ister(length=96, horizon=96, dim=512, depth=2, heads=8, kernel=25)


def twin() -> Ister:
    """Full softmax attention over variables in the same network."""
    return Ister(attention="softmax")


@cache
def _walk() -> np.ndarray:
    """Daphnet S06R02E0 as aeon ships it: (7,040 steps at 64 Hz, 9 axes), standardised on its first 60 %."""
    try:
        from aeon.datasets import load_daphnet_s06r02e0
    except ImportError:
        raise MissingError("the accelerometer series comes with aeon: pip install 'edgeattn[zoo]'.") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series = np.asarray(load_daphnet_s06r02e0()[0], np.float64)
    head = series[: int(0.6 * len(series))]
    return ((series - head.mean(0)) / head.std(0)).astype(np.float32)


def forecasts(start: float, stop: float, stride: int) -> Samples:
    """Windows between two fractions of the recording: x (windows, 64, 9), labels the next 16 steps (windows, 16, 9)."""
    series = _walk()
    offsets = np.arange(int(start * len(series)), int(stop * len(series)) - LENGTH - HORIZON, stride)
    x = np.stack([series[o : o + LENGTH] for o in offsets])
    return Samples({"x": x}, np.stack([series[o + LENGTH : o + LENGTH + HORIZON] for o in offsets]))


def calibration() -> Samples:
    """256 windows of the training part."""
    samples = forecasts(0.0, 0.6, 2)
    return samples.take(np.random.default_rng(0).permutation(len(samples))[:256])


def evaluation() -> Samples:
    """The last quarter of the recording, never seen in training."""
    return forecasts(0.75, 1.0, 1)


def train(seed: int = 0, epochs: int = 40, progress: Progress | None = None, network: Ister | None = None) -> tuple[nn.Module, float]:
    """Trains the forecast; returns the network and its mean squared error on the evaluation part."""
    torch.manual_seed(seed)
    module = network if network is not None else Ister()
    fit(module, forecasts(0.0, 0.6, 2), forecasts(0.6, 0.75, 2), functional.mse_loss, epochs, seed=seed, rate=1e-3, progress=progress)
    return module, metric_of(REFERENCE, module)


def measure() -> dict[str, float]:
    """Error beside the twin's, and how the operations of both attentions grow when there are four times as many variables."""
    tokens = [torch.randn(1, count, 64) for count in (256, 1024)]
    growth = {name: [operations(mixer, x) for x in tokens] for name, mixer in (("dot", DotAttention(64)), ("softmax", SelfAttention(64, 4)))}
    return {
        "mean squared error, dot-attention": metric_of(REFERENCE, REFERENCE.module()),
        "mean squared error, softmax attention": metric_of(REFERENCE, REFERENCE.trained_twin()),
        "operations of dot-attention at 1,024 variables over those at 256": growth["dot"][1] / growth["dot"][0],
        "operations of softmax attention at 1,024 variables over those at 256": growth["softmax"][1] / growth["softmax"][0],
    }


REFERENCE = Reference(
    name="ister",
    build=Ister,
    inputs=(
        TensorSpec(
            name="x",
            shape=("batch", LENGTH, VARIABLES),
            dtype="float32",
            unit="standard deviations of each axis",
            preprocessing="64 Hz accelerometer, standardised by axis",
        ),
    ),
    outputs=("forecast",),
    source="arXiv 2412.18798; repository macovaseas/Ister",
    task="regression",
    data="accelerometers of a walking person (Daphnet, aeon), 16 steps ahead",
    claim="attention over variables in linear time, element-wise",
    calibration=calibration,
    evaluation=evaluation,
    metric=MEAN_SQUARED_ERROR,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("ister"),
    measure=measure,
    twin_weights=weights_file("ister_twin"),
    reached=1.2120,
)
