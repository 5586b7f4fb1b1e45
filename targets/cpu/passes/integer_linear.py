"""Quantised linear layers as the integer kernels that ONNX Runtime has."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from ....export.passes.constants import constant
from ....export.passes.linear_as_matmul import LAYER
from ....quantize.insert import PRECISION

MICROSOFT = "com.microsoft"


class IntegerLinear(ir.passes.InPlacePass):
    """DQ(Q(x)) @ DQ(W8) + b   becomes   MatMulIntegerToFloat(Q(x), W8, scales, zero points, b).

    1. int8: the static form above; the product is accumulated in int32 and scaled to float with the bias in one kernel.
    2. int8-dynamic: x @ DQ(W8) + b becomes DynamicQuantizeMatMul(x, W8, scale, b).
    Signs follow the instruction set, which decides which 8-bit products the engine multiplies fast *and* exactly:
    VNNI multiplies u8 x s8; AVX2 alone would saturate that in 16 bits, so weights become u8 too (zero point 128); ARM takes s8 x s8.
    Left alone: w8 and w4, whose product stays float.
    """

    def __init__(self, isa: tuple[str, ...]) -> None:
        arm = any(flag in isa for flag in ("asimd", "asimddp", "neon", "i8mm"))
        vnni = any("vnni" in flag for flag in isa)
        self.signed_input = arm
        self.signed_weight = arm or vnni

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
        weight, scale, weight_zero = self._weight(graph, node)
        if precision == "int8":
            inputs = self._static_inputs(graph, node, weight, scale, weight_zero, bias)
            kernel = "MatMulIntegerToFloat"
        else:
            inputs = [node.inputs[0], weight, scale, weight_zero, bias]
            kernel = "DynamicQuantizeMatMul"
        path = node.metadata_props[LAYER]
        new = ir.node(kernel, inputs, domain=MICROSOFT, name=f"{path}/{kernel}")
        new.metadata_props.update(node.metadata_props)
        last = bias_node or node
        old, output = last.outputs[0], new.outputs[0]
        output.name, output.shape, output.dtype = old.name, old.shape, old.dtype
        removed = [node] if last is node else [last, node]
        ir.convenience.replace_nodes_and_values(graph, last, removed, [new], [old], [output])

    def _static_inputs(
        self, graph: ir.Graph, node: ir.Node, weight: ir.Value, scale: ir.Value, weight_zero: ir.Value, bias: ir.Value | None
    ) -> list[ir.Value | None]:
        dequantise = _producer(node.inputs[0], "DequantizeLinear")
        quantise = _producer(dequantise.inputs[0], "QuantizeLinear")
        self._set_input_sign(graph, quantise, dequantise)
        return [quantise.outputs[0], weight, quantise.inputs[1], scale, quantise.inputs[2], weight_zero, bias]

    def _set_input_sign(self, graph: ir.Graph, quantise: ir.Node, dequantise: ir.Node) -> None:
        """u8 with zero point z and s8 with z - 128 hold the same numbers."""
        zero = quantise.inputs[2]
        assert zero is not None and zero.const_value is not None
        array = zero.const_value.numpy()
        if (array.dtype == np.int8) == self.signed_input:
            return
        shift, kind = (-128, np.int8) if self.signed_input else (128, np.uint8)
        new = constant(graph, f"{zero.name}.{np.dtype(kind).name}", np.array(int(array) + shift, kind))
        quantise.replace_input_with(2, new)
        dequantise.replace_input_with(2, new)
        quantise.outputs[0].type = ir.TensorType(new.dtype)  # a new type: a clone shares the old one

    def _weight(self, graph: ir.Graph, node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value]:
        dequantise = _producer(node.inputs[1], "DequantizeLinear")
        weight, scale = dequantise.inputs[0], dequantise.inputs[1]
        assert weight is not None and scale is not None and weight.const_value is not None
        columns = weight.const_value.shape[1]
        if self.signed_weight:
            return weight, scale, constant(graph, f"{weight.name}.zero_point", np.zeros(columns, np.int8))
        shifted = (weight.const_value.numpy().astype(np.int16) + 128).astype(np.uint8)
        value = constant(graph, f"{weight.name}.uint8", shifted)
        return value, scale, constant(graph, f"{weight.name}.zero_point", np.full(columns, 128, np.uint8))


def _bias(node: ir.Node) -> tuple[ir.Node | None, ir.Value | None]:
    """The Add behind a MatMul whose other side is a vector initialiser, if it is the only reader."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add":
        return None, None
    other = uses[0].node.inputs[1 - uses[0].idx]
    if other is None or not other.is_initializer() or other.shape is None or len(other.shape) != 1:
        return None, None
    return uses[0].node, other


def _producer(value: ir.Value | None, kind: str) -> ir.Node:
    node = value.producer() if value is not None else None
    assert node is not None and node.op_type == kind, f"expected {kind}"
    return node
