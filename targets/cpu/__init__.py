"""The `cpu` target: ONNX Runtime on x86-64 and ARM."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Literal

import msgspec
import onnx_ir as ir
import onnxruntime as ort

from ...devices import Device
from ...export.data import NO_PROFILES, Profile
from ...export.host import host_session, serialise
from ...quantize.recipe import Between, Floats, Recipe
from ...runtime.golden import Golden
from ...runtime.manifest import Check, IntegerLayers
from ..graphs import layer_precisions, with_merged, without_metadata
from ..target import Artifact, DenseTarget, Finding
from .check import check
from .lower import lower
from .openvino import OPENVINO
from .passes.signs import saturates
from .readback import read_back


class CpuTarget:
    """ONNX Runtime's CPU provider; integers by MatMulIntegerToFloat, attention by MultiHeadAttention."""

    name = "cpu"
    engine = "onnxruntime"
    form: Literal["onnx", "nir"] = "onnx"
    precisions: tuple[str, ...] = ("auto", "w4", "w8", "int8", "int8-dynamic", "fp32")
    takes_profiles = False

    def recipe(self, device: Device) -> Recipe:
        """Activations with a zero point cost nothing here and use the range of one-sided activations fully."""
        return Recipe(activation="asymmetric")

    def coarser(self, recipe: Recipe, device: Device) -> Recipe | None:
        """Weights of 7 bits where those of 8 would saturate as s8 and so go as u8."""
        return msgspec.structs.replace(recipe, weight_bits=7) if saturates(device.isa) and recipe.weight_bits == 8 else None

    def between(self, device: Device) -> tuple[Between, ...]:
        return ("int8",)

    def check(self, graph: ir.Model, device: Device) -> list[Finding]:
        return check(graph)

    def lower(self, graph: ir.Model, device: Device) -> ir.Model:
        return lower(graph, device)

    def floats(self, isa: tuple[str, ...]) -> tuple[Floats, ...]:
        return ("fp32",)

    def session(self, lowered: ir.Model) -> ort.InferenceSession:
        return host_session(lowered)

    def floating(self, lowered: ir.Model, session: ort.InferenceSession) -> list[str]:
        return []

    def alternatives(self) -> tuple[DenseTarget, ...]:
        """OpenVINO, where it is installed."""
        return (OPENVINO,) if importlib.util.find_spec("openvino") is not None else ()

    def package(
        self,
        lowered: ir.Model,
        device: Device,
        profiles: Mapping[str, Profile] = NO_PROFILES,
        golden: Golden | None = None,
        session: ort.InferenceSession | None = None,
    ) -> Artifact:
        """The .onnx file, with ONNX Runtime's optimised graph read back."""
        precision = layer_precisions(lowered)
        integers = tuple(path for path, kind in precision.items() if kind in ("int8", "int8-dynamic"))
        data = serialise(without_metadata(lowered))
        seen = read_back(data, integers)
        integer = with_merged(lowered, seen.integer) & set(integers)
        floating = sorted(set(integers) - integer)
        warnings = (f"the engine runs {len(floating)} quantised layers in float: {', '.join(floating)}.",) if floating else ()
        counted = ", ".join(f"{count} {kind}" for kind, count in seen.operators.items())
        return Artifact(
            engine="onnxruntime",
            main="model.onnx",
            files={"model.onnx": data},
            layers=precision,
            integer_layers=IntegerLayers(quantised=len(integers), integer_in_engine=len(integer)),
            checks=(Check(name="engine graph read back", ok=not floating, detail=f"{counted}"),),
            warnings=warnings,
        )


TARGET = CpuTarget()
