"""The spiking twin of attention coresets: a memory that is written into synapses, not trained.

    k_i(t) = LIF(gain sum_c w_ic s_c(t)),   out_d(t) = LIF(sum_i v_id k_i(t)),   w_ic = exp(-|x_i - x_c|^2 / (2 WIDTH^2)) / |w_i|

s_c: spikes of the place cells, a grid of 14 x 14 at x_c, each firing with probability `RATE` exp(-|x - x_c|^2 / (2 WIDTH^2)) a step when the robot is
at x; k_i: one neuron for each remembered reading, at x_i; v_id: its field's component along direction d. The overlap of two places' cells is a
Gaussian of their distance, so the current of k_i is the attention's kernel, and its threshold drops what is far: attention by fixed synapses, with no
product of two signals. The readings kept are the coreset that `runtime.coreset` finds under that kernel; the rival keeps as many, drawn uniformly.
Task: which of four ways the field of `models/coresets.py` points at a place. Spike counts (batch, 4).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..runtime.coreset import coreset
from ..runtime.manifest import TensorSpec
from .coresets import SURVEY, readings, survey
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import find, weights_file
from .spiking import Leaky, SpikingNetwork, Wire, spikes_per_sample
from .training import Progress, metric_of, outputs, tensors

GRID, STEPS = 14, 32
WIDTH, RATE = 0.05, 0.5
EVALUATION = 13  # seed
REACH = 8.0  # of the kernel that the coreset is found under
WAYS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], np.float32)


class PlaceMemory(SpikingNetwork):
    """events: (batch, steps, 14, 14) uint8 → spike counts (batch, 4). No parameter has a gradient."""

    input_shape = (1, GRID, GRID)

    def __init__(self, size: int = 256) -> None:
        super().__init__()
        self.keys, self.values = nn.Linear(GRID * GRID, size, bias=False), nn.Linear(size, len(WAYS), bias=False)
        self.lif_memory, self.lif_out = Leaky(0.9), Leaky(0.9)
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def wiring(self) -> dict[str, Wire]:
        return {
            "memory": Wire(self.lif_memory, [("input", self.keys)]),
            "out": Wire(self.lif_out, [("memory", self.values)]),
        }

    def write(self, rows: np.ndarray, gains: tuple[float, float]) -> None:
        """Puts readings of the survey into the synapses; rows: (size,) which ones, gains: of the keys and of the values."""
        self.keys.weight.copy_(torch.from_numpy(gains[0] * keys()[rows]))
        self.values.weight.copy_(torch.from_numpy(gains[1] * WAYS @ survey().truth[rows, :2].T))


def paper() -> PlaceMemory:
    """With a neuron for every reading."""
    return PlaceMemory(SURVEY)


def twin() -> PlaceMemory:
    """The same network; its readings are drawn uniformly."""
    return PlaceMemory()


def tuning(place: np.ndarray) -> np.ndarray:
    """The place cells' response, 1 at its centre; place: (n, 2) in the unit square → (n, 196)."""
    middle = (np.arange(GRID) + 0.5) / GRID
    x, y = (np.exp(-((place[:, axis, None] - middle) ** 2) / (2 * WIDTH**2)) for axis in range(2))
    return (y[:, :, None] * x[:, None]).reshape(len(place), -1).astype(np.float32)


def keys() -> np.ndarray:
    """Unit vectors of all readings of the survey, (1024, 196)."""
    response = tuning(survey().inputs["place"])
    return response / np.linalg.norm(response, axis=1, keepdims=True)


def samples(count: int, seed: int) -> Samples:
    """Spikes at random places, events (count, 32, 14, 14), and the way that the field points there, (count,)."""
    there = readings(count, seed)
    rates = RATE * tuning(there.inputs["place"]).reshape(count, 1, GRID, GRID)
    events = np.random.default_rng(seed + 1_000_000).random((count, STEPS, GRID, GRID), np.float32) < rates
    return Samples({"events": events.astype(np.uint8)}, (there.truth[:, :2] @ WAYS.T).argmax(1).astype(np.int64))


def calibration() -> Samples:
    """100 places."""
    return samples(100, 12)


def evaluation() -> Samples:
    """1,000 other places."""
    return samples(1000, EVALUATION)


def kept(size: int, balanced: bool, seed: int = 0) -> np.ndarray:
    """Which readings a memory keeps: a coreset, or as many drawn uniformly."""
    if balanced:
        return coreset(keys(), survey().truth[:, :2], size, REACH, seed)
    return np.random.default_rng(seed).permutation(SURVEY)[:size]


def train(seed: int = 0, progress: Progress | None = None, network: PlaceMemory | None = None) -> tuple[nn.Module, float]:
    """Writes the memory with the gains that serve 500 places best; returns it and its accuracy. A given network's readings are drawn uniformly."""
    module = network if network is not None else PlaceMemory()
    rows, validation = kept(module.keys.out_features, network is None, seed), samples(500, 14)
    tried = [(first, second) for first in (0.5, 0.7, 1.0, 1.4) for second in (0.3, 0.5, 0.8, 1.2)]
    reached = []
    for index, gains in enumerate(tried):
        module.write(rows, gains)
        reached.append(ACCURACY.compute([outputs(module, validation)], validation.truth))
        if progress is not None:
            progress(f"gains {gains}: {reached[-1]:.1f} %", index + 1, len(tried))
    module.write(rows, tried[int(np.argmax(reached))])
    return module.eval(), metric_of(REFERENCE, module)


def accuracy_of(rows: np.ndarray, held_out: Samples, gains: tuple[float, float] = (0.5, 0.8)) -> float:
    """Of a memory of these readings."""
    memory = PlaceMemory(len(rows))
    memory.write(rows, gains)
    return ACCURACY.compute([outputs(memory, held_out)], held_out.truth)


def measure() -> dict[str, float]:
    """Accuracy beside drawn readings, every reading, and the network in float; what an answer costs in spikes."""
    network, dense, held_out, places = REFERENCE.module(), find("coresets").module(), evaluation(), readings(1000, EVALUATION)
    assert isinstance(network, PlaceMemory)
    with torch.no_grad():
        trains = network.trains(tensors(held_out.inputs)["events"])
    field = outputs(dense, places)[:, :2] @ WAYS.T
    return {
        "accuracy %": metric_of(REFERENCE, network),
        "accuracy %, as many readings drawn": metric_of(REFERENCE, REFERENCE.trained_twin()),
        "accuracy %, mean of 5 coresets": float(np.mean([accuracy_of(kept(256, True, seed), held_out) for seed in range(5)])),
        "accuracy %, mean of 5 draws": float(np.mean([accuracy_of(kept(256, False, seed), held_out) for seed in range(5)])),
        "accuracy %, all 1024 readings in spikes": accuracy_of(np.arange(SURVEY), held_out, (0.5, 0.3)),
        "accuracy %, the dense network (128 tokens a head) at the exact place": ACCURACY.compute([field], held_out.truth),
        "input spikes a place": float(trains["input"].sum() / len(held_out)),
        "spikes of neurons a place": spikes_per_sample(trains),
        "memory neurons that fire, % of them": 100 * float((trains["memory"].sum(1) > 0).float().mean()),
    }


REFERENCE = Reference(
    name="coresets_spiking",
    build=PlaceMemory,
    inputs=(
        TensorSpec(name="events", shape=("batch", "steps", GRID, GRID), dtype="uint8", unit="spikes", preprocessing="place cells, one frame a ms"),
    ),
    outputs=("counts",),
    source="spiking form, derived here, of arXiv 2605.05602",
    data="the field of 24 dipoles, remembered from 1,024 noisy readings, asked at places that place cells signal",
    claim="a coreset written into synapses answers better than as many readings drawn",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=twin,
    paper=paper,
    train=train,
    targets=("spinnaker",),
    weights=weights_file("coresets_spiking"),
    measure=measure,
    reached=78.0,
    twin_weights=weights_file("coresets_spiking_twin"),
    twin_of="coresets",
)
