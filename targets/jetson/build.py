"""How the board builds its engine: what device/build.json says, for the kit and for trtexec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import onnx_ir as ir

from ...devices import Device
from ...export.data import Profile
from .jetpack import JetPack


def build_plan(
    delivered: ir.Model,
    line: JetPack,
    device: Device,
    profiles: Mapping[str, Profile],
    quantised: bool,
    half: bool,
    islands: dict[str, str],
) -> dict[str, Any]:
    """The body of device/build.json. profiles: shapes by input; one sample where none is given.

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
        "profiles": {str(v.name): msgspec.to_builtins(profiles.get(str(v.name)) or _one(v)) for v in delivered.graph.inputs if _open(v)},
    }
    return {**plan, "command": _command(plan)}


def _open(value: ir.Value) -> bool:
    return any(not isinstance(size, int) for size in value.shape or ())


def _one(value: ir.Value) -> Profile:
    """One sample where the graph leaves a size open."""
    shape = tuple(size if isinstance(size, int) else 1 for size in value.shape or ())
    return Profile(shape, shape, shape)


def _command(plan: dict[str, Any]) -> str:
    """The trtexec line; it can hold layers in float32 from TensorRT 8.4 on."""
    parts = ["trtexec --onnx=model.onnx --saveEngine=model.plan"]
    parts += ["--stronglyTyped"] if plan["strongly_typed"] else [f"--{flag}" for flag in plan["flags"]]
    if plan["float32_layers"]:
        parts.append("--precisionConstraints=obey --layerPrecisions=" + ",".join(f"'{name}':fp32" for name in plan["float32_layers"]))
    for option, key in (("min", "least"), ("opt", "usual"), ("max", "largest")):
        shapes = ",".join(f"{name}:{'x'.join(map(str, profile[key]))}" for name, profile in plan["profiles"].items())
        parts += [f"--{option}Shapes={shapes}"] if shapes else []
    return " ".join(parts)
