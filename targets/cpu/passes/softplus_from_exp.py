"""Softplus from operators that ONNX Runtime vectorises."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter


class SoftplusFromExp(ir.passes.InPlacePass):
    """Softplus(x) = log(1 + e^x)   becomes   Relu(x) + Log(1 + Exp(-|x|)).

    ONNX Runtime computes Softplus one scalar at a time, these five with vectors. The exponent is never positive, so nothing overflows; below
    x = -16, where 1 + e^x rounds to 1, the result is 0 instead of e^x < 1.2e-7.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        found = [node for node in model.graph if node.op_type == "Softplus" and node.domain == "" and _is_float32(node.inputs[0])]
        for node in found:
            _replace(model.graph, node)
        return ir.passes.PassResult(model, bool(found))


def _is_float32(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    x = node.inputs[0]
    assert x is not None
    emit = Emitter(graph, node)
    small = emit("Exp", emit("Neg", emit("Abs", x, like=x), like=x), like=x)
    rest = emit("Log", emit("Add", small, constant(graph, "softplus.one", np.array(1, np.float32)), like=x), like=x)
    emit.finish(emit("Add", emit("Relu", x, like=x), rest, like=x))
