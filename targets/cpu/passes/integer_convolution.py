"""Quantised convolutions as the integer kernels that ONNX Runtime has."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from ....export.passes.constants import array_of, constant
from ....export.passes.linear_as_matmul import LAYER
from ....export.passes.nodes import node_of
from ....quantize.insert import PRECISION
from .integer_linear import MICROSOFT
from .patches import filled, patches
from .signs import Signs


class IntegerConvolution(ir.passes.InPlacePass):
    """Conv(DQ(Q(x)), DQ(W8), b)   becomes   QLinearConv or ConvInteger; to be run after IntegerLinear, which settles the signs of its own inputs.

    1. The only reader, through a Relu or not, is the Q of another quantised layer: QLinearConv, which gives that layer's integers;
       its bias is rounded to int32 at the scale of the products.
    2. Else: MatMulIntegerToFloat over the patches of the input (patches.py), which ONNX Runtime multiplies up to 14 times as fast as
       ConvInteger; groups as one, with zeros between them.
    3. Without such patches: ConvInteger, then its int32 sums as float, times the scales, plus the bias.
    Signs follow the instruction set (`Signs`). Left alone: float convolutions.
    """

    def __init__(self, isa: tuple[str, ...]) -> None:
        self.signs = Signs.of(isa)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        found = [node for node in model.graph if node.op_type == "Conv" and node.metadata_props.get(PRECISION) == "int8"]
        for node in found:
            self.signs.set_input(model.graph, node)
        for node in reversed(found):  # readers first: what they read is then still a QuantizeLinear
            self._replace(model.graph, node)
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))

    def _replace(self, graph: ir.Graph, node: ir.Node) -> None:
        quantise = self.signs.set_input(graph, node)
        reader = _requantisation(node)
        if reader is not None:
            self._to_integers(graph, node, quantise, reader)
        elif not self._to_product(graph, node, quantise):
            self._to_float(graph, node, quantise)

    def _to_integers(self, graph: ir.Graph, node: ir.Node, quantise: ir.Node, reader: ir.Node) -> None:
        channels = int(node.inputs[1].shape[0])  # type: ignore[union-attr,index,arg-type]
        weight, scale, zero = self.signs.weights(graph, node, channels)
        inputs = [quantise.outputs[0], quantise.inputs[1], quantise.inputs[2], weight, scale, zero, reader.inputs[1], reader.inputs[2]]
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            step = array_of(quantise.inputs[1]).astype(np.float64) * array_of(scale)
            limits = np.iinfo(np.int32)
            rounded = np.clip(np.rint(array_of(node.inputs[2]) / step), limits.min, limits.max).astype(np.int32)
            inputs.append(constant(graph, f"{node.metadata_props[LAYER]}.bias.int32", rounded))
        new = _node("QLinearConv", inputs, node, reader.outputs[0].dtype)
        relu = reader.inputs[0].producer() if reader.inputs[0] is not None else None
        removed = [reader, relu, node] if relu is not None and relu is not node else [reader, node]
        ir.convenience.replace_nodes_and_values(graph, reader, removed, [new], reader.outputs, new.outputs)

    def _to_product(self, graph: ir.Graph, node: ir.Node, quantise: ir.Node) -> bool:
        """Whether it has such a form, which then stands in its place."""
        path, old = node.metadata_props[LAYER], node.outputs[0]
        assert quantise.inputs[2] is not None and old.shape is not None
        weight, scale, zero = self.signs.weights(graph, node, int(node.inputs[1].shape[0]))  # type: ignore[union-attr,index,arg-type]
        whole = filled(array_of(weight), node.attributes.get_int("group", 1), int(array_of(zero)[0]))
        found = None if whole is None else patches(graph, node, quantise.outputs[0], quantise.inputs[2], whole, path)
        if found is None:
            return False
        columns = constant(graph, f"{weight.name}.columns", np.ascontiguousarray(found.weight))
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        inputs = [found.rows, columns, quantise.inputs[1], scale, quantise.inputs[2], zero, bias]
        shape = [old.shape[0], *old.shape[2:], old.shape[1]]
        product = node_of("MatMulIntegerToFloat", inputs, f"{path}/MatMulIntegerToFloat", old.dtype, shape, domain=MICROSOFT)
        product.metadata_props.update(node.metadata_props)
        rank = len(old.shape)
        back = ir.node("Transpose", product.outputs, {"perm": [0, rank - 1, *range(1, rank - 1)]}, name=f"{path}/Transpose:out")
        ir.convenience.replace_nodes_and_values(graph, node, [node], [*found.nodes, product, back], [old], back.outputs)
        return True

    def _to_float(self, graph: ir.Graph, node: ir.Node, quantise: ir.Node) -> None:
        path, old = node.metadata_props[LAYER], node.outputs[0]
        weight, scale, zero = self.signs.weights(graph, node, None)
        spread = (-1, *[1] * (len(node.inputs[1].shape) - 2))  # type: ignore[union-attr,arg-type]
        steps = constant(graph, f"{path}.product_scale", (array_of(quantise.inputs[1]) * array_of(scale)).astype(np.float32).reshape(spread))
        product = _node("ConvInteger", [quantise.outputs[0], weight, quantise.inputs[2], zero], node, ir.DataType.INT32)
        new = [product, node_of("Cast", product.outputs, f"{path}/Cast", old.dtype, old.shape, {"to": ir.DataType.FLOAT.value})]
        new.append(node_of("Mul", [new[-1].outputs[0], steps], f"{path}/Mul", old.dtype, old.shape))
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = constant(graph, f"{path}.bias.spread", array_of(node.inputs[2]).reshape(spread))
            new.append(node_of("Add", [new[-1].outputs[0], bias], f"{path}/Add", old.dtype, old.shape))
        ir.convenience.replace_nodes_and_values(graph, node, [node], new, [old], new[-1].outputs)


def _node(kind: str, inputs: list[ir.Value | None], old: ir.Node, dtype: ir.DataType | None) -> ir.Node:
    """In the convolution's place, with its geometry."""
    new = node_of(kind, inputs, f"{old.metadata_props[LAYER]}/{kind}", dtype, old.outputs[0].shape, dict(old.attributes))
    new.metadata_props.update(old.metadata_props)
    return new


def _requantisation(node: ir.Node) -> ir.Node | None:
    """The QuantizeLinear that alone reads the convolution; a Relu between them must be what the integers' lower end does anyway."""
    reader = _only_reader(node)
    relu = reader is not None and reader.op_type == "Relu"
    if relu:
        reader = _only_reader(reader)  # type: ignore[arg-type]
    if reader is None or reader.op_type != "QuantizeLinear" or len(reader.inputs) < 3:
        return None
    zero = array_of(reader.inputs[2])
    return reader if zero.ndim == 0 and (not relu or int(zero) == np.iinfo(zero.dtype).min) else None


def _only_reader(node: ir.Node) -> ir.Node | None:
    uses = list(node.outputs[0].uses())
    return uses[0].node if len(uses) == 1 and not node.outputs[0].is_graph_output() else None
