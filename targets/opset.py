"""The oldest opset that says the same, so that older engines on older boards load the file."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

IR_VERSIONS = ((21, 10), (20, 9), (15, 8), (0, 7))  # (from opset, the file format's version of that time)
AXES_AS_INPUT = 18  # where the reductions but ReduceSum took their axes from an attribute to an input


class LowerOpset(ir.passes.InPlacePass):
    """Declares an older opset where every operator, attribute and input of the graph already existed there; else leaves the graph as it is.

    Reductions get their constant axes back as an attribute; attributes at their defaults that came later are dropped. Operators in
    question gained types, not meanings, in between; a graph with int4 tensors keeps its opset.
    """

    def __init__(self, oldest: int) -> None:
        self.oldest = oldest

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        if unknown(model, self.oldest):
            return ir.passes.PassResult(model, False)
        for node in model.graph.all_nodes():
            if node.domain == "":
                _adapt(node, self.oldest)
                node.version = None
        model.opset_imports[""] = self.oldest
        model.graph.opset_imports[""] = self.oldest
        model.ir_version = next(version for opset, version in IR_VERSIONS if self.oldest >= opset)
        return ir.passes.PassResult(model, True)


def unknown(model: ir.Model, opset: int) -> list[ir.Node]:
    """The nodes that the older opset cannot say."""
    return [node for node in model.graph.all_nodes() if not _exists(node, opset)]


def _exists(node: ir.Node, opset: int) -> bool:
    if any(value is not None and value.dtype in (ir.DataType.INT4, ir.DataType.UINT4) for value in node.inputs):
        return False
    if node.domain != "":
        return True
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        newest = onnx.defs.get_schema(node.op_type)
    except onnx.defs.SchemaError:
        return False
    lost = [name for name in node.attributes if name not in schema.attributes and not _at_default(node, name, newest)]
    inputs = 1 if _axes(node, opset) is not None else len(node.inputs)
    return all(_droppable(node, name) for name in lost) and inputs <= schema.max_input


def _droppable(node: ir.Node, name: str) -> bool:
    """Reshape's allowzero says what a 0 in the shape means: without one it says nothing. Split without sizes makes equal parts anyway."""
    if node.op_type == "Split" and name == "num_outputs":
        axis = int(node.attributes["axis"].value) if "axis" in node.attributes else 0
        size = node.inputs[0].shape[axis] if node.inputs[0] is not None and node.inputs[0].shape is not None else None
        return isinstance(size, int) and size % int(node.attributes[name].value) == 0
    shape = node.inputs[1].const_value if node.op_type == "Reshape" and name == "allowzero" and node.inputs[1] is not None else None
    return shape is not None and not np.any(shape.numpy() == 0)


def _axes(node: ir.Node, opset: int) -> list[int] | None:
    """The constant axes of a reduction that must go back to an attribute."""
    moved = node.op_type.startswith("Reduce") and node.op_type != "ReduceSum" and opset < AXES_AS_INPUT
    axes = node.inputs[1] if moved and len(node.inputs) > 1 else None
    return None if axes is None or axes.const_value is None else [int(axis) for axis in np.ravel(axes.const_value.numpy())]


def _at_default(node: ir.Node, name: str, schema: onnx.defs.OpSchema) -> bool:
    default = schema.attributes[name].default_value if name in schema.attributes else None
    value = onnx.helper.get_attribute_value(default) if default is not None else None
    return default is not None and (value.decode() if isinstance(value, bytes) else value) == node.attributes[name].value


def _adapt(node: ir.Node, opset: int) -> None:
    axes = _axes(node, opset)
    if axes is not None:
        node.resize_inputs(1)
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
    for name in [name for name in node.attributes if name not in onnx.defs.get_schema(node.op_type, opset, "").attributes]:
        del node.attributes[name]
