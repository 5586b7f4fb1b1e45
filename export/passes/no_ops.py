"""Arithmetic that changes nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor, replace_all_uses_with

NEUTRAL = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}
EITHER_SIDE = ("Add", "Mul")


class DropNoOps(ir.passes.InPlacePass):
    """x + 0, 0 + x, x - 0, x * 1, 1 * x, x / 1   become   x.

    The constant is 0 or 1 exactly: onnxscript's rules take what is within 1e-8 of 0 for 0, and x / (norm + 1e-9) loses what keeps it finite.
    Left alone: a constant that changes the shape of x; an output of the graph.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            kept = _unchanged(node)
            if kept is not None:
                replace_all_uses_with(node.outputs[0], kept)
                model.graph.remove(node, safe=True)
                modified = True
        return ir.passes.PassResult(model, modified)


def _unchanged(node: ir.Node) -> ir.Value | None:
    """The input that the node passes on as it is, or None."""
    if node.op_type not in NEUTRAL or node.domain != "" or node.outputs[0].is_graph_output():
        return None
    for index in (1, 0) if node.op_type in EITHER_SIDE else (1,):
        kept, other = node.inputs[1 - index], node.inputs[index]
        tensor = get_const_tensor(other) if other is not None else None
        if kept is None or tensor is None or tensor.size != 1 or np.any(tensor.numpy() != NEUTRAL[node.op_type]):
            continue
        if tensor.shape.rank() == 0 or (kept.shape is not None and tensor.shape.rank() <= kept.shape.rank()):
            return kept
    return None
