"""Smaller banks of keys and values, where attention reads the same ones for every input."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from ...errors import InputError
from ...runtime.coreset import coreset
from ..host import host_session
from .constants import array_of, constant


class CompressBanks(ir.passes.InPlacePass):
    """Attention(q, K[1, heads, tokens, d], V)   becomes   Attention(q, K[1, heads, size, d], V), a coreset of the tokens for each head.

    1. K and V are initialisers: the bank is shrunk, once for every reader. reach: by node, the largest norm of a query, already scaled.
    Left alone: caches that depend on the input (compress those at run time with `runtime.coreset`), masked attention, banks that are small enough.
    """

    def __init__(self, size: int, reach: Mapping[str, float]) -> None:
        super().__init__()
        self.size, self.reach = size, reach

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        found = [node for node in banks(model) if node.inputs[1].shape[-2] > self.size]  # type: ignore[union-attr,index,operator]
        for node in found:
            keys, values = (array_of(node.inputs[index]) for index in (1, 2))
            kept = [coreset(k, v, self.size, self.reach[node.name or ""]) for k, v in zip(keys[0], values[0], strict=True)]
            for index, array in ((1, keys), (2, values)):
                smaller = np.stack([head[rows] for head, rows in zip(array[0], kept, strict=True)])[None]
                node.replace_input_with(index, constant(model.graph, f"{node.name}/bank{index}.{self.size}", smaller))
        return ir.passes.PassResult(model, bool(found))


def banks(model: ir.Model) -> list[ir.Node]:
    """The attention nodes whose keys and values are initialisers."""
    return [
        node
        for node in model.graph
        if node.op_type == "Attention"
        and len([value for value in node.inputs if value is not None]) == 3
        and all(value is not None and value.is_initializer() and value.shape is not None and len(value.shape) == 4 for value in node.inputs[1:3])
    ]


def compress_banks(model: ir.Model, size: int, inputs: Mapping[str, np.ndarray]) -> int:
    """Shrinks the model's banks to `size` tokens, in place, for queries as large as `inputs` make them; returns how many.

    Raises InputError for a model without banks.
    """
    if not banks(model):
        raise InputError("--bank: no attention of this network reads constant keys and values, so there is nothing to compress.")
    copy = model.clone()
    readers = banks(copy)
    copy.graph.outputs[:] = [node.inputs[0] for node in readers]  # type: ignore[misc]
    queries = host_session(copy, optimise=False).run(None, dict(inputs))
    reach = {}
    for node, query in zip(readers, queries, strict=True):
        given = node.attributes.get("scale")
        scale = given.as_float() if given is not None else query.shape[-1] ** -0.5
        reach[node.name or ""] = scale * float(np.linalg.norm(query, axis=-1).max())
    before = sum(node.inputs[1].shape[-2] > size for node in readers)  # type: ignore[union-attr,index,operator,misc]
    CompressBanks(size, reach)(model)
    ir.passes.common.RemoveUnusedNodesPass()(model)
    return before
