"""MambaRain: rain nowcasting by blocks that run a selective scan along time and softmax attention in space.

    h_t = exp(delta_t A) h_(t-1) + delta_t B_t x_t,   y_t = C_t h_t + D x_t     along the frames of one place
    Y   = softmax(Q K^T / sqrt(d)) V                                            over the places of one frame
    L   = mean (y - y*)^2 + lambda mean | |F y| - |F y*| |                      F: Fourier transform of a frame; in the loss only

x: (batch, frames, places, dim); delta, B, C as in `mamba.SelectiveParameters`; Q, K, V: (batch, heads, places, d). A frame to come enters as one
learned token of its lead time, the same at every place, behind those that were seen: all that a forecast knows of the past has gone through the
state h, and no frame is copied past it. Terrain is one more input map.

"MambaRain: multi-scale Mamba-attention framework for 0-3 hour precipitation nowcasting" (arXiv 2605.14606), from its abstract (the named repository
was not found): encoder of two convolutions and two such blocks, spectral loss, terrain. Scan of Gu and Dao, "Mamba" (arXiv 2312.00752, eq. 2): a
reference reconstruction. The rival, as in the paper's claim, has convolutions alone. Task: 12 frames of 15 minutes (three hours) of moving, growing,
diffusing rain cells from the 8 before, see data/rain.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data import rain
from .layers import Block, SelfAttention
from .mamba import Mamba
from .reference import Metric, Reference, Samples
from .registry import weights_file
from .training import Progress, fit, metric_of, outputs

SIDE, PAST, FUTURE = 16, 8, 12
RAINING = 0.2  # cm/h: from here on a pixel counts as rain


class AlongTime(nn.Module):
    """A mixer over the frames of each place; x: (batch, frames, places, dim) → the same shape."""

    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, frames, places, dim = x.shape
        tokens = x.transpose(1, 2).reshape(batch * places, frames, dim)
        return self.mixer(tokens).reshape(batch, places, frames, dim).transpose(1, 2)


class InSpace(nn.Module):
    """Softmax attention over the places of each frame; x: (batch, frames, places, dim) → the same shape."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.mixer = SelfAttention(dim, heads)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, frames, places, dim = x.shape
        return self.mixer(x.reshape(batch * frames, places, dim)).reshape(x.shape)


class MambaRain(nn.Module):
    """past: (batch, 8, side, side), terrain: (batch, 1, side, side) → (batch, 12, side, side); strides: of the two encoding convolutions."""

    def __init__(self, side: int = SIDE, dim: int = 32, depth: int = 2, heads: int = 4, state: int = 4, strides: tuple[int, int] = (2, 2)) -> None:
        super().__init__()
        self.factor = strides[0] * strides[1]
        places = (side // self.factor) ** 2
        self.encode = nn.Sequential(
            nn.Conv2d(2, dim, 3, stride=strides[0], padding=1), nn.GELU(), nn.Conv2d(dim, dim, 3, stride=strides[1], padding=1)
        )
        self.leads = nn.Parameter(0.1 * torch.randn(1, FUTURE, 1, dim))
        self.position = nn.Parameter(0.1 * torch.randn(1, 1, places, dim))
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [Block(dim, AlongTime(Mamba(dim, state)), expansion=1), Block(dim, InSpace(dim, heads), expansion=2)]
        self.blocks = nn.Sequential(*layers)
        self.norm, self.decode = nn.LayerNorm(dim), nn.Linear(dim, self.factor**2)

    def forward(self, past: torch.Tensor, terrain: torch.Tensor) -> torch.Tensor:
        batch, frames, side, _ = past.shape
        pairs = torch.stack([past, terrain.expand_as(past)], 2).reshape(batch * frames, 2, side, side)
        maps = self.encode(pairs)
        seen = maps.reshape(batch, frames, maps.shape[1], -1).transpose(2, 3)
        leads = self.leads.expand(batch, -1, seen.shape[2], -1)
        ahead = self.decode(self.norm(self.blocks(torch.cat([seen, leads], 1) + self.position)[:, frames:]))
        small = side // self.factor
        fields = ahead.transpose(2, 3).reshape(batch * FUTURE, self.factor**2, small, small)
        return functional.pixel_shuffle(fields, self.factor).reshape(batch, FUTURE, side, side)


class ConvolutionRain(nn.Module):
    """The rival of convolutions alone at nearly equal parameters: frames are channels. Same inputs and outputs as `MambaRain`."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = (PAST + 1, width, width, width, FUTURE)
        steps: list[nn.Module] = []
        for before, after in pairwise(sizes):
            steps += [nn.Conv2d(before, after, 5 if before == after else 3, padding="same"), nn.GELU()]
        self.layers = nn.Sequential(*steps[:-1])

    def forward(self, past: torch.Tensor, terrain: torch.Tensor) -> torch.Tensor:
        forecast: torch.Tensor = self.layers(torch.cat([past, terrain], 1))
        return forecast


def paper() -> MambaRain:
    """Full size; the abstract gives no sizes: frames of 128 x 128 brought to 32 x 32 places, width 128."""
    return MambaRain(side=128, dim=128, depth=2, heads=8, state=16, strides=(2, 2))


def twin() -> ConvolutionRain:
    """The row's rival: no scan and no attention."""
    return ConvolutionRain()


@cache
def samples(count: int, seed: int) -> Samples:
    """Scenes; labels (count, 12, 16, 16) in cm/h."""
    found = rain.scenes(count, seed, PAST, FUTURE, SIDE)
    return Samples({"past": found.past, "terrain": found.terrain}, found.future)


def calibration() -> Samples:
    """256 scenes."""
    return samples(256, seed=10)


def evaluation() -> Samples:
    """1,000 scenes of a seed of their own."""
    return samples(1000, seed=20)


def csi(forecast: np.ndarray, truth: np.ndarray) -> float:
    """Critical success index in points: hits / (hits + misses + false alarms) of pixels with more than 2 mm/h."""
    p, t = forecast > RAINING, truth > RAINING
    return 100.0 * float((p & t).sum()) / max(1, int((p | t).sum()))


def _csi(arrays: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return csi(arrays[0], labels)


CSI = Metric("critical success index", "points", _csi, higher_is_better=True, tolerance=0.5)


def spectrum(frames: torch.Tensor) -> torch.Tensor:
    """Amplitudes |F y| of the last two axes, orthonormal: (..., side, side // 2 + 1)."""
    return torch.fft.rfft2(frames, norm="ortho").abs()


def loss(share: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Squared error plus `share` times the mean absolute difference of amplitudes."""
    return lambda y, truth: functional.mse_loss(y, truth) + share * (spectrum(y) - spectrum(truth)).abs().mean()


def train(
    seed: int = 0, epochs: int = 10, progress: Progress | None = None, network: nn.Module | None = None, spectral: float = 0.1
) -> tuple[nn.Module, float]:
    """Trains on 2,048 scenes; returns the network and its CSI on the evaluation scenes. spectral: lambda of the loss."""
    torch.manual_seed(seed)
    module = network if network is not None else MambaRain()
    fit(module, samples(2048, 30), samples(256, 40), loss(spectral), epochs, seed=seed, rate=4e-3, batch=16, decay=0.01, progress=progress)
    return module, metric_of(REFERENCE, module)


def fine_power(frames: np.ndarray) -> float:
    """Mean power at wavelengths below 4 pixels."""
    amplitudes = spectrum(torch.from_numpy(frames)).numpy()
    down, right = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    return float(np.square(amplitudes[..., np.hypot(down, right) > 0.25]).mean())


def measure() -> Mapping[str, float]:
    """CSI in the first and third hour against convolutions and persistence, and the share of fine power that each keeps."""
    held_out = evaluation()
    forecasts = {
        "MambaRain": outputs(REFERENCE.module(), held_out),
        "convolutions": outputs(REFERENCE.trained_twin(), held_out),
        "persistence": np.repeat(held_out.inputs["past"][:, -1:], FUTURE, 1),
    }
    found = {}
    for hour in (1, 3):
        part = slice(4 * hour - 4, 4 * hour)
        for who, forecast in forecasts.items():
            found[f"CSI in hour {hour}, {who} (points)"] = csi(forecast[:, part], held_out.truth[:, part])
    truth = fine_power(held_out.truth)
    return found | {f"share of fine power kept, {who}": fine_power(forecasts[who]) / truth for who in ("MambaRain", "convolutions")}


REFERENCE = Reference(
    name="mambarain",
    build=MambaRain,
    inputs=(
        TensorSpec(name="past", shape=("batch", PAST, SIDE, SIDE), dtype="float32", unit="cm/h", preprocessing="none; frames 15 minutes apart"),
        TensorSpec(name="terrain", shape=("batch", 1, SIDE, SIDE), dtype="float32", unit="km", preprocessing="none"),
    ),
    outputs=("future",),
    source="arXiv 2605.14606 (abstract); scan of arXiv 2312.00752",
    task="regression",
    data="procedural rain cells moved by wind, diffusing, lifted by terrain; 8 frames in, 12 out",
    claim="Mamba in time and attention in space gain over convolutions, most in the third hour",
    calibration=calibration,
    evaluation=evaluation,
    metric=CSI,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("mambarain"),
    measure=measure,
    reached=71.665,
    twin_weights=weights_file("mambarain_twin"),
)
