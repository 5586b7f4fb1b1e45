"""What ONNX Runtime made of a graph: the optimised model, read back instead of assumed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

from ...runtime.engines import onnx_session

INTEGER_KERNELS = {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm", "QLinearMatMul", "MatMulInteger", "QLinearConv", "ConvInteger"}


@dataclass(frozen=True)
class Readback:
    """integer: layers whose product is an integer kernel in the engine; operators: count of each operator in the optimised graph."""

    integer: tuple[str, ...]
    operators: dict[str, int]


def read_back(data: bytes, layers: tuple[str, ...]) -> Readback:
    """Loads the model as the device would and reads its optimised graph; `layers` are the paths that should be integers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        onnx_session(data, options)
        optimised = onnx.load(path)
    operators: dict[str, int] = {}
    named = set()
    for node in optimised.graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
        if node.op_type in INTEGER_KERNELS:
            named.add(node.name.rsplit("/", 1)[0])
    return Readback(tuple(path for path in layers if path in named), dict(sorted(operators.items())))
