"""Hardmax attention's spiking twin: the strongest word is the first to fire, and the first to fire wins.

    u_(c,i)(t) = LIF(E s_i(t)),   a_c(t) = OR_i u_(c,i)(t),   k_d(t) = LIF(C a(t)),   out(t) = LIF(R k(t))

s_i: spikes of word i's vector, 2 x 16 channels (positive and negative parts), their rate its size (sigma-delta coding); u: (channels, words), the
same map for every word, so that the stronger a word's projection is, the sooner its neuron reaches its threshold; a_c fires with any word of
channel c; k: neurons that hardly leak, excited by some channels and inhibited by others: who comes first pushes the rest far below threshold.
Winner-take-all by time stands where `models/hardmax.py` has the argmax of products. Spike counts (batch, 2).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..runtime.manifest import TensorSpec
from .hardmax import EVALUATION, FEATURES, TOKENS, sentences, words
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import find, weights_file
from .spiking import Coincidence, Leaky, SpikingNetwork, Wire, spikes_per_sample
from .training import Progress, fit_counts, metric_of, tensors

STEPS = 32
FULL = 0.8  # a number that fires at every step


class FirstWins(SpikingNetwork):
    """events: (batch, steps, 32, 24) uint8 → spike counts (batch, 2). compete=False gives the twin: the readout hears every word's spikes."""

    input_shape = (2 * FEATURES, TOKENS, 1)

    def __init__(self, channels: int = 8, contenders: int = 16, compete: bool = True) -> None:
        super().__init__()
        self.compete = compete
        self.embed = nn.Conv2d(2 * FEATURES, channels, 1, bias=False)
        self.any = nn.Linear(channels * TOKENS, channels, bias=False)
        members = torch.eye(channels).repeat_interleave(TOKENS, 1)
        self.any.weight = nn.Parameter(2 * Coincidence.threshold * members, requires_grad=False)  # one spike is enough
        self.contest, self.readout = (
            nn.Linear(channels, contenders, bias=False),
            nn.Linear(contenders if compete else channels * TOKENS, 2, bias=False),
        )
        self.lif_words, self.lif_contest, self.lif_out = Leaky(0.99), Leaky(0.99), Leaky(0.9)

    def wiring(self) -> dict[str, Wire]:
        words = {"words": Wire(self.lif_words, [("input", self.embed)])}
        if not self.compete:
            return {**words, "out": Wire(self.lif_out, [("words", self.readout)])}
        return {
            **words,
            "any": Wire(Coincidence(), [("words", self.any)]),
            "contest": Wire(self.lif_contest, [("any", self.contest)]),
            "out": Wire(self.lif_out, [("contest", self.readout)]),
        }


def paper() -> FirstWins:
    """Four times as wide; the paper's networks are no larger than `models/hardmax.py`."""
    return FirstWins(channels=32, contenders=64)


def twin() -> FirstWins:
    """Without the contest."""
    return FirstWins(compete=False)


def spikes_of(x: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Sigma-delta coding: x (batch, features, words) → events (batch, steps, 2 x features, words) uint8, positive parts first."""
    rates = np.clip(np.concatenate([x, -x], 1) / FULL, 0, 1).astype(np.float32)
    reached = np.floor(0.5 + rates[:, None] * np.arange(steps + 1, dtype=np.float32)[:, None, None])
    return np.diff(reached, axis=1).astype(np.uint8)


def samples(count: int, seed: int) -> Samples:
    """Sentences as spikes; labels: the sign of the strongest word."""
    plain = sentences(count, seed)
    return Samples({"events": spikes_of(plain.inputs["x"])}, plain.labels)


def calibration() -> Samples:
    """100 sentences."""
    return samples(100, 11)


def evaluation() -> Samples:
    """1,000 sentences never seen in training."""
    return samples(1000, EVALUATION)


def train(seed: int = 0, epochs: int = 12, progress: Progress | None = None, network: FirstWins | None = None) -> tuple[nn.Module, float]:
    """Trains on 4,000 sentences; returns the network and its accuracy on the evaluation sentences."""
    torch.manual_seed(seed)
    module = network if network is not None else FirstWins()
    gains = {module.embed: 1.0, module.contest: 3.0, module.readout: 3.0}
    fit_counts(module, gains, samples(4000, 100 + seed), samples(500, 10), epochs, seed=seed, rate=1e-2, batch=64, progress=progress)
    return module, metric_of(REFERENCE, module)


def measure() -> dict[str, float]:
    """Accuracy beside the network without contest and the float network's, and how often the strongest word's channel is the first to fire."""
    network, held_out = REFERENCE.module(), evaluation()
    assert isinstance(network, FirstWins)
    with torch.no_grad():
        trains = network.trains(tensors(held_out.inputs)["events"])
    fired = trains["words"].unflatten(2, (-1, TOKENS)).amax(2) > 0  # (batch, steps, words)
    first = torch.where(fired.any(1), fired.int().argmax(1), STEPS).argmin(1).numpy()
    strongest = words(len(held_out), EVALUATION)
    counts = trains["out"].sum(1)
    return {
        "accuracy (points)": metric_of(REFERENCE, network),
        "accuracy, no contest (points)": metric_of(REFERENCE, REFERENCE.trained_twin()),
        "accuracy, hardmax in float (points)": metric_of(find("hardmax"), find("hardmax").module()),
        "sentences whose first word to fire is the strongest (%)": 100 * float(np.mean(first == strongest.argmax(1))),
        "sentences in which only one class fires (%)": 100 * float(((counts > 0).sum(1) == 1).float().mean()),
        "spikes a sentence": spikes_per_sample(trains),
    }


REFERENCE = Reference(
    name="hardmax_spiking",
    build=FirstWins,
    inputs=(
        TensorSpec(
            name="events",
            shape=("batch", STEPS, 2 * FEATURES, TOKENS),
            dtype="uint8",
            unit="spikes",
            preprocessing="sigma-delta coding, 0.8 is one a step",
        ),
    ),
    outputs=("counts",),
    source="spiking form, derived here, of arXiv 2407.01602",
    data="generated sentences of 24 words with planted sentiment, the strongest decides",
    claim="winner-take-all by the time of the first spike stands for hard attention",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("hardmax_spiking"),
    targets=("spinnaker",),
    measure=measure,
    reached=88.5,
    twin_weights=weights_file("hardmax_spiking_twin"),
    twin_of="hardmax",
)
