"""The oldest opset that says the same, so that older engines on older boards load the file."""

from __future__ import annotations

import onnx
import onnx_ir as ir

OLDEST = 20  # the first with Gelu; ONNX Runtime 1.17 and later read it
IR_VERSION = 9


class LowerOpset(ir.passes.InPlacePass):
    """Declares opset 20 where every operator and attribute of the graph already existed there; else leaves it.

    Operators in question gained types, not meanings, between opsets 20 and 23; a graph with Attention, RMSNormalization or
    int4 tensors keeps its opset.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        if not all(_exists(node) for node in model.graph.all_nodes()) or _has_four_bits(model):
            return ir.passes.PassResult(model, False)
        model.opset_imports[""] = OLDEST
        model.graph.opset_imports[""] = OLDEST
        for node in model.graph.all_nodes():
            if node.domain == "":
                node.version = None
        model.ir_version = IR_VERSION
        return ir.passes.PassResult(model, True)


def _exists(node: ir.Node) -> bool:
    if node.domain != "":
        return True
    try:
        schema = onnx.defs.get_schema(node.op_type, OLDEST, "")
    except onnx.defs.SchemaError:
        return False
    return set(node.attributes) <= set(schema.attributes)


def _has_four_bits(model: ir.Model) -> bool:
    return any(value.dtype in (ir.DataType.INT4, ir.DataType.UINT4) for value in model.graph.initializers.values())
