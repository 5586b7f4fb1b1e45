"""The whole pipeline, top to bottom: a checkpoint goes in, a bundle that proves itself comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .candidates import Candidate
from .dense import compile_dense
from .devices import find_device, with_software
from .errors import InputError
from .export.checkpoint import read
from .export.data import Profile, read_samples
from .export.network import STEP, Reset
from .export.recordings import read_recordings
from .quantize.recipe import Recipe
from .runtime.machine import isa_flags
from .runtime.manifest import Manifest
from .sources import Request, data_of, first_samples, with_metric
from .spiking import SpikingCandidate, compile_spiking
from .targets.target import Finding, find_target


def compile(  # the public name: edgeattn.compile
    checkpoint: str | Path,
    target: str = "cpu",
    *,
    output: str | Path | None = None,
    model: str | None = None,
    precision: str | None = None,
    recipe: Recipe | None = None,
    calib: str | Path | None = None,
    example: Mapping[str, np.ndarray] | None = None,
    dynamic: Mapping[str, Iterable[int]] | None = None,
    task: str | None = None,
    timestep: float = STEP,
    reset: Reset | None = None,
    window: int = 35,
    roi: int | None = None,
    jetpack: str | None = None,
    profiles: Mapping[str, Profile] | None = None,
    engine: str | None = None,
    bank: int | None = None,
    subspace: float | None = None,
    variants: int = 1,
    size_limit: float | None = None,
    trust: bool = False,
    allow_uncalibrated: bool = False,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Compilation:
    """Compiles a checkpoint for a device and writes the bundle.

    target: a device of devices.yaml or an alias; precision: fp32, fp16, int8, int8-dynamic, w8, w4, auto (the fastest
    measured that passes), None (int8 where the device has it);
    calib: the user's data (.npz by input name, optionally `labels`), half of it kept for the gate; for spiking networks also a folder of event
    recordings, one sub-folder a class: the first `window` ms of each and `roi` pixels about its salient place. example: inputs where nothing
    else gives them; dynamic: axes per input that may vary; timestep, reset: of a NIR graph, seconds a step and how its neurons reset (value,
    subtract or hold) where it does not say; jetpack: the software line on a Jetson, such as 5.1;
    profiles: by input, the shapes that a Jetson's engine is built for (their varying axes become dynamic);
    engine: onnxruntime or openvino, on a CPU; None: onnxruntime, and with precision auto the faster one of those installed.
    bank: constant keys and values that attention reads are compressed to so many tokens, judged against the whole ones;
    subspace: reduce linear layers to the directions that hold this share of their inputs' squared norm (0.999, say), where that makes them smaller.
    variants: how many forms the bundle may carry, for `edgeattn tune` to choose from on the device: the fastest of each engine, then the next;
    size_limit: megabytes of all of them together.
    allow_uncalibrated: quantise on generated inputs. force: write a bundle that misses its gate.
    Raises InputError for wrong use, GateFailed where no candidate passes and `force` is not set; nothing is written then.
    """
    say = progress or (lambda _: None)
    device, note = find_device(target, isa_flags())
    device = device if jetpack is None else with_software(device, "jetpack", jetpack)
    backend = find_target(device.target, engine)
    say("reading the checkpoint")
    folder = calib is not None and Path(calib).is_dir()
    user = None if calib is None or folder else read_samples(calib)
    reference = read(checkpoint, model, trust, first_samples(user) if user is not None else example, task, timestep=timestep, reset=reset)
    path = Path(output) if output is not None else Path(f"{reference.name}-{device.name}.edge")
    if backend.form != "nir" and reference.targets == ("spinnaker",):
        raise InputError(f"{reference.name} is a network of spiking neurons: compile it with --target spinnaker.")
    if backend.form == "nir" and subspace is not None:
        raise InputError("--subspace is for networks of linear layers, not of spiking neurons: leave it out.")
    if backend.form == "nir" and (variants > 1 or size_limit is not None):
        raise InputError("--variants and --size-limit are for networks that an engine runs, not for spiking ones: leave them out.")
    if variants < 1 or (size_limit is not None and size_limit <= 0):
        raise InputError("--variants must be at least 1 and --size-limit positive.")
    if folder:
        say("reading the recordings")
        user = read_recordings(Path(str(calib)), reference.inputs[0], window, roi)
    data = data_of(reference, user, example)
    del user  # its halves are copies
    request = Request(
        with_metric(reference, data), device, data, Path(checkpoint), path, force, say, profiles or {}, engine, bank, subspace, variants, size_limit
    )
    if backend.form == "nir":
        manifest, mappings, findings = compile_spiking(request, backend, allow_uncalibrated)
        return Compilation(path, manifest, mappings, findings, (note,) if note else ())
    manifest, candidates, findings = compile_dense(request, backend, precision, recipe, dynamic, allow_uncalibrated)
    return Compilation(path, manifest, candidates, findings, (note,) if note else ())


@dataclass(frozen=True)
class Compilation:
    """What a compile did. bundle: where it was written; findings: what the target's check said."""

    bundle: Path
    manifest: Manifest
    candidates: tuple[Candidate, ...] | tuple[SpikingCandidate, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The object that `edgeattn compile --json` prints."""
        manifest = self.manifest
        return {
            "bundle": str(self.bundle),
            "target": manifest.target,
            "device": manifest.device,
            "precision": manifest.precision,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "parity": msgspec.to_builtins(manifest.parity),
            "integer_layers": msgspec.to_builtins(manifest.integer_layers),
            "checks": msgspec.to_builtins(manifest.checks),
            "findings": [vars(finding) for finding in self.findings],
            "left_to_device": list(manifest.left_to_device),
            "warnings": [*manifest.warnings, *self.notes],
        }
