"""Constants of a graph: those that passes add, and what they hold."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """The initializer `name`, made from `array` the first time it is asked for."""
    if name not in graph.initializers:
        graph.initializers.add(ir.val(name, const_value=ir.tensor(array, name=name)))
    return graph.initializers[name]


def array_of(value: ir.Value | None) -> np.ndarray:
    """What a constant input holds."""
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()
