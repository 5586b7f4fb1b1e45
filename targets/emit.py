"""New nodes between old ones, with names, types and the layer they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from ..export.passes.constants import constant
from ..export.passes.nodes import node_of


class Emitter:
    """Makes the nodes that stand in for one node, then puts them in its place."""

    def __init__(self, graph: ir.Graph, replaced: ir.Node) -> None:
        self.graph, self.replaced, self.nodes = graph, replaced, []  # type: ignore[var-annotated]

    def __call__(self, kind: str, *inputs: ir.Value, like: ir.Value, shape: Any = None, **attributes: Any) -> ir.Value:
        """The output of a new node; its type is that of `like`, its shape too unless given."""
        node = node_of(kind, inputs, f"{self.replaced.name}/{kind}_{len(self.nodes)}", like.dtype, like.shape if shape is None else shape, attributes)
        node.metadata_props.update(self.replaced.metadata_props)
        self.nodes.append(node)
        return node.outputs[0]

    def split(self, value: ir.Value, sizes: list[int], axis: int = -1) -> list[ir.Value]:
        """`value` in parts of these sizes along an axis."""
        name = f"{self.replaced.name}/Split_{len(self.nodes)}"
        at = constant(self.graph, f"split.{'x'.join(map(str, sizes))}", np.array(sizes, np.int64))
        node = ir.node("Split", [value, at], {"axis": axis}, num_outputs=len(sizes), name=name)
        for index, (output, size) in enumerate(zip(node.outputs, sizes, strict=True)):
            output.name, output.dtype = f"{name}.{index}", value.dtype
            if value.shape is not None:
                shape = [*value.shape]
                shape[axis] = size
                output.shape = ir.Shape(shape)
        self.nodes.append(node)
        return list(node.outputs)

    def finish(self, result: ir.Value) -> None:
        """`result` takes the place of the replaced node's first output."""
        ir.convenience.replace_nodes_and_values(self.graph, self.replaced, [self.replaced], self.nodes, self.replaced.outputs[:1], [result])
