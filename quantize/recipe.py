"""`Recipe`: which layer gets which precision and why. Plain YAML that a person can read, edit and re-apply."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from ..errors import InputError

Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-dynamic", "w8", "w4"]
Floats = Literal["fp32", "fp16", "bf16"]
Between = Literal["float", "attention", "int8"]
FLOATS = ("fp32", "fp16", "bf16")  # the precisions without integers


class Layer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer's precision. int8: weights and activations; w8, w4: weights only; reason: for the reader."""

    precision: Precision
    reason: str = ""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a network is quantised. `layers` maps a layer's path in the module tree to its precision.

    floats: what everything runs in that is not quantised; fp16 leaves in float32 what its range does not hold,
    with bf16 the engine chooses;
    equalise: SmoothQuant's alpha in (0, 1), or None for no migration of activation outliers into the weights;
    bias_correction: Brevitas' correction of the mean output error; weight_rounding: nearest or gptq;
    activation: symmetric (int8, zero point 0, what TensorRT takes) or asymmetric (uint8 with a zero point);
    weight_bits: of the weights of int8 and int8-dynamic layers; in 7, [-63, 63], two products by a uint8 fit into 16 bits (x86 without VNNI);
    between: attention multiplies integers in attention's two products too; int8 holds in integers all that lies between the layers (products of
    activations, sums, moves), where it has such a form;
    percentile: activations are clipped at this percentile of |x| over the calibration data.
    """

    schema: int = 1
    default: Precision = "int8"
    floats: Floats = "fp32"
    equalise: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    bias_correction: bool = True
    weight_rounding: Literal["nearest", "gptq"] = "nearest"
    activation: Literal["symmetric", "asymmetric"] = "symmetric"
    weight_bits: Literal[7, 8] = 8
    between: Between = "float"
    percentile: Annotated[float, msgspec.Meta(gt=50, lt=100)] = 99.999
    layers: dict[str, Layer] = {}

    def precision(self, layer: str) -> Precision:
        return self.layers[layer].precision if layer in self.layers else self.default

    @property
    def precisions(self) -> set[Precision]:
        """Every precision that some part of the network is given."""
        return {self.default, self.floats, *(layer.precision for layer in self.layers.values())}

    def quantises(self, layer: str) -> bool:
        """Whether the layer's weights become integers."""
        return self.precision(layer) not in FLOATS

    def raised(self, layer: str, precision: Precision, reason: str) -> Recipe:
        """This recipe with one layer at another precision."""
        return msgspec.structs.replace(self, layers={**self.layers, layer: Layer(precision, reason)})

    def to_yaml(self) -> str:
        return yaml.safe_dump(msgspec.to_builtins(self), sort_keys=False)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Reads a recipe; raises InputError with the file and the field."""
        try:
            return msgspec.convert(yaml.safe_load(Path(path).read_text()), cls)
        except OSError as error:
            raise InputError(f"recipe {path} cannot be read: {error.strerror}.") from None
        except (yaml.YAMLError, msgspec.ValidationError) as error:
            raise InputError(f"recipe {path} is not valid: {error}.") from None
