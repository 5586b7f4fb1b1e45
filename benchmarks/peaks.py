"""What the engines reach in one large product on this CPU: the roof that networks are held against."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from raw import open_onnx, open_openvino

from edgeattn.devices import find_device
from edgeattn.runtime.bursts import in_turn
from edgeattn.runtime.machine import isa_flags
from edgeattn.targets.cpu.openvino import OPENVINO
from edgeattn.targets.cpu.passes.signs import saturates

KINDS = {"fp32": "float32", "bf16": "bfloat16"}  # of a recipe's floats; everything narrower multiplies in int8
MICROSOFT = "com.microsoft"
OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]


def peaks(size: int = 1024) -> dict[str, float]:
    """GFLOP/s (GOP/s) on one thread in a product of two size x size matrices, by engine and format, weights constant.

    int8: of activations quantised in the same call, and weights, as in networks: of 7 bits where 8 would saturate.
    """
    import openvino

    random = np.random.default_rng(0)
    weight, x = random.normal(size=(size, size)).astype(np.float32), random.normal(size=(size, size)).astype(np.float32)
    most = 63 if saturates(isa_flags()) else 127
    integers = np.clip(weight / 4 * most, -most, most).round().astype(np.int8)
    constants = {"w": weight, "q": integers, "s": np.float32(0.03), "b": np.float32(4 / most), "u": np.uint8(128), "z": np.int8(0)}
    floats = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    runs = {}
    for kind, nodes in {"float32": floats, "int8": _onnxruntime_int8()}.items():
        runs[f"onnxruntime {kind}"] = partial(open_onnx(_model(nodes, constants, size), 1), {"x": x})
    for kind, nodes in {"float32": floats, "bfloat16": floats, "int8": _pairs()}.items():
        model = openvino.Core().read_model(_model(nodes, constants, size))
        hint = {"INFERENCE_PRECISION_HINT": "bf16" if kind == "bfloat16" else "f32"}
        runs[f"openvino {kind}"] = partial(open_openvino(model, 1, hint), {"x": x})
    times = in_turn(list(runs.values()), fewest=20)
    return {label: 2 * size**3 / 1e6 / float(np.median(values)) for label, values in zip(runs, times, strict=True)}


def peak_of(found: dict[str, Any], measured: dict[str, float]) -> float:
    """The roof of what `auto` took: the engine's product in the narrowest format that the network multiplies in."""
    kind = "int8" if "int8" in found["precision"] else KINDS[found["floats"]]
    return measured[f"{found['engine']} {kind}"]


def _onnxruntime_int8() -> list[NodeProto]:
    quantise = helper.make_node("QuantizeLinear", ["x", "s", "u"], ["xq"])
    return [quantise, helper.make_node("MatMulIntegerToFloat", ["xq", "q", "s", "b", "u", "z"], ["y"], domain=MICROSOFT)]


def _pairs() -> list[NodeProto]:
    zero = "u" if OPENVINO.recipe(find_device("cpu", isa_flags())[0]).activation == "asymmetric" else "z"
    return [
        helper.make_node("QuantizeLinear", ["x", "s", zero], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", zero], ["xd"]),
        helper.make_node("DequantizeLinear", ["q", "b", "z"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]


def _model(nodes: list[NodeProto], constants: dict[str, Any], size: int) -> bytes:
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, size])] for name in "xy"]
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used]
    model = helper.make_model(helper.make_graph(nodes, "peak", *ends, tensors), opset_imports=OPSETS, ir_version=9)
    return bytes(model.SerializeToString())
