"""Reading what an operator selects."""

from __future__ import annotations

import onnx_ir as ir


def whole_number(value: ir.Value | None, rank: int = 1) -> int | None:
    """The only element of a constant with so many axes, else None."""
    if value is None or value.const_value is None:
        return None
    array = value.const_value.numpy()
    return int(array.reshape(-1)[0]) if array.size == 1 and array.ndim == rank else None


def gathered(node: ir.Node) -> tuple[ir.Value, int, int] | None:
    """(source, axis from 0, index as it is given) where a node is a Gather of one element of an axis, and the source's shape is known; else None."""
    if node.op_type != "Gather" or node.domain != "":
        return None
    source, index = node.inputs[0], whole_number(node.inputs[1], rank=0)
    if source is None or source.shape is None or index is None:
        return None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    return source, axis % len(source.shape), index
