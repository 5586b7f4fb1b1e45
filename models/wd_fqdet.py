"""WD-FQDet: detection in infrared and visible light together, fused by frequency band, with queries chosen by where the scene is legible.

    LL, LH, HL, HH = Haar(x_m)                                   m: infrared, visible; each half as wide and high
    low  = A(LL_ir, LL_vis) + A(LL_vis, LL_ir)                   A(q, kv) = q + softmax(Q K^T / sqrt(d)) V: the two modalities align
    high = E(LH, HL, HH of infrared) + E(LH, HL, HH of visible)  kept apart from the low band
    s    = g s_low(low) + (1 - g) s_high(high),  g = sigmoid(scene)
    the decoder reads low + high; its queries are the k tokens with the largest s

x: (batch, 2, 24, 24), infrared and visible; tokens: 6 x 6 patches of 4 pixels, (batch, 36, dim); g: (batch, 1). "WD-FQDet" (arXiv 2605.13621),
from its abstract: wavelet bands, cross-modal alignment of the low one, high bands kept, frequency-aware query selection. The decoder is DETR's
(Carion et al., arXiv 2005.12872) with selected queries; a reference reconstruction. The task: a handwritten digit somewhere in the scene, blurred
in infrared, as edges in visible light; by day the infrared is cluttered by warm spots, at night the visible channel is nearly all noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.two_light import SIDE, scenes
from .layers import Block, SelfAttention, merge_heads, split_heads
from .reference import Metric, Reference, Samples
from .registry import find, weights_file
from .training import Progress, all_outputs, fit, metric_of

PATCH = 4  # pixels a token is wide
GRID = SIDE // PATCH


class Haar(nn.Module):
    """One level of the orthonormal Haar transform: (batch, channels, h, w) → (batch, channels, 4, h / 2, w / 2), bands LL, LH, HL, HH.

    A convolution of stride 2 whose weights are +-1/2, so that int8 weights hold it exactly.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        signs = torch.tensor([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]])
        self.convolution = nn.Conv2d(channels, 4 * channels, 2, stride=2, groups=channels, bias=False)
        self.convolution.weight = nn.Parameter(0.5 * signs.repeat(channels, 1, 1)[:, None].float(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(x).unflatten(1, (x.shape[1], 4))


class CrossAttention(nn.Module):
    """Softmax attention of one set of tokens to another: (batch, n, dim), (batch, m, dim) → (batch, n, dim)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        q, k, v = (split_heads(y, self.heads) for y in (self.query(x), self.key(memory), self.value(memory)))
        return self.project(merge_heads(functional.scaled_dot_product_attention(q, k, v)))


class BandFusion(nn.Module):
    """Both modalities' bands → low and high tokens (batch, 36, dim), and the scene's gate g (batch, 1)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.haar = Haar(2)
        cell = (PATCH // 2) ** 2  # coefficients of one band in a token
        self.low = nn.ModuleList([nn.Linear(cell, dim) for _ in range(2)])
        self.high = nn.ModuleList([nn.Sequential(nn.Linear(3 * cell, dim), nn.GELU(), nn.Linear(dim, dim)) for _ in range(2)])
        self.position = nn.Parameter(0.1 * torch.randn(1, GRID * GRID, dim))
        self.align = nn.ModuleList([CrossAttention(dim, heads) for _ in range(2)])
        self.gate = nn.Sequential(nn.Linear(4 * dim, dim), nn.GELU(), nn.Linear(dim, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        bands = self.haar(x)  # (batch, modality, band, 12, 12)
        lows = [layer(tokens(bands[:, m, :1])) + self.position for m, layer in enumerate(self.low)]
        highs = [layer(tokens(bands[:, m, 1:])) + self.position for m, layer in enumerate(self.high)]
        low = sum(lows[m] + self.align[m](lows[m], lows[1 - m]) for m in range(2))
        scene = torch.cat([part.abs().mean(1) for part in (*lows, *highs)], -1)
        return low, highs[0] + highs[1], torch.sigmoid(self.gate(scene))


class Concatenation(nn.Module):
    """The rival: patches of both channels side by side, plain softmax attention; the same outputs, with g = 1/2."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(2 * PATCH * PATCH, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.position = nn.Parameter(0.1 * torch.randn(1, GRID * GRID, dim))
        self.block = Block(dim, SelfAttention(dim, heads), expansion=4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        both = self.block(self.embed(tokens(x)) + self.position)
        return both, both, torch.full_like(x[:, 0, 0, :1], 0.5)


def tokens(x: torch.Tensor) -> torch.Tensor:
    """(batch, channels, h, w) → (batch, 36, channels h w / 36), each token the pixels or coefficients of one patch."""
    batch, channels, height, width = x.shape
    cells = x.reshape(batch, channels, GRID, height // GRID, GRID, width // GRID)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, GRID * GRID, channels * height * width // (GRID * GRID))


class Detector(nn.Module):
    """x → scores (batch, 10), place (batch, 2) of the digit's middle in pixels, and g (batch, 1)."""

    def __init__(self, dim: int = 40, heads: int = 4, depth: int = 2, queries: int = 6, fusion: type[nn.Module] = BandFusion) -> None:
        super().__init__()
        self.queries = queries
        self.fusion = fusion(dim, heads)
        self.score_low, self.score_high = nn.Linear(dim, 1), nn.Linear(dim, 1)
        self.mix = nn.ModuleList([Block(dim, SelfAttention(dim, heads), expansion=2) for _ in range(depth)])
        self.decode, self.norm1, self.norm2 = CrossAttention(dim, heads), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.refine = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.classify, self.offset = nn.Linear(dim, 10), nn.Linear(dim, 2)
        at = PATCH * (torch.arange(GRID) + 0.5)
        self.register_buffer("middle", torch.stack(torch.meshgrid(at, at, indexing="ij"), -1).reshape(1, GRID * GRID, 2), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low, high, g = self.fusion(x)
        memory = low + high
        for block in self.mix:
            memory = block(memory)
        score = g * self.score_low(low)[..., 0] + (1 - g) * self.score_high(high)[..., 0]
        best, index = score.topk(self.queries, 1)
        query = memory.gather(1, index[..., None].expand(-1, -1, memory.shape[-1]))
        middle = self.middle.expand(x.shape[0], -1, -1).gather(1, index[..., None].expand(-1, -1, 2))
        query = query + self.decode(self.norm1(query), memory)
        query = query + self.refine(self.norm2(query))
        share = functional.softmax(best, 1)[..., None]
        return (share * self.classify(query)).sum(1), (share * (middle + 4 * self.offset(query))).sum(1), g


def paper() -> Detector:
    """A larger one; the abstract gives no sizes."""
    return Detector(dim=96, depth=4, queries=16)


def twin() -> Detector:
    """Early fusion by concatenation."""
    return Detector(fusion=Concatenation)


def _accuracy(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    found = np.linalg.norm(outputs[1] - labels[:, 1:3], axis=1) < PATCH
    return 100.0 * float(np.mean((np.argmax(outputs[0], -1) == labels[:, 0]) & found))


DETECTED = Metric("right digit within 4 pixels", "points", _accuracy, higher_is_better=True, tolerance=1.0)


def loss(outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the digit, and the place's distance in pixels, smooth near nothing."""
    scores, place, _ = outputs
    return functional.cross_entropy(scores, labels[:, 0].long()) + 0.3 * functional.smooth_l1_loss(place, labels[:, 1:3])


def calibration() -> Samples:
    """256 scenes of the training digits."""
    return scenes("train", 256, 1)


@cache
def evaluation() -> Samples:
    """2,000 scenes of digits never seen in training."""
    return scenes("evaluation", 2000, 2)


def train(seed: int = 0, epochs: int = 14, progress: Progress | None = None, network: Detector | None = None) -> tuple[nn.Module, float]:
    """Trains on 6,000 scenes; returns the network and its detections on the evaluation scenes."""
    torch.manual_seed(seed)
    module = network if network is not None else Detector()
    data, validation = scenes("train", 6000, 10 + seed), scenes("validation", 400, 3)
    fit(module, data, validation, loss, epochs, seed=seed, rate=3e-3, progress=progress)
    return module, metric_of(REFERENCE, module)


def measure() -> dict[str, float]:
    """Detections by day, at night and when both lights are good, of band fusion and of concatenation; the gate by scene."""
    found, here = {}, find("wd_fqdet")
    for name, module in (("bands", here.module()), ("concatenation", here.trained_twin())):
        found[f"detected, {name}"] = metric_of(here, module)
        for kind, scene in enumerate(("both lights", "day", "night")):
            samples = scenes("evaluation", 1000, 20 + kind, kind)
            outputs = all_outputs(module, samples)
            found[f"detected, {scene}, {name}"] = DETECTED.compute(outputs, samples.truth)
            if name == "bands":
                found[f"gate g, {scene}"] = float(outputs[2].mean())
    return found


REFERENCE = Reference(
    name="wd_fqdet",
    build=Detector,
    inputs=(
        TensorSpec(name="x", shape=("batch", 2, SIDE, SIDE), dtype="float32", unit="brightness", preprocessing="infrared and visible, 0 to about 1"),
    ),
    outputs=("scores", "place", "gate"),
    source="arXiv 2605.13621 (abstract); decoder of arXiv 2005.12872",
    data="handwritten digits in scenes of two lights, day and night",
    claim="fusing by frequency band is robust when one modality fails",
    calibration=calibration,
    evaluation=evaluation,
    metric=DETECTED,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("wd_fqdet"),
    measure=measure,
    reached=69.15,
    twin_weights=weights_file("wd_fqdet_twin"),
)
