"""Golden vectors: example inputs, the reference's outputs, and what the artifact gave on the compiling machine.

golden.safetensors holds `input.NAME`, `reference.NAME`, `artifact.NAME` (samples, ...) and `range.NAME` (2,): the least and
largest value of each input in the calibration data. Beside the artifact of another variant lies one with `artifact.NAME` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import BundleError
from .bundle import Bundle

FILE = "golden.safetensors"


@dataclass(frozen=True)
class Golden:
    """Arrays by tensor name; samples on the leading axis."""

    inputs: Mapping[str, np.ndarray]
    reference: Mapping[str, np.ndarray]
    artifact: Mapping[str, np.ndarray]
    ranges: Mapping[str, np.ndarray]


def pack_golden(golden: Golden) -> bytes:
    """The bytes of golden.safetensors; the same arrays give the same bytes."""
    groups = {"input": golden.inputs, "reference": golden.reference, "artifact": golden.artifact, "range": golden.ranges}
    tensors = {f"{kind}.{name}": np.ascontiguousarray(array) for kind, arrays in groups.items() for name, array in sorted(arrays.items())}
    return bytes(save(tensors))


def unpack_golden(data: bytes) -> Golden:
    """Inverse of `pack_golden`; raises BundleError where the bytes are no safetensors file."""
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as error:
        raise BundleError(f"{FILE} cannot be read ({error}): copy the bundle again.") from None
    groups: dict[str, dict[str, np.ndarray]] = {"input": {}, "reference": {}, "artifact": {}, "range": {}}
    for key, array in tensors.items():
        kind, _, name = key.partition(".")
        groups.setdefault(kind, {})[name] = array
    return Golden(groups["input"], groups["reference"], groups["artifact"], groups["range"])


def golden_of(bundle: Bundle) -> Golden:
    """The vectors that a bundle's form is held against; `artifact` is what this form gave."""
    shared = unpack_golden(bundle.read(FILE))
    own = str(PurePosixPath(bundle.manifest.artifact).with_name(FILE))
    return shared if own == FILE else replace(shared, artifact=unpack_golden(bundle.read(own)).artifact)


def queries_of(bundle: Bundle, golden: Golden | None = None) -> list[dict[str, np.ndarray]]:
    """The golden inputs one sample at a time; all at once where the batch is fixed. golden: the bundle's own, where they are read already."""
    inputs = (golden or golden_of(bundle)).inputs
    if not all(spec.shape and isinstance(spec.shape[0], str) for spec in bundle.manifest.inputs):
        return [dict(inputs)]
    count = len(next(iter(inputs.values())))
    return [{name: np.ascontiguousarray(array[i : i + 1]) for name, array in inputs.items()} for i in range(count)]
