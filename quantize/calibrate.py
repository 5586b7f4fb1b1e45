"""Post-training quantisation with Brevitas of linear layers and convolutions, on the lifted module; integers and scales are read from its layers.

    q = clip(round(x / s) + z),   x ≈ s (q - z)

Weights: int8, symmetric, narrow range [-127, 127] ([-63, 63] with 7 bits), one scale per output channel. Activations: one scale per tensor, from
the calibration data. See Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section 2.1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..export.lift import lift
from ..export.trace import Program, flatten_outputs
from ..models.reference import Samples
from .recipe import Floats, Precision, Recipe


class EqualisationChanged(InputError):
    """Activation equalisation, which must leave the float network as it was, did not."""


BATCH = 32
BITS = {"w8": 8, "w4": 4}  # of weights; those of int8 and int8-dynamic are the recipe's


@dataclass(frozen=True)
class Activation:
    """How a layer's input is quantised: x ≈ scale (q - zero_point); signed: int8, else uint8."""

    scale: float
    zero_point: int
    signed: bool


@dataclass(frozen=True)
class QuantisedLayer:
    """One layer in integers. weight: (out, in), of a convolution (out, in / groups, kernel...), int8; scale, bias: (out,) float32."""

    precision: Precision
    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray | None
    activation: Activation | None


@dataclass(frozen=True)
class Quantised:
    """What quantisation decided. tensors: other parameters it changed (equalisation), by name; module: Brevitas' own network, while it is kept."""

    recipe: Recipe
    layers: dict[str, QuantisedLayer]
    tensors: dict[str, np.ndarray]
    module: nn.Module | None = field(default=None, repr=False)
    paths: tuple[str, ...] = ()

    @property
    def network(self) -> nn.Module:
        """Brevitas' own, for a caller that has just quantised."""
        assert self.module is not None
        return self.module

    def without(self, paths: Sequence[str], reason: str) -> Quantised:
        """The same with these layers left in float."""
        recipe = self.recipe
        for path in paths:
            recipe = recipe.raised(path, recipe.floats, reason)
        return replace(self, recipe=recipe, layers={path: layer for path, layer in self.layers.items() if path not in paths})

    def around(self, floats: Floats) -> Quantised:
        """The same integers with the rest in these floats; for layers that the recipe itself puts into floats this changes nothing."""
        return replace(self, recipe=msgspec.structs.replace(self.recipe, floats=floats))


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)


def layer_paths(module: nn.Module, kinds: tuple[type[nn.Module], ...] = (nn.Linear, *CONVOLUTIONS)) -> list[str]:
    """The paths of all linear layers and convolutions, in execution order of definition."""
    return [path for path, layer in module.named_modules() if isinstance(layer, kinds)]


def quantise(program: Program, recipe: Recipe, calibration: Samples, progress: Callable[[str], None] | None = None) -> Quantised:
    """Quantises the program's linear layers and convolutions as the recipe says, calibrated on `calibration`.

    A convolution is quantised in int8 only: where the recipe's default is another one it stays float, and the recipe returned says so.
    Raises InputError for a recipe that names a layer the network does not have, or gives a convolution what it has not got.
    """
    say = progress or (lambda _: None)
    batches = Batches(calibration, program.fixed_batch)
    original = {} if recipe.equalise is None else other_parameters(lift(program.exported))
    say("equalising and calibrating" if recipe.equalise is not None else "calibrating")
    module = float_network(program, recipe, calibration)
    paths = layer_paths(module)
    check_recipe(recipe, paths, program.reference.name)
    recipe = _for_convolutions(recipe, layer_paths(module, CONVOLUTIONS))
    with quiet(), torch.no_grad():
        module = _insert_quantisers(module, recipe, paths)
        _calibrate(module, recipe, batches)
    changed = {name: value for name, value in other_parameters(module).items() if name in original and not np.array_equal(value, original[name])}
    layers = {path: read_layer(module.get_submodule(path), recipe.precision(path)) for path in paths if recipe.quantises(path)}
    return Quantised(recipe, layers, changed, module.eval(), tuple(paths))


def float_network(program: Program, recipe: Recipe, calibration: Samples) -> nn.Module:
    """The lifted float module, equalised if the recipe says so: what the quantised network is rounded from."""
    module = lift(program.exported)
    if recipe.equalise is not None:
        batches = Batches(calibration, program.fixed_batch)
        with quiet(), torch.no_grad():
            probe = next(iter(batches))
            before = flatten_outputs(module(**probe))
            try:
                _equalise(module, recipe.equalise, batches)
            except (RuntimeError, KeyError) as error:  # where Brevitas takes another axis than the first for the batch
                raise EqualisationChanged(f"equalisation cannot follow the axes of {program.reference.name}: leave `equalise` out.") from error
            after = flatten_outputs(module(**probe))
        if not all(torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max())) for a, b in zip(after, before, strict=True)):
            # Brevitas scales a norm once for every place it is called from; a shared one comes out wrong.
            raise EqualisationChanged(f"equalisation changes what {program.reference.name} computes (a shared layer?): leave `equalise` out.")
    return module


def check_recipe(recipe: Recipe, paths: list[str], name: str) -> None:
    """Raises InputError where the recipe names a layer that is not there."""
    unknown = sorted(set(recipe.layers) - set(paths))
    if unknown:
        raise InputError(f"the recipe names layer {unknown[0]!r}, which {name} does not have; its layers are {', '.join(paths)}.")


def _for_convolutions(recipe: Recipe, convolutions: list[str]) -> Recipe:
    for path in convolutions:
        precision = recipe.precision(path)
        if precision == "int8" or not recipe.quantises(path):
            continue
        if path in recipe.layers:
            raise InputError(f"the recipe gives {path} {precision}, but it is a convolution: int8 or a float precision.")
        recipe = recipe.raised(path, recipe.floats, f"a convolution has no {precision}")
    return recipe


@dataclass(frozen=True)
class Batches:
    """Calibration samples as keyword tensors, in batches; fixed: of so many samples each, as the trace wants them, a rest left out."""

    samples: Samples
    fixed: int | None = None

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        size, count = self.fixed or BATCH, len(self.samples) - len(self.samples) % (self.fixed or 1)
        for start in range(0, count, size):
            part = self.samples.take(slice(start, start + size))
            yield {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in part.inputs.items()}

    def feed(self, module: nn.Module) -> None:
        for batch in self:
            module(**batch)


def read_layer(layer: Any, precision: Precision) -> QuantisedLayer:
    """Integers and scales of a Brevitas layer."""
    with quiet(), torch.no_grad():
        weight = layer.quant_weight()
        integers = torch.round(weight.value / weight.scale + weight.zero_point).to(torch.int8).numpy()  # as weight.int(), which checks them at length
        scale = np.broadcast_to(weight.scale.numpy().reshape(-1), integers.shape[:1]).astype(np.float32)
        activation = None
        if precision == "int8":
            proxy = layer.input_quant
            activation = Activation(float(proxy.scale()), int(proxy.zero_point()), bool(proxy.is_signed))
    bias = None if layer.bias is None else layer.bias.detach().numpy().astype(np.float32)
    return QuantisedLayer(precision, integers, scale, bias, activation)


def _insert_quantisers(module: nn.Module, recipe: Recipe, paths: list[str]) -> nn.Module:
    from brevitas import nn as qnn
    from brevitas.graph.quantize import layerwise_quantize

    for precision in sorted({recipe.precision(path) for path in paths if recipe.quantises(path)}):
        others = [path for path in paths if recipe.precision(path) != precision]
        options = {"weight_quant": _weight_quantiser(recipe, precision), "input_quant": _input_quantiser(recipe, precision)}
        options |= {"bias_quant": None, "output_quant": None, "return_quant_tensor": False}
        kinds = {nn.Linear: qnn.QuantLinear, nn.Conv1d: qnn.QuantConv1d, nn.Conv2d: qnn.QuantConv2d}
        layers = {plain: (quantised, options) for plain, quantised in kinds.items()}
        module = layerwise_quantize(module, compute_layer_map=layers, name_blacklist=others)
    return module


def _weight_quantiser(recipe: Recipe, precision: Precision) -> Any:
    from brevitas.inject.enum import ScalingImplType
    from brevitas.quant import Int8WeightPerChannelFloat

    quantiser = Int8WeightPerChannelFloat.let(bit_width=BITS.get(precision, recipe.weight_bits))
    if recipe.weight_rounding == "gptq":
        # GPTQ slices columns; scales computed from the sliced weight would silently undo it.
        quantiser = quantiser.let(scaling_impl_type=ScalingImplType.PARAMETER_FROM_STATS)
    return quantiser


def _input_quantiser(recipe: Recipe, precision: Precision) -> Any:
    from brevitas.quant import Int8ActPerTensorFloat, ShiftedUint8ActPerTensorFloat

    if precision != "int8":
        return None
    if recipe.activation == "symmetric":
        return Int8ActPerTensorFloat.let(high_percentile_q=recipe.percentile)
    low = 100.0 - recipe.percentile
    return ShiftedUint8ActPerTensorFloat.let(high_percentile_q=recipe.percentile, low_percentile_q=low)


def _calibrate(module: nn.Module, recipe: Recipe, batches: Batches) -> None:
    from brevitas.graph.calibrate import bias_correction_mode, calibration_mode

    module.eval()
    if recipe.weight_rounding == "gptq":
        module(**next(iter(batches)))  # weight scales that are parameters come to be in the first pass
    with calibration_mode(module):
        batches.feed(module)
    if recipe.weight_rounding == "gptq":
        from brevitas.graph.gptq import gptq_mode

        with gptq_mode(module, use_quant_activations=False) as gptq:
            for _ in range(gptq.num_layers):
                batches.feed(gptq.model)
                gptq.update()
    if recipe.bias_correction:
        correction = bias_correction_mode(module)
        correction.bias_correction.channel_dim = _channels  # Brevitas' own takes a linear layer's second axis if there are more than three
        with correction:
            batches.feed(module)


def _channels(output: torch.Tensor, layer: nn.Module) -> int:
    """The axis of an output that its bias is added to."""
    return output.dim() - 1 if isinstance(layer, nn.Linear) else 1


def _equalise(module: nn.Module, alpha: float, batches: Batches) -> None:
    """Moves activation outliers into the weights: s_j = max|x_j|^alpha / max|w_j|^(1-alpha) (Xiao et al., SmoothQuant, eq. 4)."""
    from brevitas.graph.equalize import activation_equalization_mode

    with activation_equalization_mode(module, alpha=alpha, layerwise=False, add_mul_node=False):
        batches.feed(module)


def other_parameters(module: nn.Module) -> dict[str, np.ndarray]:
    """Weights and biases of float layers that are not linear, by parameter name: what equalisation may change."""
    found = {}
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm | nn.Conv1d | nn.Conv2d) and hasattr(layer, "parameter_names"):
            for kind, name in layer.parameter_names.items():  # type: ignore[union-attr,operator]
                found[name] = getattr(layer, kind).detach().numpy().copy()
    return found


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
