"""The two products of attention in integers, with scales from the calibration data; what surrounds them stays in float."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ..models.reference import Samples
from .calibrate import Activation
from .insert import quantised_input
from .ranges import value_ranges

BETWEEN = frozenset(("Add", "Sub", "Mul", "Div", "Where", "Reshape"))  # what masks, biases and scales put between logits and softmax


class IntegerAttention(ir.passes.InPlacePass):
    """Softmax(Q K^T + mask) V   becomes   DQ(Q(Softmax(DQ(Q(Q)) DQ(Q(K))^T + mask))) DQ(Q(V)), on a graph where attention is taken apart.

    1. Q, K, V: int8, symmetric, the largest |x| of the calibration data at 127. K is rounded before it is turned, so that integers are.
    2. The weights are never negative: uint8, zero point 0, their largest at 255.
    Left alone: a softmax that no product reads, as that of gates or logits; products of a layer's weights.
    """

    def __init__(self, calibration: Samples) -> None:
        self.calibration = calibration

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        places = [place for softmax in model.graph if softmax.op_type == "Softmax" for place in _places(softmax)]
        names = {str(node.inputs[index].name) for node, index, _ in places}  # type: ignore[union-attr]
        ranges = value_ranges(model, self.calibration, names) if places else {}
        shared: dict[tuple[str, Activation], ir.Value] = {}
        for node, index, signed in places:
            value = node.inputs[index]
            assert value is not None
            low, high = ranges[str(value.name)]
            activation = Activation(max(-low, high) / 127 or 1.0, 0, True) if signed else Activation(high / 255 or 1.0, 0, False)
            node.replace_input_with(index, quantised_input(model.graph, node, index, f"{node.name}.{index}", activation, shared))
        model.graph.sort()
        return ir.passes.PassResult(model, bool(places))


def attends(graph: ir.Graph) -> bool:
    """Whether there is attention, as one operator or taken apart."""
    return any(node.op_type == "Attention" or (node.op_type == "Softmax" and any(_products(node))) for node in graph)


def integer_products(graph: ir.Graph) -> list[str]:
    """The names of the products of activations, attention's or others, whose both inputs are integers by now, directly or turned."""
    return [str(node.name) for node in graph if node.op_type == "MatMul" and all(map(_rounded, node.inputs))]


def _places(softmax: ir.Node) -> Iterator[tuple[ir.Node, int, bool]]:
    """(node, index of an input to round, whether that has a sign)."""
    logits, reads = _products(softmax)
    for product in logits:
        yield product, 0, True
        key = product.inputs[1].producer()  # type: ignore[union-attr]
        turned = key is not None and key.op_type == "Transpose" and len(key.outputs[0].uses()) == 1 and _activation(key.inputs[0])
        yield (key, 0, True) if key is not None and turned else (product, 1, True)
    for product in reads:
        yield product, 0, False
        yield product, 1, True


def _products(softmax: ir.Node) -> tuple[list[ir.Node], list[ir.Node]]:
    """(products that make its logits, products that read it); none of the first where there is none of the second."""
    reads = [use.node for use in softmax.outputs[0].uses() if use.idx == 0 and _of_activations(use.node)]
    return (list(_before(softmax.inputs[0])), reads) if reads else ([], [])


def _before(value: ir.Value | None) -> Iterator[ir.Node]:
    node = value.producer() if value is not None else None
    if node is None:
        return
    if _of_activations(node):
        yield node
    elif node.op_type in BETWEEN:
        for source in node.inputs:
            yield from _before(source)


def _of_activations(node: ir.Node) -> bool:
    return node.op_type == "MatMul" and all(map(_activation, node.inputs))


def _rounded(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    if node is not None and node.op_type == "Transpose":
        node = node.inputs[0].producer()  # type: ignore[union-attr]
    return node is not None and node.op_type == "DequantizeLinear" and node.inputs[0].const_value is None  # type: ignore[union-attr]


def _activation(value: ir.Value | None) -> bool:
    """Whether a value is floats that a call computes: neither a constant nor a layer's integers behind a DequantizeLinear."""
    if value is None or value.const_value is not None or value.dtype != ir.DataType.FLOAT:
        return False
    node = value.producer()
    return node is None or node.op_type != "DequantizeLinear" or node.inputs[0].const_value is None  # type: ignore[union-attr]
