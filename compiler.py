"""The whole pipeline, top to bottom: a checkpoint goes in, a bundle that proves itself comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .candidates import AUTO, Candidate, Workbench, choose, dense_candidates, run_batches
from .devices import Device, find_device
from .errors import GateFailed, InputError
from .evidence import evidence_files
from .export.checkpoint import read
from .export.compare import check_graph
from .export.data import generated_samples, read_samples
from .export.graph import to_graph
from .export.host import host_session
from .export.trace import Program, trace
from .models.reference import Reference
from .quantize.gate import default_tolerance
from .quantize.recipe import Precision, Recipe
from .runtime.bundle import write_bundle
from .runtime.golden import Golden, pack_golden
from .runtime.machine import isa_flags
from .runtime.manifest import SCHEMA_VERSION, Check, Manifest, TensorSpec, Tolerance
from .sources import Data, data_of, first_samples, provenance_of
from .spiking import SpikingCandidate, SpikingRequest, compile_spiking
from .targets.target import Finding, Target, find_target

GOLDEN = 16  # samples kept in the bundle with the reference's outputs


def compile(  # the public name: edgeattn.compile
    checkpoint: str | Path,
    target: str = "cpu",
    *,
    output: str | Path | None = None,
    model: str | None = None,
    precision: str = "int8",
    recipe: Recipe | None = None,
    calib: str | Path | None = None,
    example: Mapping[str, np.ndarray] | None = None,
    dynamic: Mapping[str, Iterable[int]] | None = None,
    task: str | None = None,
    trust: bool = False,
    allow_uncalibrated: bool = False,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Compilation:
    """Compiles a checkpoint for a device and writes the bundle.

    target: a device of devices.yaml or an alias; precision: fp32, int8, int8-dynamic, w8, w4, or auto (the fastest measured that passes);
    calib: the user's data (.npz by input name, optionally `labels`), half of it kept for the gate; example: inputs where nothing else
    gives them; dynamic: axes per input that may vary. allow_uncalibrated: quantise on generated inputs. force: write a bundle that misses its gate.
    Raises InputError for wrong use, GateFailed where no candidate passes and `force` is not set; nothing is written then.
    """
    say = progress or (lambda _: None)
    device, note = find_device(target, isa_flags())
    backend = find_target(device.target)
    say("reading the checkpoint")
    user = None if calib is None else read_samples(calib)
    reference = read(checkpoint, model, trust, first_samples(user) if user is not None else example, task)
    data = data_of(reference, user, example)
    if backend.form == "nir":
        result = compile_spiking(SpikingRequest(reference, backend, device, data, checkpoint, _path(output, reference, device), force, say))
        return Compilation(*result, notes=(note,) if note else ())
    auto = precision == "auto"
    chosen_recipe = recipe or _recipe(backend, device, AUTO[0] if auto else precision)
    _demand_calibration(data, chosen_recipe, allow_uncalibrated)
    say("tracing")
    program = trace(reference, first_samples(data.calibration), dynamic)
    say("exporting the graph and comparing it with the module")
    graph = to_graph(program)
    export_error = check_graph(graph, program, _probes(data, program))
    findings = _check(backend, graph, device)
    expected = program.run(data.held_out.inputs)
    tolerance = default_tolerance(reference, data.held_out.labels is not None)
    bench = Workbench(program, graph, backend, device, data.calibration, data.held_out, expected, tolerance, say)
    candidates, costs = dense_candidates(bench, chosen_recipe, auto)
    candidates = choose(candidates, bench, auto)
    best = next(candidate for candidate in candidates if candidate.chosen)
    if not best.verdict.passed and not force:
        raise GateFailed(
            f"no candidate for {reference.name} on {device.name} passes the gate: the best, {best.name}, fails because {best.verdict.reason}."
        )
    say("packaging")
    artifact = backend.package(best.lowered, device)
    golden = _golden(program, data, best, expected)
    checks = (Check(name="graph equals module", ok=True, detail=f"largest relative error {export_error:.3g}"), *artifact.checks)
    manifest = Manifest(
        schema=SCHEMA_VERSION,
        name=reference.name,
        target=device.target,
        device=device.name,
        engine=artifact.engine,
        artifact=artifact.main,
        inputs=_input_specs(program),
        outputs=_output_specs(program, expected),
        precision=best.precision,
        layers=dict(artifact.layers),
        integer_layers=artifact.integer_layers,
        tolerance=_verify_tolerance(tolerance, golden),
        parity=best.verdict.parity,
        passed=best.verdict.passed,
        provenance=provenance_of(checkpoint, reference, data),
        isa=device.isa if artifact.integer_layers.quantised else (),
        checks=checks,
        left_to_device=artifact.left_to_device,
        warnings=(*artifact.warnings, *_gate_warnings(best)),
    )
    files = {**artifact.files, "golden.safetensors": pack_golden(golden), "recipe.yaml": best.quantised.recipe.to_yaml().encode()}
    path = _path(output, reference, device)
    written = write_bundle(path, manifest, files, evidence_files(candidates, costs, findings, artifact))
    return Compilation(path, written, tuple(candidates), tuple(findings), (note,) if note else ())


@dataclass(frozen=True)
class Compilation:
    """What a compile did. bundle: where it was written; findings: what the target's check said."""

    bundle: Path
    manifest: Manifest
    candidates: tuple[Candidate | SpikingCandidate, ...]
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
            "warnings": [*manifest.warnings, *self.notes],
        }


def _path(output: str | Path | None, reference: Reference, device: Device) -> Path:
    return Path(output) if output is not None else Path(f"{reference.name}-{device.name}.edge")


def _demand_calibration(data: Data, recipe: Recipe, allowed: bool) -> None:
    needs = recipe.default == "int8" or any(layer.precision == "int8" for layer in recipe.layers.values())
    if data.generated and needs and not allowed:
        raise InputError(
            "int8 needs real inputs to find its ranges: give --calib data.npz, or --precision fp32; "
            "--allow-uncalibrated goes on with generated inputs."
        )


def _recipe(target: Target, device: Device, precision: str) -> Recipe:
    known = Precision.__args__  # type: ignore[attr-defined]
    if precision not in known:
        raise InputError(f"--precision {precision!r} is not one of auto, {', '.join(known)}.")
    return msgspec.structs.replace(target.recipe(device), default=precision)


def _check(target: Target, graph: Any, device: Device) -> list[Finding]:
    findings = target.check(graph, device)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        listed = "; ".join(f"{finding.node}: {finding.message}" for finding in errors[:3])
        raise InputError(f"{device.name} cannot run this network ({len(errors)} findings): {listed}.")
    return findings


def _probes(data: Data, program: Program) -> list[dict[str, np.ndarray]]:
    """The traced example, another slice of real data, and random inputs: what the export is compared on."""
    size = len(next(iter(program.example.values())))
    random = generated_samples(program.example, size, seed=3).inputs
    return [program.example, dict(data.held_out.take(slice(0, size)).inputs), dict(random)]


def _golden(program: Program, data: Data, best: Candidate, expected: list[np.ndarray]) -> Golden:
    fixed = program.inputs[0].shape[0]
    count = min(GOLDEN, len(data.held_out)) if isinstance(fixed, str) else int(fixed)
    part = data.held_out.take(slice(0, count))
    names = program.outputs
    outputs = run_batches(host_session(best.lowered), part, program)
    ranges = {name: np.array([array.min(), array.max()]) for name, array in data.calibration.inputs.items()}
    return Golden(
        {name: np.ascontiguousarray(array) for name, array in part.inputs.items()},
        {name: array[:count] for name, array in zip(names, expected, strict=True)},
        dict(zip(names, outputs, strict=True)),
        ranges,
    )


def _verify_tolerance(gate: Tolerance, golden: Golden) -> Tolerance:
    """Per output, twice the error that the artifact has on the golden vectors here, and never below float32 rounding.

    Another CPU may round an integer the other way; it may not compute something else.
    """
    allowed = {}
    for name, reference in golden.reference.items():
        error = float(np.abs(golden.artifact[name].astype(np.float64) - reference).max(initial=0.0))
        scale = float(np.abs(reference).max(initial=0.0))
        allowed[name] = max(2 * error, 1e-4 * max(scale, 1.0))
    return msgspec.structs.replace(gate, absolute_error=allowed)


def _input_specs(program: Program) -> tuple[TensorSpec, ...]:
    return program.inputs


def _output_specs(program: Program, expected: list[np.ndarray]) -> tuple[TensorSpec, ...]:
    batched = isinstance(program.inputs[0].shape[0], str)
    return tuple(
        TensorSpec(name=name, shape=(("batch" if batched else array.shape[0]), *array.shape[1:]), dtype=str(array.dtype))
        for name, array in zip(program.outputs, expected, strict=True)
    )


def _gate_warnings(best: Candidate) -> tuple[str, ...]:
    raised = sorted(path for path, layer in best.recipe.layers.items() if layer.precision == "fp32")
    warnings = [] if best.verdict.passed else [f"this bundle misses its accuracy gate: {best.verdict.reason}."]
    if raised and best.quantised.layers:
        warnings.append(f"{len(raised)} layers stay in fp32 because int8 breaks them: {', '.join(raised)}.")
    return tuple(warnings)
