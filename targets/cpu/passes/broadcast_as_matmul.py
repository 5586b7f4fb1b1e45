"""Small last axes, spread by products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter
from .one_by_one import OneByOne

WIDEST = 64  # of the last axis: above, ONNX Runtime's element-wise kernels are as fast
LEAST = 16384  # elements of the result: below, one more node costs more than it saves


class BroadcastAsMatMul(OneByOne):
    """x: [..., n, 1] times y   becomes a product of matrices with one column and one row, exact as the multiplication is.

    1. y: [..., 1, m]: Mul(x, y) -> MatMul(x, y), an outer product. 2. y: [..., n, m]: Mul(x, y) -> Mul(MatMul(x, ones [1, m]), y), and Add likewise.
    ONNX Runtime makes an element-wise operator with such a broadcast in n runs of m elements; the state of a selective scan has m = 16, and there
    both take a third of the time or less.
    Left alone: wide last axes, small results, axes whose lengths are not known.
    """

    kinds = ("Mul", "Add")

    def replace(self, graph: ir.Graph, node: ir.Node) -> bool:
        left, right = node.inputs
        for x, y in ((left, right), (right, left)):
            if x is None or y is None or x.shape is None or y.shape is None or min(len(x.shape), len(y.shape)) < 2:
                continue
            width, rows, of_y = y.shape[-1], x.shape[-2], y.shape[-2]
            if x.shape[-1] != 1 or rows == 1 or not isinstance(width, int) or not 1 < width <= WIDEST or _elements(node) < LEAST:
                continue
            emit = Emitter(graph, node)
            if of_y == 1 and node.op_type == "Mul":
                emit.finish(emit("MatMul", x, y, like=node.outputs[0]))
                return True
            if isinstance(rows, int) and rows == of_y:
                ones = constant(graph, f"ones.{width}", np.ones((1, width), np.float32))
                spread = emit("MatMul", x, ones, like=x, shape=(*x.shape[:-1], width))
                emit.finish(emit(node.op_type, spread, y, like=node.outputs[0]))
                return True
        return False


def _elements(node: ir.Node) -> int:
    """Of the result, for one sample; 0 for other types than float32."""
    output = node.outputs[0]
    if output.shape is None or output.dtype != ir.DataType.FLOAT:
        return 0
    return int(np.prod([size for size in output.shape if isinstance(size, int)]))
