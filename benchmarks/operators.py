"""Where ONNX Runtime spends a call: python benchmarks/operators.py [NAME...] [--write]

Each network is compiled with `--precision auto --engine onnxruntime`; its artifact runs with the engine's own profiler on one thread. A node counts
with its least time of 30 calls, which leaves out what other work on the machine adds; the profiler adds about a microsecond to each node. --write
puts the tables into docs/performance.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from cpu import subject
from report import replace_section

import edgeattn
from edgeattn.runtime.engines import onnx_session
from edgeattn.runtime.machine import machine

NETWORKS = ("series_96", "bert_128", "vit_tiny", "windows", "mamba_256", "decoder_step", "ecg_nat", "ister")
CALLS, SHOWN = 30, 6


def main(arguments: list[str]) -> None:
    """Prints a line a network."""
    sys.path.insert(0, str(Path(__file__).parent))
    at = machine()
    text = f"{at['cpu']}, onnxruntime {ort.__version__}, one thread, microseconds by operator with the number of nodes.\n\n"
    text += "| network | form | all nodes | the most expensive operators |\n| --- | --- | --- | --- |\n"
    for name in [argument for argument in arguments if not argument.startswith("-")] or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            precision, found = measure(name, Path(folder))
        total = sum(time for time, _ in found.values())
        most = sorted(found.items(), key=lambda item: -item[1][0])[:SHOWN]
        listed = ", ".join(f"{kind} {time:.0f} ({count})" for kind, (time, count) in most)
        text += f"| {name} | {precision} | {total:.0f} ({sum(count for _, count in found.values())}) | {listed} |\n"
        print(f"{name}: {precision}, {total:.0f} us; {listed}", flush=True)
    if "--write" in arguments:
        replace_section(Path(__file__).parents[1] / "docs" / "performance.md", "benchmarks/operators.py", text)


def measure(name: str, folder: Path) -> tuple[str, dict[str, tuple[float, int]]]:
    """(what auto took, by operator the microseconds of one call and the number of nodes)."""
    _, data, arguments = subject(name, folder)
    manifest = edgeattn.compile(**arguments, precision="auto", engine="onnxruntime", output=folder / "a.edge").manifest
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnx_session(str(folder / "a.edge" / manifest.artifact), options)
    query = {key: np.ascontiguousarray(array[:1]) for key, array in data.items()}
    for _ in range(CALLS):
        session.run(None, query)
    return manifest.precision, by_operator(json.loads(Path(session.end_profiling()).read_text()))


def by_operator(events: list[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    least: dict[tuple[str, str], float] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["args"].get("node_index", event["name"])
            least[key] = min(event["dur"], least.get(key, np.inf))
    times: dict[str, list[float]] = defaultdict(list)
    for (kind, _), time in least.items():
        times[kind].append(time)
    return {kind: (sum(values), len(values)) for kind, values in times.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
