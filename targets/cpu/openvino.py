"""OpenVINO as the `cpu` target's second engine: the same Q/DQ graph, which its plug-in fuses by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from ...devices import Device
from ...export.data import NO_PROFILES, Profile
from ...export.host import serialise
from ...export.trace import in_batches
from ...quantize.attention import integer_products
from ...quantize.half import floats_of
from ...quantize.recipe import Between, Floats, Recipe
from ...runtime.golden import Golden
from ...runtime.manifest import Check, IntegerLayers
from ...runtime.openvino import OpenVinoModel
from ..attention_as_matmul import AttentionAsMatMul
from ..graphs import layer_precisions, own_layers, tidy, with_merged, without_metadata
from ..merge_equal import MergeEqual
from ..target import Artifact, DenseTarget, Finding
from .check import check
from .passes.reduce_apart import ReduceApart
from .passes.round_after_concat import RoundAfterConcat
from .passes.signs import Signs, saturates

BFLOAT16 = {"amx_bf16", "avx512_bf16"}  # instruction-set features that multiply it
INTEGERS = ("i8", "u8")  # runtimePrecision of a product whose inputs are integers
SCALE = "/DequantizationMultiply"  # what the plug-in names the scale that it moved behind a product of integers


class OpenVinoTarget:
    """Attention as MatMul, Softmax, MatMul, which OpenVINO fuses; linear layers in int8, signed or not as the CPU multiplies it."""

    name = "cpu"
    engine = "openvino"
    form: Literal["onnx", "nir"] = "onnx"
    precisions: tuple[str, ...] = ("auto", "w8", "int8", "bf16", "fp32")
    takes_profiles = False

    def recipe(self, device: Device) -> Recipe:
        """VNNI multiplies u8 by s8: what is signed is shifted on every call, which costs more than a zero point.

        Without VNNI the zero point costs more, and products of full-range weights saturate (all measured).
        """
        vnni = Signs.of(device.isa) == Signs(input=False, weight=True)
        return Recipe(activation="asymmetric" if vnni else "symmetric", weight_bits=7 if saturates(device.isa) else 8)

    def coarser(self, recipe: Recipe, device: Device) -> Recipe | None:
        return None

    def between(self, device: Device) -> tuple[Between, ...]:
        """Without VNNI its products of two activations would saturate as those of layers do, and have no weights to take a bit from."""
        return () if saturates(device.isa) else ("attention",)

    def check(self, graph: ir.Model, device: Device) -> list[Finding]:
        return check(graph)

    def lower(self, graph: ir.Model, device: Device) -> ir.Model:
        model = graph.clone()
        ir.passes.Sequential(AttentionAsMatMul(), ReduceApart(), RoundAfterConcat(), *tidy(), MergeEqual())(model)
        return model

    def floats(self, isa: tuple[str, ...]) -> tuple[Floats, ...]:
        return ("bf16", "fp32") if BFLOAT16 & set(isa) else ("fp32",)

    def session(self, lowered: ir.Model) -> Session:
        return Session(OpenVinoModel(lambda: serialise(without_metadata(lowered)), floats=floats_of(lowered)))

    def floating(self, lowered: ir.Model, session: Session) -> list[str]:
        """Seen for products of one input feature: 3 of the 106 layers of attention_mamba, in the graph for one sample alone."""
        _, quantised, integers = _products(lowered, session.model)
        return sorted(quantised - integers)

    def alternatives(self) -> tuple[DenseTarget, ...]:
        return ()

    def package(
        self,
        lowered: ir.Model,
        device: Device,
        profiles: Mapping[str, Profile] = NO_PROFILES,
        golden: Golden | None = None,
        session: Session | None = None,
    ) -> Artifact:
        """The .onnx file, with the plug-in's execution graph read back."""
        precision = layer_precisions(lowered)
        data = serialise(without_metadata(lowered))
        session = session or self.session(lowered)
        kinds, quantised, integers = _products(lowered, session.model)
        floating = sorted(quantised - integers)
        warnings = [f"OpenVINO runs {len(floating)} quantised layers in float: {', '.join(floating)}."] if floating else []
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        products = set(integer_products(lowered.graph))
        left = products - _in_integers(session.model) if products else products
        warnings += [f"OpenVINO runs {len(left)} of {len(products)} products of activations in float: {', '.join(sorted(left))}."] if left else []
        counted += f"; {len(products) - len(left)} of {len(products)} products of activations in integers" if products else ""
        return Artifact(
            engine="openvino",
            main="model.onnx",
            files={"model.onnx": data},
            layers=precision,
            integer_layers=IntegerLayers(quantised=len(quantised), integer_in_engine=len(integers)),
            checks=(Check(name="engine graph read back", ok=not floating, detail=counted),),
            floats=floats_of(lowered),
            warnings=(*warnings, "this bundle needs OpenVINO on the device: pip install 'edgeattn[openvino]'."),
        )


class Session:
    """OpenVINO behind the one call that judging a candidate makes of ONNX Runtime.

    Sample by sample where the batch is free, as on a device: what is judged is the form that will run there.
    """

    def __init__(self, model: OpenVinoModel) -> None:
        self.model = model

    def run(self, names: None, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if not self.model.one_sample or len(next(iter(inputs.values()))) == 1:
            return self.model.run(inputs)
        return in_batches(self.model.run, inputs, 1, fixed=False)


def _products(lowered: ir.Model, model: OpenVinoModel) -> tuple[Counter[str], set[str], set[str]]:
    """(operators of the execution graph, the int8 layers, those whose product takes integers); a merged layer follows the one that computes it."""
    quantised = {path for path, kind in layer_precisions(lowered).items() if kind == "int8"}
    kinds, found = read_back(model, sorted(quantised & own_layers(lowered)))
    return kinds, quantised, with_merged(lowered, found) & quantised


def read_back(model: OpenVinoModel, layers: list[str]) -> tuple[Counter[str], set[str]]:
    """(operators of the execution graph, the layers whose product takes integers there).

    A fused operator lists the nodes it was made of; a layer's own carry its path before the slash. A small perceptron may be fused whole: there a
    product takes integers if its weights enter as such and its scale comes after it. A layer that nothing names was computed when the graph was
    compiled, of constants such as learned queries.
    """
    kinds: Counter[str] = Counter()
    found, named = set(), set()
    for operator in model.compiled.get_runtime_model().get_ordered_ops():
        kind, precision, names = _described(operator)
        kinds[kind] += kind not in ("Const", "Input", "Output")
        named |= {path for path in layers if any(name.startswith((f"{path}/", f"{path}.")) for name in names)}
        if kind in ("FullyConnected", "MatMul", "Convolution") and precision in INTEGERS:
            found |= {name.removesuffix(SCALE).removesuffix("/WithoutBiases").rsplit("/", 1)[0] for name in names}
        elif kind == "Subgraph":
            weights = [source for source in (_described(value.get_node()) for value in operator.input_values()) if source[1] in INTEGERS]
            scaled = {name.removesuffix(SCALE).rsplit("/", 1)[0] for name in names if name.endswith(SCALE)}
            found |= {path for path in scaled if any(name.startswith(f"{path}.") for _, _, sources in weights for name in sources)}
    return +kinds, found & named | set(layers) - named


def _in_integers(model: OpenVinoModel) -> set[str]:
    """The nodes that operators on integers were made of: attention is fused into one, which takes integers if its products do."""
    described = map(_described, model.compiled.get_runtime_model().get_ordered_ops())
    return {
        name.removesuffix(SCALE) for kind, precision, names in described if kind in ("MatMul", "Subgraph") and precision in INTEGERS for name in names
    }


def _described(operator: Any) -> tuple[str, str, list[str]]:
    """(kind, precision, the nodes it was made of) of an execution graph's operator."""
    info = operator.get_rt_info()
    kind, precision, names = (str(info[key].astype(str)) for key in ("layerType", "runtimePrecision", "originalLayersNames"))
    return kind, precision, names.split(",")


OPENVINO = OpenVinoTarget()
