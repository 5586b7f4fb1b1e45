"""Masks that no row can turn into NaN."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...attention_as_matmul import MASKED

CARRIES = ("Add", "Where", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Cast", "Slice", "Gather")  # what a mask passes on its way


class FiniteMasks(ir.passes.InPlacePass):
    """A constant mask of 0 and -inf (or a number near float32's end)   becomes   one of 0 and -1e30, which stays in float32.

    Only initializers that reach a Softmax or Attention through sums, choices and changes of shape; a row that is masked whole then averages
    instead of giving NaN. Left alone: large numbers that mask nothing.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for value in list(model.graph.initializers.values()):
            if is_endless_mask(value):
                assert value.const_value is not None
                array = value.const_value.numpy()
                value.const_value = ir.tensor(np.maximum(array, np.float32(MASKED)).astype(array.dtype), name=value.name)
                modified = True
        return ir.passes.PassResult(model, modified)


def is_endless_mask(value: ir.Value) -> bool:
    """Whether an initializer masks with what a sum with it turns into -inf."""
    if value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return False
    return bool((value.const_value.numpy() < np.float32(MASKED)).any()) and _reaches_softmax(value)


def _reaches_softmax(value: ir.Value) -> bool:
    seen, waiting = set(), [value]
    while waiting:
        for use in waiting.pop().uses():
            if use.node.op_type in ("Softmax", "LogSoftmax", "Attention"):
                return True
            if use.node.op_type in CARRIES and id(use.node) not in seen:
                seen.add(id(use.node))
                waiting += use.node.outputs
    return False
