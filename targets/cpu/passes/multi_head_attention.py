"""Attention as ONNX Runtime's fused operator."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ....export.passes.nodes import node_of
from ...emit import Emitter
from .integer_linear import MICROSOFT
from .one_by_one import OneByOne

MASKED = -1e9  # what a False in a mask adds to a logit: its exp is exactly 0 in float32, and no -inf meets another
FEW = 196  # keys: up to here a mask costs the fused operator more than it saves (onnxruntime 1.31, 8 to 196 keys, measured on one AMD EPYC)


class MultiHeadAttention(OneByOne):
    """Attention(Q, K, V: [batch, heads, length, size])   becomes   com.microsoft.MultiHeadAttention over [batch, length, heads * size].

    1. Transposes and reshapes that split the heads are put in reverse around the new operator; clean-up cancels them.
    2. A mask becomes `attention_bias` of four axes, booleans as 0 and -1e9; FullAttentionMask has expanded it before.
    3. is_causal becomes `unidirectional`.
    Left alone: grouped key/value heads, a soft cap, past keys, logits as a second output, and keys that come as heads, from a cache or gathered by
    block: nothing would cancel the transposes put around them. So is a mask over few keys: the operator adds it element by element, and is up to
    1.4 times as slow as MatMul, Add, Softmax and MatMul.
    """

    kinds = ("Attention",)

    def replace(self, graph: ir.Graph, node: ir.Node) -> bool:
        if not _convertible(node):
            return False
        query, key, value = node.inputs[:3]
        assert query is not None and query.shape is not None and value is not None and value.shape is not None
        heads, size, value_size = int(query.shape[1]), int(query.shape[3]), int(value.shape[3])
        new: list[ir.Node] = []
        flat = [_merge_heads(graph, new, node, tensor, name) for tensor, name in ((query, "query"), (key, "key"), (value, "value"))]
        bias = _bias(graph, new, node)
        scale = node.attributes["scale"].as_float() if "scale" in node.attributes else 1 / math.sqrt(size)
        attributes = {"num_heads": heads, "scale": scale, "mask_filter_value": MASKED}
        if "is_causal" in node.attributes and node.attributes["is_causal"].as_int():
            attributes["unidirectional"] = 1
        batch, length = query.shape[0], query.shape[2]
        output = ir.val(f"{node.name}/heads", query.dtype, (batch, length, heads * value_size))  # type: ignore[arg-type]
        fused = ir.node("MultiHeadAttention", [*flat, None, None, bias], attributes, domain=MICROSOFT, outputs=[output], name=node.name)
        fused.metadata_props.update(node.metadata_props)
        split = constant(graph, f"heads.{heads}x{value_size}", np.array([0, 0, heads, value_size], np.int64))
        reshape = node_of("Reshape", [output, split], f"{node.name}/split", query.dtype, (batch, length, heads, value_size))
        turn = ir.node("Transpose", reshape.outputs, {"perm": [0, 2, 1, 3]}, name=f"{node.name}/turn")
        ir.convenience.replace_nodes_and_values(graph, node, [node], [*new, fused, reshape, turn], node.outputs[:1], turn.outputs)
        return True


def _convertible(node: ir.Node) -> bool:
    tensors = node.inputs[:3]
    ranks_known = all(t is not None and t.shape is not None and len(t.shape) == 4 for t in tensors)
    if not ranks_known or (len(node.inputs) > 4 and any(node.inputs[4:])) or any(output.uses() for output in node.outputs[1:]):
        return False
    static = all(isinstance(t.shape[axis], int) for t in tensors for axis in (1, 3))  # type: ignore[index,union-attr]
    if not static or len({int(t.shape[1]) for t in tensors}) != 1:  # type: ignore[index,union-attr,arg-type]
        return False
    if _come_as_heads(node.inputs[1]):
        return False
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    keys = tensors[1].shape[2]  # type: ignore[index,union-attr]
    if mask is not None and isinstance(keys, int) and keys <= FEW:
        return False
    soft_cap = "softcap" in node.attributes and node.attributes["softcap"].as_float() != 0
    return not soft_cap and (mask is None or mask.shape is not None)


def _come_as_heads(keys: ir.Value | None) -> bool:
    """Whether keys are an input, concatenated or gathered, rather than split from a projection."""
    while keys is not None:
        node = keys.producer()
        if node is None or node.op_type == "Concat":
            return True
        if node.op_type == "Gather":
            index = node.inputs[1]
            if index is None or index.shape is None or len(index.shape) > 0:
                return True
        elif node.op_type not in ("Reshape", "Squeeze", "Slice", "Identity"):
            return False
        keys = node.inputs[0]
    return False


def _merge_heads(graph: ir.Graph, new: list[ir.Node], node: ir.Node, tensor: ir.Value, name: str) -> ir.Value:
    assert tensor.shape is not None
    width = int(tensor.shape[1]) * int(tensor.shape[3])
    flat = constant(graph, f"flat.{width}", np.array([0, 0, width], np.int64))
    batch, heads, length, size = tensor.shape
    turn = node_of("Transpose", [tensor], f"{node.name}/{name}/turn", tensor.dtype, (batch, length, heads, size), {"perm": [0, 2, 1, 3]})
    merge = node_of("Reshape", [turn.outputs[0], flat], f"{node.name}/{name}/merge", tensor.dtype, (batch, length, width))
    new += [turn, merge]
    return merge.outputs[0]


def _bias(graph: ir.Graph, new: list[ir.Node], node: ir.Node) -> ir.Value | None:
    """The mask as a float [batch | 1, heads | 1, queries, keys]."""
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is None:
        return None
    assert mask.shape is not None
    emit = Emitter(graph, node)
    query, value, rank = node.inputs[0], mask, len(mask.shape)
    assert query is not None
    if mask.dtype == ir.DataType.BOOL:
        kept = constant(graph, "mask.kept", np.array(0, np.float32))
        dropped = constant(graph, "mask.dropped", np.array(MASKED, np.float32))
        value = emit("Where", value, kept, dropped, like=query, shape=tuple(mask.shape))
    if rank < 4:
        axes = constant(graph, f"mask.axes{4 - rank}", np.arange(4 - rank, dtype=np.int64))
        value = emit("Unsqueeze", value, axes, like=query, shape=(*[1] * (4 - rank), *mask.shape))
    new += emit.nodes
    return value
