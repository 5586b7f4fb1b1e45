"""The only element of an axis, without a copy."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter
from .selection import gathered


class SelectOfOne(ir.passes.InPlacePass):
    """Gather(x, 0, axis of one element)   becomes   Squeeze(x, axis), which moves nothing.

    Left alone: other indices than a scalar 0 or -1, axes of unknown length.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            axis = _axis(node)
            if axis is not None:
                emit = Emitter(model.graph, node)
                at = constant(model.graph, f"axis.{axis}", np.array([axis], np.int64))
                emit.finish(emit("Squeeze", node.inputs[0], at, like=node.outputs[0]))
                modified = True
        return ir.passes.PassResult(model, modified)


def _axis(node: ir.Node) -> int | None:
    found = gathered(node)
    if found is None:
        return None
    source, axis, index = found
    return axis if source.shape is not None and source.shape[axis] == 1 and index in (0, -1) else None
