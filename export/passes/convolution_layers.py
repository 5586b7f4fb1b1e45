"""Convolutions carry the path of their layer, as linear layers do."""

from __future__ import annotations

import onnx_ir as ir

from ..lift import layer_path
from .linear_as_matmul import LAYER


class ConvolutionLayers(ir.passes.InPlacePass):
    """Conv(x, W, b)   becomes   the same, tagged with the layer's path.

    1. W is an initializer that convolutions alone read: one layer, called once or more, in one or two dimensions, with or without groups.
    Left alone: weights that are computed or that others read too, three-dimensional and transposed convolutions.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in model.graph:
            weight = node.inputs[1] if node.op_type == "Conv" and node.domain == "" else None
            if weight is None or weight.const_value is None or not weight.is_initializer():
                continue
            if len(weight.const_value.shape) in (3, 4) and all(use.node.op_type == "Conv" and use.idx == 1 for use in weight.uses()):
                node.metadata_props[LAYER] = layer_path(weight.name or "")
                modified = True
        return ir.passes.PassResult(model, modified)
