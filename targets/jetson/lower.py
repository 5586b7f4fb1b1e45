"""From the (quantised) canonical graph to one that a JetPack's TensorRT parses and fuses."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import _constant_folding as folding

from ..opset import LowerOpset
from .jetpack import JetPack
from .passes.attention_as_matmul import AttentionAsMatMul
from .passes.finite_masks import FiniteMasks
from .passes.older_operators import OlderOperators


def lower(graph: ir.Model, line: JetPack) -> ir.Model:
    """A lowered copy; the canonical graph stays as it was."""
    model = graph.clone()
    ir.passes.Sequential(
        AttentionAsMatMul(),
        FiniteMasks(),
        OlderOperators(line.opset),
        folding.FoldConstantsPass(
            shape_inference=False,
            input_size_limit=folding.DEFAULT_CONSTANT_FOLD_INPUT_SIZE_LIMIT,
            output_size_limit=folding.DEFAULT_CONSTANT_FOLD_OUTPUT_SIZE_LIMIT,
            should_fold=lambda node: None if node.op_type != "DequantizeLinear" else False,
        ),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.RemoveUnusedNodesPass(),
        common.NameFixPass(),
        LowerOpset(line.opset),
    )(model)
    return model
