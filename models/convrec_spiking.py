"""ConvRec's spiking twin: the same strided stages over purchases, with leaky neurons in place of GELU and layer norm.

    u = LIF(W_2 * s),   v = LIF(W_5 * u),   k = LIF(W_7 * v),   a = LIF(R k),   out_i = LIF(0.55 (a_category(i) + a_level(i)))

s: (70, 42), one purchase a row: its category (24), its price level (16), and whether hours or days passed after it (2), one-hot; the frame stands
still, one spike a step for every 1, so that rates carry numbers; W_n *: convolution over n rows with stride n, 70 rows → 35 → 7 → 1; u, v, k:
(channels, rows); a: (40,), the categories and levels wanted; out: (384,), one neuron an item, so that items are known by their attributes alone.
The pooling of `models/convrec.py` is left to the convolutions, which may hold the mean of their rows. Spike counts (batch, 384).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from ..runtime.manifest import TensorSpec
from .convrec import HIT_RATE, STAGES
from .data.shops import CATEGORIES, HISTORY, ITEMS, LEVELS, customers
from .reference import Reference, Samples
from .registry import find, weights_file
from .spiking import Leaky, SpikingNetwork, Wire, settle, spikes_per_sample
from .training import Progress, fit_counts, metric_of, tensors

STEPS = 16
COLUMNS = CATEGORIES + LEVELS + 2
SHARE = 0.5  # of an item's threshold that a spike of one of its attributes brings
MARGIN = 1.1  # raises the share after training: two spikes that come together must not meet the threshold exactly, where rounding decides
HOURS = -1.25  # log days, between the gaps within and between sessions


class SpikingConvRec(SpikingNetwork):
    """events: (batch, steps, 70, 42) uint8 → spike counts (batch, 384). stages=(70,) gives the twin."""

    input_shape = (1, HISTORY, COLUMNS)

    def __init__(self, channels: int = 48, stages: tuple[int, ...] = STAGES) -> None:
        super().__init__()
        columns = (COLUMNS, *(1 for _ in stages[1:]))
        widths = (1, *(channels for _ in stages[1:]))
        self.stages = nn.ModuleList(
            nn.Conv2d(before, channels, (rows, wide), (rows, wide), bias=False) for before, rows, wide in zip(widths, stages, columns, strict=True)
        )
        self.wanted, self.items = nn.Linear(channels, CATEGORIES + LEVELS, bias=False), nn.Linear(CATEGORIES + LEVELS, ITEMS, bias=False)
        self.items.weight = nn.Parameter(SHARE * torch.from_numpy(attributes(np.arange(ITEMS))).float(), requires_grad=False)
        self.lif_stages, self.lif_wanted, self.lif_out = nn.ModuleList(Leaky(0.9) for _ in stages), Leaky(0.9), Leaky(0.99)

    def wiring(self) -> dict[str, Wire]:
        found, source = {}, "input"
        for index, (neurons, synapses) in enumerate(zip(self.lif_stages, self.stages, strict=True)):
            name = f"stage{index}"
            found[name] = Wire(neurons, [(source, synapses)])
            source = name
        return {**found, "wanted": Wire(self.lif_wanted, [(source, self.wanted)]), "out": Wire(self.lif_out, [("wanted", self.items)])}


def paper() -> SpikingConvRec:
    """As wide as `convrec.paper()`."""
    return SpikingConvRec(channels=256)


def twin() -> SpikingConvRec:
    """One stage over the whole history, at nearly equal parameters."""
    return SpikingConvRec(channels=11, stages=(HISTORY,))


def attributes(items: np.ndarray) -> np.ndarray:
    """Category and price level, one-hot: (...) → (..., 40) uint8."""
    parts = [np.eye(CATEGORIES, dtype=np.uint8)[items // LEVELS], np.eye(LEVELS, dtype=np.uint8)[items % LEVELS]]
    return np.concatenate(parts, -1)


@cache
def samples(count: int, seed: int) -> Samples:
    """Purchases as spikes, the same at every step; labels: the item bought next."""
    known = customers(count, seed)
    frame = np.concatenate([attributes(known.items[:, :-1]), np.eye(2, dtype=np.uint8)[(known.gaps > HOURS).astype(int)]], 2)[:, None]
    return Samples({"events": np.broadcast_to(frame, (count, STEPS, HISTORY, COLUMNS))}, known.items[:, -1].copy())


def calibration() -> Samples:
    """100 customers."""
    return samples(100, seed=1)


def evaluation() -> Samples:
    """1,000 customers."""
    return samples(1000, seed=2)


def train(seed: int = 0, epochs: int = 5, progress: Progress | None = None, network: SpikingConvRec | None = None) -> tuple[nn.Module, float]:
    """Trains on 20,000 customers; returns the network and its hit rate at 10 on the evaluation customers."""
    torch.manual_seed(seed)
    module = network if network is not None else SpikingConvRec()
    gains: dict[nn.Module, float] = {synapses: 3.0 if index == 0 else 2.0 for index, synapses in enumerate(module.stages)}
    gains[module.wanted] = 2.0
    fit_counts(module, gains, samples(20_000, 100 + seed), samples(500, 3), epochs, seed=seed, rate=8e-3, batch=128, progress=progress)
    with torch.no_grad():
        module.items.weight.mul_(MARGIN)
    settle(module)
    return module, metric_of(REFERENCE, module)


def measure() -> dict[str, float]:
    """Hit rate beside the network of one stage and the float network's, and the spikes that it takes."""
    network, held_out = REFERENCE.module(), evaluation()
    assert isinstance(network, SpikingConvRec)
    with torch.no_grad():
        trains = network.trains(tensors(held_out.inputs)["events"])
    return {
        "hit rate at 10 (points)": metric_of(REFERENCE, network),
        "hit rate at 10, one stage (points)": metric_of(REFERENCE, REFERENCE.trained_twin()),
        "hit rate at 10, ConvRec in float (points)": metric_of(find("convrec"), find("convrec").module()),
        "spikes a customer": spikes_per_sample(trains),
    }


REFERENCE = Reference(
    name="convrec_spiking",
    build=SpikingConvRec,
    inputs=(
        TensorSpec(
            name="events",
            shape=("batch", STEPS, HISTORY, COLUMNS),
            dtype="uint8",
            unit="one-hot",
            preprocessing="category, price level and gap of each purchase, the same at every step",
        ),
    ),
    outputs=("counts",),
    source="spiking form, derived here, of arXiv 2605.04723",
    data="purchases in a shop of 384 items, customers with known long and short interests",
    claim="strided convolutions are all a recommender needs, so that it runs on spikes",
    calibration=calibration,
    evaluation=evaluation,
    metric=HIT_RATE,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("convrec_spiking"),
    targets=("spinnaker",),
    measure=measure,
    reached=69.3,
    twin_weights=weights_file("convrec_spiking_twin"),
    twin_of="convrec",
)
