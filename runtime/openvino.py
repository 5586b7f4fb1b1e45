"""OpenVINO's CPU plug-in over an ONNX graph: what is not quantised runs in float32, or in bfloat16 where the plug-in sees fit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from ..errors import EngineError, MissingError, first_line
from .memory import trim

Call = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]
SMALL = 64 * 1024  # bytes of an input
SAID = 500  # characters of an error: OpenVINO describes nodes before it says what is wrong with them


@cache
def _core() -> Any:
    """The process's only one.

    Several would not do: on a CPU with AMX each gives signals a stack of its own, and the last to go may leave one that an earlier has taken with
    it; the next Ctrl-C is then a segmentation fault (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


class OpenVinoModel:
    """A compiled graph; `run` may be called from several threads, each of which gets a request of its own.

    Where the batch alone is free, the graph is compiled for one sample: with every shape known the plug-in fuses more and infers no shapes during
    a call. The first call with another batch compiles the graph once more, for any.
    """

    def __init__(self, read: Callable[[], bytes], threads: int = 1, floats: str = "fp32") -> None:
        """read: gives the .onnx file, again where another batch comes; floats: fp32 or bf16.

        Raises MissingError where OpenVINO is not installed, EngineError where it does not take the graph.
        """
        try:
            import openvino
        except ImportError:
            raise MissingError("OpenVINO is not installed: pip install 'edgeattn[openvino]'.") from None
        self._read = read
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
        """Outputs in the graph's order; they are the caller's own."""
        many = self.one_sample and any(len(array) != 1 for array in inputs.values())
        call = getattr(self._requests, "many" if many else "one", None) or self._request(many)
        try:
            return call(inputs)
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds
            raise EngineError(f"OpenVINO stopped while running: {_said(error)}") from None

    def _request(self, many: bool) -> Call:
        """This thread's request of the graph for one sample (or the only one), or of that for many."""
        compiled = self._for_many() if many else self.compiled
        known = all(port.partial_shape.is_static for port in (*compiled.inputs, *compiled.outputs))
        call: Call = KnownShapes(compiled).run if known else partial(_run_any, compiled.create_infer_request())
        setattr(self._requests, "many" if many else "one", call)
        return call

    def _for_many(self) -> Any:
        with self._lock:
            if self._many is None:
                _, self._many = self._compile(for_one=False)
            return self._many

    def _compile(self, for_one: bool) -> tuple[bool, Any]:
        """(whether it is for one sample only, the compiled graph)."""
        data = self._read()
        try:
            model = _core().read_model(data)
            del data
            trim()  # reading takes five times the file: a network of 23 MB held 157 MB once it was compiled, and 72 this way
            fixed = for_one and _take_one(model)
            return fixed, _core().compile_model(model, "CPU", self._options)
        except Exception as error:  # as above
            raise EngineError(f"{self.version} does not take this graph: {_said(error)}") from None


class KnownShapes:
    """A request whose inputs and outputs stay where they are.

    OpenVINO's own way to hand arrays over takes some 15 us more a call than writing small ones into the request's memory; large ones are read where
    they lie.
    """

    def __init__(self, compiled: Any) -> None:
        from openvino import Tensor

        self._request, self._tensor = compiled.create_infer_request(), Tensor
        places = {port.any_name: self._request.get_input_tensor(index).data for index, port in enumerate(compiled.inputs)}
        self._copied = [(name, place) for name, place in places.items() if place.nbytes <= SMALL]
        self._shared = [(name, index) for index, (name, place) in enumerate(places.items()) if place.nbytes > SMALL]
        self._outputs = [self._request.get_output_tensor(index).data for index in range(len(compiled.outputs))]

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        for name, place in self._copied:
            np.copyto(place, inputs[name])
        for name, index in self._shared:
            self._request.set_input_tensor(index, self._tensor(inputs[name], shared_memory=True))
        self._request.infer(share_outputs=True)
        return [output.copy() for output in self._outputs]


def _run_any(request: Any, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [value.copy() for value in request.infer(dict(inputs), share_inputs=True, share_outputs=True).values()]


def _said(error: Exception) -> str:
    """Its first line that is not a place in OpenVINO's own source, of which it lists several before it says what it is about."""
    lines = (line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from "))
    return next(lines, first_line(error))[:SAID]


def _take_one(model: Any) -> bool:
    """Sets every input's leading axis to 1 where these are the free ones; whether they were."""
    shapes = {port: list(port.partial_shape) for port in model.inputs}
    if not all(shape and shape[0].is_dynamic and all(size.is_static for size in shape[1:]) for shape in shapes.values()):
        return False
    model.reshape({port: [1, *shape[1:]] for port, shape in shapes.items()})
    return True
