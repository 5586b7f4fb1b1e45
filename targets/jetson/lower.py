"""From the (quantised) canonical graph to one that a JetPack's TensorRT parses and fuses."""

from __future__ import annotations

import onnx_ir as ir

from ..attention_as_matmul import AttentionAsMatMul
from ..graphs import tidy
from ..opset import LowerOpset
from .jetpack import JetPack
from .passes.finite_masks import FiniteMasks
from .passes.older_operators import OlderOperators


def lower(graph: ir.Model, line: JetPack) -> ir.Model:
    """A lowered copy; the canonical graph stays as it was."""
    model = graph.clone()
    ir.passes.Sequential(
        AttentionAsMatMul(),
        FiniteMasks(),
        OlderOperators(line.opset),
        *tidy(),
        LowerOpset(line.opset),
    )(model)
    return model
