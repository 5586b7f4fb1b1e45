"""Passes that try a graph's nodes one by one."""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes import common


class OneByOne(ir.passes.InPlacePass):
    """Tries `replace` on every node of the standard operators `kinds`; what nothing reads any more goes."""

    kinds: ClassVar[tuple[str, ...]]

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if node.op_type in self.kinds and node.domain == "" and node.graph is not None:  # an earlier replacement may have taken it out
                modified |= self.replace(model.graph, node)
        common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)

    def replace(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Whether it put something in the node's place."""
        raise NotImplementedError
