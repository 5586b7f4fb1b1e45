"""The `jetson` target: graphs for TensorRT as JetPack carries it, checked and gated on the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

import onnx_ir as ir
import onnxruntime as ort

from ...devices import Device
from ...errors import InputError
from ...export.data import NO_PROFILES, Profile
from ...export.host import host_session, serialise
from ...quantize.half import WELL_KNOWN, floats_of, islands_of, on_host, strongly_typed, uses_half
from ...quantize.recipe import Between, Floats, Recipe
from ...runtime.golden import Golden
from ...runtime.manifest import Check, IntegerLayers
from ..graphs import layer_precisions, without_metadata
from ..target import Artifact, DenseTarget, Finding
from .build import build_plan
from .check import check
from .device import device_files
from .jetpack import line_of
from .lower import lower
from .smoke import smoke
from .triton import config


class JetsonTarget:
    """TensorRT on the board; ONNX Runtime runs the very same Q/DQ graph here, so that the gate holds before the board sees it."""

    name = "jetson"
    engine = "onnxruntime"
    form: Literal["onnx", "nir"] = "onnx"
    precisions: tuple[str, ...] = ("int8", "fp16", "fp32")
    takes_profiles = True

    def recipe(self, device: Device) -> Recipe:
        """TensorRT quantises symmetrically, zero point 0; what is not quantised runs in float16."""
        return Recipe(activation="symmetric", floats="fp16")

    def coarser(self, recipe: Recipe, device: Device) -> Recipe | None:
        return None

    def between(self, device: Device) -> tuple[Between, ...]:
        """None: TensorRT-RTX 1.7 refused the one such graph tried, with gathers between pairs."""
        return ()

    def check(self, graph: ir.Model, device: Device) -> list[Finding]:
        return check(graph, line_of(device))

    def lower(self, graph: ir.Model, device: Device) -> ir.Model:
        return lower(graph, line_of(device))

    def floats(self, isa: tuple[str, ...]) -> tuple[Floats, ...]:
        return ("fp16", "fp32")

    def session(self, lowered: ir.Model) -> ort.InferenceSession:
        """ONNX Runtime over what the marked graph computes."""
        return host_session(on_host(lowered), as_written=True)

    def floating(self, lowered: ir.Model, session: ort.InferenceSession) -> list[str]:
        return []

    def alternatives(self) -> tuple[DenseTarget, ...]:
        return ()

    def package(
        self,
        lowered: ir.Model,
        device: Device,
        profiles: Mapping[str, Profile] = NO_PROFILES,
        golden: Golden | None = None,
        session: ort.InferenceSession | None = None,
    ) -> Artifact:
        """The .onnx file and how it is built; beside a float16 one, host.onnx shows on a CPU what it computes.

        Raises InputError where a rule still holds after lowering.
        """
        line = line_of(device)
        half, typed = uses_half(lowered), line.tensorrt >= (10,)
        delivered = strongly_typed(lowered) if half and typed else lowered
        left = [finding for finding in check(delivered, line, lowered=True) if finding.severity == "error"]
        if left:
            raise InputError(f"{device.name} cannot run the lowered graph: {left[0].node}: {left[0].message} ({left[0].rule}; {len(left)} findings).")
        precision, islands = layer_precisions(lowered), islands_of(lowered)
        data = serialise(without_metadata(delivered))
        build = build_plan(delivered, line, device, profiles, "int8" in precision.values(), half, islands)
        shown = on_host(lowered)
        files = {"model.onnx": data, "device/triton/config.pbtxt": config(delivered, line).encode(), **device_files(build, shown, golden)}
        if half:
            files["host.onnx"] = serialise(without_metadata(shown))
        seen = smoke(data)
        checks = [Check(name="TensorRT rules", ok=True, detail=f"no finding for {line}, opset {delivered.opset_imports['']}")]
        checks += [Check(name="float32 islands", ok=True, detail=_islands(lowered, islands))] if half else []
        checks += [seen] if seen is not None else []
        refused = (f"{seen.detail}.",) if seen is not None and not seen.ok else ()
        quantised = sum(kind == "int8" for kind in precision.values())
        return Artifact(
            engine="onnxruntime",
            main="host.onnx" if half else "model.onnx",
            files=files,
            layers=precision,
            floats=floats_of(lowered),
            integer_layers=IntegerLayers(quantised=quantised, integer_in_engine=None),
            checks=tuple(checks),
            left_to_device=(
                f"building the engine with {line}: python3 device/run.py build (or trtexec, as device/build.json says), then verify and bench",
                "which layers run as integers, in which width float16 sums are kept, latency, energy and memory: only the board shows them",
            ),
            warnings=refused,
        )


def _islands(lowered: ir.Model, islands: dict[str, str]) -> str:
    """How many nodes stay in float32 and why; by name those that the network's own values keep there."""
    reasons = Counter(reason if reason in WELL_KNOWN else "their range" for reason in islands.values())
    named = [f"{name} ({reason})" for name, reason in islands.items() if reason not in WELL_KNOWN]
    counted = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"{len(islands)} of {len(lowered.graph)} nodes: {counted or 'none'}" + (f"; {', '.join(named)}" if named else "")


TARGET = JetsonTarget()
