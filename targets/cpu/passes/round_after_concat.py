"""Activations with a zero point behind a Concat, which OpenVINO does not take."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import array_of, constant
from ....export.passes.nodes import node_of


class RoundAfterConcat(ir.passes.InPlacePass):
    """Q(Concat(a, b))   becomes   Q(Max(Concat(a, b), the least that Q's integers hold)), where Q has a zero point.

    OpenVINO moves the rounding before the Concat and gives a part that is constant a scale and a zero point of its own; the product behind then has
    one for each row, and the graph is refused ("Input shape dimension equal ... cannot be broadcasted", 2026.4.1). It does not move it past a Max,
    which changes nothing, for Q clips there too, and becomes part of the same operator. A Clip in its place is taken out again.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        found = [node for node in model.graph if node.op_type == "QuantizeLinear" and _joined(node)]
        for node in found:
            value, scale, zero = node.inputs[0], array_of(node.inputs[1]), array_of(node.inputs[2])
            least = (np.iinfo(zero.dtype).min - zero.astype(np.float32)) * scale
            floor = node_of("Max", [value, constant(model.graph, f"{node.name}.least", least)], f"{node.name}/Max", value.dtype, value.shape)  # type: ignore[union-attr]
            model.graph.insert_before(node, floor)
            node.replace_input_with(0, floor.outputs[0])
        return ir.passes.PassResult(model, bool(found))


def _joined(node: ir.Node) -> bool:
    source = node.inputs[0].producer()  # type: ignore[union-attr]
    return source is not None and source.op_type == "Concat" and bool(array_of(node.inputs[2]).any())
