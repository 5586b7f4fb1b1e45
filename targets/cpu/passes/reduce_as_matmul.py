"""Sums and means over tokens, as products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter
from .one_by_one import OneByOne
from .selection import whole_number

LEAST = 2048  # elements of x for one sample: below, ONNX Runtime's reduction is as fast


class ReduceAsMatMul(OneByOne):
    """ReduceSum(x: [batch, n, m], axis 1)   becomes   ones [1, n] @ x, and ReduceMean [1 / n, ...] @ x, exact up to the order of its sum.

    It is how tokens are pooled. ONNX Runtime reduces the second last axis row by row where nothing but the batch is before it: over 1,024 tokens of
    64 channels that took seven times as long as the product, over 8,192 twenty times.
    Left alone: other axes, small inputs, and those with heads or the like before the axis, where the reduction is as fast.
    """

    kinds = ("ReduceSum", "ReduceMean")

    def replace(self, graph: ir.Graph, node: ir.Node) -> bool:
        x, axis = node.inputs[0], whole_number(node.inputs[1]) if len(node.inputs) > 1 else None
        if x is None or x.dtype != ir.DataType.FLOAT or x.shape is None or len(x.shape) < 2 or axis not in (-2, len(x.shape) - 2):
            return False
        *before, tokens, channels = list(x.shape)
        if any(isinstance(size, int) and size > 1 for size in before):
            return False
        if not isinstance(tokens, int) or not isinstance(channels, int) or tokens * channels < LEAST:
            return False
        kept = node.attributes.get_int("keepdims", 1)
        share = 1.0 if node.op_type == "ReduceSum" else 1 / tokens
        row = np.full((1, tokens) if kept else tokens, share, np.float32)  # a vector's axis is not in the product's shape
        emit = Emitter(graph, node)
        emit.finish(emit("MatMul", constant(graph, f"{node.name}/share", row), x, like=node.outputs[0]))
        return True
