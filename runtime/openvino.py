"""OpenVINO's CPU plug-in over an ONNX graph: what is not quantised runs in float32, or in bfloat16 where the plug-in sees fit."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import EdgeattnError, MissingError, first_line


class OpenVinoModel:
    """A compiled graph; `run` may be called from several threads, each of which gets a request of its own.

    Where the batch alone is free, the graph is compiled for one sample: with every shape known the plug-in fuses more and infers no shapes during
    a call. The first call with another batch compiles the graph once more, for any.
    """

    def __init__(self, data: bytes, threads: int = 1, floats: str = "fp32") -> None:
        """floats: fp32 or bf16. Raises MissingError where OpenVINO is not installed, EdgeattnError where it does not take the graph."""
        try:
            import openvino
        except ImportError:
            raise MissingError("OpenVINO is not installed: pip install 'edgeattn[openvino]'.") from None
        self._core, self._data = openvino.Core(), data
        self._options = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[floats],
        }
        self.version = f"openvino {openvino.__version__.split('-')[0]}"
        self.one_sample, self.compiled = self._compile(for_one=True)
        self._many: Any = None
        self._lock, self._requests = threading.Lock(), threading.local()

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs in the graph's order; inputs are read where they lie."""
        many = self.one_sample and any(len(array) != 1 for array in inputs.values())
        request = getattr(self._requests, "many" if many else "one", None) or self._request(many)
        try:
            results = request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds
            raise EdgeattnError(f"OpenVINO stopped while running: {first_line(error)}") from None
        return [value.copy() for value in results.values()]  # the next call writes where these lie

    def _request(self, many: bool) -> Any:
        """This thread's request of the graph for one sample (or the only one), or of that for many."""
        compiled = self._for_many() if many else self.compiled
        request = compiled.create_infer_request()
        setattr(self._requests, "many" if many else "one", request)
        return request

    def _for_many(self) -> Any:
        with self._lock:
            if self._many is None:
                _, self._many = self._compile(for_one=False)
            return self._many

    def _compile(self, for_one: bool) -> tuple[bool, Any]:
        """(whether it is for one sample only, the compiled graph)."""
        try:
            model = self._core.read_model(self._data)
            fixed = for_one and _take_one(model)
            return fixed, self._core.compile_model(model, "CPU", self._options)
        except Exception as error:  # as above
            raise EdgeattnError(f"{self.version} does not take this graph: {first_line(error)}") from None


def _take_one(model: Any) -> bool:
    """Sets every input's leading axis to 1 where these are the free ones; whether they were."""
    shapes = {port: list(port.partial_shape) for port in model.inputs}
    if not all(shape and shape[0].is_dynamic and all(size.is_static for size in shape[1:]) for shape in shapes.values()):
        return False
    model.reshape({port: [1, *shape[1:]] for port, shape in shapes.items()})
    return True
