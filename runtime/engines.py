"""What runs an artifact on this machine. A manifest names its engine; more come through the entry-point group `edgeattn.engines`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

import numpy as np

from ..errors import BundleError, EdgeattnError, MissingError, first_line
from . import cache
from .bundle import Bundle
from .memory import trim

# ONNX Runtime's option to keep Q/DQ pairs: a graph made for another engine is computed as it is written, the same on every CPU.
AS_WRITTEN = "session.disable_quant_qdq"
# Optimisers of ONNX Runtime that are left out, as what they make is slower (onnxruntime 1.31, one thread of an AMD EPYC): a sum and a norm in one
# kernel (5 % of an encoder of 96 tokens of 128), a Split and its Squeezes for selections of a cache's layers, and a scale within a product of one
# row (7 % each of a decoder's step). The second and third changed nothing on six other networks of benchmarks/cpu.py.
SLOWER_FUSED = ["SkipLayerNormFusion", "GatherSliceToSplitFusion", "MatMulScaleFusion"]


class Engine(Protocol):
    """Runs one artifact. `version` is what verify and bench report."""

    version: str

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs in the manifest's order, for inputs that the session has checked."""


class OnnxRuntimeEngine:
    """ONNX Runtime's CPU provider over the bundle's .onnx file."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        import onnxruntime as ort

        name = bundle.manifest.artifact
        as_written = bundle.manifest.target != "cpu"
        try:
            self._session = _open_onnx(bundle.read(name), bundle.manifest.files[name].sha256, threads, as_written)
        except Exception as error:  # onnxruntime raises its own kinds, none documented
            raise BundleError(f"{bundle.path / name} cannot be loaded by onnxruntime {ort.__version__}: {first_line(error)}") from None
        trim()  # of the 92 MB that opening a network of 23 MB left, the file's bytes and what reading them took were 69
        self.version = f"onnxruntime {ort.__version__}"
        self._names = [spec.name for spec in bundle.manifest.outputs]
        # What Python's `run` looks at before it calls this, the session has checked already: 3 to 5 us a call, 17 to 27 in a loop that sleeps.
        self._run = getattr(self._session, "_sess", self._session).run

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return self._run(self._names, inputs, None)  # type: ignore[no-any-return]
        except Exception as error:  # as above
            raise EdgeattnError(f"onnxruntime stopped while running: {first_line(error)}") from None


def _open_onnx(data: bytes, digest: str, threads: int, as_written: bool) -> Any:
    """A session over `data`, whose sha256 is `digest`: over the graph that the engine made of it last time, where that was kept.

    Optimising takes more than half of a session's start. The optimised graph holds kernels of this CPU, so it is never part of a bundle.
    """
    import onnxruntime as ort

    key = cache.key_of([digest, ort.__version__, str(as_written), *SLOWER_FUSED])
    optimised = cache.fetch("onnx", key)
    if optimised is not None:
        options = _options(threads, as_written)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        with suppress(Exception):  # an entry that does not load is made anew
            return onnx_session(optimised, options)
    with cache.making("onnx", key) as path:
        options = _options(threads, as_written)
        if path is not None:
            options.optimized_model_filepath = str(path)
            with suppress(Exception):  # such as a full disk: whether it was the graph is seen below
                return onnx_session(data, options)
    return onnx_session(data, _options(threads, as_written))


def onnx_session(model: bytes | str, options: Any) -> Any:
    """ONNX Runtime over a graph's bytes or file, as every part of edgeattn opens it: on the CPU, without the optimisers that slow it down."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER_FUSED)
    session._model_bytes = None  # it keeps them for a change of providers, which nobody here makes
    return session


def _options(threads: int, as_written: bool) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if as_written:
        options.add_session_config_entry(AS_WRITTEN, "1")
    # Spinning threads would hold a robot's other cores busy between calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    return options


class OpenVinoEngine:
    """OpenVINO's CPU plug-in over the bundle's .onnx file."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        from .openvino import OpenVinoModel

        try:
            self._model = OpenVinoModel(partial(bundle.read, bundle.manifest.artifact), threads, bundle.manifest.floats)
        except MissingError as error:
            raise MissingError(f"bundle {bundle.path} runs on OpenVINO: {error}") from None
        self.version = self._model.version
        self.run = self._model.run


def _spiking(bundle: Bundle, threads: int) -> Engine:
    from .spiking import SpikingEngine

    return SpikingEngine(bundle, threads)


BUILT_IN: dict[str, Callable[[Bundle, int], Engine]] = {"onnxruntime": OnnxRuntimeEngine, "openvino": OpenVinoEngine, "spinnaker-emulator": _spiking}


def open_engine(bundle: Bundle, threads: int) -> Engine:
    """The engine that the manifest names; MissingError where it is not installed."""
    name = bundle.manifest.engine
    if name in BUILT_IN:
        return BUILT_IN[name](bundle, threads)
    from importlib.metadata import entry_points

    for point in entry_points(group="edgeattn.engines"):
        if point.name == name:
            engine: Engine = point.load()(bundle, threads)
            return engine
    raise MissingError(f"bundle {bundle.path} needs engine {name!r}, which is not installed here: install the package that brings it.")
