"""Running a graph on this machine while compiling."""

from __future__ import annotations

import onnx_ir as ir
import onnxruntime as ort


def serialise(model: ir.Model) -> bytes:
    """The graph as the bytes of an .onnx file."""
    return bytes(ir.serde.serialize_model(model).SerializeToString(deterministic=True))


def host_session(model: ir.Model | bytes, optimise: bool = True, threads: int = 1) -> ort.InferenceSession:
    """ONNX Runtime over a graph, on this machine's CPU; one thread, so that the outputs repeat bit for bit."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model if isinstance(model, bytes) else serialise(model)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
