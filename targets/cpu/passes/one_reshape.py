"""Operators that move no element, joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter
from .one_by_one import OneByOne

KINDS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")


class OneReshape(OneByOne):
    """A chain of Reshape, Squeeze, Unsqueeze, Flatten and transposes of axes of length 1   becomes   one Reshape, or nothing.

    Each costs a call of a small network half a microsecond, and a Transpose copies.
    Left alone: single ones but transposes, transposes that only products read (ONNX Runtime fuses those), and results with two unknown axes.
    """

    kinds = (*KINDS, "Transpose")

    def replace(self, graph: ir.Graph, node: ir.Node) -> bool:
        if not _moves_nothing(node) or _only(node, _moves_nothing):
            return False
        source, length = _source(node)
        old = node.outputs[0]
        if source is None or old.shape is None:
            return False
        if source.shape is not None and _known(source.shape) == _known(old.shape) and not old.is_graph_output():
            ir.convenience.replace_all_uses_with(old, source)
            return True
        fused = node.op_type == "Transpose" and _only(node, lambda user: user.op_type == "MatMul")
        target = shape_input(graph, old.shape)
        if target is None or (length == 1 and (node.op_type != "Transpose" or fused)):
            return False
        emit = Emitter(graph, node)
        emit.finish(emit("Reshape", source, target, like=old))
        return True


def shape_input(graph: ir.Graph, shape: Sequence[int | ir.SymbolicDim]) -> ir.Value | None:
    """What Reshape takes to make this shape; None where two of its axes are not known."""
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    if sizes.count(-1) > 1 or 0 in sizes:
        return None
    return constant(graph, f"shape.{'x'.join(map(str, sizes))}", np.array(sizes, np.int64))


def _source(node: ir.Node) -> tuple[ir.Value | None, int]:
    """(what the chain that ends in `node` starts from, its length)."""
    value, length = node.inputs[0], 1
    while value is not None:
        made = value.producer()
        if made is None or not _moves_nothing(made):
            break
        value, length = made.inputs[0], length + 1
    return value, length


def _moves_nothing(node: ir.Node) -> bool:
    if node.domain != "":
        return False
    source = node.inputs[0] if node.inputs else None
    if node.op_type != "Transpose" or source is None or source.shape is None or "perm" not in node.attributes:
        return node.op_type in KINDS
    order = [axis for axis in node.attributes["perm"].as_ints() if source.shape[axis] != 1]
    return order == sorted(order)


def _only(node: ir.Node, condition: Callable[[ir.Node], bool]) -> bool:
    """Whether `condition` holds for all that read the node's output, and the graph does not give it out."""
    output = node.outputs[0]
    return not output.is_graph_output() and all(condition(use.node) for use in output.uses())


def _known(shape: ir.Shape) -> list[object]:
    """Axes as they compare: an unnamed length equals no other."""
    return [size if isinstance(size, int) else size.value or object() for size in shape]
