"""A real TensorRT parser and builder on the host: TensorRT-RTX, in a process of its own that may crash or hang.

It builds for desktop GPUs (SM 86 stands in for Orin's 87), so what it takes is a hint, never proof.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ...runtime.manifest import Check

SECONDS = 120
NAME = "TensorRT-RTX"
SCRIPT = """
import json, sys
import tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
parsed = parser.parse(open(sys.argv[1], "rb").read())
report = {"version": trt.__version__, "parsed": parsed, "errors": [parser.get_error(i).desc() for i in range(parser.num_errors)]}
if parsed:
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = [1 if size < 0 else size for size in tensor.shape]
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    report["built"] = builder.build_serialized_network(network, config) is not None
print(json.dumps(report))
"""


def smoke(data: bytes) -> Check | None:
    """What TensorRT-RTX says of the .onnx file; None where the `jetson` extra is not installed."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        try:
            run = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return Check(name=NAME, ok=False, detail=f"did not finish within {SECONDS} s")
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return Check(
            name=NAME, ok=False, detail=f"stopped with exit code {run.returncode}: {(run.stderr.strip().splitlines() or ['no message'])[-1][:200]}"
        )
    report = json.loads(lines[-1])
    if report.get("built"):
        return Check(name=NAME, ok=True, detail=f"accepted by TensorRT-RTX {report['version']} (SM 86 stand-in); the board's own TensorRT decides")
    reason = "; ".join(report["errors"]) or (run.stderr.strip().splitlines() or ["no message"])[-1]
    return Check(
        name=NAME, ok=False, detail=f"TensorRT-RTX {report['version']} refuses it ({'parser' if not report['parsed'] else 'builder'}): {reason[:300]}"
    )
