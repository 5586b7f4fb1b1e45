"""The calls that the kit makes of TensorRT's bindings and of libcudart, recorded as a contract, with ONNX Runtime behind them.

It answers as the bindings do in form: names, order of calls, types. What it cannot show is left to the device: whether TensorRT takes the graph,
which layers it fuses, its rounding, its speed. `Bindings(8)` has bindings by number and weak typing, `Bindings(10)` tensors by name.
"""

from __future__ import annotations

import ctypes
import types

import numpy as np
import onnx
import onnxruntime as ort

KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}
MAGIC = b"simulated plan for "


class Cudart:
    """libcudart over the host's memory. calls: names in order; fail: a call that returns an error."""

    def __init__(self, fail=None, capability=(8, 7)):
        self.calls, self.held, self.fail, self.capability = [], {}, fail, capability
        self.cudaGetErrorString = types.SimpleNamespace(restype=None)
        self.cudaGetErrorString = lambda status: b"out of memory"

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append(name)
            if name == self.fail:
                return 2
            Cudart.__dict__.get(f"_{name}", lambda *_: None)(self, *arguments)
            return 0

        return call

    def _cudaDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = self.capability[attribute - 75]

    def _cudaMalloc(self, pointer, size):  # noqa: N802
        buffer = ctypes.create_string_buffer(size.value)
        self.held[ctypes.addressof(buffer)] = buffer
        pointer._obj.value = ctypes.addressof(buffer)

    def _cudaFree(self, pointer):  # noqa: N802
        del self.held[pointer.value]

    def _cudaMemcpyAsync(self, target, source, size, kind, stream):  # noqa: N802
        ctypes.memmove(target.value, source.value, size.value)


class Enumeration:
    def __init__(self, *names):
        for number, name in enumerate(names):
            setattr(self, name, number)


class Bindings(types.ModuleType):
    """The `tensorrt` module. spoil: a function on an inner tensor's array, to make one layer wrong; log: calls with their arguments."""

    def __init__(self, generation, spoil=None, refuse=None):
        super().__init__("tensorrt")
        self.__version__ = {8: "8.2.1.8", 10: "10.3.0"}[generation]
        self.generation, self.spoil, self.refuse, self.log = generation, spoil or {}, refuse, []
        names = ("EXPLICIT_BATCH", "STRONGLY_TYPED") if generation == 10 else ("EXPLICIT_BATCH",)
        self.NetworkDefinitionCreationFlag = Enumeration(*names)
        self.BuilderFlag = Enumeration("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS")
        self.MemoryPoolType = Enumeration("WORKSPACE")
        self.TensorIOMode = Enumeration("INPUT", "OUTPUT")
        self.float32, self.float16 = "float32", "float16"

        class ILogger:
            INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

        self.ILogger = ILogger
        self.Builder = lambda logger: Builder(self, logger)
        self.OnnxParser = lambda network, logger: Parser(self, network)
        self.Runtime = lambda logger: types.SimpleNamespace(deserialize_cuda_engine=lambda plan: load(self, logger, plan))
        self.nptype = lambda kind: kind


class Builder:
    def __init__(self, trt, logger):
        self.trt, self.logger = trt, logger

    def create_network(self, flags):
        self.trt.log.append(("create_network", flags))
        return Network(self.trt)

    def create_builder_config(self):
        config = types.SimpleNamespace(flags=[], profiles=[])
        config.set_flag = lambda flag: self.trt.log.append(("set_flag", flag))
        config.add_optimization_profile = lambda profile: self.trt.log.append(("profile", dict(profile.shapes)))
        if self.trt.generation == 10:
            config.set_memory_pool_limit = lambda pool, size: self.trt.log.append(("workspace", size))
            config.create_timing_cache = lambda data: types.SimpleNamespace(serialize=lambda: data + b"t")
            config.set_timing_cache = lambda cache, ignore: True
        return config

    def create_optimization_profile(self):
        profile = types.SimpleNamespace(shapes={})
        profile.set_shape = lambda name, *shapes: profile.shapes.update({name: shapes})
        return profile

    def build_serialized_network(self, network, config):
        if self.trt.refuse:
            self.logger.log(self.trt.ILogger.ERROR, self.trt.refuse)
            return None
        return memoryview(MAGIC + self.trt.__version__.encode() + b"\0" + network.model.SerializeToString())


class Network:
    def __init__(self, trt):
        self.trt, self.model = trt, None

    @property
    def num_layers(self):
        return len(self.model.graph.node)

    def get_layer(self, index):
        return self.layers[index]

    def read(self, model):
        self.model = onnx.shape_inference.infer_shapes(model)
        kinds = {value.name: value.type.tensor_type.elem_type for value in self.model.graph.value_info}
        self.layers = [Layer(self.trt, node, kinds) for node in self.model.graph.node]

    def mark_output(self, tensor):
        self.trt.log.append(("mark_output", tensor.name))
        self.model.graph.output.append(onnx.ValueInfoProto(name=tensor.name))


class Layer:
    def __init__(self, trt, node, kinds):
        names = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
        self.trt, self.name, self.num_outputs, self.precision = trt, node.name, len(node.output), None
        self.outputs = [types.SimpleNamespace(name=name, dtype=names.get(kinds.get(name), "other"), is_network_output=False) for name in node.output]

    def get_output(self, index):
        return self.outputs[index]

    def set_output_type(self, index, kind):
        self.trt.log.append(("float32", self.name))


class Parser:
    def __init__(self, trt, network):
        self.trt, self.network, self.num_errors = trt, network, 0

    def parse(self, data):
        model = onnx.load_from_string(data)
        if any(node.domain for node in model.graph.node):
            self.num_errors = 1
            return False
        self.network.read(model)
        return True

    def get_error(self, index):
        return types.SimpleNamespace(desc=lambda: "No importer registered for op")


def load(trt, logger, plan):
    built, _, data = plan[len(MAGIC) :].partition(b"\0")
    if not plan.startswith(MAGIC) or built.decode() != trt.__version__:
        logger.log(trt.ILogger.ERROR, "The engine plan file is not compatible with this version of TensorRT")
        return None
    return (EngineByName if trt.generation == 10 else EngineByNumber)(trt, data)


class SimulatedEngine:
    def __init__(self, trt, data):
        self.trt, self.session = trt, ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        self.tensors = [(value, True) for value in self.session.get_inputs()] + [(value, False) for value in self.session.get_outputs()]

    def kind(self, value):
        found = KINDS[value.type]
        return np.int32 if found is np.int64 and self.trt.generation == 8 else found

    def create_execution_context(self):
        return Context(self)


class EngineByName(SimulatedEngine):
    @property
    def num_io_tensors(self):
        return len(self.tensors)

    def get_tensor_name(self, index):
        return self.tensors[index][0].name

    def get_tensor_mode(self, name):
        return 0 if self._of(name)[1] else 1

    def get_tensor_dtype(self, name):
        return self.kind(self._of(name)[0])

    def _of(self, name):
        return next(entry for entry in self.tensors if entry[0].name == name)


class EngineByNumber(SimulatedEngine):
    @property
    def num_bindings(self):
        return len(self.tensors)

    def get_binding_name(self, index):
        return self.tensors[index][0].name

    def binding_is_input(self, index):
        return self.tensors[index][1]

    def get_binding_dtype(self, index):
        return self.kind(self.tensors[index][0])


class Context:
    """Input shapes first, then output shapes, then addresses, then the run: any other order fails as the bindings do."""

    def __init__(self, engine):
        self.engine, self.shapes, self.addresses, self.out = engine, {}, {}, None

    def set_input_shape(self, name, shape):
        largest = self.engine.trt.__dict__.get("largest_batch", 1 << 30)
        if shape[0] > largest:
            return False
        self.shapes[name], self.out = tuple(shape), None
        return True

    def set_binding_shape(self, index, shape):
        return self.set_input_shape(self.engine.tensors[index][0].name, shape)

    def get_tensor_shape(self, name):
        if self.out is None:  # shapes follow from the inputs' shapes: zeros do
            feeds = {v.name: np.zeros(self.shapes[v.name], KINDS[v.type]) for v, is_input in self.engine.tensors if is_input}
            names = [v.name for v, is_input in self.engine.tensors if not is_input]
            self.out = {n: array.shape for n, array in zip(names, self.engine.session.run(names, feeds), strict=True)}
        return self.out[name]

    def get_binding_shape(self, index):
        return self.get_tensor_shape(self.engine.tensors[index][0].name)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        feeds = {}
        for value, is_input in self.engine.tensors:
            if is_input:
                held = self._view(value, self.shapes[value.name])
                feeds[value.name] = held.astype(KINDS[value.type])
        names = [value.name for value, is_input in self.engine.tensors if not is_input]
        results = dict(zip(names, self.engine.session.run(names, feeds), strict=True))
        for value, is_input in self.engine.tensors:
            if not is_input:
                array = self.engine.trt.spoil.get(value.name, lambda a: a)(results[value.name])
                self._view(value, array.shape)[...] = array
        return True

    def execute_async_v2(self, addresses, stream):
        self.addresses = {value.name: address for (value, _), address in zip(self.engine.tensors, addresses, strict=True)}
        return self.execute_async_v3(stream)

    def _view(self, value, shape):
        kind = np.dtype(self.engine.kind(value))
        size = int(np.prod(shape)) * kind.itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(self.addresses[value.name]), kind).reshape(shape)
