"""Where the engines spend a call: python benchmarks/operators.py [NAME...] [--write]

Each network is compiled with `--precision auto` for ONNX Runtime and for OpenVINO; the artifact runs with the engine's own profiler on one thread,
one sample. An operator counts with its least time of 30 calls, which leaves out what other work on the machine adds; the profilers add about a
microsecond to each. --write puts the table into docs/performance.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime as ort
from cpu import chosen, form, subject
from raw import Arrays
from report import replace_section, taken

import edgeattn
from edgeattn.runtime.engines import onnx_session
from edgeattn.runtime.machine import machine

NETWORKS = ("series_96", "bert_128", "vit_tiny", "windows", "mamba_256", "decoder_step", "ecg_nat", "ister")
CALLS, SHOWN = 30, 6
Least = dict[tuple[str, str], float]  # microseconds by (kind, name) of an operator


def main(arguments: list[str]) -> None:
    """Prints a line a network and engine."""
    sys.path.insert(0, str(Path(__file__).parent))
    text = f"{machine()['cpu']}, one thread, microseconds by operator with the number of nodes.\n\n"
    text += "| network | form | all nodes | the most expensive operators |\n| --- | --- | --- | --- |\n"
    for name in [argument for argument in arguments if not argument.startswith("-")] or NETWORKS:
        for engine in ("onnxruntime", "openvino"):
            with tempfile.TemporaryDirectory() as folder:
                took, least = measure(name, engine, Path(folder))
            kinds = by_kind(least)
            most = sorted(kinds.items(), key=lambda item: -item[1][0])[:SHOWN]
            listed = ", ".join(f"{kind} {time:.0f} ({count})" for kind, (time, count) in most)
            text += f"| {name} | {took} | {sum(least.values()):.0f} ({len(least)}) | {listed} |\n"
            print(text.splitlines()[-1], flush=True)
    if "--write" in arguments:
        replace_section(Path(__file__).parents[1] / "docs" / "performance.md", "benchmarks/operators.py", text)


def measure(name: str, engine: str, folder: Path) -> tuple[str, Least]:
    """(what auto took, the least time of each of its operators)."""
    _, data, arguments = subject(name, folder)
    compilation = edgeattn.compile(**arguments, precision="auto", engine=engine, output=folder / "a.edge")
    best = chosen(compilation)
    artifact = folder / "a.edge" / compilation.manifest.artifact
    query = {key: np.ascontiguousarray(array[:1]) for key, array in data.items()}
    profile = of_openvino(artifact, query, best.recipe.floats) if engine == "openvino" else of_onnxruntime(artifact, query, folder)
    return taken(form(best), "1"), profile


def of_onnxruntime(artifact: Path, query: Arrays, folder: Path) -> Least:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnx_session(str(artifact), options)
    for _ in range(CALLS):
        session.run(None, query)
    least: Least = {}
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], str(event["args"].get("node_index", event["name"]))
            least[key] = min(event["dur"], least.get(key, np.inf))
    return least


def of_openvino(artifact: Path, query: Arrays, floats: str) -> Least:
    """Of the graph for one sample, as a session runs it; what computes in integers is named so."""
    import openvino

    core = openvino.Core()
    model = core.read_model(artifact)
    model.reshape({name: array.shape for name, array in query.items()})
    hint = {"fp32": "f32"}.get(floats, floats)
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint, "PERF_COUNT": True}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    least: Least = {}
    for _ in range(CALLS):
        request.infer(query, share_inputs=True, share_outputs=True)
        for operator in request.profiling_info:
            if operator.status == openvino.ProfilingInfo.Status.EXECUTED:
                kind = f"{operator.node_type} int8" if operator.exec_type.lower().endswith("i8") else operator.node_type
                key = kind, operator.node_name
                least[key] = min(operator.real_time.total_seconds() * 1e6, least.get(key, np.inf))
    return least


def by_kind(least: Least) -> dict[str, tuple[float, int]]:
    """(microseconds, operators) of each kind."""
    times: dict[str, list[float]] = defaultdict(list)
    for (kind, _), time in least.items():
        times[kind].append(time)
    return {kind: (sum(values), len(values)) for kind, values in times.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
