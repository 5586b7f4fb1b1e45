"""What a bundle's session costs over the raw engine, call by call and from a cold start: python benchmarks/session.py [--write]

The ECG bundle on each installed engine, one thread, one sample; the raw engine reads the same file with the same options. Calls are taken in turn in
new processes (calls.py), one after the other and then spaced as in a control loop; starts are new processes in turn, from the start of Python to the
first answer, their bytecode compiled as pip does when it installs. "First" is a start where the machine has kept nothing of an earlier one
(runtime/cache.py).
--write puts the table into docs/performance.md.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from calls import GAPS
from report import bootstrap, replace_section

import edgeattn
from edgeattn.models.registry import find
from edgeattn.runtime.cache import VARIABLE
from edgeattn.runtime.machine import machine

STARTS, PROCESSES = 25, 8
INPUT = "x = numpy.zeros((1, 256, 1), numpy.float32);"
SESSION = f"import sys, numpy, edgeattn; {INPUT} edgeattn.load(sys.argv[1]).run(x=x)"
RAW = {
    "onnxruntime": (
        f"import sys, numpy, onnxruntime; {INPUT} o = onnxruntime.SessionOptions(); o.intra_op_num_threads = 1;"
        "s = onnxruntime.InferenceSession(sys.argv[1] + '/model.onnx', o, providers=['CPUExecutionProvider']); s.run(None, {'x': x})"
    ),
    "openvino": (
        f"import sys, numpy, openvino; {INPUT} c = openvino.Core();"
        "g = c.read_model(sys.argv[1] + '/model.onnx'); g.reshape({'x': x.shape});"
        "m = c.compile_model(g, 'CPU', {'INFERENCE_NUM_THREADS': 1, 'PERFORMANCE_HINT': 'LATENCY',"
        "'INFERENCE_PRECISION_HINT': 'f32'}); m.create_infer_request().infer({'x': x}, share_inputs=True)"
    ),
}


def main(arguments: list[str]) -> None:
    """Prints a line an engine, writes session.json."""
    results: dict[str, Any] = {"machine": machine(), "engines": {}}
    with tempfile.TemporaryDirectory() as folder:
        for engine in [name for name in RAW if importlib.util.find_spec(name) is not None]:
            bundle = edgeattn.compile(find("ecg_nat").weights, engine=engine, output=Path(folder) / f"{engine}.edge").bundle
            results["engines"][engine] = found = {"calls": calls(bundle, engine, Path(folder)), "starts": starts(bundle, engine, Path(folder))}
            print(f"{engine}: {json.dumps(found)}", flush=True)
    Path("session.json").write_text(json.dumps(results, indent=2) + "\n")
    if "--write" in arguments:
        replace_section(Path(__file__).parents[1] / "docs" / "performance.md", "benchmarks/session.py", markdown(results))


def calls(bundle: Path, engine: str, folder: Path) -> dict[str, Any]:
    """Microseconds, medians over processes, with the least and the largest difference in one; by the milliseconds from call to call those spaced."""
    np.save(folder / "x.npy", find("ecg_nat").evaluation().inputs["x"][:1])
    words = [sys.executable, str(Path(__file__).with_name("calls.py")), str(bundle), engine, str(folder / "x.npy")]
    seen = [subprocess.run([*words, first], check=True, capture_output=True, text=True).stdout for first in ("session", "raw") * (PROCESSES // 2)]
    measured = [json.loads(text) for text in seen]
    rows = 1000 * np.array([[np.median(times) for times in found["in_a_row"]] for found in measured])
    added = rows[:, 0] - rows[:, 1]
    spaced_us = {
        f"{float(every):g}": np.median([1000 * np.array(found["apart"][every]) for found in measured], axis=0).tolist()
        for every in measured[0]["apart"]
    }
    ours, theirs = np.median(rows, axis=0).tolist()
    return {"session_us": ours, "raw_us": theirs, "added_us": float(np.median(added)), "range": [added.min(), added.max()], "spaced_us": spaced_us}


def starts(bundle: Path, engine: str, folder: Path) -> dict[str, Any]:
    """Medians in milliseconds of new processes, and the ratio to the raw engine's with its 95 % interval."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    kept = {**plain, VARIABLE: str(folder / "kept"), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    kinds = {"first": (SESSION, {**kept, VARIABLE: ""}), "later": (SESSION, kept), "raw": (RAW[engine], kept)}
    for code, environment in kinds.values():
        start(code, environment, bundle)  # leaves bytecode, and what the later ones find
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    random = np.random.default_rng(0)
    for _ in range(STARTS):
        for kind in random.permutation(list(kinds)):
            times[kind].append(start(*kinds[kind], bundle))
    arrays = {kind: np.array(values) for kind, values in times.items()}
    found: dict[str, Any] = {f"{kind}_ms": float(np.median(values)) for kind, values in arrays.items()}
    for kind in ("first", "later"):
        found[f"{kind}_ratio"], found[f"{kind}_interval"] = bootstrap(arrays[kind], arrays["raw"], np.divide)
    return found


def start(code: str, environment: dict[str, str], bundle: Path) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(bundle)], env=environment, check=True)
    return (time.perf_counter() - begun) * 1000


def markdown(results: dict[str, Any]) -> str:
    at = results["machine"]
    text = f"{at['cpu']}, load {at['load_average_1min']:.1f} at the start.\n\n"
    heads = [
        "engine",
        "raw call, us",
        "session's, us",
        f"added, us (least to most of {PROCESSES} processes)",
        "raw start, ms",
        "session's, ms",
        "ratio (95 % interval)",
    ]
    text += f"| {' | '.join([*heads, 'ratio of the first start'])} |\n{'| --- ' * (len(heads) + 1)}|\n"
    for engine, found in results["engines"].items():
        call, begin = found["calls"], found["starts"]
        low, high = call["range"]
        cells = [engine, f"{call['raw_us']:.0f}", f"{call['session_us']:.0f}", f"{call['added_us']:.1f} ({low:.1f} to {high:.1f})"]
        low, high = begin["later_interval"]
        cells += [f"{begin['raw_ms']:.0f}", f"{begin['later_ms']:.0f}", f"{begin['later_ratio']:.2f} ({low:.2f} to {high:.2f})"]
        text += f"| {' | '.join([*cells, format(begin['first_ratio'], '.2f')])} |\n"
    text += "\nCalls that start so many milliseconds apart, microseconds of the session's and the raw one:\n\n"
    text += f"| engine | at once | {' | '.join(f'{every:g} ms' for every in GAPS)} |\n{'| --- ' * (len(GAPS) + 2)}|\n"
    for engine, found in results["engines"].items():
        call = found["calls"]
        pairs = [[call["session_us"], call["raw_us"]], *call["spaced_us"].values()]
        text += f"| {engine} | {' | '.join(f'{ours:.0f}, {theirs:.0f}' for ours, theirs in pairs)} |\n"
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
