"""Baikal-GVD's pipeline: three transformers in cascade read the light that a neutrino telescope's strings have seen.

    1. shower or track, from all hits          s = head(mean_i T_1(hit_i))
    2. which hits are light of the event       h_i = head(T_2(hit_i)),      w_i = sigmoid(h_i)
    3. neutrino (from below) or muon           c = head(sum_i w_i T_3(hit_i) / sum_i w_i), attention among hits that stage 2 keeps

T: pre-norm transformer over a set of hits, (batch, 64, dim), absent ones masked. hit: (x, y, z, t, q), scaled (`data.strings`). Simulation is not
measurement: a domain classifier reads T_2 through a gradient reversal (Ganin and Lempitsky, arXiv 1409.7495, eq. 9-10), so that T_2 keeps what both
have in common; the measured domain's own labels are never used. "Transformer-based pipeline for Baikal-GVD neutrino telescope" (arXiv 2605.11176),
from its conference pages: a reference reconstruction. The twin is one transformer with three heads, trained
likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..runtime.manifest import TensorSpec
from .data.strings import HITS, causal, events
from .layers import merge_heads, split_heads
from .operations import operations
from .reference import Metric, Reference, Samples, with_weights
from .registry import find, weights_file
from .training import Progress, all_outputs, fit, metric_of

ABSENT = -1e4  # added to the attention logits of masked hits; finite in float16
DARK = -16.0  # the logit of light of a hit that is not there: a weight of 1e-7


class SetBlock(nn.Module):
    """Pre-norm transformer block over a set; closed: (batch, 1, 1, n), added to the logits of each key."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        q, k, v = (split_heads(layer(y), self.heads) for layer in (self.query, self.key, self.value))
        x = x + self.project(merge_heads(functional.scaled_dot_product_attention(q, k, v, attn_mask=closed)))
        return x + self.mlp(self.norm2(x))


class Stage(nn.Module):
    """Hits (batch, n, 5) → tokens (batch, n, dim)."""

    def __init__(self, dim: int, heads: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(5, dim), nn.GELU(), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList([SetBlock(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)

    def forward(self, hits: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
        x = self.embed(hits)
        for block in self.blocks:
            x = block(x, closed[:, None, None])
        return self.norm(x)


def mean_of(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean over hits: (batch, n, dim), (batch, n) → (batch, dim)."""
    return (x * weight[..., None]).sum(1) / (weight.sum(1, keepdim=True) + 1e-3)


class Cascade(nn.Module):
    """hits (batch, 64, 5), present (batch, 64) bool → logits of light (batch, 64), of shower and of neutrino (batch, 2)."""

    def __init__(self, dims: tuple[int, int, int] = (24, 40, 24), heads: int = 4, depths: tuple[int, int, int] = (1, 3, 1)) -> None:
        super().__init__()
        self.stages = nn.ModuleList([Stage(dim, heads, depth) for dim, depth in zip(dims, depths, strict=True)])
        self.shower, self.light, self.neutrino = (nn.Linear(dim, 1) for dim in dims)

    def features(self, hits: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Stage 2's tokens, which the domain classifier reads, and the additive mask."""
        closed = torch.where(present, 0.0, ABSENT)
        return self.stages[1](hits, closed), closed

    def judge(self, hits: torch.Tensor, present: torch.Tensor, tokens: torch.Tensor, closed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        light = torch.where(present, self.light(tokens)[..., 0], DARK)
        weight = torch.sigmoid(light)
        shower = self.shower(mean_of(self.stages[0](hits, closed), present.to(hits.dtype)))
        neutrino = self.neutrino(mean_of(self.stages[2](hits, torch.log(weight + 1e-4)), weight))
        return light, torch.cat([shower, neutrino], 1)

    def forward(self, hits: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.judge(hits, present, *self.features(hits, present))


class Single(Cascade):
    """The twin: one transformer whose tokens all three heads read."""

    def __init__(self, dim: int = 44, heads: int = 4, depth: int = 4) -> None:
        nn.Module.__init__(self)
        self.stages = nn.ModuleList([nn.Identity(), Stage(dim, heads, depth)])
        self.shower, self.light, self.neutrino = (nn.Linear(dim, 1) for _ in range(3))

    def judge(self, hits: torch.Tensor, present: torch.Tensor, tokens: torch.Tensor, closed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = mean_of(tokens, present.to(hits.dtype))
        return torch.where(present, self.light(tokens)[..., 0], DARK), torch.cat([self.shower(pooled), self.neutrino(pooled)], 1)


class Reversal(torch.autograd.Function):
    """The identity, whose gradient changes its sign."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return -gradient


class Adversary(nn.Module):
    """A network with a domain classifier on stage 2 behind the reversal: its outputs and, in training, the logit of "measured" (batch, 1)."""

    def __init__(self, network: Cascade) -> None:
        super().__init__()
        self.network = network
        dim = network.light.in_features
        self.domain = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, hits: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tokens, closed = self.network.features(hits, present)
        if not self.training:
            return self.network.judge(hits, present, tokens, closed)
        pooled = mean_of(tokens, present.to(hits.dtype))
        return (*self.network.judge(hits, present, tokens, closed), self.domain(Reversal.apply(pooled)))


def loss(outputs: tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropies of hits and events where labels are given (-1: not), and of the domain, where the network says it."""
    known = labels >= 0
    light = functional.binary_cross_entropy_with_logits(outputs[0][known[:, :HITS]], labels[:, :HITS][known[:, :HITS]])
    event = functional.binary_cross_entropy_with_logits(outputs[1][known[:, HITS : HITS + 2]], labels[:, HITS : HITS + 2][known[:, HITS : HITS + 2]])
    domain = functional.binary_cross_entropy_with_logits(outputs[2][:, 0], labels[:, -1]) if len(outputs) > 2 else light.new_zeros(())
    return 3 * light + event + 0.3 * domain


def paper() -> Cascade:
    """A larger one; the pages give no sizes."""
    return Cascade(dims=(64, 128, 64), heads=8, depths=(2, 6, 2))


def _f1(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return f1(outputs[0] > 0, labels)


def f1(kept: np.ndarray, labels: np.ndarray) -> float:
    """100 times the F1 score of hits kept as light, over all hits that are there."""
    light, there = labels[:, :HITS] == 1, labels[:, :HITS] >= 0
    right = (kept & light).sum()
    return 100.0 * float(2 * right / ((kept & there).sum() + light.sum()))


F1 = Metric("F1 of hits", "points", _f1, higher_is_better=True, tolerance=0.5)


def calibration() -> Samples:
    """256 simulated events."""
    return events(256, 1, measured=False)


@cache
def evaluation() -> Samples:
    """1,500 events of the measured domain."""
    return events(1500, 2, measured=True)


def train(
    seed: int = 0, epochs: int = 8, progress: Progress | None = None, network: Cascade | None = None, reversal: bool = True
) -> tuple[nn.Module, float]:
    """Trains on labelled simulation, and with the reversal on measured events without labels; returns the network and its F1 on the measured."""
    torch.manual_seed(seed)
    module = network if network is not None else Cascade()
    simulated, validation = events(4000, 10 + seed, measured=False), events(300, 3, measured=False)
    if reversal:
        measured = events(1000, 100 + seed, measured=True)
        hidden = np.full_like(measured.truth, -1.0)
        hidden[:, -1] = 1
        inputs = {name: np.concatenate([simulated.inputs[name], array]) for name, array in measured.inputs.items()}
        both = Samples(inputs, np.concatenate([simulated.truth, hidden]))
        fit(Adversary(module), both, validation, loss, epochs, seed=seed, rate=2e-3, progress=progress)
    else:
        fit(module, simulated, validation, loss, epochs, seed=seed, rate=2e-3, progress=progress)
    return module.eval(), metric_of(REFERENCE, module)


def rejected(scores: np.ndarray, wanted: np.ndarray, unwanted: np.ndarray, kept: float = 0.99) -> float:
    """Percent of the unwanted events that a cut on the scores rejects which keeps a share `kept` of the wanted ones."""
    return 100.0 * float(np.mean(scores[unwanted] < np.quantile(scores[wanted], 1 - kept)))


def twin() -> Single:
    """One transformer with three heads."""
    return Single()


def simulated() -> Cascade:
    """The cascade trained without the reversal: what the reversal is judged by."""
    return with_weights(Cascade(), weights_file("baikal_simulated"))


def early_exit(module: nn.Module, samples: Samples) -> float:
    """Share of the matrix operations that is left where the cascade stops at showers: at a cut on stage 1 that keeps 99 % of the neutrinos."""
    assert isinstance(module, Cascade)
    hits, present = (torch.from_numpy(samples.inputs[name][:1]) for name in ("hits", "present"))
    first, all_three = operations(module.stages[0], hits, torch.where(present, 0.0, ABSENT)), operations(module, hits, present)
    said = all_outputs(module, samples)[1][:, 0]
    stopped = np.mean(said > np.quantile(said[samples.truth[:, HITS + 1] == 1], 0.99))
    return 1 - float(stopped) * (1 - first / all_three)


def measure() -> dict[str, float]:
    """F1 of hits in both domains, beside the causality cut; muons and showers rejected where 99 % of the neutrinos are kept."""
    found, here = {}, find("baikal")
    networks = {"cascade": here.module(), "cascade without the reversal": simulated(), "one transformer": here.trained_twin()}
    for domain, samples in (("simulated", events(1500, 4, measured=False)), ("measured", evaluation())):
        shower, neutrino = samples.truth[:, HITS], samples.truth[:, HITS + 1]
        for name, module in networks.items():
            light, event = all_outputs(module, samples)
            found[f"F1, {domain}, {name}"] = F1.compute([light], samples.truth)
            found[f"muons rejected at 99 %, {domain}, {name}"] = rejected(event[:, 1], neutrino == 1, (neutrino == 0) & (shower == 0))
            found[f"showers rejected at 99 %, {domain}, {name}"] = rejected(-event[:, 0], neutrino == 1, shower == 1)
        found[f"F1, {domain}, causality cut"] = max(f1(causal(samples) >= least, samples.truth) for least in range(2, 12))
    found["operations with an exit after stage 1, of those without"] = early_exit(here.module(), evaluation())
    return found


REFERENCE = Reference(
    name="baikal",
    build=Cascade,
    inputs=(
        TensorSpec(name="hits", shape=("batch", HITS, 5), dtype="float32", unit="60 m, 180 m, us, log(1 + p.e.)", preprocessing="x, y, z, t, q"),
        TensorSpec(name="present", shape=("batch", HITS), dtype="bool", preprocessing="hits that are there"),
    ),
    outputs=("light", "event"),
    source="arXiv 2605.11176 (conference pages); gradient reversal of arXiv 1409.7495",
    task="regression",
    data="procedural tracks and showers in a string detector, 85 to 90 % noise hits",
    claim="finds the light among noise hits, and keeps 99 % of the neutrinos",
    calibration=calibration,
    evaluation=evaluation,
    metric=F1,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("baikal"),
    measure=measure,
    reached=72.655,
    twin_weights=weights_file("baikal_twin"),
)
