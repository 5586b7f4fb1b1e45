"""Running a graph on this machine while compiling."""

from __future__ import annotations

import onnx_ir as ir
import onnxruntime as ort

from ..errors import InputError


def serialise(model: ir.Model) -> bytes:
    """The graph as the bytes of an .onnx file."""
    return bytes(ir.serde.serialize_model(model).SerializeToString(deterministic=True))


def host_session(model: ir.Model | bytes, optimise: bool = True, threads: int = 1) -> ort.InferenceSession:
    """ONNX Runtime over a graph, on this machine's CPU; one thread, so that the outputs repeat bit for bit.

    Raises InputError, with the node that the engine names, for a graph that it has no kernel for.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = model if isinstance(model, bytes) else serialise(model)
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds; the message names the node
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"onnxruntime {ort.__version__} cannot run this graph here: {reason}") from None
