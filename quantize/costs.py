"""What each layer costs when it is rounded, measured both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import nn

from ..export.trace import Program, run_module
from ..models.reference import Samples
from .calibrate import Quantised, float_network, quiet

SAMPLES = 32  # enough to rank layers; the gate, not this, decides


@dataclass(frozen=True)
class LayerCost:
    """relative output errors, ||y - ref|| / ||ref||. alone: only this layer rounded; without: all rounded but this one."""

    layer: str
    alone: float
    without: float


def sensitivity(program: Program, quantised: Quantised, calibration: Samples, progress: Callable[[str], None] | None = None) -> list[LayerCost]:
    """Every quantised layer's cost, worst first: the one whose return to float removes most of the error."""
    size = program.fixed_batch or SAMPLES
    samples = calibration.take(slice(0, max(SAMPLES // size, 1) * size))
    expected = program.run(samples.inputs)
    exact = float_network(program, quantised.recipe, calibration)
    rounded = quantised.network
    costs = []
    for index, path in enumerate(quantised.layers):
        if progress is not None:
            progress(f"measuring layer {index + 1} of {len(quantised.layers)}: {path}")
        with quiet(), _swapped(exact, path, rounded.get_submodule(path)):
            alone = _error(expected, run_module(exact, samples.inputs, size))
        with quiet(), _swapped(rounded, path, exact.get_submodule(path)):
            without = _error(expected, run_module(rounded, samples.inputs, size))
        costs.append(LayerCost(path, alone, without))
    return sorted(costs, key=lambda cost: (cost.without, -cost.alone))


@contextmanager
def _swapped(module: nn.Module, path: str, layer: nn.Module) -> Iterator[None]:
    parent_path, _, name = path.rpartition(".")
    parent = module.get_submodule(parent_path)
    old = parent.get_submodule(name)
    parent.add_module(name, layer)
    try:
        yield
    finally:
        parent.add_module(name, old)


def _error(expected: list[np.ndarray], actual: list[np.ndarray]) -> float:
    difference = sum(float(np.square(a.astype(np.float64) - e).sum()) for e, a in zip(expected, actual, strict=True))
    scale = sum(float(np.square(e.astype(np.float64)).sum()) for e in expected)
    return float(np.sqrt(difference / max(scale, 1e-30)))
