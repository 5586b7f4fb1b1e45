"""Masks that name every query, as ONNX Runtime's Attention wants them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .constants import constant
from .nodes import node_of


class FullAttentionMask(ir.passes.InPlacePass):
    """Attention(q, k, v, mask[..., 1, keys])   becomes   Attention(q, k, v, Expand(mask, [..., queries, keys])).

    1. Known lengths: the target shape is a constant. 2. Dynamic ones are read from the tensors.
    Left alone: masks that already have their full last two axes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if node.op_type == "Attention" and node.domain == "" and len(node.inputs) > 3 and node.inputs[3] is not None:
                modified |= self._expand(model.graph, node)
        return ir.passes.PassResult(model, modified)

    def _expand(self, graph: ir.Graph, node: ir.Node) -> bool:
        query, key, mask = node.inputs[0], node.inputs[1], node.inputs[3]
        if query is None or key is None or mask is None or any(value.shape is None for value in (query, key, mask)):
            return False
        lengths = (query.shape[-2], key.shape[-2])  # type: ignore[index]
        shape = tuple(mask.shape)  # type: ignore[arg-type]
        if shape[-2:] == lengths:
            return False
        new: list[ir.Node] = []
        target = _target(graph, new, node, query, key, lengths)
        expand = node_of("Expand", [mask, target], f"{node.name}/Expand", mask.dtype, (*shape[:-2], *lengths))
        expand.metadata_props.update(node.metadata_props)
        graph.insert_before(node, [*new, expand])
        node.replace_input_with(3, expand.outputs[0])
        return True


def _target(graph: ir.Graph, new: list[ir.Node], node: ir.Node, query: ir.Value, key: ir.Value, lengths: tuple) -> ir.Value:  # type: ignore[type-arg]
    if all(isinstance(length, int) for length in lengths):
        return constant(graph, f"lengths.{lengths[0]}x{lengths[1]}", np.array(lengths, np.int64))
    parts = []
    for tensor, label in ((query, "queries"), (key, "keys")):
        shape = node_of("Shape", [tensor], f"{node.name}/{label}", ir.DataType.INT64, (1,), {"start": 2, "end": 3})
        new.append(shape)
        parts.append(shape.outputs[0])
    both = node_of("Concat", parts, f"{node.name}/lengths", ir.DataType.INT64, (2,), {"axis": 0})
    new.append(both)
    return both.outputs[0]
