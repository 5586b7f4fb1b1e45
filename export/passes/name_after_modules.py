"""Names that a reader finds in the module tree."""

from __future__ import annotations

import ast
from collections import Counter

import onnx_ir as ir

from .linear_as_matmul import LAYER

SCOPES = "pkg.torch.onnx.name_scopes"
TRACED = "edgeattn.traced"  # metadata key of a value: the name it had in the trace


class NameAfterModules(ir.passes.InPlacePass):
    """node_MatMul_4 → val_6   becomes   blocks.0.attention.query/MatMul → blocks.0.attention.query/MatMul.

    1. A node takes its layer's path or its module's, and its operator; a counter from the second of that name on. A program that was read from a
       .pt2 file knows no modules.
    2. Its outputs take its name; graph inputs, outputs and initialisers keep theirs.
    The exporter's own metadata are dropped once the names carry them.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        seen: Counter[str] = Counter()
        for node in model.graph:
            scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "['']"))
            path = node.metadata_props.get(LAYER) or next((scope for scope in reversed(scopes[:-1]) if scope), "")
            name = f"{path}/{node.op_type}" if path else node.op_type
            seen[name] += 1
            node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
            for index, value in enumerate(node.outputs):
                if not value.is_graph_output():
                    value.name = node.name if index == 0 else f"{node.name}:{index}"
            for key in [key for key in node.metadata_props if not key.startswith("edgeattn.")]:
                del node.metadata_props[key]
        return ir.passes.PassResult(model, True)


class RememberTrace(ir.passes.InPlacePass):
    """Notes on every value the name it had in the trace, so that the graph can be compared with it node by node."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        for node in model.graph:
            scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "['']"))
            for value in node.outputs:
                if value.name == scopes[-1]:
                    value.metadata_props[TRACED] = value.name
        return ir.passes.PassResult(model, True)
