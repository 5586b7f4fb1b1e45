"""What ONNX Runtime's CPU provider cannot run, said before lowering, by node."""

from __future__ import annotations

import onnx_ir as ir

from ..target import Finding

DOMAINS = ("", "com.microsoft")


def check(graph: ir.Model) -> list[Finding]:
    """Findings for operators of unknown domains, control flow, and double tensors.

    An operator without a kernel is found before this, when the exported graph is first run on the engine (`export.host`).
    """
    found = []
    for node in graph.graph.all_nodes():
        name = str(node.name)
        if node.domain not in DOMAINS:
            found.append(Finding("cpu.unknown-domain", "error", name, f"operator {node.domain}::{node.op_type} is not part of ONNX: rewrite it"))
        elif node.op_type in ("Loop", "Scan", "If"):
            message = f"{node.op_type} runs its body step by step; unroll or chunk it if its length is known"
            found.append(Finding("cpu.control-flow", "warning", name, message))
        found += [Finding("cpu.double", "warning", name, "float64 runs at half speed: cast the module to float32") for _ in _doubles(node)]
    return found


def _doubles(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.outputs if value.dtype == ir.DataType.DOUBLE][:1]
