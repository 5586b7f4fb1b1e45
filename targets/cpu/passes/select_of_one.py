"""The only element of an axis, without a copy."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter
from .one_by_one import OneByOne
from .selection import gathered


class SelectOfOne(OneByOne):
    """Gather(x, 0, axis of one element)   becomes   Squeeze(x, axis), which moves nothing.

    Left alone: other indices than a scalar 0 or -1, axes of unknown length.
    """

    kinds = ("Gather",)

    def replace(self, graph: ir.Graph, node: ir.Node) -> bool:
        found = gathered(node)
        if found is None:
            return False
        source, axis, index = found
        if source.shape is None or source.shape[axis] != 1 or index not in (0, -1):
            return False
        emit = Emitter(graph, node)
        emit.finish(emit("Squeeze", source, constant(graph, f"axis.{axis}", np.array([axis], np.int64)), like=node.outputs[0]))
        return True
