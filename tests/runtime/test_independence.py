"""The runtime is what a device needs, and nothing above it."""

from __future__ import annotations

import subprocess
import sys

COMPILE_SIDE = ["torch", "onnx", "onnxscript", "onnx_ir", "brevitas", "sklearn", "scipy", "edgeattn.export", "edgeattn.quantize", "edgeattn.targets"]


def test_loading_verifying_and_benching_import_nothing_of_the_compile_side(ecg_bundle):
    code = (
        "import sys, edgeattn; s = edgeattn.load(sys.argv[1]); assert edgeattn.verify(sys.argv[1]).ok; edgeattn.bench(sys.argv[1], runs=3);"
        f"found = [m for m in {COMPILE_SIDE!r} if m in sys.modules]; assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code, str(ecg_bundle)], check=True)


def test_a_start_imports_nothing_that_only_other_bundles_need(ecg_bundle):
    others = ["edgeattn.runtime.decode", "edgeattn.runtime.emulator", "edgeattn.runtime.events", "importlib.metadata", "openvino", "safetensors"]
    code = f"import sys, edgeattn; edgeattn.load(sys.argv[1]); found = [m for m in {others!r} if m in sys.modules]; assert not found, found"
    subprocess.run([sys.executable, "-c", code, str(ecg_bundle)], check=True)
