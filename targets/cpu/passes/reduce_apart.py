"""Reductions with arithmetic behind them that OpenVINO computes wrong."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter
from .selection import whole_number

ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu")


class ReduceApart(ir.passes.InPlacePass):
    """Reduce(x: [a, b, c], axis 2)   becomes   Reduce(x: [a, b, c, 1], axes 2 and 3), where arithmetic with a constant vector reads it.

    OpenVINO makes that arithmetic part of the reduction, and of the last of three axes it takes the wrong element of the vector (2026.4.1; alike
    issue 23616 of openvinotoolkit/openvino). A view of the result does not prevent it, where shapes are known OpenVINO takes that out.
    Left alone: other ranks and axes, scalars, and arithmetic with what is not constant, all of which come out right.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        found = [node for node in model.graph if _joined(node)]
        for node in found:
            emit, x, output = Emitter(model.graph, node), node.inputs[0], node.outputs[0]
            two, last, both = (constant(model.graph, f"axes.{'.'.join(map(str, axes))}", np.array(axes, np.int64)) for axes in ([2], [3], [2, 3]))
            wider = emit("Unsqueeze", x, last, like=x, shape=[*x.shape, 1])  # type: ignore[arg-type,misc,union-attr]
            reduced = emit(node.op_type, wider, both, like=output, shape=x.shape[:2], keepdims=0)  # type: ignore[index,union-attr]
            kept = node.attributes.get_int("keepdims", 1)
            emit.finish(emit("Unsqueeze", reduced, two, like=output) if kept else reduced)
        return ir.passes.PassResult(model, bool(found))


def _joined(node: ir.Node) -> bool:
    """Whether it reduces the last of three axes, and arithmetic with a constant vector reads it."""
    if not node.op_type.startswith("Reduce") or len(node.inputs) != 2 or node.inputs[0] is None or node.inputs[1] is None:
        return False
    shape = node.inputs[0].shape
    if shape is None or len(shape) != 3 or whole_number(node.inputs[1]) not in (2, -1):
        return False
    return any(use.node.op_type in ARITHMETIC and any(map(_vector, use.node.inputs)) for use in node.outputs[0].uses())


def _vector(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and value.const_value.size > 1
