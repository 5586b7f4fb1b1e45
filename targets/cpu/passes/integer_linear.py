"""Quantised linear layers as the integer kernels that ONNX Runtime has."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from ....export.passes.linear_as_matmul import LAYER
from ....quantize.insert import PRECISION
from .signs import Signs

MICROSOFT = "com.microsoft"


class IntegerLinear(ir.passes.InPlacePass):
    """DQ(Q(x)) @ DQ(W8) + b   becomes   MatMulIntegerToFloat(Q(x), W8, scales, zero points, b).

    1. int8: the static form above; the product is accumulated in int32 and scaled to float with the bias in one kernel.
    2. int8-dynamic: x @ DQ(W8) + b becomes DynamicQuantizeMatMul(x, W8, scale, b).
    Signs follow the instruction set (`Signs`). Left alone: w8 and w4, whose product stays float.
    """

    def __init__(self, isa: tuple[str, ...]) -> None:
        self.signs = Signs.of(isa)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        modified = False
        for node in list(graph):
            precision = node.metadata_props.get(PRECISION)
            if precision in ("int8", "int8-dynamic") and node.op_type == "MatMul":
                self._replace(graph, node, precision)
                modified = True
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)

    def _replace(self, graph: ir.Graph, node: ir.Node, precision: str) -> None:
        bias_node, bias = _bias(node)
        columns = node.inputs[1].shape[1]  # type: ignore[union-attr,index]
        weight, scale, weight_zero = self.signs.weights(graph, node, int(columns))
        if precision == "int8":
            quantise = self.signs.set_input(graph, node)
            inputs = [quantise.outputs[0], weight, quantise.inputs[1], scale, quantise.inputs[2], weight_zero, bias]
            kernel = "MatMulIntegerToFloat"
        else:
            inputs = [node.inputs[0], weight, scale, weight_zero, bias]
            kernel = "DynamicQuantizeMatMul"
        path = node.metadata_props[LAYER]
        new = ir.node(kernel, inputs, domain=MICROSOFT, name=f"{path}/{kernel}")
        new.metadata_props.update(node.metadata_props)
        last = bias_node or node
        removed = [node] if last is node else [last, node]
        ir.convenience.replace_nodes_and_values(graph, last, removed, [new], last.outputs, new.outputs)


def _bias(node: ir.Node) -> tuple[ir.Node | None, ir.Value | None]:
    """The Add behind a MatMul whose other side is a vector initialiser, if it is the only reader."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add":
        return None, None
    other = uses[0].node.inputs[1 - uses[0].idx]
    if other is None or not other.is_initializer() or other.shape is None or len(other.shape) != 1:
        return None, None
    return uses[0].node, other
