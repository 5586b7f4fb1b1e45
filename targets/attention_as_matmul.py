"""Attention taken apart, for engines that know the operator not, or not in every form, and fuse its parts."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ..export.passes.constants import constant
from .emit import Emitter

MASKED = -1e30  # what a False in a mask adds to a logit, however large that is; -inf would turn a fully masked row into NaN


class AttentionAsMatMul(ir.passes.InPlacePass):
    """Attention(Q, K, V: [batch, heads, length, size])   becomes   Softmax((Q s) K^T + mask) V.

    1. The scale is taken to the queries, so that logits are small before they exist. 2. Boolean masks become 0 and -1e30.
    3. is_causal becomes a constant mask; lengths must be known. The pattern MatMul, Add, Softmax, MatMul is what TensorRT fuses.
    Left alone, and found by `check`: grouped heads, a soft cap, past keys, three-dimensional inputs, logits as an output.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        found = [node for node in model.graph if node.op_type == "Attention" and node.domain == "" and convertible(node)]
        for node in found:
            _replace(model.graph, node)
        return ir.passes.PassResult(model, bool(found))


def convertible(node: ir.Node) -> bool:
    """Whether the pass above takes this Attention apart."""
    tensors = node.inputs[:3]
    if not all(tensor is not None and tensor.shape is not None and len(tensor.shape) == 4 for tensor in tensors):
        return False
    if any(value is not None for value in node.inputs[4:]) or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return False
    if len({tensor.shape[1] for tensor in tensors}) != 1 or not isinstance(tensors[0].shape[3], int):  # type: ignore[index,union-attr]
        return False
    lengths = (tensors[0].shape[2], tensors[1].shape[2])  # type: ignore[index,union-attr]
    known = all(isinstance(length, int) for length in lengths)
    return not _attribute(node, "softcap") and (known or not _attribute(node, "is_causal"))


def _attribute(node: ir.Node, name: str) -> float:
    return float(node.attributes[name].value) if name in node.attributes else 0.0


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    query, key, value = node.inputs[:3]
    assert query is not None and key is not None and value is not None and query.shape is not None and key.shape is not None
    emit = Emitter(graph, node)
    batch, heads, queries, size = query.shape
    keys = key.shape[2]
    scale = _attribute(node, "scale") or 1 / math.sqrt(int(size))
    scaled = emit("Mul", query, constant(graph, f"scale.{scale:.9g}", np.array(scale, np.float32)), like=query)
    turned = emit("Transpose", key, like=key, shape=(batch, heads, size, keys), perm=[0, 1, 3, 2])
    logits = emit("MatMul", scaled, turned, like=query, shape=(batch, heads, queries, keys))
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is not None:
        if mask.dtype == ir.DataType.BOOL:
            kept, dropped = constant(graph, "mask.kept", np.array(0, np.float32)), constant(graph, "mask.dropped", np.array(MASKED, np.float32))
            mask = emit("Where", mask, kept, dropped, like=query, shape=tuple(mask.shape or ()))
        logits = emit("Add", logits, mask, like=logits)
    if _attribute(node, "is_causal"):
        future = np.triu(np.full((int(queries), int(keys)), MASKED, np.float32), 1)
        logits = emit("Add", logits, constant(graph, f"mask.causal.{queries}x{keys}", future), like=logits)
    weights = emit("Softmax", logits, like=logits, axis=-1)
    emit.finish(emit("MatMul", weights, value, like=node.outputs[0]))
