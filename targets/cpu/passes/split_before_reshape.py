"""Packed projections, taken apart by one operator."""

from __future__ import annotations

import math

import onnx_ir as ir
from onnx_ir.passes import common

from ...emit import Emitter
from .one_reshape import shape_input


class SplitBeforeReshape(ir.passes.InPlacePass):
    """y = Reshape(x: [..., n * w], [..., n, *shape of w]); Gather(y, j, the axis of n) for all j   becomes   Reshape(Split(x, n parts)[j], ...).

    It is how queries, keys and values of one projection are taken apart; ONNX Runtime makes a Split and a Squeeze for each of the Gathers, and
    this Reshape meets those that follow.
    Left alone: selections of some j only, and a y that others read too.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if node.op_type == "Reshape" and node.domain == "":
                modified |= _split(model.graph, node)
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)


def _split(graph: ir.Graph, node: ir.Node) -> bool:
    source, packed = node.inputs[0], node.outputs[0]
    users = [use.node for use in packed.uses()]
    if source is None or source.shape is None or packed.shape is None or packed.is_graph_output() or not users:
        return False
    found = [_selection(user, packed) for user in users]
    axis = found[0][0] if found[0] is not None else 0
    if any(one is None or one[0] != axis for one in found):
        return False
    sizes = [size for size in packed.shape[axis:] if isinstance(size, int)]
    parts, width = sizes[0] if sizes else 0, math.prod(sizes[1:])
    whole = len(sizes) == len(packed.shape) - axis and source.shape[-1] == parts * width
    indices = {one[1] % parts for one in found if one is not None} if whole else set()
    targets = [shape_input(graph, user.outputs[0].shape) if user.outputs[0].shape is not None else None for user in users]
    if parts < 2 or indices != set(range(parts)) or None in targets:
        return False
    emit = Emitter(graph, node)
    values = emit.split(source, [width] * parts)
    graph.insert_after(node, emit.nodes)
    for user, one, target in zip(users, found, targets, strict=True):
        assert one is not None and target is not None
        last = Emitter(graph, user)
        last.finish(last("Reshape", values[one[1] % parts], target, like=user.outputs[0]))
    return True


def _selection(node: ir.Node, packed: ir.Value) -> tuple[int, int] | None:
    """(axis, index) of a Gather of one element of `packed`."""
    if node.op_type != "Gather" or node.domain != "" or node.inputs[0] is not packed or packed.shape is None:
        return None
    index = node.inputs[1].const_value if node.inputs[1] is not None else None
    if index is None or index.numpy().shape != ():
        return None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    return axis % len(packed.shape), int(index.numpy())
