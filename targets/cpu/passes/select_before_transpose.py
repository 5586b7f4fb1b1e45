"""Lets transposes meet, so that they cancel."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ....export.passes.nodes import node_of
from .one_by_one import OneByOne
from .selection import whole_number


class SelectBeforeTranspose(OneByOne):
    """Squeeze(Slice(Transpose(x, p), axis a, one element))   becomes   Transpose(Squeeze(Slice(x, axis p[a])), p').

    1. Slice and Squeeze on one axis, as `unbind` exports. 2. Gather with a scalar index, as `select` exports.
    It is how a packed query-key-value projection is taken apart; behind it, the transpose of each part meets that of attention.
    Left alone: transposes with a fixed axis that stays, selections of several elements.
    """

    kinds = ("Squeeze", "Gather")

    def replace(self, graph: ir.Graph, node: ir.Node) -> bool:
        found = _selection(node)
        if found is None:
            return False
        turn, axis, index = found
        perm = list(turn.attributes["perm"].as_ints())
        source = turn.inputs[0]
        source_axis = perm[axis]
        rest = [p - (p > source_axis) for i, p in enumerate(perm) if i != axis]
        at = constant(graph, f"select.{index}", np.array(index, np.int64))
        known = source is not None and source.shape is not None
        shape = [dim for i, dim in enumerate(source.shape) if i != source_axis] if known else None  # type: ignore[union-attr,arg-type]
        select = node_of("Gather", [source, at], f"{node.name}/select", node.outputs[0].dtype, shape, {"axis": source_axis})
        moved = ir.node("Transpose", select.outputs, {"perm": rest}, name=f"{node.name}/turn")
        ir.convenience.replace_nodes_and_values(graph, node, [node], [select, moved], node.outputs, moved.outputs)
        return True


def _selection(node: ir.Node) -> tuple[ir.Node, int, int] | None:
    """(the Transpose, the axis that one element is taken of, its index), or None."""
    if node.op_type == "Gather":
        turn, index = _transpose(node.inputs[0]), whole_number(node.inputs[1], rank=0)
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        return None if turn is None or index is None else (turn, axis, index)
    cut = node.inputs[0].producer() if node.inputs[0] is not None else None
    if cut is None or cut.op_type != "Slice" or len(node.inputs) < 2 or len(cut.inputs) < 4:
        return None
    turn = _transpose(cut.inputs[0])
    squeezed, start, stop, axis = (whole_number(value) for value in (node.inputs[1], *cut.inputs[1:4]))
    if turn is None or start is None or stop is None or axis is None or squeezed != axis or stop - start != 1 or start < 0:
        return None
    return turn, axis, start


def _transpose(value: ir.Value | None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == "Transpose" else None
