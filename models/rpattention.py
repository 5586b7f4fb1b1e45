"""RPAttention: tokens are compressed by what they mean, not by where they are, into a few representatives.

    S   = softmax_m(X R^T / tau)            each token chooses among M representatives       (tokens, M)
    R'  = colnorm(S)^T X                    gather: a representative becomes the mean of its tokens   (M, dim)
    R'' = softmax(Q_r K_r^T / sqrt(d)) V_r  interact: representatives attend to each other   (M, dim)
    Y   = softmax(Q R''_k^T / sqrt(d)) R''_v    distribute: every token reads them back      (tokens, dim)

X: (batch, tokens, dim); R: (M, dim), learned. The cost is O(tokens * M): linear in tokens. From the abstract of "RPAttention"
(arXiv 2605.14913), whose code is not published; the routing follows Locatello et al., "Object-Centric Learning with Slot Attention"
(arXiv 2006.15055), the distribution Han et al., "Agent Attention" (arXiv 2312.08874): a reference reconstruction.
Task: handwritten digits, every pixel a token, moved by up to a pixel.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import MissingError
from ..runtime.manifest import TensorSpec
from .layers import Block, SelfAttention, merge_heads, split_heads
from .metrics import ACCURACY
from .operations import operations
from .reference import Reference, Samples
from .registry import weights_file
from .training import Progress, fit, metric_of

SHIFTS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))


class RepresentativeAttention(nn.Module):
    """Gather, interact, distribute; x: (batch, tokens, dim) → (batch, tokens, dim). tau: temperature of the routing."""

    def __init__(self, dim: int, heads: int, representatives: int, tau: float = 0.25) -> None:
        super().__init__()
        self.heads, self.tau = heads, tau
        self.route = nn.Linear(dim, representatives, bias=False)  # its weight is R
        self.interact = SelfAttention(dim, heads)
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)

    def routing(self, x: torch.Tensor) -> torch.Tensor:
        """S: (batch, tokens, M); rows sum to 1."""
        return functional.softmax(self.route(functional.layer_norm(x, x.shape[-1:])) / (self.tau * x.shape[-1] ** 0.5), -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = self.routing(x)
        columns = share / (share.sum(1, keepdim=True) + 1e-6)
        gathered = columns.transpose(1, 2) @ x
        seen = gathered + self.interact(gathered)
        q = split_heads(self.query(x), self.heads)
        k, v = split_heads(self.key(seen), self.heads), split_heads(self.value(seen), self.heads)
        return self.project(merge_heads(functional.scaled_dot_product_attention(q, k, v)))


class PixelViT(nn.Module):
    """A small vision transformer over pixel tokens; x: (batch, 8, 8) grey values in [0, 1] → scores (batch, 10).

    attention="softmax" gives the twin.
    """

    def __init__(
        self, side: int = 8, dim: int = 48, depth: int = 3, heads: int = 4,
        representatives: int = 16, classes: int = 10, attention: str = "representative",
    ) -> None:  # fmt: skip
        super().__init__()
        self.embed = nn.Linear(1, dim)
        self.position = nn.Parameter(0.5 * torch.randn(1, side * side, dim))  # routing needs tokens that differ
        mixers = [SelfAttention(dim, heads) if attention == "softmax" else RepresentativeAttention(dim, heads, representatives) for _ in range(depth)]
        self.blocks = nn.ModuleList([Block(dim, mixer, expansion=2) for mixer in mixers])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.reshape(x.shape[0], -1, 1)) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def paper() -> PixelViT:
    """DeiT-tiny's size, the smallest backbone the abstract's ImageNet results speak of: 196 tokens, 49 representatives."""
    return PixelViT(side=14, dim=192, depth=12, heads=3, representatives=49, classes=1000)


def twin() -> PixelViT:
    """Plain softmax attention in the same network."""
    return PixelViT(attention="softmax")


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingError("the digits come with scikit-learn: pip install 'edgeattn[compile]'.") from None
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return (images.reshape(-1, 8, 8)[order] / 16).astype(np.float32), labels[order].astype(np.int64)


def digits(part: str) -> Samples:
    """Each digit at five positions; part: train (1,000 digits), validation (250) or evaluation (547)."""
    images, labels = _digits()
    cut = {"train": slice(0, 1000), "validation": slice(1000, 1250), "evaluation": slice(1250, None)}[part]
    moved = [np.roll(images[cut], shift, axis=(1, 2)) for shift in SHIFTS]
    return Samples({"x": np.concatenate(moved)}, np.tile(labels[cut], len(SHIFTS)))


def calibration() -> Samples:
    """256 images of the training part."""
    samples = digits("train")
    return samples.take(np.random.default_rng(1).permutation(len(samples))[:256])


def evaluation() -> Samples:
    """547 digits never seen in training, at five positions."""
    return digits("evaluation")


def train(seed: int = 0, epochs: int = 35, progress: Progress | None = None, network: PixelViT | None = None) -> tuple[nn.Module, float]:
    """Trains on the digits; returns the network and its accuracy on the evaluation part."""
    torch.manual_seed(seed)
    module = network if network is not None else PixelViT()
    fit(module, digits("train"), digits("validation"), functional.cross_entropy, epochs, seed=seed, rate=2e-3, progress=progress)
    return module, metric_of(REFERENCE, module)


def measure() -> dict[str, float]:
    """Accuracy beside the twin's, and how the operations of both attentions grow with four times as many tokens."""
    tokens = [torch.randn(1, count, 48) for count in (256, 1024)]
    mixers = {"representative": RepresentativeAttention(48, 4, 16), "softmax": SelfAttention(48, 4)}
    growth = {name: [operations(mixer, x) for x in tokens] for name, mixer in mixers.items()}
    return {
        "accuracy, 16 representatives (points)": metric_of(REFERENCE, REFERENCE.module()),
        "accuracy, softmax attention (points)": metric_of(REFERENCE, REFERENCE.trained_twin()),
        "operations with representatives at 1,024 tokens over those at 256": growth["representative"][1] / growth["representative"][0],
        "operations of softmax attention at 1,024 tokens over those at 256": growth["softmax"][1] / growth["softmax"][0],
    }


REFERENCE = Reference(
    name="rpattention",
    build=PixelViT,
    inputs=(TensorSpec(name="x", shape=("batch", 8, 8), dtype="float32", unit="grey value, 0 to 1", preprocessing="scikit-learn digits / 16"),),
    outputs=("scores",),
    source="arXiv 2605.14913 (abstract); routing of arXiv 2006.15055, distribution of arXiv 2312.08874",
    data="scikit-learn digits, every pixel a token, moved by up to a pixel",
    claim="similarity routing costs linear time in tokens",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("rpattention"),
    measure=measure,
    twin_weights=weights_file("rpattention_twin"),
    reached=89.287,
)
