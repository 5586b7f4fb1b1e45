"""Packed projections, taken apart by one operator."""

from __future__ import annotations

import math

import onnx_ir as ir

from ...emit import Emitter
from .one_by_one import OneByOne
from .one_reshape import shape_input
from .selection import gathered


class SplitBeforeReshape(OneByOne):
    """y = Reshape(x: [..., n * w], [..., n, *shape of w]); Gather(y, j, the axis of n) for all j   becomes   Reshape(Split(x, n parts)[j], ...).

    It is how queries, keys and values of one projection are taken apart; ONNX Runtime makes a Split and a Squeeze for each of the Gathers, and
    this Reshape meets those that follow.
    Left alone: selections of some j only, and a y that others read too.
    """

    kinds = ("Reshape",)

    def replace(self, graph: ir.Graph, node: ir.Node) -> bool:
        source, packed = node.inputs[0], node.outputs[0]
        users = [use.node for use in packed.uses()]
        if source is None or source.shape is None or packed.shape is None or packed.is_graph_output() or not users:
            return False
        found = [one for user in users if (one := gathered(user)) is not None and one[0] is packed]
        axis = found[0][1] if found else 0
        if len(found) < len(users) or any(one[1] != axis for one in found):
            return False
        sizes = [size for size in packed.shape[axis:] if isinstance(size, int)]
        parts, width = sizes[0] if sizes else 0, math.prod(sizes[1:])
        whole = len(sizes) == len(packed.shape) - axis and source.shape[-1] == parts * width
        indices = {index % parts for _, _, index in found} if whole else set()
        targets = [shape_input(graph, user.outputs[0].shape) if user.outputs[0].shape is not None else None for user in users]
        if parts < 2 or indices != set(range(parts)) or None in targets:
            return False
        emit = Emitter(graph, node)
        values = emit.split(source, [width] * parts)
        graph.insert_after(node, emit.nodes)
        for user, (_, _, index), target in zip(users, found, targets, strict=True):
            assert target is not None
            last = Emitter(graph, user)
            last.finish(last("Reshape", values[index % parts], target, like=user.outputs[0]))
        return True
