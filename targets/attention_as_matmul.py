"""Attention taken apart, for engines that know the operator not, or not in every form, and fuse its parts."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import onnx_ir as ir

from ..export.passes.constants import constant
from .emit import Emitter

MASKED = -1e30  # what a False in a mask adds to a logit, however large that is; -inf would turn a fully masked row into NaN


class AttentionAsMatMul(ir.passes.InPlacePass):
    """Attention(Q, K, V: [batch, heads, length, size])   becomes   Softmax((Q s) K^T + mask) V.

    1. The scale is taken to the queries, so that logits are small before they exist. 2. Boolean masks become 0 and -1e30.
    3. is_causal becomes a constant mask; lengths must be known. The pattern MatMul, Add, Softmax, MatMul is what TensorRT fuses.
    4. by_parts: keys and values that were concatenated, a cache and what is new, say, are read where they lie, if the queries are few: with
       K = [K1; K2], V = [V1; V2] and [w1 w2] = Softmax([(Q s) K1^T (Q s) K2^T] + mask) it is w1 V1 + w2 V2.
    Left alone, and found by `check`: grouped heads, a soft cap, past keys, three-dimensional inputs, logits as an output.
    """

    def __init__(self, by_parts: bool = False) -> None:
        super().__init__()
        self._by_parts = by_parts

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        found = [node for node in model.graph if node.op_type == "Attention" and node.domain == "" and convertible(node)]
        for node in found:
            _replace(model.graph, node, _parts(node) if self._by_parts else None)
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


def _parts(node: ir.Node) -> list[tuple[ir.Value, ir.Value]] | None:
    """Pairs of keys and values that were concatenated for this node alone, where that is worth it: queries fewer than the size of a head."""
    query, *joined = node.inputs[:3]
    sides = []
    for value in joined:
        made = value.producer() if value is not None else None
        if made is None or made.op_type != "Concat" or len(made.outputs[0].uses()) > 1 or made.outputs[0].is_graph_output():
            return None
        if made.attributes["axis"].as_int() not in (2, -2) or any(_length(part) is None for part in made.inputs):
            return None
        sides.append([part for part in made.inputs if part is not None])
    assert query is not None and query.shape is not None
    few = isinstance(query.shape[2], int) and query.shape[2] < int(query.shape[3])
    alike = [_length(part) for part in sides[0]] == [_length(part) for part in sides[1]]
    return list(zip(*sides, strict=True)) if few and alike else None


def _length(value: ir.Value | None) -> int | None:
    """How many keys; None where it is not known."""
    size = value.shape[2] if value is not None and value.shape is not None and len(value.shape) == 4 else None
    return size if isinstance(size, int) else None


def _replace(graph: ir.Graph, node: ir.Node, parts: list[tuple[ir.Value, ir.Value]] | None) -> None:
    query, key, value = node.inputs[:3]
    assert query is not None and key is not None and value is not None and query.shape is not None and key.shape is not None
    emit = Emitter(graph, node)
    batch, heads, queries, size = query.shape
    keys = key.shape[2]
    scale = _attribute(node, "scale") or 1 / math.sqrt(int(size))
    scaled = emit("Mul", query, constant(graph, f"scale.{scale:.9g}", np.array(scale, np.float32)), like=query)
    pairs = parts or [(key, value)]
    columns = []
    for part, _ in pairs:
        length = part.shape[2] if part.shape is not None else keys
        turned = emit("Transpose", part, like=key, shape=(batch, heads, size, length), perm=[0, 1, 3, 2])
        columns.append(emit("MatMul", scaled, turned, like=query, shape=(batch, heads, queries, length)))
    logits = columns[0] if parts is None else emit("Concat", *columns, like=query, shape=(batch, heads, queries, keys), axis=-1)
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
    shares = [weights] if parts is None else emit.split(weights, [int(_length(part) or 0) for part, _ in pairs])
    read = [emit("MatMul", share, part, like=node.outputs[0]) for share, (_, part) in zip(shares, pairs, strict=True)]
    emit.finish(reduce(lambda total, more: emit("Add", total, more, like=node.outputs[0]), read))
