"""Layers of one input, multiplied at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from ....export.passes.constants import constant
from ...emit import Emitter
from ...graphs import absorb
from .integer_linear import MICROSOFT
from .one_reshape import shape_input

COLUMNS = {"MatMulIntegerToFloat": (1, 3, 5, 6), "DynamicQuantizeMatMul": (1, 2, 3, 4)}  # inputs that hold something for every column
SMALL = 8192  # elements of all outputs: with 6,144 a network of 0.4 ms takes 3 to 5 % less time; more was not measured, and all are copied


class OneProduct(ir.passes.InPlacePass):
    """y_i = Reshape(kernel(x, W_i, ...)) to heads   becomes   y_1, y_2, ... = Split(Reshape(kernel(x, [W_1 W_2 ...], ...)), heads).

    It is how queries, keys and values are made. Integers, scales, zero points and biases stand side by side, so each column is computed as
    before, bit for bit.
    Left alone: products that are not reshaped, as for the fused operator (no gain was measured), heads of unlike sizes, weights of unlike
    signs, large outputs, and those whose size is not known but for the batch.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        groups: dict[Any, list[tuple[ir.Node, ir.Node]]] = {}
        for node in model.graph:
            reshape = _heads(node) if node.op_type in COLUMNS and node.domain == MICROSOFT else None
            if reshape is not None and _by_columns(node):
                groups.setdefault(_key(node, reshape), []).append((node, reshape))
        alike = [pairs for pairs in groups.values() if len(pairs) > 1 and sum(_elements(node) for node, _ in pairs) <= SMALL]
        for pairs in alike:
            _merge(model.graph, *zip(*pairs, strict=True))
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(alike))


def _columns(node: ir.Node) -> list[ir.Value | None]:
    return [node.inputs[index] if index < len(node.inputs) else None for index in COLUMNS[node.op_type]]


def _by_columns(node: ir.Node) -> bool:
    """Whether what its columns have are constants with one entry each."""
    width = node.outputs[0].shape[-1]  # type: ignore[index]
    return all(value is None or (value.const_value is not None and value.const_value.shape[-1] == width) for value in _columns(node))


def _key(node: ir.Node, reshape: ir.Node) -> Any:
    """Equal for nodes that can become one."""
    shared = tuple(id(value) for index, value in enumerate(node.inputs) if index not in COLUMNS[node.op_type])
    kinds = tuple(None if value is None else value.dtype for value in _columns(node))
    return node.op_type, shared, kinds, reshape.outputs[0].shape[3]  # type: ignore[index]


def _heads(node: ir.Node) -> ir.Node | None:
    """The Reshape to (batch, tokens, heads, size) that alone reads the output, (batch, tokens, width)."""
    flat, uses = node.outputs[0].shape, list(node.outputs[0].uses())
    if flat is None or len(flat) != 3 or len(uses) != 1 or uses[0].node.op_type != "Reshape" or node.outputs[0].is_graph_output():
        return None
    output = uses[0].node.outputs[0]
    whole = output.shape is not None and len(output.shape) == 4 and output.shape[1] == flat[1]
    return uses[0].node if whole and isinstance(output.shape[2], int) and not output.is_graph_output() else None  # type: ignore[index]


def _elements(node: ir.Node) -> float:
    """Of the output, for one sample."""
    return math.prod(size if isinstance(size, int) else math.inf for size in list(node.outputs[0].shape or ())[1:])


def _merge(graph: ir.Graph, nodes: Sequence[ir.Node], reshapes: Sequence[ir.Node]) -> None:
    first = nodes[0]
    inputs = list(first.inputs)
    for index in COLUMNS[first.op_type]:
        if index < len(inputs) and inputs[index] is not None:
            columns = [node.inputs[index].const_value.numpy() for node in nodes]  # type: ignore[union-attr]
            inputs[index] = constant(graph, f"{first.name}.{index}", np.concatenate(columns, -1))
    batch, tokens, _ = first.outputs[0].shape  # type: ignore[misc]
    counts, size = [int(reshape.outputs[0].shape[2]) for reshape in reshapes], int(reshapes[0].outputs[0].shape[3])  # type: ignore[index,arg-type]
    output = ir.val(f"{first.name}/all", ir.DataType.FLOAT, [batch, tokens, sum(counts) * size])  # type: ignore[list-item]
    product = ir.node(first.op_type, inputs, domain=MICROSOFT, outputs=[output], name=first.name)
    product.metadata_props.update(first.metadata_props)
    for node in nodes[1:]:
        absorb(product, node)
    emit = Emitter(graph, reshapes[0])
    shape = (batch, tokens, sum(counts), size)
    target = shape_input(graph, shape)
    assert target is not None  # only the batch may be unknown
    parts = emit.split(emit("Reshape", output, target, like=output, shape=shape), counts, axis=2)
    graph.insert_before(first, [product, *emit.nodes])
    for reshape, part in zip(reshapes, parts, strict=True):
        part.name = reshape.outputs[0].name
        ir.convenience.replace_all_uses_with(reshape.outputs[0], part)
    graph.remove(reshapes, safe=True)
