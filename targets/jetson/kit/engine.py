"""TensorRT through the board's own bindings: 8.2 (bindings by number) and 8.5 to 10 (tensors by name)."""

import re
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .cuda import Cuda
from .errors import KitError

Say = Callable[[str], None]


def import_tensorrt() -> Any:
    """The bindings; raises KitError that says in one sentence what is missing."""
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        reason = str(error)
        if "libnvinfer" in reason or "cannot open shared object" in reason:
            raise KitError("TensorRT's library is missing ({}): sudo apt install libnvinfer-bin (or nvidia-jetpack).".format(reason))
        raise KitError("TensorRT's Python bindings are missing ({}): sudo apt install python3-libnvinfer (or nvidia-jetpack).".format(reason))
    return tensorrt


def version(trt: Any) -> Tuple[int, ...]:
    """(8, 5, 2) for 8.5.2.2."""
    return tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:3])


def logger_of(trt: Any, lines: List[str]) -> Any:
    """A logger that keeps warnings and errors instead of printing them."""

    class Keep(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                lines.append(message)

    return Keep()


def build(trt: Any, onnx: bytes, plan: Dict[str, Any], workspace: int, cache: bytes = b"", outputs: Sequence[str] = ()) -> Tuple[bytes, bytes]:
    """(engine, timing cache) as device/build.json says. workspace: bytes it may use; outputs: inner tensors to show as well.

    Raises KitError with TensorRT's own message where it refuses the graph.
    """
    said = []  # type: List[str]
    logger = logger_of(trt, said)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt, plan))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise KitError("TensorRT {} cannot read the graph: {}".format(trt.__version__, "; ".join(reasons) or _last(said)))
    if outputs:
        _mark(network, outputs)
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    else:
        config.max_workspace_size = workspace
    for flag in plan["flags"]:
        config.set_flag(getattr(trt.BuilderFlag, flag.upper()))
    if plan["float32_layers"]:
        _hold_in_float32(trt, network, config, plan["float32_layers"])
    if plan["profiles"]:
        profile = builder.create_optimization_profile()
        for name, shapes in plan["profiles"].items():
            profile.set_shape(name, tuple(shapes["least"]), tuple(shapes["usual"]), tuple(shapes["largest"]))
        config.add_optimization_profile(profile)
    timing = None
    if hasattr(config, "create_timing_cache"):
        timing = config.create_timing_cache(cache)
        config.set_timing_cache(timing, True)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise KitError("TensorRT {} cannot build the engine: {}".format(trt.__version__, _last(said)))
    return bytes(engine), bytes(timing.serialize()) if timing is not None else b""


def _network_flags(trt: Any, plan: Dict[str, Any]) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    found = 0
    if not hasattr(flags, "STRONGLY_TYPED"):  # what came with TensorRT 9, when every network had become one of explicit batch
        found |= 1 << int(flags.EXPLICIT_BATCH)
    if plan["strongly_typed"]:
        if not hasattr(flags, "STRONGLY_TYPED"):
            raise KitError("this bundle needs TensorRT 10, this board has {}: compile it with --jetpack for this board.".format(trt.__version__))
        found |= 1 << int(flags.STRONGLY_TYPED)
    return found


def _hold_in_float32(trt: Any, network: Any, config: Any, layers: Sequence[str]) -> None:
    """The parser names a layer after its node, with _1, _2 ... for the second and later ones that a node needs."""
    held = set(layers)
    config.set_flag(getattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS", None) or trt.BuilderFlag.STRICT_TYPES)
    floats = (trt.float32, trt.float16)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name not in held and re.sub(r"_\d+$", "", layer.name) not in held:
            continue
        outputs = [layer.get_output(number) for number in range(layer.num_outputs)]
        if not outputs or any(output.dtype not in floats for output in outputs):
            continue
        layer.precision = trt.float32
        for number in range(layer.num_outputs):
            layer.set_output_type(number, trt.float32)


def _mark(network: Any, names: Sequence[str]) -> None:
    wanted = set(names)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for number in range(layer.num_outputs):
            tensor = layer.get_output(number)
            if tensor is not None and tensor.name in wanted and not tensor.is_network_output:
                network.mark_output(tensor)
                wanted.discard(tensor.name)


def _last(said: Sequence[str]) -> str:
    return said[-1] if said else "it gave no reason"


class Engine:
    """A loaded engine; `run` takes arrays by input name and gives arrays by output name. Buffers grow and are kept."""

    def __init__(self, trt: Any, plan: bytes, cuda: Cuda) -> None:
        self.trt, self.cuda = trt, cuda
        self._said = []  # type: List[str]
        self._runtime = trt.Runtime(logger_of(trt, self._said))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise KitError("TensorRT {} does not take this engine ({}): build it again on this board.".format(trt.__version__, _last(self._said)))
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise KitError("no memory for the engine ({}): close other programs, or build for smaller shapes.".format(_last(self._said)))
        self._by_name = hasattr(self._engine, "num_io_tensors")
        self._tensors = self._list()
        self._buffers = {}  # type: Dict[str, Tuple[int, int]]

    @property
    def inputs(self) -> List[str]:
        return [name for name, is_input, _ in self._tensors if is_input]

    @property
    def outputs(self) -> List[str]:
        return [name for name, is_input, _ in self._tensors if not is_input]

    def run(self, arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """One inference, copies to and from the device included; raises KitError for shapes outside the engine's profile."""
        fed = {name: _as_type(name, arrays[name], dtype) for name, is_input, dtype in self._tensors if is_input}  # alive until the copy is done
        for name, array in fed.items():
            self._feed(name, array)
        results = {}
        for name, is_input, dtype in self._tensors:
            if not is_input:
                shape = tuple(self._shape(name))
                if any(size < 0 for size in shape):
                    raise KitError("output {} has no known shape {}: its size depends on values, which the kit does not run.".format(name, shape))
                results[name] = np.empty(shape, dtype)
                self._buffer(name, results[name].nbytes)
        self._execute()
        for name, array in results.items():
            self.cuda.to_host(array, self._buffers[name][0])
        self.cuda.wait()
        return results

    def _list(self) -> List[Tuple[str, bool, Any]]:
        engine, trt = self._engine, self.trt
        if self._by_name:
            names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
            return [(n, engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT, np.dtype(trt.nptype(engine.get_tensor_dtype(n)))) for n in names]
        count = engine.num_bindings
        return [(engine.get_binding_name(i), engine.binding_is_input(i), np.dtype(trt.nptype(engine.get_binding_dtype(i)))) for i in range(count)]

    def _feed(self, name: str, array: np.ndarray) -> None:
        context = self._context
        taken = context.set_input_shape(name, array.shape) if self._by_name else context.set_binding_shape(self._index(name), array.shape)
        if taken is False:
            raise KitError(
                "input {} of shape {} is outside the shapes that the engine was built for: compile with --profile.".format(name, array.shape)
            )
        self.cuda.to_device(self._buffer(name, array.nbytes), array)

    def _shape(self, name: str) -> Sequence[int]:
        context = self._context
        return context.get_tensor_shape(name) if self._by_name else context.get_binding_shape(self._index(name))  # type: ignore[no-any-return]

    def _execute(self) -> None:
        if self._by_name:
            for name, (address, _) in self._buffers.items():
                self._context.set_tensor_address(name, address)
            done = self._context.execute_async_v3(self.cuda.stream)
        else:
            addresses = [self._buffers[name][0] for name, _, _ in self._tensors]
            done = self._context.execute_async_v2(addresses, self.cuda.stream)
        if not done:
            raise KitError("the engine stopped while running: {}".format(_last(self._said)))

    def _index(self, name: str) -> int:
        return [known for known, _, _ in self._tensors].index(name)

    def _buffer(self, name: str, size: int) -> int:
        address, held = self._buffers.get(name, (0, -1))
        if held < size:
            if held >= 0:
                self.cuda.free(address)
            address = self.cuda.allocate(size)
            self._buffers[name] = (address, size)
        return address


def _as_type(name: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    """The array in the engine's type: TensorRT 8 keeps 64-bit integers in 32 bits."""
    if array.dtype == dtype:
        return np.ascontiguousarray(array)
    if array.dtype == np.int64 and dtype == np.int32:
        limits = np.iinfo(np.int32)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise KitError("input {} holds integers beyond 32 bits, which this TensorRT does not take.".format(name))
        return np.ascontiguousarray(array.astype(np.int32))
    raise KitError("input {} is {}, the engine takes {}.".format(name, array.dtype, dtype))


def first_difference(engine: Engine, inputs: Dict[str, np.ndarray], expected: Dict[str, np.ndarray], allowed: float) -> Optional[Tuple[str, float]]:
    """(name, relative error) of the first inner tensor that is farther than `allowed` from the compiling machine's; None where none is."""
    actual = engine.run(inputs)
    for name, reference in expected.items():
        if name not in actual or actual[name].shape != reference.shape:
            continue
        scale = float(np.sqrt(np.mean(np.square(reference.astype(np.float64))))) or 1.0
        error = float(np.sqrt(np.mean(np.square(actual[name].astype(np.float64) - reference)))) / scale
        if not error <= allowed:
            return name, error
    return None
