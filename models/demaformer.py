"""DemaFormer: attention whose queries and keys come from a damped moving average, and moments told apart by their energy.

    h_t = alpha beta x_t + (1 - alpha delta) h_(t-1),   y_t = sum_n eta h_t       damped exponential moving average
    Y   = softmax(Q(y) K(y)^T / sqrt(d)) V(x)
    L_E = E(z+) - E(z-) + c (E(z+)^2 + E(z-)^2),   z <- z - (s / 2) grad E(z) + 0.1 sqrt(s) noise   for z-, from moments outside the span

x: (batch, steps, dim), the stream with what was asked for added to each step; alpha, delta in (0, 1), beta, eta: (dim, n), learned: each feature has
n averages of its own rate alpha and damping delta; h: (batch, steps, dim, n). The average runs from either end. E: (batch, steps), the energy of each
moment z, low where it answers the query (p ~ exp(-E)); the negatives are Langevin samples, with a tenth of the noise that the exact scheme has.

"DemaFormer: Damped Exponential Moving Average Transformer with Energy-Based Modeling for Temporal Language Grounding" (arXiv 2312.02549), from its
abstract; the average is that of Ma et al., "Mega" (arXiv 2209.10655, eq. 3), the energy's training that of Du and Mordatch, "Implicit Generation and
Modeling with Energy-Based Models" (arXiv 1903.08689): a reference reconstruction.
Task: find the one of two shapes in a noisy stream whose kind was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data import streams
from .layers import Block, SelfAttention, merge_heads, split_heads
from .recurrence import linear_recurrence
from .reference import Metric, Reference, Samples, with_weights
from .registry import weights_file
from .training import Progress, fit, metric_of, outputs

STEPS, KINDS, NOISE = 64, len(streams.KINDS), 0.6
Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class DampedAverage(nn.Module):
    """y_t = sum_n eta h_t of the damped moving average, forwards plus backwards; x: (batch, steps, dim) → the same shape."""

    def __init__(self, dim: int, averages: int) -> None:
        super().__init__()
        for name in ("alpha", "delta", "beta", "eta"):
            self.register_parameter(name, nn.Parameter(torch.randn(2, dim, averages)))
        with torch.no_grad():
            self.beta.mul_(0.5).add_(1.0)
            self.eta.mul_(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one_way(x, 0) + self.one_way(x.flip(1), 1).flip(1)

    def one_way(self, x: torch.Tensor, way: int) -> torch.Tensor:
        alpha, delta = torch.sigmoid(self.alpha[way]), torch.sigmoid(self.delta[way])
        kept = (1 - alpha * delta).expand(1, x.shape[1], -1, -1)
        states = linear_recurrence(kept, x[..., None] * (alpha * self.beta[way]))
        return (states * self.eta[way]).sum(-1)


class DemaAttention(nn.Module):
    """Softmax attention with queries and keys of the damped average and values of the tokens; x: (batch, steps, dim) → the same shape."""

    def __init__(self, dim: int, heads: int, averages: int = 4) -> None:
        super().__init__()
        self.heads, self.average = heads, DampedAverage(dim, averages)
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        smooth = functional.silu(self.average(x))
        q, k, v = (split_heads(layer(y), self.heads) for layer, y in ((self.query, smooth), (self.key, smooth), (self.value, x)))
        return self.project(merge_heads(functional.scaled_dot_product_attention(q, k, v))) + smooth


class DemaFormer(nn.Module):
    """x: (batch, steps, 1), query: (batch, kinds) → (batch, steps, 3): minus the energy of each moment, and steps from it to the span's two ends.

    attention="softmax" gives the twin, which has learned positions in place of the averages.
    """

    def __init__(
        self, kinds: int = KINDS, steps: int = STEPS, dim: int = 32, depth: int = 2, heads: int = 4, averages: int = 4, attention: str = "damped"
    ) -> None:
        super().__init__()
        self.embed, self.ask = nn.Conv1d(1, dim, 5, padding=2), nn.Linear(kinds, dim)
        self.position = nn.Parameter(0.02 * torch.randn(1, steps, dim))
        mixers = [SelfAttention(dim, heads) if attention == "softmax" else DemaAttention(dim, heads, averages) for _ in range(depth)]
        self.blocks = nn.ModuleList([Block(dim, mixer, expansion=2) for mixer in mixers])
        self.norm, self.extent = nn.LayerNorm(dim), nn.Linear(dim, 2)
        self.energy = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, 1))

    def moments(self, x: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """z: (batch, steps, dim)."""
        tokens = self.embed(x.transpose(1, 2)).transpose(1, 2) + self.ask(query)[:, None] + self.position
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def read(self, z: torch.Tensor) -> torch.Tensor:
        return torch.cat([-self.energy(z), functional.softplus(self.extent(z)) * 4], -1)

    def forward(self, x: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        return self.read(self.moments(x, query))


class WithNegatives(nn.Module):
    """The network in training: its outputs, the energies of its moments, and those of Langevin samples that start at them, (batch, steps)."""

    def __init__(self, network: DemaFormer, steps: int = 8, size: float = 0.1) -> None:
        super().__init__()
        self.network, self.steps, self.size = network, steps, size

    def forward(self, x: torch.Tensor, query: torch.Tensor) -> Outputs:
        z = self.network.moments(x, query)
        return self.network.read(z), self.network.energy(z)[..., 0], self.network.energy(self.langevin(z))[..., 0]

    def langevin(self, z: torch.Tensor) -> torch.Tensor:
        sample = z.detach()
        for _ in range(self.steps):
            with torch.enable_grad():
                sample = sample.requires_grad_(True)
                (slope,) = torch.autograd.grad(self.network.energy(sample).sum(), sample)
            sample = (sample - self.size / 2 * slope + self.size**0.5 * 0.1 * torch.randn_like(sample)).detach()
        return sample


def loss(weight: float) -> Callable[[Outputs, torch.Tensor], torch.Tensor]:
    """Cross-entropy of the moments, L1 of the ends inside the span, and `weight` times the contrast of energies. labels: (batch, 2)."""

    def of(outputs: Outputs, spans: torch.Tensor) -> torch.Tensor:
        predicted, energy, sampled = outputs
        at = torch.arange(predicted.shape[1], device=spans.device)
        inside = ((at >= spans[:, :1]) & (at < spans[:, 1:])).float()
        ends = torch.stack([at - spans[:, :1], spans[:, 1:] - at], -1).float()
        found = functional.binary_cross_entropy_with_logits(predicted[..., 0], inside)
        extent = ((predicted[..., 1:] - ends).abs().mean(-1) * inside).sum() / inside.sum()
        if not weight:
            return found + 0.1 * extent
        low, high = (energy * inside).sum() / inside.sum(), (sampled * (1 - inside)).sum() / (1 - inside).sum()
        bounded = ((energy**2) * inside).mean() + ((sampled**2) * (1 - inside)).mean()
        return found + 0.1 * extent + weight * (functional.softplus(low - high) + 0.01 * bounded)

    return of


def paper() -> DemaFormer:
    """Full size; the abstract gives no sizes, these are those of Moment-DETR (arXiv 2107.09609) on QVHighlights: width 256, 75 clips."""
    return DemaFormer(steps=75, dim=256, depth=4, heads=8, averages=16)


def twin() -> DemaFormer:
    """Softmax attention without averages in the same network."""
    return DemaFormer(attention="softmax")


def samples(count: int, seed: int, part: str, noise: float = NOISE) -> Samples:
    """Streams and queries; labels (count, 2), the span asked for."""
    x, query, spans = streams.streams(count, seed, part, STEPS, noise)
    return Samples({"x": x, "query": query}, spans)


def calibration() -> Samples:
    """256 streams of the archives' training series."""
    return samples(256, 10, "train")


def evaluation(noise: float = NOISE) -> Samples:
    """1,000 streams of the archives' test series."""
    return samples(1000, 20, "test", noise)


def spans_of(predicted: np.ndarray) -> np.ndarray:
    """(count, 2): the span that the moment of least energy gives."""
    best = predicted[..., 0].argmax(1)
    extents = np.take_along_axis(predicted[..., 1:], best[:, None, None], 1)[:, 0]
    return np.stack([best - extents[:, 0], best + extents[:, 1]], 1)


def overlap(spans: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of intervals, (count,)."""
    shared = np.minimum(spans[:, 1], truth[:, 1]) - np.maximum(spans[:, 0], truth[:, 0])
    joint = np.maximum(spans[:, 1], truth[:, 1]) - np.minimum(spans[:, 0], truth[:, 0])
    return np.maximum(shared, 0) / joint


def _recall(arrays: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return 100.0 * float((overlap(spans_of(arrays[0]), labels) >= 0.5).mean())


RECALL = Metric("R@1 at IoU 0.5", "points", _recall, higher_is_better=True, tolerance=0.5)


def train(
    seed: int = 0, epochs: int = 12, progress: Progress | None = None, network: DemaFormer | None = None, energy: float = 0.1
) -> tuple[nn.Module, float]:
    """Trains on 3,072 streams; returns the network and its recall on the evaluation streams. energy: weight of the contrast."""
    torch.manual_seed(seed)
    module = network if network is not None else DemaFormer()
    parts = samples(3072, 30, "train"), samples(512, 40, "train")
    fit(WithNegatives(module), *parts, loss(energy), epochs, seed=seed, rate=3e-3, progress=progress)
    return module, metric_of(REFERENCE, module)


def measure() -> Mapping[str, float]:
    """Recall of the system, of the twin and of the system trained without energies, at the noise of training and at more of it."""
    plain = with_weights(DemaFormer(), weights_file("demaformer_plain"))
    networks = {"": REFERENCE.module(), " of the softmax twin": REFERENCE.trained_twin(), " without the energy term": plain}
    found = {}
    for noise in (NOISE, 1.0):
        held_out = evaluation(noise)
        for who, module in networks.items():
            found[f"R@1 at IoU 0.5{who}, noise {noise} (points)"] = RECALL.compute([outputs(module, held_out)], held_out.truth)
    return found


REFERENCE = Reference(
    name="demaformer",
    build=DemaFormer,
    inputs=(
        TensorSpec(name="x", shape=("batch", STEPS, 1), dtype="float32", unit="standard deviations of a shape", preprocessing="none"),
        TensorSpec(name="query", shape=("batch", KINDS), dtype="float32", unit="one-hot kind of shape", preprocessing="none"),
    ),
    outputs=("moments",),
    source="arXiv 2312.02549 (abstract); average of arXiv 2209.10655, energies of arXiv 1903.08689",
    task="regression",
    data="UCR shapes (aeon) in noise: the span of the kind that was asked for",
    claim="learnable damping of a moving average and an energy model improve temporal grounding",
    calibration=calibration,
    evaluation=evaluation,
    metric=RECALL,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("demaformer"),
    measure=measure,
    reached=94.1,
    twin_weights=weights_file("demaformer_twin"),
)
