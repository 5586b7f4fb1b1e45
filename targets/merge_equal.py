"""What a graph computes twice is computed once."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from .graphs import absorb

PLAIN = {ir.AttributeType.FLOAT, ir.AttributeType.INT, ir.AttributeType.STRING}
SEQUENCES = {ir.AttributeType.FLOATS, ir.AttributeType.INTS, ir.AttributeType.STRINGS}


class MergeEqual(ir.passes.InPlacePass):
    """y1 = f(x, w), y2 = f(x, w)   becomes   y1 = y2 = f(x, w).

    1. Equal weights are one initialiser by now, so layers that share input and weights become one; it keeps the names of those that it stands for.
    2. Scales of one value are equal, so it is quantised once for all its readers.
    Left alone: random operators, those with tensors or graphs as attributes, and outputs of the graph, which keep their names.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        first: dict[Any, ir.Node] = {}
        modified = False
        for node in list(model.graph):
            key = _key(node)
            if key is None:
                continue
            kept = first.setdefault(key, node)
            if kept is not node and not any(output.is_graph_output() for output in node.outputs):
                self._merge(model.graph, kept, node)
                modified = True
        return ir.passes.PassResult(model, modified)

    def _merge(self, graph: ir.Graph, kept: ir.Node, node: ir.Node) -> None:
        absorb(kept, node)
        for old, new in zip(node.outputs, kept.outputs, strict=True):
            ir.convenience.replace_all_uses_with(old, new)
        graph.remove(node, safe=True)


def _key(node: ir.Node) -> Any:
    """Equal where two nodes compute the same; None where that cannot be said."""
    if node.op_type.startswith(("Random", "Bernoulli", "Multinomial", "Dropout")):
        return None
    attributes = []
    for name, attribute in sorted(node.attributes.items()):
        if attribute.type not in PLAIN | SEQUENCES:
            return None
        attributes.append((name, tuple(attribute.value) if attribute.type in SEQUENCES else attribute.value))
    return node.op_identifier(), tuple(map(id, node.inputs)), tuple(attributes), len(node.outputs)
