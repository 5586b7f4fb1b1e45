"""Cubit: kernel ridge regression as the token mixer, where softmax attention is a Nadaraya-Watson mean.

    Y = K(Q, K) (K(K, K) + lambda I)^-1 LRR(V),    K(a, b) = exp(tau (a.b / |a||b| - 1)),    LRR(v) = v min(1, r / |v|)

Q: (heads, tokens, size), K, V: (heads, known, size), from linear maps of all tokens and of the known ones; tau, lambda > 0: one a head; r: the range
that the values are rescaled into, so that no token's value outweighs the others through the inverse. The softmax divides a row of K(Q, K) by its sum
instead, and near the end of the data its mean is drawn inwards, where ridge regression extrapolates.

"Cubit: Token Mixer with Kernel Ridge Regression" (arXiv 2605.06501, from its abstract; kernel and rescaling derived here: a reconstruction).
Neither ONNX nor TensorRT has a linear solver, so the inverse is Newton-Schulz' iteration X <- X (2 I - A X), matrix products alone.
Task: the values of a smooth curve at 16 places from 32 noisy points, learned in context.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.curves import Curves, curves, posterior
from .layers import Block, merge_heads, split_heads
from .metrics import MEAN_SQUARED_ERROR
from .reference import Reference, Samples
from .registry import weights_file
from .training import Progress, fit, metric_of, outputs

POINTS, QUESTIONS = 32, 16
LEAST_RIDGE = 0.03
ITERATIONS = 14  # the error is below (1 - LEAST_RIDGE / (POINTS + LEAST_RIDGE))^(2^14), 2e-7
RANGE = 4.0
EDGE = 0.05  # questions so near to 0 or 1 count as at the edge


def inverse(a: torch.Tensor, iterations: int = ITERATIONS) -> torch.Tensor:
    """A^-1 of symmetric positive definite matrices with no negative entry, (..., n, n), by Newton and Schulz.

    From X = I / (largest sum of a row), which bounds the largest eigenvalue, the error I - A X squares with every iteration. The last one alone
    has a gradient: at X = A^-1 its differential, -X dA X, is the inverse's own.
    """
    identity, fixed = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device), a.detach()
    x = identity / fixed.sum(-1, keepdim=True).amax(-2, keepdim=True)
    for _ in range(iterations - 1):
        x = x @ (2 * identity - fixed @ x)
    return x @ (2 * identity - a @ x)


class RidgeAttention(nn.Module):
    """All tokens read the first `known` of them by kernel ridge regression; x: (batch, tokens, dim) → (batch, tokens, dim)."""

    def __init__(self, dim: int, heads: int, known: int) -> None:
        super().__init__()
        self.heads, self.known = heads, known
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)
        self.sharpness = nn.Parameter(torch.full((heads, 1, 1), 2.0))  # log tau
        self.ridge = nn.Parameter(torch.full((heads, 1, 1), -2.0))  # log (lambda - LEAST_RIDGE)

    def kernel(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """(batch, heads, m, size), (batch, heads, n, size) → (batch, heads, m, n), 1 for equal directions."""
        a, b = (x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for x in (a, b))
        return torch.exp(self.sharpness.exp() * (a @ b.transpose(-1, -2) - 1))

    def mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The equation above."""
        identity = torch.eye(k.shape[-2], dtype=k.dtype, device=k.device)
        ridge = LEAST_RIDGE + self.ridge.exp()
        v = v / (v.square().sum(-1, keepdim=True).sqrt() / RANGE).clamp(min=1.0)
        return self.kernel(q, k) @ (inverse(self.kernel(k, k) + ridge * identity) @ v)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        known = x[:, : self.known]
        q, k, v = (split_heads(tensor, self.heads) for tensor in (self.query(x), self.key(known), self.value(known)))
        return self.project(merge_heads(self.mix(q, k, v)))


class NadarayaWatson(RidgeAttention):
    """The twin's mixer: softmax attention, the same kernel's weights divided by their sum; its ridge is not read."""

    def mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        weights = self.kernel(q, k)
        return (weights / weights.sum(-1, keepdim=True)) @ v


class Cubit(nn.Module):
    """seen_at, seen: (batch, points), asked_at: (batch, questions) → the curve at asked_at, (batch, questions)."""

    def __init__(
        self, points: int = POINTS, dim: int = 32, depth: int = 2, heads: int = 2, expansion: int = 2, mixer: type[RidgeAttention] = RidgeAttention
    ) -> None:
        super().__init__()
        self.points = points
        self.embed = nn.Sequential(nn.Linear(3, dim), nn.GELU(), nn.Linear(dim, dim))
        self.blocks = nn.Sequential(*[Block(dim, mixer(dim, heads, points), expansion) for _ in range(depth)])
        self.norm, self.read = nn.LayerNorm(dim), nn.Linear(dim, 1)

    def forward(self, seen_at: torch.Tensor, seen: torch.Tensor, asked_at: torch.Tensor) -> torch.Tensor:
        known = torch.stack([2 * seen_at - 1, seen, torch.ones_like(seen)], -1)
        asked = torch.stack([2 * asked_at - 1, torch.zeros_like(asked_at), torch.zeros_like(asked_at)], -1)
        tokens = self.blocks(self.embed(torch.cat([known, asked], 1)))
        return self.read(self.norm(tokens[:, self.points :])).squeeze(-1)


def paper() -> Cubit:
    """A language model's width and depth of the size that the paper trains; its tokens here are points all the same."""
    return Cubit(points=512, dim=768, depth=12, heads=12, expansion=4)


def twin() -> Cubit:
    """Softmax attention in the same network."""
    return Cubit(mixer=NadarayaWatson)


@cache
def _known(count: int, seed: int, points: int = POINTS) -> Curves:
    return curves(count, points, QUESTIONS, seed)


def samples(count: int, seed: int, points: int = POINTS) -> Samples:
    """Curves as the network reads them."""
    known = _known(count, seed, points)
    parts = {name: getattr(known, name).astype(np.float32) for name in ("seen_at", "seen", "asked_at")}
    return Samples(parts, known.truth.astype(np.float32))


def calibration() -> Samples:
    """256 curves."""
    return samples(256, seed=1)


def evaluation() -> Samples:
    """2,000 other curves."""
    return samples(2000, seed=2)


def train(seed: int = 0, epochs: int = 16, progress: Progress | None = None, network: nn.Module | None = None) -> tuple[nn.Module, float]:
    """Trains on 8,192 curves; returns the network and its mean squared error on the evaluation curves."""
    torch.manual_seed(seed)
    module = network if network is not None else Cubit()
    data = samples(8192, seed + 100)
    fit(module, data, samples(512, seed=3), functional.mse_loss, epochs, seed=seed, rate=3e-3, decay=1e-3, progress=progress)
    return module, metric_of(REFERENCE, module)


def at_length(module: nn.Module, points: int) -> float:
    """Mean squared error where the trained network sees another number of points than in training."""
    longer = Cubit(points, mixer=type(module.blocks[0].attention)).eval()
    longer.load_state_dict(module.state_dict())
    held_out = samples(500, 4, points)
    return MEAN_SQUARED_ERROR.compute([outputs(longer, held_out)], held_out.truth)


def measure() -> dict[str, float]:
    """Error beside the twin's and the best possible; at the edges and between; the twin's error over ours as the points grow."""
    network, rival, known = REFERENCE.module(), REFERENCE.trained_twin(), _known(2000, 2)
    found = {name: (outputs(module, evaluation()) - known.truth) ** 2 for name, module in (("ours", network), ("twin", rival))}
    edge = np.abs(known.asked_at - 0.5) > 0.5 - EDGE
    figures = {
        "mean squared error": float(found["ours"].mean()),
        "mean squared error, softmax": float(found["twin"].mean()),
        "mean squared error of the exact posterior, length scale known": float(np.mean((posterior(known) - known.truth) ** 2)),
        "softmax's error over ours at the edges": float(found["twin"][edge].mean() / found["ours"][edge].mean()),
        "softmax's error over ours between the edges": float(found["twin"][~edge].mean() / found["ours"][~edge].mean()),
    }
    for points in (16, 32, 64):
        figures[f"softmax's error over ours, {points} points"] = at_length(rival, points) / at_length(network, points)
    return figures


REFERENCE = Reference(
    name="cubit",
    build=Cubit,
    inputs=(
        TensorSpec(name="seen_at", shape=("batch", POINTS), dtype="float32", unit="widths of the interval", preprocessing="in [0, 1]"),
        TensorSpec(name="seen", shape=("batch", POINTS), dtype="float32", unit="standard deviations of the curves", preprocessing="none"),
        TensorSpec(name="asked_at", shape=("batch", QUESTIONS), dtype="float32", unit="widths of the interval", preprocessing="in [0, 1]"),
    ),
    outputs=("values",),
    source="arXiv 2605.06501, from its abstract",
    task="regression",
    data="smooth random curves of a Gaussian process, 32 noisy points seen and 16 asked",
    claim="kernel ridge regression mixes tokens better than softmax's Nadaraya-Watson mean, and the more so the longer the sequence",
    calibration=calibration,
    evaluation=evaluation,
    metric=MEAN_SQUARED_ERROR,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("cubit"),
    measure=measure,
    reached=0.019249,
    twin_weights=weights_file("cubit_twin"),
)
