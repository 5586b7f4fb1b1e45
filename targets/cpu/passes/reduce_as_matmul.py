"""Sums and means over tokens, as products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter

LEAST = 2048  # elements of x for one sample: below, ONNX Runtime's reduction is as fast


class ReduceAsMatMul(ir.passes.InPlacePass):
    """ReduceSum(x: [batch, n, m], axis 1)   becomes   ones [1, n] @ x, and ReduceMean [1 / n, ...] @ x, exact up to the order of its sum.

    It is how tokens are pooled. ONNX Runtime reduces the second last axis row by row where nothing but the batch is before it: over 1,024 tokens of
    64 channels that took seven times as long as the product, over 8,192 twenty times.
    Left alone: other axes, small inputs, and those with heads or the like before the axis, where the reduction is as fast.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if node.op_type in ("ReduceSum", "ReduceMean") and node.domain == "":
                modified |= _replace(model.graph, node)
        return ir.passes.PassResult(model, modified)


def _replace(graph: ir.Graph, node: ir.Node) -> bool:
    x, axes = node.inputs[0], node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if x is None or x.dtype != ir.DataType.FLOAT or x.shape is None or len(x.shape) < 2 or axes is None:
        return False
    sizes, rank = list(x.shape), len(x.shape)
    if axes.numpy().tolist() not in ([-2], [rank - 2]) or any(isinstance(size, int) and size > 1 for size in sizes[:-2]):
        return False
    tokens, channels = sizes[-2:]
    if not isinstance(tokens, int) or not isinstance(channels, int) or tokens * channels < LEAST:
        return False
    kept = node.attributes.get_int("keepdims", 1)
    share = 1.0 if node.op_type == "ReduceSum" else 1 / tokens
    row = np.full((1, tokens) if kept else tokens, share, np.float32)  # a vector's axis is not in the product's shape
    emit = Emitter(graph, node)
    emit.finish(emit("MatMul", constant(graph, f"{node.name}/share", row), x, like=node.outputs[0]))
    return True
