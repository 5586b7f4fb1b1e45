"""Puts Brevitas' integers and scales at their layers of the canonical graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from ..export.passes.linear_as_matmul import LAYER
from ..export.passes.nodes import node_of
from .calibrate import Activation, Quantised, QuantisedLayer


class InsertQuantisation(ir.passes.InPlacePass):
    """MatMul(x, W) + b   becomes   MatMul(DQ(Q(x)), DQ(W8)) + b', for every layer that the recipe quantises; Conv(x, W, b) likewise.

    1. int8: Q and DQ on the input, shared by layers that read the same tensor at the same scale.
    2. int8-dynamic: the input stays float in this graph; the layer's node carries the precision, the target does the rest.
    3. w8, w4: only the weight becomes integers behind a DQ.
    4. A bias that bias correction changed or added; parameters that equalisation changed.
    W8 is [K, N], its scale [N] on axis 1 (of a convolution [M, C, kernel...] and [M] on axis 0), zero point 0 left out.
    Precision stands in the node's metadata.
    """

    def __init__(self, quantised: Quantised) -> None:
        self.quantised = quantised

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        for name, array in self.quantised.tensors.items():
            _set(graph, name, array)
        shared: dict[tuple[str, Activation], ir.Value] = {}
        weights: dict[str, ir.Value] = {}
        for node in list(graph):
            layer = self.quantised.layers.get(node.metadata_props.get(LAYER, ""))
            if layer is None:
                continue
            path = node.metadata_props[LAYER]
            node.metadata_props[PRECISION] = layer.precision
            if layer.activation is not None:
                node.replace_input_with(0, quantised_input(graph, node, 0, path, layer.activation, shared))
            if path not in weights:
                weights[path] = _quantised_weight(graph, node, path, layer)
            node.replace_input_with(1, weights[path])
            if layer.bias is not None:
                _set_bias(graph, node, path, layer.bias)
        common.RemoveUnusedNodesPass()(model)
        graph.sort()
        return ir.passes.PassResult(model, True)


PRECISION = "edgeattn.precision"  # metadata key: the precision a linear layer's node was given


def quantised_graph(graph: ir.Model, quantised: Quantised) -> ir.Model:
    """A copy of the canonical graph with the integers in it."""
    copy = graph.clone()
    InsertQuantisation(quantised)(copy)
    return copy


def _set(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = graph.initializers.get(name)
    tensor = ir.tensor(np.array(array, order="C"), name=name)  # ascontiguousarray would turn a scalar into [1]
    if value is None:
        value = ir.val(name, const_value=tensor)
        graph.initializers.add(value)
    else:
        value.const_value = tensor
    return value


def quantised_input(
    graph: ir.Graph, node: ir.Node, index: int, path: str, activation: Activation, shared: dict[tuple[str, Activation], ir.Value]
) -> ir.Value:
    """A node's input behind Q and DQ, put before it under the name `path`; `shared` holds those made before, for the same tensor and scale."""
    source = node.inputs[index]
    assert source is not None
    key = (str(source.name), activation)
    if key not in shared:
        shared[key] = through_pair(graph, node, source, path, activation)
    return shared[key]


def through_pair(graph: ir.Graph, before: ir.Node, source: ir.Value, name: str, activation: Activation) -> ir.Value:
    """DQ(Q(source)), put before a node; `name` begins the names of what is added."""
    scale = _set(graph, f"{name}.input_scale", np.array(activation.scale, np.float32))
    zero = _set(graph, f"{name}.input_zero_point", np.array(activation.zero_point, np.int8 if activation.signed else np.uint8))
    quantise = node_of("QuantizeLinear", [source, scale, zero], f"{name}/QuantizeLinear", zero.dtype, source.shape)
    dequantise = node_of("DequantizeLinear", [quantise.outputs[0], scale, zero], f"{name}/DequantizeLinear", source.dtype, source.shape)
    graph.insert_before(before, [quantise, dequantise])
    return dequantise.outputs[0]


def _quantised_weight(graph: ir.Graph, node: ir.Node, path: str, layer: QuantisedLayer) -> ir.Value:
    old = node.inputs[1]
    assert old is not None
    convolution = node.op_type == "Conv"
    integers = layer.weight if convolution else np.ascontiguousarray(layer.weight.T)
    name = f"{old.name}.int{4 if layer.precision == 'w4' else 8}"
    if layer.precision == "w4":
        tensor: ir.TensorProtocol = ir.tensor(integers, dtype=ir.DataType.INT4, name=name)
    else:
        tensor = ir.tensor(integers, name=name)
    weight = ir.val(name, tensor.dtype, integers.shape, const_value=tensor)
    graph.initializers.add(weight)
    scale = _set(graph, f"{path}.weight_scale", layer.scale)
    axis = {"axis": 0 if convolution else 1}
    dequantise = node_of("DequantizeLinear", [weight, scale], f"{path}/DequantizeLinear:weight", ir.DataType.FLOAT, integers.shape, axis)
    graph.insert_before(node, dequantise)
    return dequantise.outputs[0]


def _set_bias(graph: ir.Graph, node: ir.Node, path: str, bias: np.ndarray) -> None:
    output = node.outputs[0]
    if node.op_type == "Conv":
        old = node.inputs[2] if len(node.inputs) > 2 else None
        node.resize_inputs(3)
        node.replace_input_with(2, _set(graph, f"{path}.bias" if old is None else str(old.name), bias))
        return
    for use in output.uses():
        other = use.node.inputs[1 - use.idx] if use.node.op_type == "Add" and len(use.node.inputs) == 2 else None
        if other is not None and other.is_initializer() and other.shape == (len(bias),):
            _set(graph, str(other.name), bias)
            return
    if not np.any(bias):
        return
    users = [(use.node, use.idx) for use in output.uses()]
    value = _set(graph, f"{path}.bias", bias)
    add = node_of("Add", [output, value], f"{path}/Add", output.dtype, output.shape)
    result = add.outputs[0]
    graph.insert_after(node, add)
    for user, index in users:
        user.replace_input_with(index, result)
    if output.is_graph_output():
        index = list(graph.outputs).index(output)
        result.name, output.name = output.name, f"{path}/MatMul"
        graph.outputs[index] = result
