"""Masks that no row can turn into NaN."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .attention_as_matmul import MASKED

LARGEST = 65504.0  # of float16


class FiniteMasks(ir.passes.InPlacePass):
    """A constant mask of 0 and -inf (or a number below float16's range)   becomes   one of 0 and -1e4.

    Only initializers that are added to something or chosen by Where. A row that is masked whole then averages instead of giving NaN.
    Left alone: +inf and NaN, which are no masks.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for value in list(model.graph.initializers.values()):
            if is_endless_mask(value):
                assert value.const_value is not None
                array = value.const_value.numpy()
                value.const_value = ir.tensor(np.where(array < -LARGEST, np.float32(MASKED), array).astype(array.dtype), name=value.name)
                modified = True
        return ir.passes.PassResult(model, modified)


def is_endless_mask(value: ir.Value) -> bool:
    """Whether an initializer masks with what float16 cannot hold."""
    if value.const_value is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        return False
    if not all(use.node.op_type in ("Add", "Where", "Attention", "Expand") for use in value.uses()):
        return False
    array = value.const_value.numpy()
    return bool((array < -LARGEST).any())
