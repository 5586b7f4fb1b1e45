"""Baikal-GVD's spiking twin: light that climbs the strings of a neutrino telescope is told from light that falls by coincidences.

    trace_t = LIF(3 x_t),   rise_t = trace_t shifted up AND x_t,   fall_t = trace_t shifted down AND x_t
    hidden_t = LIF(H [rise_t, fall_t, x_t]),   out_t = LIF(R hidden_t)

x_t: hits of the 8 x 24 modules in a slice of 50 ns, 0 or 1, forty slices an event; trace: neurons that fire in the slice of a hit and in the
next; a hit counts for `rise` where the module below was hit shortly before: light covers the 15 m between two modules in 50 ns. H, R are trained,
the coincidences are fixed wiring: the coincidence stage of `models/baikal.py` for a detector made of events. Spike counts (batch, 3): neutrino
(a track from below), muon (from above), shower.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from ..runtime.manifest import TensorSpec
from .data.strings import SCALE, WINDOW, events, modules
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import weights_file
from .spiking import Coincidence, Leaky, SpikingNetwork, Wire, spikes_per_sample
from .training import Progress, fit_counts, metric_of, tensors

STRINGS, DEPTHS, STEPS, CLASSES = 8, 24, 40, 3


class Coincidences(SpikingNetwork):
    """events: (batch, steps, 8, 24) uint8 → spike counts (batch, 3). coincide=False gives the twin: it sees hits and their traces."""

    input_shape = (1, STRINGS, DEPTHS)

    def __init__(self, hidden: int = 48, coincide: bool = True) -> None:
        super().__init__()
        self.coincide = coincide
        self.keep = _fixed([[0.0, 3.0, 0.0]])
        self.below, self.above = _fixed([[1.0, 0.0, 0.0]]), _fixed([[0.0, 0.0, 1.0]])
        size = STRINGS * DEPTHS
        self.rises, self.falls, self.hits = (nn.Linear(size, hidden, bias=False) for _ in range(3))
        for synapses in (self.rises, self.falls, self.hits):  # all modules alike at first: where light passes says little, which way it goes much
            synapses.weight = nn.Parameter(torch.randn(hidden, 1).repeat(1, size))
        self.readout = nn.Linear(hidden, CLASSES, bias=False)
        self.lif_trace, self.lif_hidden, self.lif_out = Leaky(0.9), Leaky(0.98), Leaky(0.98)

    def wiring(self) -> dict[str, Wire]:
        found = {"trace": Wire(self.lif_trace, [("input", self.keep)])}
        seen: list[tuple[str, nn.Module | None]] = [("input", self.hits)]
        if self.coincide:
            found["rise"] = Wire(Coincidence(), [("trace", self.below), ("input", None)])
            found["fall"] = Wire(Coincidence(), [("trace", self.above), ("input", None)])
            seen += [("rise", self.rises), ("fall", self.falls)]
        else:
            seen += [("trace", self.rises)]
        return {**found, "hidden": Wire(self.lif_hidden, seen), "out": Wire(self.lif_out, [("hidden", self.readout)])}


def _fixed(kernel: list[list[float]]) -> nn.Conv2d:
    """One kernel along strings, never trained."""
    synapses = nn.Conv2d(1, 1, (1, 3), padding=(0, 1), bias=False)
    synapses.weight = nn.Parameter(torch.tensor(kernel).reshape(1, 1, 1, 3), requires_grad=False)
    return synapses


@cache
def samples(count: int, seed: int) -> Samples:
    """Simulated events as hits by slice; labels: 0 neutrino, 1 muon, 2 shower."""
    drawn = events(count, seed, measured=False)
    hits, present, labels = drawn.inputs["hits"], drawn.inputs["present"], drawn.truth
    where = modules()
    place = np.abs(hits[:, :, None, :3] * SCALE[:3] - where).sum(-1).argmin(-1)
    slot = np.clip(((hits[..., 3] * SCALE[3] + WINDOW / 2) * STEPS / WINDOW).astype(int), 0, STEPS - 1)
    seen = np.zeros((count, STEPS, STRINGS * DEPTHS), np.uint8)
    event = np.broadcast_to(np.arange(count)[:, None], present.shape)
    seen[event[present], slot[present], place[present]] = 1
    kind = np.where(labels[:, 64] > 0, 2, np.where(labels[:, 65] > 0, 0, 1))
    return Samples({"events": seen.reshape(count, STEPS, STRINGS, DEPTHS)}, kind.astype(np.int64))


def calibration() -> Samples:
    """100 events."""
    return samples(100, 61)


def evaluation() -> Samples:
    """1,000 events."""
    return samples(1000, 62)


def twin() -> Coincidences:
    """Without coincidences."""
    return Coincidences(coincide=False)


def train(seed: int = 0, epochs: int = 3, progress: Progress | None = None, network: Coincidences | None = None) -> tuple[nn.Module, float]:
    """Trains on 12,000 events; returns the network and its accuracy on the evaluation events."""
    torch.manual_seed(seed)
    module = network if network is not None else Coincidences()
    gains = {module.rises: 0.6, module.falls: 0.6, module.hits: 0.1, module.readout: 3.0}
    fit_counts(module, gains, samples(12000, 600 + seed), samples(500, 63), epochs, seed=seed, rate=2e-3, batch=128, progress=progress)
    return module, metric_of(REFERENCE, module)


def paper() -> Coincidences:
    """Eight times the hidden neurons; the conference pages describe no spiking network."""
    return Coincidences(hidden=384)


def measure() -> dict[str, float]:
    """Accuracy beside the network without coincidences, and how often tracks' coincidences point the way that the light went."""
    network, held_out = REFERENCE.module(), evaluation()
    assert isinstance(network, Coincidences)
    with torch.no_grad():
        trains = network.trains(tensors(held_out.inputs)["events"])
    climbs = (trains["rise"].sum((1, 2)) - trains["fall"].sum((1, 2))).numpy()
    labels = held_out.truth
    return {
        "accuracy (points)": metric_of(REFERENCE, network),
        "accuracy, no coincidences (points)": metric_of(REFERENCE, REFERENCE.trained_twin()),
        "accuracy of the most frequent class (points)": 100 * float(np.bincount(labels).max() / len(labels)),
        "rises over falls, mean of neutrinos": float(climbs[labels == 0].mean()),
        "rises over falls, mean of muons": float(climbs[labels == 1].mean()),
        "spikes an event": spikes_per_sample(trains),
    }


REFERENCE = Reference(
    name="baikal_spiking",
    build=Coincidences,
    inputs=(TensorSpec(name="events", shape=("batch", STEPS, STRINGS, DEPTHS), dtype="uint8", unit="hits", preprocessing="slices of 50 ns"),),
    outputs=("counts",),
    source="spiking form, derived here, of arXiv 2605.11176's cascade",
    data="procedural tracks and showers in a string detector, 85 to 90 % noise hits",
    claim="coincidences of spikes tell tracks from below among noise hits",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("baikal_spiking"),
    targets=("spinnaker",),
    measure=measure,
    reached=60.8,
    twin_weights=weights_file("baikal_spiking_twin"),
    twin_of="baikal",
)
