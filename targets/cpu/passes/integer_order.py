"""The order of products taken from their integers."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from ....export.passes.nodes import node_of


class IntegerOrder(ir.passes.InPlacePass):
    """ArgMax(DQ(a) @ DQ(b))   becomes   ArgMax(MatMulInteger(a, b)), for scalar scales: a positive factor changes no order.

    The sums are int32 and exact, so the winner is that of the integers, without rounding. Left alone: a product that others read too, weights
    with a scale a column, and signs that no kernel multiplies exactly (uint8 by int8).
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        found = [node for node in model.graph if node.op_type in ("ArgMax", "ArgMin") and _product(node) is not None]
        for node in found:
            product = _product(node)
            assert product is not None
            sides = [value.producer() for value in product.inputs]  # type: ignore[union-attr]
            inputs = [*(side.inputs[0] for side in sides), *(side.inputs[2] for side in sides)]  # type: ignore[union-attr]
            new = node_of("MatMulInteger", inputs, f"{product.name}/MatMulInteger", ir.DataType.INT32, product.outputs[0].shape)
            new.metadata_props.update(product.metadata_props)
            model.graph.insert_before(node, new)
            node.replace_input_with(0, new.outputs[0])
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))


def _product(node: ir.Node) -> ir.Node | None:
    """The MatMul of two dequantised activations that this node alone reads."""
    value = node.inputs[0]
    product = value.producer() if value is not None else None
    if product is None or product.op_type != "MatMul" or len(product.outputs[0].uses()) != 1 or product.outputs[0].is_graph_output():
        return None
    sides = [side.producer() if side is not None else None for side in product.inputs]
    if not all(side is not None and side.op_type == "DequantizeLinear" and len(side.inputs) == 3 for side in sides):
        return None
    scalars = all(side.inputs[1].const_value is not None and side.inputs[1].const_value.size == 1 for side in sides)  # type: ignore[union-attr]
    same = sides[0].inputs[2].dtype == sides[1].inputs[2].dtype  # type: ignore[union-attr]
    return product if scalars and same else None
