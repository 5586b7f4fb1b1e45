"""OpenVINO's CPU plug-in over an ONNX graph: what is not quantised runs in float32, or in bfloat16 where the plug-in sees fit."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import EdgeattnError, MissingError, first_line


class OpenVinoModel:
    """A compiled graph; `run` may be called from several threads, each of which gets a request of its own."""

    def __init__(self, data: bytes, threads: int = 1, floats: str = "fp32") -> None:
        """floats: fp32 or bf16. Raises MissingError where OpenVINO is not installed, EdgeattnError where it does not take the graph."""
        try:
            import openvino
        except ImportError:
            raise MissingError("OpenVINO is not installed: pip install 'edgeattn[openvino]'.") from None
        core = openvino.Core()
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[floats],
        }
        try:
            self.compiled: Any = core.compile_model(core.read_model(data), "CPU", options)
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds
            raise EdgeattnError(f"OpenVINO {openvino.__version__} does not take this graph: {first_line(error)}") from None
        self.version = f"openvino {openvino.__version__.split('-')[0]}"
        self._requests = threading.local()

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs in the graph's order; inputs are read where they lie."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self.compiled.create_infer_request()
        try:
            results = self._requests.own.infer(dict(inputs), share_inputs=True, share_outputs=True)
        except Exception as error:  # as above
            raise EdgeattnError(f"OpenVINO stopped while running: {first_line(error)}") from None
        return [value.copy() for value in results.values()]  # the next call writes where these lie
