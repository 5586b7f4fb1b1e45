"""What users would run today, each at its documented best for transformers, on the same weights and the same exported float graph.

torch, torch.compile (where a C++ compiler is); ONNX Runtime in float, after its transformers optimiser, static int8 (QDQ at the linear layers, per
channel, weights of 7 bits without VNNI), dynamic int8 (the same weights); OpenVINO in float32, with its defaults (bfloat16 where the CPU has it),
with NNCF's int8 for transformers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import torch
from onnxruntime import quantization
from raw import Arrays, Run, open_onnx, open_openvino

from edgeattn.export.data import specs_of
from edgeattn.export.graph import to_graph
from edgeattn.export.trace import trace
from edgeattn.models.reference import Reference, Samples
from edgeattn.runtime.machine import isa_flags
from edgeattn.targets.attention_as_matmul import AttentionAsMatMul
from edgeattn.targets.cpu.passes.signs import saturates
from edgeattn.targets.graphs import tidy, without_metadata
from edgeattn.targets.opset import LowerOpset


class Rows(quantization.CalibrationDataReader):
    """Samples one by one, as ONNX Runtime's quantiser asks for them."""

    def __init__(self, rows: list[dict[str, np.ndarray]]) -> None:
        self._rows = iter(rows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


class Peers:
    """The files of every peer, made once; `runs` opens them with so many threads."""

    def __init__(self, module: torch.nn.Module, data: Arrays, folder: Path) -> None:
        self.module, self.rows = module, [{name: array[i : i + 1] for name, array in data.items()} for i in range(16)]
        self.onnx = _float_files(float_graph(module, data), folder)
        self.onnx |= quantised_files(self.onnx["float"], self.rows, folder)
        self.openvino = _openvino_models(self.onnx["float"], self.rows)

    def runs(self, threads: int) -> dict[str, Run]:
        """One call by peer. torch.compile only on one thread: it compiles anew for each number."""
        found = {"torch": _torch(self.module)}
        if threads == 1 and shutil.which("c++"):
            torch.compiler.reset()
            found["torch.compile"] = _torch(torch.compile(self.module, dynamic=False))
        found |= {f"ONNX Runtime {label}": open_onnx(str(path), threads) for label, path in self.onnx.items()}
        return found | {f"OpenVINO {label}": open_openvino(model, threads, options) for label, (model, options) in self.openvino.items()}


def float_graph(module: torch.nn.Module, data: Arrays) -> onnx.ModelProto:
    """Our export in opset 20, attention as MatMul, Softmax, MatMul: what torch's own exporter gives where it does not fail."""
    reference = Reference(name="peer", build=lambda: module, inputs=specs_of(Samples(dict(data))), outputs=(), task="embedding", source="")
    graph = to_graph(trace(reference, {name: array[:2] for name, array in data.items()}))
    onnx_ir.passes.Sequential(AttentionAsMatMul(), *tidy(), LowerOpset(20))(graph)
    model = onnx_ir.serde.serialize_model(without_metadata(graph))
    del model.graph.value_info[:]
    return model


def _torch(module: Callable[..., object]) -> Run:
    def run(x: Arrays) -> object:
        with torch.no_grad():
            return module(**{name: torch.from_numpy(array) for name, array in x.items()})

    return run


def _float_files(model: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    from onnxruntime.transformers import optimizer

    files = {label: folder / f"{label}.onnx" for label in ("float", "optimiser")}
    onnx.save(model, str(files["float"]))
    optimizer.optimize_model(str(files["float"]), "bert", opt_level=1).save_model_to_file(str(files["optimiser"]))
    return files


def quantised_files(source: Path, rows: list[dict[str, np.ndarray]], folder: Path, reduce_range: bool = saturates(isa_flags())) -> dict[str, Path]:
    """reduce_range: weights of 7 bits, which ONNX Runtime's documentation asks for on CPUs without VNNI; not its default."""

    files = {label: folder / f"{label.replace(' ', '-')}.onnx" for label in ("static int8", "dynamic int8")}
    graph = onnx.load(source).graph
    weights = {tensor.name for tensor in graph.initializer}
    products = [node.name for node in graph.node if node.op_type == "MatMul" and not weights & set(node.input)]
    common = {"per_channel": True, "op_types_to_quantize": ["MatMul", "Gemm"], "reduce_range": reduce_range}
    quantization.quantize_static(
        source, str(files["static int8"]), Rows(rows), nodes_to_exclude=products, activation_type=quantization.QuantType.QUInt8, **common
    )
    quantization.quantize_dynamic(source, str(files["dynamic int8"]), **common)
    return files


def _openvino_models(path: Path, rows: list[dict[str, np.ndarray]]) -> dict[str, tuple[object, dict[str, object]]]:
    """By label the model, for one sample, and its options; without NNCF's where that is not installed."""
    import openvino

    core = openvino.Core()

    def for_one() -> openvino.Model:
        model = core.read_model(path)
        model.reshape({name: array.shape for name, array in rows[0].items()})
        return model

    found: dict[str, tuple[object, dict[str, object]]] = {
        "float32": (for_one(), {"INFERENCE_PRECISION_HINT": "f32"}),
        "default": (for_one(), {}),
    }
    try:
        import nncf
    except ImportError:
        return found
    quantised = nncf.quantize(for_one(), nncf.Dataset(rows), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
    return {**found, "NNCF int8": (quantised, {})}
