"""Convolutions carry the path of their layer, as linear layers do."""

from __future__ import annotations

import onnx_ir as ir

from ..lift import layer_path
from .linear_as_matmul import LAYER


class ConvolutionLayers(ir.passes.InPlacePass):
    """Conv(x, W, b)   becomes   the same, tagged with the layer's path.

    1. W is an initializer that only this node reads: one layer, in one or two dimensions, with or without groups.
    Left alone: weights that are computed or shared, three-dimensional and transposed convolutions.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in model.graph:
            weight = node.inputs[1] if node.op_type == "Conv" and node.domain == "" else None
            if weight is None or weight.const_value is None or not weight.is_initializer():
                continue
            if len(weight.const_value.shape) in (3, 4) and len(weight.uses()) == 1:
                node.metadata_props[LAYER] = layer_path(weight.name or "")
                modified = True
        return ir.passes.PassResult(model, modified)
