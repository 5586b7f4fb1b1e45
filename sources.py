"""What a compile works on, and what its bundle says of where it came from."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from .devices import Device
from .errors import InputError
from .export.data import Profile, generated_samples, split
from .models.metrics import ACCURACY, MEAN_SQUARED_ERROR
from .models.reference import Reference, Samples
from .runtime.manifest import Provenance

TOOLS = ("edgeattn", "torch", "onnx", "onnxruntime", "onnxscript", "onnx-ir", "brevitas", "numpy")


@dataclass(frozen=True)
class Data:
    """calibration and held-out samples, and where they come from; generated: nobody's data, only the right shapes."""

    calibration: Samples
    held_out: Samples
    source: str
    generated: bool = False


@dataclass(frozen=True)
class Request:
    """What `compile` has found out before the ways of dense and spiking networks part.

    output: where the bundle goes; profiles: shapes that an engine is built for, by input; engine: the one asked for; bank: tokens that constant keys
    and values are compressed to; subspace: the share of each linear layer's inputs that its weights are reduced to; variants: how many forms the
    bundle may carry; size_limit: megabytes of them together.
    """

    reference: Reference
    device: Device
    data: Data
    checkpoint: Path
    output: Path
    force: bool
    progress: Callable[[str], None]
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    engine: str | None = None
    bank: int | None = None
    subspace: float | None = None
    variants: int = 1
    size_limit: float | None = None


def data_of(reference: Reference, user: Samples | None, example: Mapping[str, np.ndarray] | None) -> Data:
    """The user's data split in two, else the reference's own, else generated inputs; InputError where the names do not fit."""
    names = {spec.name for spec in reference.inputs}
    if user is not None:
        if set(user.inputs) != names:
            raise InputError(f"--calib has arrays {', '.join(sorted(user.inputs))}, the network takes {', '.join(sorted(names))} (and `labels`).")
        calibration, held_out = split(user)
        return Data(calibration, held_out, f"the user's data: {len(calibration)} samples calibrate, {len(held_out)} judge")
    if reference.calibration is not None and reference.evaluation is not None:
        calibration, held_out = reference.calibration(), reference.evaluation()
        return Data(calibration, held_out, f"{reference.name}'s own data: {len(calibration)} samples calibrate, {len(held_out)} judge")
    base = reference.example or example
    if base is None:
        raise InputError(f"{reference.name} brings no data: give --calib data.npz or --input name=2x128x8.")
    calibration, held_out = generated_samples(base, seed=1), generated_samples(base, seed=2)
    return Data(calibration, held_out, "generated inputs (uncalibrated: no real data was given)", generated=True)


def with_metric(reference: Reference, data: Data) -> Reference:
    """A user's network with labels is judged by accuracy or mean squared error, as its task says."""
    if reference.metric is not None or data.held_out.labels is None:
        return reference
    metric = {"classification": ACCURACY, "regression": MEAN_SQUARED_ERROR}.get(reference.task)
    return replace(reference, metric=metric)


def first_samples(samples: Samples, count: int = 2) -> dict[str, np.ndarray]:
    """The first samples as contiguous arrays of their own, to trace with."""
    return {name: array[:count].copy(order="C") for name, array in samples.inputs.items()}


def provenance_of(checkpoint: str | Path, reference: Reference, data: Data) -> Provenance:
    """Checkpoint hash, reference, data and tool versions."""
    digest = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    return Provenance(
        checkpoint=Path(checkpoint).name,
        checkpoint_sha256=digest,
        reference=reference.name,
        source=reference.source,
        tools={"python": platform.python_version(), **{name: _version(name) for name in TOOLS}},
        calibration=data.source,
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
