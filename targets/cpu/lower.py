"""From the (quantised) canonical graph to the form that ONNX Runtime runs fastest on a CPU."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import rewriter

from ...devices import Device
from ...export.passes.rewrite import Rewrite
from ..attention_as_matmul import AttentionAsMatMul
from ..graphs import tidy
from ..merge_equal import MergeEqual
from ..opset import LowerOpset
from .passes.broadcast_as_matmul import BroadcastAsMatMul
from .passes.integer_convolution import IntegerConvolution
from .passes.integer_linear import MICROSOFT, IntegerLinear
from .passes.integer_order import IntegerOrder
from .passes.moving_average import MovingAverage
from .passes.multi_head_attention import MultiHeadAttention
from .passes.one_product import OneProduct
from .passes.one_reshape import OneReshape
from .passes.reduce_as_matmul import ReduceAsMatMul
from .passes.select_before_transpose import SelectBeforeTranspose
from .passes.select_of_one import SelectOfOne
from .passes.softplus_from_exp import SoftplusFromExp
from .passes.split_before_reshape import SplitBeforeReshape

OLDEST = 20  # opset: the first with Gelu; ONNX Runtime 1.17 and later read it


def lower(graph: ir.Model, device: Device) -> ir.Model:
    """A lowered copy; the canonical graph stays as it was."""
    model = graph.clone()
    clean = ir.passes.PassManager([Rewrite(rewriter._DEFAULT_REWRITE_RULES), SelectBeforeTranspose(), common.RemoveUnusedNodesPass()], steps=3)
    ir.passes.Sequential(
        IntegerLinear(device.isa),
        IntegerConvolution(device.isa),
        IntegerOrder(),
        MultiHeadAttention(),
        AttentionAsMatMul(by_parts=True),
        SoftplusFromExp(),
        MovingAverage(),
        clean,
        SplitBeforeReshape(),
        SelectOfOne(),
        OneReshape(),
        BroadcastAsMatMul(),
        ReduceAsMatMul(),
        *tidy(),
        MergeEqual(),
        OneProduct(),
        LowerOpset(OLDEST),
    )(model)
    if any(node.domain == MICROSOFT for node in model.graph):
        model.opset_imports[MICROSOFT] = 1
        model.graph.opset_imports[MICROSOFT] = 1
    return model
