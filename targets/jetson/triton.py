"""The Triton model repository entry, which Isaac ROS's Triton node reads too. Source: Triton user guide, "Model Configuration"."""

from __future__ import annotations

import onnx_ir as ir

from ...errors import InputError
from .jetpack import JetPack

TYPES = {"FLOAT": "FP32", "FLOAT16": "FP16", "INT64": "INT64", "INT32": "INT32", "BOOL": "BOOL", "INT8": "INT8"}
WIDE_INTEGERS = (10,)  # TensorRT before keeps 64-bit integers in 32 bits, at its inputs and outputs too


def config(delivered: ir.Model, line: JetPack) -> str:
    """config.pbtxt. max_batch_size 0: every size is written out, -1 where the engine's profile leaves it open; the name is the folder's."""
    parts = ['platform: "tensorrt_plan"', "max_batch_size: 0"]
    parts += [_tensor("input", value, line) for value in delivered.graph.inputs]
    parts += [_tensor("output", value, line) for value in delivered.graph.outputs]
    return "\n".join([*parts, "instance_group [ { kind: KIND_GPU, count: 1 } ]"]) + "\n"


def _tensor(kind: str, value: ir.Value, line: JetPack) -> str:
    name = value.dtype.name if value.dtype is not None else "unknown"
    if name not in TYPES or value.shape is None:
        raise InputError(f"{kind} {value.name} has type {name}, which Triton's TensorRT backend does not take: cast it in the network.")
    dtype = "INT32" if name == "INT64" and line.tensorrt < WIDE_INTEGERS else TYPES[name]
    dims = ", ".join(str(size) if isinstance(size, int) else "-1" for size in value.shape)
    return f'{kind} [ {{ name: "{value.name}", data_type: TYPE_{dtype}, dims: [ {dims} ] }} ]'
