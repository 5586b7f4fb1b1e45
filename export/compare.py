"""The exported graph against the module, at once, and where they part."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx

from ..errors import CheckFailed
from .host import host_session
from .passes.name_after_modules import TRACED
from .trace import Program

TOLERANCE = 1e-4  # of the largest magnitude in a tensor; float32 sums in another order stay well below


@dataclass(frozen=True)
class Difference:
    """error: max |graph - module| over the largest magnitude of the module's tensor."""

    node: str
    error: float


def check_graph(model: ir.Model, program: Program, inputs: Sequence[Mapping[str, np.ndarray]]) -> float:
    """Compares the graph's outputs with the module's on every set of inputs; returns the largest relative error.

    Raises CheckFailed that names the first node, in execution order, whose tensor differs.
    """
    session = host_session(model)
    worst = 0.0
    for arrays in inputs:
        expected = program.run(arrays)
        actual = session.run(None, dict(arrays))
        error = max(relative(e, a) for e, a in zip(expected, actual, strict=True))
        if error > TOLERANCE or not np.isfinite(error):
            first = first_difference(model, program, arrays)
            where = f"first at node {first.node} (relative error {first.error:.3g})" if first else "only at the output"
            raise CheckFailed(
                f"the exported graph of {program.reference.name} differs from the module by {error:.3g} (relative), {where}: "
                "report this node, or rewrite it in the module."
            )
        worst = max(worst, error)
    return worst


def first_difference(model: ir.Model, program: Program, inputs: Mapping[str, np.ndarray]) -> Difference | None:
    """The first node in execution order whose tensor differs from the traced module's, or None."""
    expected = _traced_values(program, inputs)
    copy = model.clone()
    named = [(value, value.metadata_props[TRACED]) for node in copy.graph for value in node.outputs if TRACED in value.metadata_props]
    watched = [(value, name) for value, name in named if name in expected and value.dtype is not None]
    copy.graph.outputs[:] = [value for value, _ in watched]
    actual = host_session(copy, optimise=False).run(None, dict(inputs))
    for (value, name), array in zip(watched, actual, strict=True):
        if expected[name].shape != array.shape:
            continue
        error = relative(expected[name], array)
        if error > TOLERANCE or not np.isfinite(error):
            node = value.producer()
            return Difference(str(node.name if node is not None else value.name), error)
    return None


def relative(expected: np.ndarray, actual: np.ndarray) -> float:
    """max |actual - expected| / max |expected|; infinities that agree count as equal, NaN gives NaN."""
    if expected.size == 0:
        return 0.0
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
    if same.all():
        return 0.0
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(float(finite.max()) if finite.size else 0.0, 1e-6)
    return float(np.abs(np.where(same, 0.0, actual - expected)).max()) / scale


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, np.ndarray] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.values[n.name] = value.detach().numpy()
        return value


def _traced_values(program: Program, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module = program.exported.run_decompositions({}).module()
        recorder = _Recorder(module)
        recorder.run(*[torch.from_numpy(np.ascontiguousarray(inputs[spec.name])) for spec in program.inputs])
    return recorder.values
