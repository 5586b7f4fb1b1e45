"""HYPERPOSE: attention in hyperbolic space, where trees have room, lifts a skeleton from image to space.

    exp(v) = (cosh |v|, sinh |v| v / |v|),   <a, b>_L = -a_0 b_0 + sum_i a_i b_i,   d(a, b) = acosh(-<a, b>_L)
    alpha_ij = softmax_j(-d(exp q_i, exp k_j)^2 / tau),   m_i = sum_j alpha_ij exp(v_j),   y_i = log(m_i / sqrt |<m_i, m_i>_L|)

exp(v) lies on the hyperboloid <p, p>_L = -1, p_0 > 0; log is its inverse, log(p) = acosh(p_0) p_s / |p_s| with the spatial part p_s.
q, k, v: (batch, heads, tokens, d), tangent vectors at the origin; alpha: (batch, heads, tokens, tokens); y: as v; tau: one learned number a head.
Tokens are the joints of a frame, then the frames of a joint inside a window of W: T W pairs instead of T^2.

"HYPERPOSE" (arXiv 2605.10100), from its abstract; attention after hyperbolic attention networks (Gulcehre et al., arXiv 1805.09786) with the
squared distance: a reference reconstruction. The task here: 2-D joints to 3-D, on skeletons of known bones (`models/data/skeletons.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.skeletons import JOINTS, bone_lengths, motions
from .layers import merge_heads, split_heads
from .reference import Metric, Reference, Samples
from .registry import weights_file
from .training import Progress, fit, metric_of, outputs

FRAMES, WINDOW = 4, 3
SPREAD = 0.4  # metres, of image points
LONGEST = 2.0  # tangent vectors are shortened to this: cosh(2) squared is 14, far inside float16


def exponential(v: torch.Tensor) -> torch.Tensor:
    """Tangent vectors at the origin to the hyperboloid: (..., d) → (..., d + 1)."""
    norm = torch.sqrt((v * v).sum(-1, keepdim=True) + 1e-8)
    return torch.cat([torch.cosh(norm), torch.sinh(norm) * v / norm], -1)


def logarithm(p: torch.Tensor) -> torch.Tensor:
    """The inverse of `exponential`: (..., d + 1) → (..., d); by asinh of the spatial norm, which is exact near the origin, where acosh is not."""
    space = p[..., 1:]
    norm = torch.sqrt((space * space).sum(-1, keepdim=True) + 1e-8)
    return torch.asinh(norm) * space / norm


def lorentz(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """All products <a_i, b_j>_L: (..., n, d + 1), (..., m, d + 1) → (..., n, m); a plain product with one sign turned."""
    turned = torch.cat([-b[..., :1], b[..., 1:]], -1)
    return a @ turned.transpose(-1, -2)


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """d(a_i, b_j): (..., n, m), at least 0."""
    return torch.acosh((-lorentz(a, b)).clamp(min=1 + 1e-5))


class HyperbolicAttention(nn.Module):
    """x: (batch, tokens, dim) → the same. window: tokens see those at most window // 2 away; None sees all."""

    def __init__(self, dim: int, heads: int, tokens: int, window: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)
        self.temperature = nn.Parameter(torch.zeros(heads, 1, 1))
        self.register_buffer("band", band(tokens, window), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (exponential(shorten(split_heads(layer(x), self.heads))) for layer in (self.query, self.key, self.value))
        scores = -(distance(q, k) ** 2) * torch.exp(self.temperature) + self.band
        mean = scores.softmax(-1) @ v
        square = (mean[..., :1] ** 2 - (mean[..., 1:] ** 2).sum(-1, keepdim=True)).clamp(min=1e-6)
        return self.project(merge_heads(logarithm(mean / torch.sqrt(square))))


class EuclideanAttention(nn.Module):
    """The twin's: softmax attention over the same pairs."""

    def __init__(self, dim: int, heads: int, tokens: int, window: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)
        self.register_buffer("band", band(tokens, window), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.band[None, None])
        return self.project(merge_heads(y))


def shorten(v: torch.Tensor) -> torch.Tensor:
    """v with its norm brought below `LONGEST`, smoothly."""
    norm = torch.sqrt((v * v).sum(-1, keepdim=True) + 1e-8)
    return v * (LONGEST * torch.tanh(norm / LONGEST) / norm)


def band(tokens: int, window: int | None) -> torch.Tensor:
    """(tokens, tokens): 0 inside the window, -1e4 outside."""
    at = torch.arange(tokens)
    far = (at[:, None] - at[None]).abs() > (tokens if window is None else window // 2)
    return torch.where(far, -1e4, 0.0)


class PoseBlock(nn.Module):
    """Attention between the joints of a frame, between the frames of a joint, then an MLP; x: (batch, frames, joints, dim)."""

    def __init__(self, dim: int, heads: int, frames: int, window: int, kind: type[nn.Module]) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.joints, self.frames = kind(dim, heads, JOINTS), kind(dim, heads, frames, window)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, frames, joints, dim = x.shape
        x = x + self.joints(self.norm1(x).reshape(batch * frames, joints, dim)).reshape(batch, frames, joints, dim)
        turned = self.norm2(x).transpose(1, 2).reshape(batch * joints, frames, dim)
        x = x + self.frames(turned).reshape(batch, joints, frames, dim).transpose(1, 2)
        return x + self.mlp(self.norm3(x))


class HyperPose(nn.Module):
    """x: (batch, frames, joints, 2) image points → (batch, frames, joints, 3), relative to the pelvis, in metres."""

    def __init__(
        self, dim: int = 40, depth: int = 2, heads: int = 4, frames: int = FRAMES, window: int = WINDOW, kind: type[nn.Module] = HyperbolicAttention
    ) -> None:
        super().__init__()
        self.embed, self.joint = nn.Linear(2, dim), nn.Parameter(0.5 * torch.randn(JOINTS, dim))
        self.frame = nn.Parameter(0.1 * torch.randn(frames, 1, dim))
        self.blocks = nn.ModuleList([PoseBlock(dim, heads, frames, window, kind) for _ in range(depth)])
        self.norm, self.lift = nn.LayerNorm(dim), nn.Linear(dim, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x / SPREAD) + self.joint + self.frame
        for block in self.blocks:
            tokens = block(tokens)
        return functional.pad(x, (0, 1)) + self.lift(self.norm(tokens))


def paper() -> HyperPose:
    """The abstract gives no sizes; these are those of transformers on Human3.6M: 27 frames, width 256."""
    return HyperPose(dim=256, depth=5, heads=8, frames=27, window=9)


def twin() -> HyperPose:
    """The same network with Euclidean softmax attention."""
    return HyperPose(kind=EuclideanAttention)


def _position_error(results: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return 1000.0 * float(np.linalg.norm(results[0] - labels, axis=-1).mean())


POSITION_ERROR = Metric("mean joint position error", "mm", _position_error, higher_is_better=False, tolerance=1.0)


@cache
def _part(count: int, seed: int) -> Samples:
    image, joints = motions(count, FRAMES, seed)
    return Samples({"x": image}, joints)


def calibration() -> Samples:
    """256 motions."""
    return _part(256, 41)


def evaluation() -> Samples:
    """1,000 motions."""
    return _part(1000, 42)


def train(seed: int = 0, epochs: int = 8, progress: Progress | None = None, network: HyperPose | None = None) -> tuple[nn.Module, float]:
    """Trains on 6,000 motions; returns the network and its mean joint position error in millimetres."""
    torch.manual_seed(seed)
    module = network if network is not None else HyperPose()
    loss = lambda y, labels: (y - labels).norm(dim=-1).mean()  # noqa: E731
    fit(module, _part(6000, 43), _part(400, 44), loss, epochs, seed=seed, rate=4e-3, batch=16, decay=0.01, progress=progress)
    return module, metric_of(REFERENCE, module)


def linear_lift(data: Samples, held_out: Samples) -> float:
    """The position error of least squares from all image points of a motion to all its joints, in mm."""
    x, other = (np.c_[part.inputs["x"].reshape(len(part), -1), np.ones(len(part))].astype(np.float64) for part in (data, held_out))
    lifted = other @ np.linalg.lstsq(x, data.truth.reshape(len(data), -1), rcond=None)[0]
    return POSITION_ERROR.compute([lifted.reshape(held_out.truth.shape)], held_out.truth)


def measure() -> dict[str, float]:
    """Errors of position, bone length and velocity beside the Euclidean twin's, and a linear lift's."""
    held_out = evaluation()
    figures = {"joint position error, a linear lift (mm)": linear_lift(_part(6000, 43), held_out)}
    for name, module in (("hyperbolic", REFERENCE.module()), ("Euclidean", REFERENCE.trained_twin())):
        joints = outputs(module, held_out)
        figures[f"joint position error, {name} (mm)"] = metric_of(REFERENCE, module)
        figures[f"bone length error, {name} (mm)"] = 1000 * float(np.abs(bone_lengths(joints) - bone_lengths(held_out.truth)).mean())
        moved = np.diff(joints, axis=1) - np.diff(held_out.truth, axis=1)
        figures[f"velocity error, {name} (mm a frame)"] = 1000 * float(np.linalg.norm(moved, axis=-1).mean())
    return figures


REFERENCE = Reference(
    name="hyperpose",
    build=HyperPose,
    inputs=(
        TensorSpec(
            name="x", shape=("batch", FRAMES, JOINTS, 2), dtype="float32", unit="metres at the pelvis' distance", preprocessing="pelvis at the origin"
        ),
    ),
    outputs=("joints",),
    source="arXiv 2605.10100 (abstract); attention of arXiv 1805.09786",
    task="regression",
    data="procedural skeletons of 16 joints in motion before a camera",
    claim="hyperbolic space models the skeleton's tree better than Euclidean space",
    calibration=calibration,
    evaluation=evaluation,
    metric=POSITION_ERROR,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("hyperpose"),
    measure=measure,
    reached=93.938,
    twin_weights=weights_file("hyperpose_twin"),
)
