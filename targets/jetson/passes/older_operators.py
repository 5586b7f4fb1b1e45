"""Operators that an older opset has not, in terms of those it has."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter

SINCE = {"Gelu": 20, "LayerNormalization": 17, "RMSNormalization": 23, "Shape": 15}  # the opset that brought the operator, Shape's slice


class OlderOperators(ir.passes.InPlacePass):
    """Gelu(x) becomes x (1 + erf(x / sqrt 2)) / 2, or its tanh form;   LayerNormalization(x) becomes (x - mean) / sqrt(variance + epsilon) w + b;
    RMSNormalization(x) becomes x / sqrt(mean of squares + epsilon) w;   Shape(x) from start to end becomes a Slice of Shape(x).

    Each only where the opset wanted is older than the operator.
    Left alone: LayerNormalization that also gives its mean or deviation.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        rewrite = {"Gelu": _gelu, "LayerNormalization": _layer_normalization, "RMSNormalization": _rms_normalization, "Shape": _shape}
        found = [node for node in model.graph if rewritten(node, self.opset)]
        for node in found:
            rewrite[node.op_type](model.graph, node)
        return ir.passes.PassResult(model, bool(found))


def rewritten(node: ir.Node, opset: int) -> bool:
    """Whether the opset has not got the operator, as it is used here, and it can be said otherwise."""
    if node.domain != "" or opset >= SINCE.get(node.op_type, 0) or any(output.uses() for output in node.outputs[1:]):
        return False
    return node.op_type != "Shape" or bool({"start", "end"} & set(node.attributes))


def _scalar(graph: ir.Graph, value: float) -> ir.Value:
    return constant(graph, f"scalar.{value:.9g}", np.array(value, np.float32))


def _gelu(graph: ir.Graph, node: ir.Node) -> None:
    x = node.inputs[0]
    assert x is not None
    emit = Emitter(graph, node)
    if "approximate" in node.attributes and node.attributes["approximate"].as_string() == "tanh":
        cube = emit("Mul", emit("Mul", x, x, like=x), x, like=x)
        inner = emit("Add", x, emit("Mul", cube, _scalar(graph, 0.044715), like=x), like=x)
        curve = emit("Tanh", emit("Mul", inner, _scalar(graph, math.sqrt(2 / math.pi)), like=x), like=x)
    else:
        curve = emit("Erf", emit("Mul", x, _scalar(graph, math.sqrt(0.5)), like=x), like=x)
    half = emit("Mul", emit("Add", curve, _scalar(graph, 1.0), like=x), _scalar(graph, 0.5), like=x)
    emit.finish(emit("Mul", x, half, like=x))


def _layer_normalization(graph: ir.Graph, node: ir.Node) -> None:
    x, weight = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    assert x is not None and weight is not None
    emit = Emitter(graph, node)
    centred = emit("Sub", x, _mean(emit, node, x), like=x)
    result = emit("Mul", emit("Div", centred, _root_mean_square(emit, node, centred), like=x), weight, like=x)
    emit.finish(result if bias is None else emit("Add", result, bias, like=x))


def _shape(graph: ir.Graph, node: ir.Node) -> None:
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    start, end, _ = slice(*(int(node.attributes[name].value) if name in node.attributes else None for name in ("start", "end"))).indices(len(x.shape))
    emit = Emitter(graph, node)
    whole = emit("Shape", x, like=node.outputs[0], shape=(len(x.shape),))
    limits = [constant(graph, f"shape.{bound}", np.array([bound], np.int64)) for bound in (start, end)]
    emit.finish(emit("Slice", whole, *limits, like=node.outputs[0]))


def _rms_normalization(graph: ir.Graph, node: ir.Node) -> None:
    x, weight = node.inputs[0], node.inputs[1]
    assert x is not None and weight is not None
    emit = Emitter(graph, node)
    emit.finish(emit("Mul", emit("Div", x, _root_mean_square(emit, node, x), like=x), weight, like=x))


def _root_mean_square(emit: Emitter, node: ir.Node, x: ir.Value) -> ir.Value:
    """sqrt(mean of squares + epsilon), over the axes that the node normalises."""
    epsilon = float(node.attributes["epsilon"].value) if "epsilon" in node.attributes else 1e-5
    mean = _mean(emit, node, emit("Mul", x, x, like=x))
    return emit("Sqrt", emit("Add", mean, _scalar(emit.graph, epsilon), like=mean), like=mean)


def _mean(emit: Emitter, node: ir.Node, x: ir.Value) -> ir.Value:
    """Over the axes that the node normalises; an input, which `LowerOpset` turns into an attribute where the opset wants that."""
    assert x.shape is not None
    rank = len(x.shape)
    first = int(node.attributes["axis"].value) % rank if "axis" in node.attributes else rank - 1
    axes = constant(emit.graph, f"axes.{first}.{rank}", np.arange(first, rank, dtype=np.int64))
    reduced = tuple(1 if axis >= first else dim for axis, dim in enumerate(x.shape))
    return emit("ReduceMean", x, axes, like=x, shape=reduced, keepdims=1)
