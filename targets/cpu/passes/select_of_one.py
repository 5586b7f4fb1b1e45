"""The only element of an axis, without a copy."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter


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
    if node.op_type != "Gather" or node.domain != "":
        return None
    source, index = node.inputs
    if source is None or source.shape is None or index is None or index.const_value is None or index.const_value.numpy().shape != ():
        return None
    axis = (node.attributes["axis"].as_int() if "axis" in node.attributes else 0) % len(source.shape)
    return axis if source.shape[axis] == 1 and int(index.const_value.numpy()) in (0, -1) else None
