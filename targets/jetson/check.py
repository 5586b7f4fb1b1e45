"""What TensorRT refuses, breaks or slows down, found on the host. One function a rule; `RULES` is the table.

Evidence: "measured" is what TensorRT-RTX 1.7.1 did with the rule's graph in tests/targets/test_jetson.py; versions are those of the JetPack
lines in devices.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from ..attention_as_matmul import convertible
from ..opset import unknown
from ..target import Finding
from .jetpack import JetPack
from .passes.finite_masks import is_endless_mask
from .passes.older_operators import SINCE, rewritten

Found = Iterator[tuple[str, str]]  # (node, what is wrong and what to do)


@dataclass(frozen=True)
class Rule:
    """id: what `--json` shows; evidence: where the rule comes from; versions: of TensorRT, that it holds for.

    severity "repaired": lowering mends it, what is left after it is an error.
    """

    id: str
    find: Callable[[ir.Model, JetPack], Found]
    evidence: str
    versions: str = "all"
    severity: Literal["error", "warning", "repaired"] = "error"


def check(model: ir.Model, line: JetPack, lowered: bool = False) -> list[Finding]:
    """All rules on a graph. lowered: nothing is left to repair, so what would have been is an error."""
    found = []
    for rule in RULES:
        severity = "error" if lowered and rule.severity == "repaired" else rule.severity
        found += [Finding(rule.id, severity, node, message) for node, message in rule.find(model, line)]
    return found


def _nodes(model: ir.Model, *kinds: str) -> Iterator[ir.Node]:
    return (node for node in model.graph.all_nodes() if node.domain == "" and node.op_type in kinds)


def _constant(value: ir.Value | None) -> np.ndarray | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()


def zero_point(model: ir.Model, line: JetPack) -> Found:
    """TensorRT quantises symmetrically: another zero point than 0 is refused."""
    for node in _nodes(model, "QuantizeLinear", "DequantizeLinear"):
        array = _constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if array is not None and np.any(array != 0):
            yield str(node.name), f"its zero point is {np.ravel(array)[0]}; TensorRT takes 0 only: quantise with activation: symmetric"


def unsigned(model: ir.Model, line: JetPack) -> Found:
    """uint8 with zero point 0 is read as int8 without a word: values above 127 turn negative."""
    for node in _nodes(model, "QuantizeLinear", "DequantizeLinear"):
        zero = node.inputs[2] if len(node.inputs) > 2 else None
        kinds = {value.dtype for value in (zero, node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]) if value is not None}
        if ir.DataType.UINT8 in kinds:
            yield str(node.name), "it is uint8, which TensorRT reads as int8 without saying so: quantise with activation: symmetric"


def sixteen_bits(model: ir.Model, line: JetPack) -> Found:
    """16-bit integers are refused."""
    for node in _nodes(model, "QuantizeLinear", "DequantizeLinear"):
        if any(value is not None and value.dtype in (ir.DataType.INT16, ir.DataType.UINT16) for value in (*node.inputs, *node.outputs)):
            yield str(node.name), "TensorRT has no 16-bit integers: use int8, or leave the layer in float"


def integer_bias(model: ir.Model, line: JetPack) -> Found:
    """ONNX Runtime's int32 biases behind a DequantizeLinear are refused."""
    for node in _nodes(model, "DequantizeLinear"):
        if node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.INT32:
            yield str(node.name), "TensorRT takes no int32 behind DequantizeLinear: leave biases in float"


def int4_with_int8(model: ir.Model, line: JetPack) -> Found:
    """int4 weights take float activations; beside int8 ones the product is refused."""
    for node in _nodes(model, "MatMul", "Gemm"):
        sources = [value.producer() if value is not None else None for value in node.inputs[:2]]
        kinds = [source.inputs[0].dtype for source in sources if source is not None and source.op_type == "DequantizeLinear" and source.inputs[0]]
        if len(kinds) == 2 and any(kind in (ir.DataType.INT4, ir.DataType.UINT4) for kind in kinds):
            yield str(node.name), "int4 weights meet int8 activations: use w4 with float activations, or int8 for both"


def one_sided(model: ir.Model, line: JetPack) -> Found:
    """A product with Q/DQ on one input only runs in float and pays for the conversion; attention's products are often so."""
    for node in _nodes(model, "MatMul"):
        left, right = (value.producer() if value is not None else None for value in node.inputs[:2])
        quantised = [source is not None and source.op_type == "DequantizeLinear" for source in (left, right)]
        constant = any(
            source is not None and source.inputs and source.inputs[0] is not None and source.inputs[0].is_initializer() for source in (left, right)
        )
        if sum(quantised) == 1 and not constant and not any(value is not None and value.is_initializer() for value in node.inputs[:2]):
            yield str(node.name), "only one side is behind Q/DQ: quantise both inputs, or none"


def dynamic_quantisation(model: ir.Model, line: JetPack) -> Found:
    """Scales that are computed while running are refused."""
    kinds = ("DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv")
    for node in _nodes(model, *kinds):
        yield str(node.name), f"TensorRT has no {node.op_type}: export Q/DQ pairs with fixed scales (--precision int8)"


def foreign_domain(model: ir.Model, line: JetPack) -> Found:
    """Operators outside ONNX are plug-ins that a board has not."""
    for node in model.graph.all_nodes():
        if node.domain not in ("", "ai.onnx"):
            yield str(node.name), f"{node.domain}::{node.op_type} is no ONNX operator: export without the engine's own fusions"


def scatter_reduction(model: ir.Model, line: JetPack) -> Found:
    """Scatters that add or multiply are refused."""
    for node in _nodes(model, "ScatterElements", "ScatterND"):
        if "reduction" in node.attributes and node.attributes["reduction"].as_string() != "none":
            yield str(node.name), f"its reduction {node.attributes['reduction'].as_string()!r} is not supported: sum with a one-hot MatMul"


def fourier(model: ir.Model, line: JetPack) -> Found:
    """No Fourier transforms."""
    for node in _nodes(model, "DFT", "STFT"):
        yield str(node.name), f"TensorRT has no {node.op_type}: multiply with the matrix of the transform"


def control_flow(model: ir.Model, line: JetPack) -> Found:
    """Loops run their body step by step and split the engine."""
    for node in _nodes(model, "Scan", "Loop", "If"):
        yield str(node.name), f"{node.op_type} runs its body step by step; unroll it, or write it in chunks, if its length is known"


def doubles(model: ir.Model, line: JetPack) -> Found:
    """float64 is narrowed to float32 without a word."""
    for node in model.graph.all_nodes():
        if any(value.dtype == ir.DataType.DOUBLE for value in node.outputs):
            yield str(node.name), "its output is float64, which TensorRT narrows to float32: cast the module to float32 before export"


def mixed_floats(model: ir.Model, line: JetPack) -> Found:
    """A strongly typed network casts nothing by itself: float32 beside float16 needs a Cast."""
    floats = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    for node in _nodes(model, "Add", "Sub", "Mul", "Div", "MatMul", "Gemm", "Pow", "Concat", "Where", "Max", "Min"):
        kinds = {value.dtype for value in node.inputs if value is not None and value.dtype in floats}
        if len(kinds) > 1:
            yield str(node.name), f"its inputs are {' and '.join(sorted(str(kind) for kind in kinds))}: put a Cast before it"


def endless_mask(model: ir.Model, line: JetPack) -> Found:
    """A mask of -inf turns a fully masked row into NaN."""
    for value in model.graph.initializers.values():
        if is_endless_mask(value):
            yield (
                next((str(use.node.name) for use in value.uses()), str(value.name)),
                f"the mask {value.name} holds -inf or what a sum turns into it: -1e30 does the same",
            )


def attention(model: ir.Model, line: JetPack) -> Found:
    """Attention is unknown before TensorRT 10.14, and TensorRT-RTX 1.7.1 parses it in float32 but cannot build it; it is taken apart."""
    for node in _nodes(model, "Attention"):
        if convertible(node):
            yield str(node.name), "Attention becomes MatMul, Softmax, MatMul, which every TensorRT builds"


def odd_attention(model: ir.Model, line: JetPack) -> Found:
    """Forms of Attention that are not taken apart."""
    for node in _nodes(model, "Attention"):
        if not convertible(node):
            yield str(node.name), "this form of Attention is not taken apart (grouped heads, soft cap, past keys): write it with MatMul and Softmax"


def older_operator(model: ir.Model, line: JetPack) -> Found:
    """Operators that the line's opset has not, but others can say."""
    for node in model.graph:
        if rewritten(node, line.opset):
            yield str(node.name), f"opset {line.opset} has no {node.op_type}: it becomes arithmetic"


def split_normalization(model: ir.Model, line: JetPack) -> Found:
    """A LayerNormalization that was taken apart before: fp16 on Orin Nano fell from 85.27 to 18.96 % with it (onnxsim PR 1742)."""
    for node in _nodes(model, "Div"):
        root = node.inputs[1].producer() if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if line.opset >= SINCE["LayerNormalization"] and root is not None and root.op_type == "Sqrt" and _is_normalisation(root):
            yield (
                str(node.name),
                "a layer normalisation in single steps loses its accuracy in float16: use nn.LayerNorm, which exports as one operator",
            )


def _is_normalisation(root: ir.Node) -> bool:
    """Sqrt(mean of a product of one value with itself + a constant), over the last axis."""
    plus = root.inputs[0].producer() if root.inputs[0] is not None else None
    mean = (
        next((v.producer() for v in plus.inputs if v is not None and v.producer() is not None), None)
        if plus is not None and plus.op_type == "Add"
        else None
    )
    if mean is None or mean.op_type != "ReduceMean" or mean.inputs[0] is None or mean.inputs[0].shape is None or len(mean.inputs) < 2:
        return False
    axes, last = _constant(mean.inputs[1]), len(mean.inputs[0].shape) - 1
    if axes is None or not {int(axis) for axis in np.ravel(axes)} <= {-1, last}:
        return False
    square = mean.inputs[0].producer()
    return square is not None and (square.op_type == "Pow" or (square.op_type == "Mul" and square.inputs[0] is square.inputs[1]))


def newer_opset(model: ir.Model, line: JetPack) -> Found:
    """Operators that the line's parser does not know and nothing here rewrites."""
    for node in unknown(model, line.opset):
        if node.op_type != "Attention" and not rewritten(node, line.opset) and node.domain == "" and not int4_weight(node):
            yield str(node.name), f"{node.op_type} as it is used here came after opset {line.opset}, the newest that {line} takes safely: rewrite it"


def int4_weight(node: ir.Node) -> bool:
    """int4 needs opset 21, and TensorRT 10 reads it there."""
    return any(value is not None and value.dtype in (ir.DataType.INT4, ir.DataType.UINT4) for value in node.inputs)


def int4_line(model: ir.Model, line: JetPack) -> Found:
    """int4 weights came with TensorRT 10."""
    for node in _nodes(model, "DequantizeLinear"):
        if int4_weight(node) and line.tensorrt < (10,):
            yield str(node.name), f"{line} has no int4: use --precision w8 or int8"


RULES = (
    Rule("trt.zero-point", zero_point, "refused, measured"),
    Rule("trt.uint8", unsigned, "accepted, measured; read as int8"),
    Rule("trt.int16", sixteen_bits, "refused, measured"),
    Rule("trt.int32-bias", integer_bias, "refused, measured"),
    Rule("trt.int4-with-int8", int4_with_int8, "refused, measured", versions="from 10"),
    Rule("trt.one-sided-qdq", one_sided, "accepted, measured; TensorRT developer guide, explicit quantisation", severity="warning"),
    Rule("trt.dynamic-quantisation", dynamic_quantisation, "refused, measured"),
    Rule("trt.foreign-domain", foreign_domain, "refused, measured"),
    Rule("trt.scatter-reduction", scatter_reduction, "refused, measured"),
    Rule("trt.fourier", fourier, "refused, measured"),
    Rule("trt.control-flow", control_flow, "accepted, measured", severity="warning"),
    Rule("trt.double", doubles, "accepted, measured", severity="warning"),
    Rule("trt.mixed-floats", mixed_floats, "refused in strongly typed networks, measured", versions="from 10, strongly typed"),
    Rule("trt.endless-mask", endless_mask, "softmax of a row of -inf", severity="repaired"),
    Rule("trt.attention", attention, "refused by the builder, measured", severity="repaired", versions="before 10.14; TensorRT-RTX 1.7.1"),
    Rule("trt.odd-attention", odd_attention, "refused, measured", versions="before 10.14; TensorRT-RTX 1.7.1"),
    Rule("trt.older-operator", older_operator, "ONNX operator versions", severity="repaired", versions="by opset: 8.2 has 13, 8.5 has 17, 10 has 20"),
    Rule(
        "trt.split-normalization",
        split_normalization,
        "85.27 to 18.96 % in fp16 on Orin Nano, onnxsim PR 1742",
        severity="warning",
        versions="from 8.5",
    ),
    Rule("trt.opset", newer_opset, "ONNX operator versions", versions="by opset: 8.2 has 13, 8.5 has 17, 10 has 20"),
    Rule("trt.int4", int4_line, "TensorRT 10 release notes", versions="before 10"),
)
