"""edgeattn's choice against its peers, interleaved in one process, one thread: python benchmarks/cpu.py [NAME...]

Peers at their documented best for transformers: ONNX Runtime float, static (linear layers, QDQ, per channel), dynamic;
OpenVINO with its defaults and with NNCF's int8 for transformers; torch. Ratios are to ONNX Runtime float; below 1 is faster.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime as ort
import torch
from networks import SHAPES
from onnxruntime import quantization

import edgeattn
from edgeattn.export.data import specs_of
from edgeattn.export.graph import to_graph
from edgeattn.export.trace import trace
from edgeattn.models.reference import Reference, Samples
from edgeattn.models.registry import systems
from edgeattn.runtime.machine import cpu_model
from edgeattn.targets.attention_as_matmul import AttentionAsMatMul
from edgeattn.targets.graphs import tidy, without_metadata
from edgeattn.targets.opset import LowerOpset

ROUNDS = 60
Run = Callable[[dict[str, np.ndarray]], object]


def main(names: list[str]) -> None:
    """One table a network, and all figures in cpu.json."""
    results = {"cpu": cpu_model(), "onnxruntime": ort.__version__, "torch": torch.__version__, "python": platform.python_version(), "networks": {}}
    sys.path.insert(0, str(Path(__file__).parent))
    for name in names or [*SHAPES, *(n for n, r in systems().items() if r.targets != ("spinnaker",))]:
        with tempfile.TemporaryDirectory() as folder:
            figures = measure(name, Path(folder))
        results["networks"][name] = figures
        print(f"\n{name} ({figures['choice']})\n| engine | ms | ratio (95 % interval) |\n| --- | --- | --- |")
        for label, figure in sorted(figures["engines"].items(), key=lambda item: item[1]["ms"]):
            low, high = figure["interval"]
            print(f"| {label} | {figure['ms']:.3f} | {figure['ratio']:.2f} ({low:.2f} to {high:.2f}) |", flush=True)
        results["geometric_mean"] = summary(results["networks"])
    Path("cpu.json").write_text(json.dumps(results, indent=2) + "\n")


def measure(name: str, folder: Path) -> dict[str, object]:
    """Builds everything, then runs all in random order, round by round."""
    torch.set_num_threads(1)
    module, data, files = subject(name, folder)
    chosen = edgeattn.compile(**files, precision="auto", output=folder / "auto.edge")
    session = edgeattn.load(folder / "auto.edge")
    query = {key: np.ascontiguousarray(array[:1]) for key, array in data.items()}
    runs: dict[str, Run] = {"edgeattn": lambda x: session.run(**x)}
    tensors = {key: torch.from_numpy(array) for key, array in query.items()}
    runs["torch"] = lambda _: module(**tensors)
    runs |= onnxruntime_peers(module, data, folder)
    runs |= openvino_peers(folder / "float.onnx", data)
    times = {label: np.array(values) for label, values in interleaved(runs, query).items()}
    base = times["ONNX Runtime float"]
    best = next(candidate for candidate in chosen.candidates if candidate.chosen)
    engines = {label: {"ms": float(np.median(values)), **ratio(values, base)} for label, values in times.items()}
    peer = min((label for label in times if label != "edgeattn"), key=lambda label: float(np.median(times[label])))
    against = {"peer": peer, **ratio(times["edgeattn"], times[peer])}
    return {"against": against, "choice": f"{best.precision}, {best.recipe.floats} around, on {best.target.engine}", "engines": engines}


def summary(networks: dict[str, dict]) -> float:
    """One line a network against its best peer, and the geometric mean over all so far."""
    print("\n| network | choice | best peer | edgeattn / best peer (95 % interval) |\n| --- | --- | --- | --- |")
    for name, figures in networks.items():
        found = figures["against"]
        print(f"| {name} | {figures['choice']} | {found['peer']} | {found['ratio']:.2f} ({found['interval'][0]:.2f} to {found['interval'][1]:.2f}) |")
    mean = float(np.exp(np.mean([np.log(figures["against"]["ratio"]) for figures in networks.values()])))
    print(f"geometric mean {mean:.3f}", flush=True)
    return mean


def subject(name: str, folder: Path) -> tuple[torch.nn.Module, dict[str, np.ndarray], dict[str, object]]:
    """(module, calibration data, arguments of edgeattn.compile)."""
    if name in SHAPES:
        import networks

        module = getattr(networks, name)()
        data = {"x": np.random.default_rng(0).normal(size=(64, *SHAPES[name])).astype(np.float32)}
        torch.save(module.state_dict(), folder / "w.pt")
        np.savez(folder / "w.npz", **data)
        return module, data, {"checkpoint": folder / "w.pt", "model": f"networks:{name}", "calib": folder / "w.npz", "task": "embedding"}
    reference = systems()[name]
    samples = reference.calibration()
    return reference.module(), dict(samples.take(slice(0, 64)).inputs), {"checkpoint": reference.weights}


def onnxruntime_peers(module: torch.nn.Module, data: dict[str, np.ndarray], folder: Path) -> dict[str, Run]:
    """float, static QDQ at the linear layers, dynamic: on our exported graph, because torch's own export fails for some networks here."""
    reference = Reference(name="peer", build=lambda: module, inputs=specs_of(Samples(data)), outputs=(), task="embedding", source="")
    model = onnx_ir.serde.serialize_model(peer_graph(to_graph(trace(reference, {key: array[:2] for key, array in data.items()}))))
    del model.graph.value_info[:]
    path = str(folder / "float.onnx")
    onnx.save(model, path)

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter([{key: array[i : i + 1] for key, array in data.items()} for i in range(16)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    weights = {tensor.name for tensor in model.graph.initializer}
    products = [node.name for node in model.graph.node if node.op_type == "MatMul" and not weights & set(node.input)]
    static, dynamic = str(folder / "static.onnx"), str(folder / "dynamic.onnx")
    quantization.quantize_static(
        path,
        static,
        Reader(),
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        nodes_to_exclude=products,
        activation_type=quantization.QuantType.QUInt8,
    )
    quantization.quantize_dynamic(path, dynamic, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
    return {f"ONNX Runtime {label}": engine(file) for label, file in (("float", path), ("static int8", static), ("dynamic int8", dynamic))}


def peer_graph(graph: onnx_ir.Model) -> onnx_ir.Model:
    """In opset 20, as exporters give it: attention as MatMul, Softmax, MatMul."""
    onnx_ir.passes.Sequential(AttentionAsMatMul(), *tidy(), LowerOpset(20))(graph)
    return without_metadata(graph)


def engine(path: str) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda x: session.run(None, dict(zip(names, x.values(), strict=True)))


def openvino_peers(path: Path, data: dict[str, np.ndarray]) -> dict[str, Run]:
    """OpenVINO in float32, with its own defaults, and NNCF's int8, where they are installed."""
    import openvino

    core = openvino.Core()
    found = {}

    def compiled(model: object, **options: object) -> Run:
        request = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", **options}).create_infer_request()
        return lambda x: request.infer(list(x.values()), share_inputs=True, share_outputs=True)

    found["OpenVINO float32"] = compiled(core.read_model(path), INFERENCE_PRECISION_HINT="f32")
    found["OpenVINO default"] = compiled(core.read_model(path))
    try:
        import nncf
    except ImportError:
        return found
    rows = [[array[i : i + 1] for array in data.values()] for i in range(16)]
    quantised = nncf.quantize(core.read_model(path), nncf.Dataset(rows), model_type=nncf.ModelType.TRANSFORMER, subset_size=16)
    return {**found, "OpenVINO NNCF int8": compiled(quantised)}


def interleaved(runs: dict[str, Run], query: dict[str, np.ndarray]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {label: [] for label in runs}
    random = np.random.default_rng(0)
    with torch.no_grad():
        for turn in range(ROUNDS + 5):
            for label in random.permutation(list(runs)):
                start = time.perf_counter_ns()
                runs[label](query)
                if turn >= 5:
                    times[label].append((time.perf_counter_ns() - start) / 1e6)
    return times


def ratio(values: np.ndarray, base: np.ndarray) -> dict[str, object]:
    """Median over the base's median, with a paired bootstrap's 95 % interval."""
    random = np.random.default_rng(0)
    picks = [random.integers(0, len(base), len(base)) for _ in range(1000)]
    low, high = np.percentile([np.median(values[pick]) / np.median(base[pick]) for pick in picks], [2.5, 97.5])
    return {"ratio": float(np.median(values) / np.median(base)), "interval": [float(low), float(high)]}


if __name__ == "__main__":
    main(sys.argv[1:])
