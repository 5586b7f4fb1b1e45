"""What ONNX Runtime's CPU provider cannot run, said before lowering, by node."""

from __future__ import annotations

import onnx_ir as ir

from ..target import Finding

DOMAINS = ("", "com.microsoft")
# Standard operators without a CPU kernel in ONNX Runtime 1.31 (found by creating a session with each).
NO_KERNEL = {"DeformConv": "rewrite the deformable convolution as a gather and a matrix product"}


def check(graph: ir.Model) -> list[Finding]:
    """Findings for operators of unknown domains, without a kernel, control flow, and float16 or double tensors."""
    found = []
    for node in graph.graph.all_nodes():
        name = str(node.name)
        if node.domain not in DOMAINS:
            found.append(Finding("cpu.unknown-domain", "error", name, f"operator {node.domain}::{node.op_type} is not part of ONNX: rewrite it"))
        elif node.op_type in NO_KERNEL:
            found.append(Finding("cpu.no-kernel", "error", name, f"ONNX Runtime has no CPU kernel for {node.op_type}: {NO_KERNEL[node.op_type]}"))
        elif node.op_type in ("Loop", "Scan", "If"):
            message = f"{node.op_type} runs its body step by step; unroll or chunk it if its length is known"
            found.append(Finding("cpu.control-flow", "warning", name, message))
        found += [Finding("cpu.double", "warning", name, "float64 runs at half speed: cast the module to float32") for _ in _doubles(node)]
    return found


def _doubles(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.outputs if value.dtype == ir.DataType.DOUBLE][:1]
