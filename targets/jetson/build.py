"""How the board builds its engine: what device/build.json says, for the kit and for trtexec."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from ...devices import Device
from .jetpack import JetPack


def build_plan(delivered: ir.Model, line: JetPack, device: Device, quantised: bool, half: bool, islands: dict[str, str]) -> dict[str, Any]:
    """The body of device/build.json.

    From TensorRT 10 on the graph itself says every type (`strongly_typed`). Before, float16 and int8 are allowed to the builder, and the
    islands are held in float32 by name (`float32_layers`).
    """
    typed = line.tensorrt >= (10,)
    plan: dict[str, Any] = {
        "device": device.name,
        "jetpack": line.name,
        "tensorrt": ".".join(map(str, line.tensorrt)),
        "compute_capability": device.extra["compute_capability"].value,
        "onnx": "model.onnx",
        "strongly_typed": typed,
        "flags": [] if typed else [flag for flag, wanted in (("fp16", half), ("int8", quantised)) if wanted],
        "float32_layers": [] if typed else sorted(islands),
        "float32_islands": islands,
        "shapes": _shapes(delivered),
    }
    return {**plan, "command": _command(delivered, plan)}


def _shapes(delivered: ir.Model) -> dict[str, list[int]]:
    """Input shapes with one sample where the graph leaves a size open."""
    return {str(v.name): [size if isinstance(size, int) else 1 for size in v.shape or ()] for v in delivered.graph.inputs}


def _command(delivered: ir.Model, plan: dict[str, Any]) -> str:
    """The trtexec line; layers held in float32 need TensorRT 8.4 there, the kit holds them from 8.2 on."""
    parts = ["trtexec --onnx=model.onnx --saveEngine=model.plan"]
    parts += ["--stronglyTyped"] if plan["strongly_typed"] else [f"--{flag}" for flag in plan["flags"]]
    if plan["float32_layers"]:
        parts.append("--precisionConstraints=obey --layerPrecisions=" + ",".join(f"'{name}':fp32" for name in plan["float32_layers"]))
    if any(not isinstance(size, int) for value in delivered.graph.inputs for size in value.shape or ()):
        parts.append("--shapes=" + ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in plan["shapes"].items()))
    return " ".join(parts)
