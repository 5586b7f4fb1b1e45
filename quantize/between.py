"""Integers between the layers too: products of activations, sums, moves and pools, so that a network may hold no float at all."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..export.passes.constants import constant
from ..export.passes.linear_as_matmul import LAYER
from ..export.passes.nodes import node_of
from ..models.reference import Samples
from .calibrate import Activation
from .insert import through_pair
from .ranges import value_ranges
from .recipe import Recipe

MOVES = frozenset(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Expand", "Flatten", "Gather", "GatherElements", "MaxPool"))
ARITHMETIC = frozenset(("Add", "Sub", "Mul", "MatMul", "AveragePool", "GlobalAveragePool", "Relu"))
ORDER = frozenset(("ArgMax", "ArgMin"))
PAIR = ("QuantizeLinear", "DequantizeLinear")


class IntegersBetween(ir.passes.InPlacePass):
    """v = op(...)   becomes   DQ(Q(v)), so that engines run each operator on integers; the graph already holds the layers' pairs.

    1. Arithmetic: the scale is that of the pair which a layer has there, directly or behind moves, else from the range over the calibration data.
    2. Moves: the scale of what they move, so that they move integers.
    3. A scalar constant in arithmetic: one integer at a scale of its own, without error.
    Left alone: the network's outputs; a product that only ArgMax reads, whose order needs no rounding; a float operator that is none of these.
    """

    def __init__(self, recipe: Recipe, calibration: Samples) -> None:
        self.signed, self.calibration = recipe.activation == "symmetric", calibration

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        ranges = value_ranges(model, self.calibration)
        held: dict[ir.Value, Activation] = {}
        for node in [node for node in graph if node.op_type not in PAIR]:
            for index, value in enumerate(node.inputs):
                if node.op_type in ARITHMETIC and LAYER not in node.metadata_props and _scalar(value):
                    node.replace_input_with(index, self._constant(graph, node, value))  # type: ignore[arg-type]
            output = node.outputs[0]
            if output.dtype != ir.DataType.FLOAT or output.is_graph_output() or not _to_round(output):
                continue
            source = _pair_of(node.inputs[0]) if node.op_type in MOVES else None
            scale = source or _wanted(output) or self._from_range(*ranges[str(output.name)])
            held[output] = scale
            _hold(graph, output, scale)
        return ir.passes.PassResult(model, bool(held))

    def _from_range(self, low: float, high: float) -> Activation:
        low, high = min(low, 0.0), max(high, 0.0)
        if self.signed:
            return Activation(max(high, -low) / 127 or 1.0, 0, True)
        scale = (high - low) / 255 or 1.0
        return Activation(scale, round(-low / scale), False)

    def _constant(self, graph: ir.Graph, node: ir.Node, value: ir.Value) -> ir.Value:
        number = float(value.const_value.numpy().reshape(()))  # type: ignore[union-attr]
        signed, most = self.signed or number < 0, 127
        integer = constant(graph, f"{value.name}.integer", np.array(-most if number < 0 else most, np.int8 if signed else np.uint8))
        scale = constant(graph, f"{value.name}.integer.scale", np.array(abs(number) / most or 1.0, np.float32))
        zero = constant(graph, f"{value.name}.integer.zero", np.array(0, np.int8 if signed else np.uint8))
        dequantise = node_of("DequantizeLinear", [integer, scale, zero], f"{value.name}/DequantizeLinear", value.dtype, value.shape)
        graph.insert_before(node, dequantise)
        return dequantise.outputs[0]


def integers_throughout(graph: ir.Graph) -> bool:
    """Whether every operator on floats has a form on integers, and some product of activations would stay float beside quantised layers."""
    products = 0
    for node in graph:
        floats = [value for value in node.inputs if value is not None and value.dtype == ir.DataType.FLOAT]
        constants = [value for value in floats if value.const_value is not None]
        bias = node.op_type == "Add" and any(value.producer() is not None and LAYER in value.producer().metadata_props for value in floats)
        if not floats or LAYER in node.metadata_props or bias:
            continue
        if node.op_type not in MOVES | ARITHMETIC | ORDER or not all(_scalar(value) for value in constants):
            return False
        products += node.op_type == "MatMul"
    return products > 0


def _scalar(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and value.dtype == ir.DataType.FLOAT and value.const_value.size == 1


def _to_round(value: ir.Value) -> bool:
    """Whether rounding has a reader: not where only an order is taken, nor between a layer and its bias or its Relu."""
    readers = [use.node for use in value.uses()]
    maker = value.producer()
    layer = maker is not None and LAYER in maker.metadata_props
    within = layer and len(readers) == 1 and (readers[0].op_type == "Relu" or (readers[0].op_type == "Add" and any(map(_vector, readers[0].inputs))))
    return not within and any(reader.op_type not in ORDER for reader in readers)


def _vector(value: ir.Value | None) -> bool:
    return value is not None and value.is_initializer()


def _pair_of(value: ir.Value | None) -> Activation | None:
    """The scale of the DequantizeLinear that makes the value."""
    node = value.producer() if value is not None else None
    return _activation(node) if node is not None and node.op_type == "DequantizeLinear" else None


def _wanted(value: ir.Value) -> Activation | None:
    """The scale at which a layer reads the value, directly or behind moves."""
    for use in value.uses():
        if use.node.op_type == "QuantizeLinear":
            return _activation(use.node)
        if use.node.op_type in MOVES and use.idx == 0:
            found = _wanted(use.node.outputs[0])
            if found is not None:
                return found
    return None


def _activation(node: ir.Node) -> Activation:
    scale, zero = (value.const_value.numpy() for value in node.inputs[1:3])  # type: ignore[union-attr]
    return Activation(float(scale), int(zero), zero.dtype == np.int8)


def _hold(graph: ir.Graph, value: ir.Value, scale: Activation) -> None:
    """All readers of the value read it through a pair at this scale; a layer's own pair at the same scale is taken over."""
    readers = [(use.node, use.idx) for use in value.uses()]
    own = next((node for node, _ in readers if node.op_type == "QuantizeLinear" and _activation(node) == scale), None)
    if own is None:
        first = min((node for node, _ in readers), key=list(graph).index)
        result = through_pair(graph, first, value, f"{value.name}.held", scale)
    else:
        result = next(use.node.outputs[0] for use in own.outputs[0].uses())
    for node, index in readers:
        if node is not own:
            node.replace_input_with(index, result)
    graph.sort()
