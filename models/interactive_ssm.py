"""Interactive state space model: depth and colour scanned together, each read through the other.

    h_t = exp(delta_t A) h_(t-1) + delta_t B_t x_t,   y_t = C_(t') h_t + D x_t

A w x w window is one sequence of 2 w^2 tokens that alternates depth, colour, depth, colour; x_t: (dim,), the token; delta_t: (dim,) and B_t:
(state,), read from x_t; t' is the token of the *other* modality at the same pixel, so what colour knows decides what is read out for depth, and
back. The window is scanned forwards and backwards. With t' = t it is the plain scan over concatenated tokens.

Reference reconstruction: of "Interactive State Space Model with cross-modal local scanning" only the summary is readable (arXiv 2605.11934 was
not found). The scan is that of Gu and Dao, "Mamba" (arXiv 2312.00752, eq. 2), the exchange of C that of the cross Mamba block in Wan et al.,
"Sigma" (arXiv 2404.04256), the windows those of "LocalMamba" (arXiv 2403.09338).
Task: depth of 32 x 32 pixels from 8 x 8 and a colour image, whose texture and posters are not depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data import boxes
from .layers import Block, SelfAttention
from .mamba import SelectiveParameters
from .reference import Metric, Reference, Samples, with_weights
from .registry import weights_file
from .selective_scan import selective_scan
from .training import Progress, fit, metric_of, outputs

SIDE, FACTOR = 32, 4
NOISE = 0.03  # m, of the depth sensor


class InteractiveScan(nn.Module):
    """Scans interleaved tokens both ways; x: (batch, 2 w^2, dim), depth at even places and colour at odd ones → the same shape.

    crossed: C comes from the other modality at the same pixel; otherwise from the token itself.
    """

    def __init__(self, dim: int, state: int = 4, crossed: bool = True) -> None:
        super().__init__()
        self.crossed = crossed
        self.enter, self.leave = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.ways = nn.ModuleList([SelectiveParameters(dim, state) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.silu(self.enter(x))
        forwards, backwards = self.ways
        return self.leave(self.scan(x, forwards) + self.scan(x.flip(1), backwards).flip(1))

    def scan(self, x: torch.Tensor, parameters: nn.Module) -> torch.Tensor:
        delta, a, b, c = parameters(x)
        if self.crossed:
            c = exchange(c)
        return selective_scan(x, delta, a, b, c) + parameters.skip * x


def exchange(x: torch.Tensor) -> torch.Tensor:
    """Swaps neighbours: each pixel's depth token against its colour token. (batch, 2n, dim) → (batch, 2n, dim)."""
    batch, tokens, dim = x.shape
    return x.reshape(batch, tokens // 2, 2, dim).flip(2).reshape(batch, tokens, dim)


class Windowed(nn.Module):
    """A token mixer inside windows of an image pair; x: (batch, side, side, 2, dim) → the same shape."""

    def __init__(self, mixer: nn.Module, window: int) -> None:
        super().__init__()
        self.mixer, self.window = mixer, window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, side, _, _, dim = x.shape
        count, w = side // self.window, self.window
        tokens = x.reshape(batch, count, w, count, w, 2, dim).transpose(2, 3).reshape(batch * count * count, 2 * w * w, dim)
        mixed = self.mixer(tokens).reshape(batch, count, count, w, w, 2, dim).transpose(2, 3)
        return mixed.reshape(batch, side, side, 2, dim)


class Neighbours(nn.Module):
    """x + a depthwise 3 x 3 convolution of each modality's map: what crosses from window to window. x: (batch, side, side, 2, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, side, _, _, dim = x.shape
        maps = x.reshape(batch, side, side, 2 * dim).permute(0, 3, 1, 2)
        return x + self.mix(maps).permute(0, 2, 3, 1).reshape(batch, side, side, 2, dim)


class DepthUpsampler(nn.Module):
    """image: (batch, 3, side, side) in [0, 1]; depth: (batch, 1, side / 4, side / 4) in metres → (batch, 1, side, side) in metres.

    Adds a correction to the bilinear depth and sees only differences from the mean depth, so a constant added to `depth` is added to the result.
    mixer: "interactive" (C exchanged), "concatenated" (C of the token itself) or "softmax", the twin. sees_image=False leaves depth alone.
    """

    def __init__(
        self, dim: int = 16, depth: int = 2, window: int = 4, state: int = 4, heads: int = 4, mixer: str = "interactive", sees_image: bool = True
    ) -> None:
        super().__init__()
        self.sees_image = sees_image
        self.embed_image, self.embed_depth = nn.Conv2d(12, dim, 3, padding=1), nn.Conv2d(4, dim, 3, padding=1)
        layers: list[nn.Module] = []
        for _ in range(depth):
            inner = SelfAttention(dim, heads) if mixer == "softmax" else InteractiveScan(dim, state, crossed=mixer == "interactive")
            layers += [Neighbours(dim), Block(dim, Windowed(inner, window), expansion=2)]
        self.blocks = nn.Sequential(*layers)
        self.norm, self.correct = nn.LayerNorm(dim), nn.Linear(dim, 4)

    def forward(self, image: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        smooth = functional.interpolate(depth, scale_factor=FACTOR, mode="bilinear", align_corners=False)
        centred = smooth - depth.mean((2, 3), keepdim=True)
        colour = 4 * (image - 0.5) if self.sees_image else torch.zeros_like(image)
        maps = [self.embed_depth(functional.pixel_unshuffle(centred, 2)), self.embed_image(functional.pixel_unshuffle(colour, 2))]
        tokens = self.blocks(torch.stack(maps, 1).permute(0, 3, 4, 1, 2))
        correction = self.correct(self.norm(tokens[:, :, :, 0])).permute(0, 3, 1, 2)
        return smooth + functional.pixel_shuffle(correction, 2)


def paper() -> DepthUpsampler:
    """Full size; the summary gives no sizes, these are VMamba-T's first stage (arXiv 2401.10166, table 1) with windows of 8 x 8."""
    return DepthUpsampler(dim=96, depth=4, window=8, state=16, heads=8)


def twin() -> DepthUpsampler:
    """Softmax attention over the same 2 w^2 tokens of each window."""
    return DepthUpsampler(mixer="softmax")


def concatenated() -> DepthUpsampler:
    """The rival: one scan over both modalities, each token read by itself."""
    return DepthUpsampler(mixer="concatenated")


def blind() -> DepthUpsampler:
    """The rival that sees depth alone."""
    return DepthUpsampler(mixer="concatenated", sees_image=False)


def samples(count: int, seed: int) -> Samples:
    """Scenes with their depth; labels (count, 1, 32, 32) in metres."""
    image, depth = boxes.scenes(count, seed, SIDE)
    return Samples({"image": image, "depth": boxes.coarse(depth, FACTOR, NOISE, seed + 1)}, depth)


def calibration() -> Samples:
    """256 scenes."""
    return samples(256, seed=10)


def evaluation() -> Samples:
    """1,000 scenes of a seed of their own."""
    return samples(1000, seed=20)


def _rmse(arrays: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(arrays[0].astype(np.float64) - labels))))


RMSE = Metric("depth RMSE", "m", _rmse, higher_is_better=False, tolerance=1.0)


def train(seed: int = 0, epochs: int = 12, progress: Progress | None = None, network: nn.Module | None = None) -> tuple[nn.Module, float]:
    """Trains on 1,536 scenes; returns the network and its RMSE on the evaluation scenes."""
    torch.manual_seed(seed)
    module = network if network is not None else DepthUpsampler()
    fit(module, samples(1536, 30), samples(256, 40), functional.mse_loss, epochs, seed=seed, rate=5e-3, batch=32, progress=progress)
    return module, metric_of(REFERENCE, module)


def edge_rmse(predicted: np.ndarray, truth: np.ndarray) -> float:
    """RMSE beside jumps in depth, in metres."""
    at = boxes.edges(truth)
    return _rmse([predicted[at]], truth[at])


def copied_texture(module: nn.Module, held_out: Samples) -> float:
    """RMS change in metres, away from jumps in depth, when the image loses what depth does not have: an even grey instead of texture and posters."""
    grey = Samples({**held_out.inputs, "image": np.full_like(held_out.inputs["image"], 0.5)})
    at = ~boxes.edges(held_out.truth)
    return _rmse([outputs(module, held_out)[at]], outputs(module, grey)[at])


def measure() -> Mapping[str, float]:
    """RMSE at edges of the system, its twin and both rivals, and the error that texture leaves on surfaces."""
    held_out = evaluation()
    networks = {"": REFERENCE.module(), " of the softmax twin": REFERENCE.trained_twin()}
    for name, build in (("concatenated scan", concatenated), ("depth alone", blind)):
        networks[f" of {name}"] = with_weights(build(), weights_file(f"interactive_ssm_{build.__name__}"))
    found = {f"edge RMSE{who} (m)": edge_rmse(outputs(module, held_out), held_out.truth) for who, module in networks.items()}
    bilinear = functional.interpolate(torch.from_numpy(held_out.inputs["depth"]), scale_factor=FACTOR, mode="bilinear").numpy()
    found["edge RMSE of bilinear depth (m)"] = edge_rmse(bilinear, held_out.truth)
    for who in ("", " of the softmax twin"):
        found[f"image copied onto surfaces{who} (m)"] = copied_texture(networks[who], held_out)
    return found


REFERENCE = Reference(
    name="interactive_ssm",
    build=DepthUpsampler,
    inputs=(
        TensorSpec(name="image", shape=("batch", 3, SIDE, SIDE), dtype="float32", unit="colour, 0 to 1", preprocessing="none"),
        TensorSpec(name="depth", shape=("batch", 1, SIDE // FACTOR, SIDE // FACTOR), dtype="float32", unit="m", preprocessing="none"),
    ),
    outputs=("fine_depth",),
    source="summary only (arXiv 2605.11934 not found); scan of arXiv 2312.00752, exchange of arXiv 2404.04256",
    task="regression",
    data="procedural boxes and planes, textured; depth from 8 x 8 to 32 x 32",
    claim="cross-modal local scanning makes fine-grained use of RGB-D: lower error at edges, no texture copied",
    calibration=calibration,
    evaluation=evaluation,
    metric=RMSE,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("interactive_ssm"),
    measure=measure,
    reached=0.26311,
    twin_weights=weights_file("interactive_ssm_twin"),
)
