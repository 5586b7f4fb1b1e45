"""The `jetson` target: graphs for TensorRT as JetPack carries it, checked and gated on the host."""

from __future__ import annotations

import json
from typing import Literal

import onnx_ir as ir

from ...devices import Device
from ...errors import InputError
from ...export.host import serialise
from ...quantize.recipe import Recipe
from ...runtime.manifest import Check, IntegerLayers
from ..graphs import layer_precisions, without_metadata
from ..target import Artifact, Finding
from .check import check
from .jetpack import JetPack, line_of
from .lower import lower
from .smoke import smoke


class JetsonTarget:
    """TensorRT on the board; ONNX Runtime runs the very same Q/DQ graph here, so that the gate holds before the board sees it."""

    name = "jetson"
    form: Literal["onnx", "nir"] = "onnx"
    precisions = ("int8", "fp32")

    def recipe(self, device: Device) -> Recipe:
        """TensorRT quantises symmetrically, zero point 0."""
        return Recipe(activation="symmetric")

    def check(self, graph: ir.Model, device: Device) -> list[Finding]:
        return check(graph, line_of(device))

    def lower(self, graph: ir.Model, device: Device) -> ir.Model:
        return lower(graph, line_of(device))

    def package(self, lowered: ir.Model, device: Device) -> Artifact:
        """The .onnx file and how it is built. Raises InputError where a rule still holds after lowering."""
        line = line_of(device)
        left = [finding for finding in check(lowered, line, lowered=True) if finding.severity == "error"]
        if left:
            raise InputError(f"{device.name} cannot run the lowered graph: {left[0].node}: {left[0].message} ({left[0].rule}; {len(left)} findings).")
        precision = layer_precisions(lowered)
        data = serialise(without_metadata(lowered))
        seen = smoke(data)
        opset = lowered.opset_imports[""]
        checks = [Check(name="TensorRT rules", ok=True, detail=f"no finding for {line}, opset {opset}")]
        checks += [seen] if seen is not None else []
        refused = (f"{seen.detail}.",) if seen is not None and not seen.ok else ()
        quantised = sum(kind == "int8" for kind in precision.values())
        return Artifact(
            engine="onnxruntime",
            main="model.onnx",
            files={"model.onnx": data, "device/build.json": _build(lowered, line, device, bool(quantised))},
            layers=precision,
            integer_layers=IntegerLayers(quantised=quantised, integer_in_engine=None),
            checks=tuple(checks),
            left_to_device=(
                f"building the engine with {line}: {_command(lowered, line, bool(quantised))}",
                "which layers run as integers, latency, energy and memory: only the board shows them",
            ),
            warnings=refused,
        )


def _profile(lowered: ir.Model) -> dict[str, list[int]]:
    """Input shapes with one sample where the graph leaves a size open."""
    return {str(v.name): [size if isinstance(size, int) else 1 for size in v.shape or ()] for v in lowered.graph.inputs}


def _command(lowered: ir.Model, line: JetPack, quantised: bool) -> str:
    shapes = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in _profile(lowered).items())
    typed = "--stronglyTyped" if line.tensorrt >= (10,) else "--int8" * quantised
    dynamic = any(not isinstance(size, int) for value in lowered.graph.inputs for size in value.shape or ())
    return " ".join(part for part in ("trtexec --onnx=model.onnx --saveEngine=model.plan", typed, f"--shapes={shapes}" * dynamic) if part)


def _build(lowered: ir.Model, line: JetPack, device: Device, quantised: bool) -> bytes:
    """device/build.json: what the engine is built for and how."""
    body = {
        "device": device.name,
        "jetpack": line.name,
        "tensorrt": ".".join(map(str, line.tensorrt)),
        "compute_capability": device.extra["compute_capability"].value,
        "shapes": _profile(lowered),
        "command": _command(lowered, line, quantised),
    }
    return (json.dumps(body, indent=2, sort_keys=True) + "\n").encode()


TARGET = JetsonTarget()
