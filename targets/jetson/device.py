"""What goes into device/: how the engine is built, the kit that does it, and inner tensors to find a wrong layer by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from safetensors.numpy import save

from ...export.host import host_session
from ...export.passes.linear_as_matmul import LAYER
from ...runtime.golden import Golden

KIT, CPP = Path(__file__).with_name("kit"), Path(__file__).with_name("cpp")
MAIN = """\"\"\"python3 device/run.py build | verify | bench | doctor\"\"\"

import sys

sys.dont_write_bytecode = True  # the bundle's folder stays as it was hashed
from kit.cli import main  # noqa: E402

sys.exit(main())
"""
LARGEST_LAYERS = 8 * 2**20  # bytes of inner tensors that a bundle carries


def device_files(build: dict[str, Any], on_host: ir.Model, golden: Golden | None) -> dict[str, bytes]:
    """The files by bundle path. on_host: what ONNX Runtime runs here; golden: its inputs show what inner tensors hold."""
    layers = {} if golden is None else inner_tensors(on_host, golden)
    files = {"device/run.py": MAIN.encode()}
    files |= {f"device/kit/{path.name}": path.read_bytes() for path in sorted(KIT.glob("*.py"))}
    files |= {f"device/cpp/{path.name}": path.read_bytes() for path in sorted(CPP.iterdir()) if path.is_file()}
    if layers:
        files["device/layers.safetensors"] = bytes(save(layers))
    files["device/build.json"] = (json.dumps({**build, "layers": list(layers)}, indent=2, sort_keys=True) + "\n").encode()
    return files


def inner_tensors(on_host: ir.Model, golden: Golden) -> dict[str, np.ndarray]:
    """Outputs of the linear layers in order, for the first golden query; of many large ones every second, fourth ... only."""
    probe = on_host.clone()
    graph = probe.graph
    outputs = [node.outputs[0] for node in graph if LAYER in node.metadata_props and not node.outputs[0].is_graph_output()]
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    if not outputs:
        return {}
    batched = all(value.shape is not None and not isinstance(value.shape[0], int) for value in graph.inputs)
    query = {name: array[:1] if batched else array for name, array in golden.inputs.items()}
    values = host_session(probe, as_written=True).run(None, query)
    found = {str(output.name): np.ascontiguousarray(value) for output, value in zip(outputs, values, strict=True)}
    step = 1
    while sum(array.nbytes for array in list(found.values())[::step]) > LARGEST_LAYERS and step < len(found):
        step *= 2
    return dict(list(found.items())[::step])
