"""The manifest: what a bundle says about itself, as one typed structure with a published JSON Schema.

`manifest.json` is *sealed*: canonical JSON (sorted keys, two-space indent) whose `digest` field is the sha256 of the
same JSON with an empty digest. So a change of any byte, even of white space, is found without a second file.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from ..errors import BundleError

SCHEMA_VERSION = 2  # 2: several variants in one bundle


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class TensorSpec(_Record, frozen=True):
    """One input or output. A string in `shape` names a dynamic axis; `dtype` is numpy's name."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    unit: str = ""
    preprocessing: str = ""


class Tolerance(_Record, frozen=True):
    """What the gate and `verify` accept, against the float reference.

    agreement: least share of samples with the reference's top-1 (None where outputs are no class scores);
    metric_loss: largest loss of the task metric, in the metric's unit; relative_error: ||y - ref|| / ||ref||;
    absolute_error: per output, the largest |y - ref| that `verify` accepts on the golden vectors.
    """

    agreement: float | None = None
    metric_loss: float | None = None
    relative_error: float | None = None
    absolute_error: dict[str, float] = {}


class MetricParity(_Record, frozen=True):
    name: str
    reference: float
    artifact: float
    unit: str = ""


class Parity(_Record, frozen=True):
    """The artifact against the reference. `metric` and `agreement` are None where they have no meaning."""

    max_abs_error: float
    relative_error: float
    cosine: float
    agreement: float | None = None
    metric: MetricParity | None = None
    samples: int = 0


class IntegerLayers(_Record, frozen=True):
    """Layers that the recipe quantised, and how many of them the engine runs with an integer kernel."""

    quantised: int
    integer_in_engine: int | None


class Check(_Record, frozen=True):
    name: str
    ok: bool
    detail: str = ""


class Provenance(_Record, frozen=True):
    checkpoint: str
    checkpoint_sha256: str
    reference: str
    source: str
    tools: dict[str, str]
    calibration: str  # "calibration data: NAME, n samples" or "generated inputs (uncalibrated)"


class FileEntry(_Record, frozen=True):
    sha256: str
    size: int


class Variant(_Record, frozen=True):
    """Another form of the same network: what differs from the manifest that lists it, under the same names."""

    variant: str
    engine: str
    artifact: str
    precision: str
    layers: dict[str, str]
    integer_layers: IntegerLayers
    tolerance: Tolerance
    parity: Parity
    floats: str = "fp32"
    isa: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    warnings: tuple[str, ...] = ()


class Manifest(_Record, frozen=True):
    schema: int
    name: str
    target: str
    device: str
    engine: str
    artifact: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str
    layers: dict[str, str]
    integer_layers: IntegerLayers
    tolerance: Tolerance
    parity: Parity
    passed: bool
    provenance: Provenance
    floats: str = "fp32"  # what runs in what is not quantised: fp32, fp16 or bf16
    isa: tuple[str, ...] = ()  # instruction-set features whose kernels the artifact was made for
    checks: tuple[Check, ...] = ()
    left_to_device: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    files: dict[str, FileEntry] = {}
    variant: str = ""  # the name of the form described here, where the bundle carries several
    variants: tuple[Variant, ...] = ()  # the others; each passed the gate
    digest: str = ""

    def forms(self) -> dict[str, Manifest]:
        """By name, what this manifest would say if the bundle carried that form alone; its own comes first."""
        own = msgspec.structs.replace(self, variants=())
        return {self.variant: own} | {
            other.variant: msgspec.structs.replace(own, **{field: getattr(other, field) for field in Variant.__struct_fields__})
            for other in self.variants
        }


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of manifest.json, generated from these types."""
    return msgspec.json.schema(Manifest)


def seal(value: Any) -> bytes:
    """Canonical JSON of a mapping or record, with `digest` set."""
    plain = msgspec.to_builtins(value)
    plain["digest"] = ""
    plain["digest"] = hashlib.sha256(_canonical(plain)).hexdigest()
    return _canonical(plain)


def unseal(data: bytes, where: str) -> dict[str, Any]:
    """Inverse of `seal`: the digest is that of the very bytes, so nothing has to be written again to be compared.

    Raises BundleError, naming `where`, if a byte differs from what `seal` wrote.
    """
    try:
        plain = json.loads(data)
        if not isinstance(plain, dict):
            raise ValueError("not a JSON object")
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not readable JSON ({error}): copy the bundle again.") from None
    digest = plain.get("digest")
    plain["digest"] = ""
    # Line breaks are escaped within strings, so this line can only be the outermost field.
    line = f'\n  "digest": "{digest}"'.encode(errors="replace")
    if data.count(line) != 1 or digest != hashlib.sha256(data.replace(line, b'\n  "digest": ""')).hexdigest():
        raise BundleError(f"{where} was changed after the bundle was written (its digest does not match): copy the bundle again or recompile.")
    return plain


def _canonical(plain: Any) -> bytes:
    return (json.dumps(plain, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


if __name__ == "__main__":  # writes the published schema beside this file
    from pathlib import Path

    Path(__file__).with_name("manifest.schema.json").write_text(json.dumps(json_schema(), indent=2) + "\n")
