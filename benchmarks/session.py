"""`make bench`: what a bundle's session costs over the raw engine, call by call and from a cold start, interleaved in one run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

import edgeattn
from edgeattn.models.registry import find
from edgeattn.runtime.bench import cold_start
from edgeattn.runtime.machine import machine

CALLS = 3000
STARTS = 7


def main() -> None:
    """Prints one JSON object: medians of the session, the raw engine and their differences, with the machine."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = edgeattn.compile(find("ecg_nat").weights, "cpu", output=Path(folder) / "ecg.edge").bundle
        session = edgeattn.load(bundle)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        raw = ort.InferenceSession(str(bundle / "model.onnx"), options, providers=["CPUExecutionProvider"])
        x = find("ecg_nat").evaluation().inputs["x"][:1]
        calls = {"session": lambda: session.run(x=x), "raw engine": lambda: raw.run(None, {"x": x})}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(CALLS):
            for name, call in calls.items():
                start = time.perf_counter_ns()
                call()
                times[name].append((time.perf_counter_ns() - start) / 1e3)
        medians = {name: float(np.median(values[100:])) for name, values in times.items()}
        starts = [(cold_start(bundle), _raw_start(bundle / "model.onnx")) for _ in range(STARTS)]
        ours, theirs = (float(np.median(column)) for column in zip(*starts, strict=True))
        print(
            json.dumps(
                {
                    "per_call_us": medians,
                    "overhead_per_call_us": medians["session"] - medians["raw engine"],
                    "cold_start_ms": {"bundle": ours, "raw engine": theirs, "ratio": ours / theirs},
                    "machine": machine(),
                },
                indent=1,
            )
        )


def _raw_start(model: Path) -> float:
    """Process start to first answer with onnxruntime and numpy alone, in milliseconds."""
    code = (
        "import sys, numpy as n, onnxruntime as o; p = o.SessionOptions(); p.intra_op_num_threads = 1;"
        "s = o.InferenceSession(sys.argv[1], p, providers=['CPUExecutionProvider']); s.run(None, {'x': n.zeros((1, 256, 1), n.float32)})"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(model)], check=True)
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
