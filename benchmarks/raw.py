"""The engines as a program without edgeattn opens them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime as ort

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], object]


def open_onnx(model: str | bytes, threads: int, without: Sequence[str] = ()) -> Run:
    """without: names of optimisers that ONNX Runtime leaves out."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=without)
    return lambda x: session.run(None, x)


def open_openvino(model: object, threads: int, options: Mapping[str, object]) -> Run:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", **options}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda x: request.infer(x, share_inputs=True, share_outputs=True)
