"""The dense half of the pipeline: module → canonical ONNX graph → quantised candidates → the target's artifact, gated and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from .candidates import AUTO, Candidate, Workbench, dense_candidates
from .delivery import deliveries, files_of, manifest_of, marked
from .devices import Device
from .errors import EngineError, GateFailed, InputError
from .evidence import evidence_files
from .export.compare import check_graph
from .export.data import Profile, check_profiles, mixed_samples
from .export.graph import to_graph
from .export.passes.compress_banks import compress_banks
from .export.trace import Program, trace
from .models.reference import Reference
from .quantize.calibrate import Quantised
from .quantize.gate import default_tolerance
from .quantize.recipe import FLOATS, Recipe
from .quantize.subspace import in_subspace
from .ranking import rank
from .runtime.bundle import write_bundle
from .runtime.machine import isa_flags
from .runtime.manifest import Check, Manifest
from .sources import Data, Request, first_samples
from .targets.target import DenseTarget, Finding


def compile_dense(
    request: Request,
    target: DenseTarget,
    precision: str | None,
    recipe: Recipe | None,
    dynamic: Mapping[str, Iterable[int]] | None,
    allow_uncalibrated: bool,
) -> tuple[Manifest, tuple[Candidate, ...], tuple[Finding, ...]]:
    """Exports, checks, tries the candidates and writes the bundle of the chosen ones.

    Raises InputError for wrong use and what the target cannot run, GateFailed where no candidate passes and the request is not forced.
    """
    reference, device, data = request.reference, request.device, request.data
    precision = precision or ("auto" if request.variants > 1 else _narrowest(target, device))
    _demand_precisions(target, device, [precision] if recipe is None else recipe.precisions)
    auto = precision == "auto"
    if request.variants > 1 and (not auto or recipe is not None):
        raise InputError("several variants are chosen among all candidates: leave --precision and --recipe out with --variants.")
    chosen_recipe = recipe or _recipe(target, device, AUTO[0] if auto else precision)
    _demand_between(target, device, chosen_recipe)
    _demand_calibration(data, chosen_recipe, allow_uncalibrated)
    if request.profiles and not target.takes_profiles:
        raise InputError(f"target {target.name} builds nothing for certain shapes: leave --profile out; --dynamic says which axes vary.")
    request.progress("tracing")
    program = trace(reference, _example(reference, data), _open_axes(dynamic, request.profiles))
    expected = program.run(data.held_out.inputs)
    checks: tuple[Check, ...] = ()
    if request.subspace is not None:
        program, reduced = _reduce(request, request.subspace, program)
        checks = (reduced,)
    check_profiles(request.profiles, program.inputs)
    request.progress("exporting the graph and comparing it with the module")
    graph = to_graph(program)
    export_error = check_graph(graph, program, _probes(data, program))
    if request.bank is not None:
        request.progress("compressing constant keys and values")
        compress_banks(graph, request.bank, data.calibration.inputs if program.dynamic else program.example)
    findings = _check(target, graph, device)
    tolerance = default_tolerance(reference, data.held_out.labels is not None)
    bench = Workbench(program, graph, target, device, data.calibration, data.held_out, expected, tolerance, request.progress)
    kept: list[Quantised] = []  # the engines of a CPU with VNNI take the same integers
    candidates, costs = dense_candidates(bench, chosen_recipe, auto, kept)
    for other in target.alternatives() if auto and request.engine is None and recipe is None else ():
        others, refused = _by_engine(replace(bench, target=other), kept)
        candidates, findings = candidates + others, findings + refused
    candidates, ranked = rank(candidates, bench, auto)
    if not ranked[0].verdict.passed and not request.force:
        failed = f"no candidate for {reference.name} on {device.name} passes the gate"
        raise GateFailed(f"{failed}: the best, {ranked[0].name}, fails because {ranked[0].verdict.reason}.")
    request.progress("packaging")
    delivered = deliveries(request, bench, ranked)
    exported = Check(name="graph equals module", ok=True, detail=f"largest relative error {export_error:.3g}")
    manifest = manifest_of(request, bench, delivered, (*checks, exported))
    tried = marked(candidates, delivered)
    written = write_bundle(request.output, manifest, files_of(delivered), evidence_files(tried, costs, findings, delivered[0].artifact))
    return written, tried, tuple(findings)


def _reduce(request: Request, kept: float, program: Program) -> tuple[Program, Check]:
    """The program with its linear layers in the subspaces of their inputs, and what that saved; judged against the outputs it had before."""
    if request.data.generated:
        raise InputError("--subspace needs real inputs to find the directions that matter: give --calib data.npz, or leave it out.")
    request.progress("reducing linear layers to the subspaces of their inputs")
    reduced = in_subspace(program, kept, request.data.calibration)
    ranks = reduced.ranks.values()
    detail = f"linear layers reduced: {len(ranks)}, ranks {min(ranks)} to {max(ranks)}; {reduced.weights[1]:,} of {reduced.weights[0]:,} weights left"
    return trace(reduced.reference, program.example, program.dynamic or None), Check(name=f"subspace {kept:g}", ok=True, detail=detail)


def _open_axes(dynamic: Mapping[str, Iterable[int]] | None, profiles: Mapping[str, Profile]) -> dict[str, tuple[int, ...]] | None:
    """The axes asked for, and those that a profile varies."""
    if dynamic is None and not any(set(profile.open_axes) - {0} for profile in profiles.values()):
        return None
    asked = dynamic or {}
    return {name: tuple(sorted({*asked.get(name, ()), *(profiles[name].open_axes if name in profiles else ())})) for name in {**asked, **profiles}}


def _narrowest(target: DenseTarget, device: Device) -> str:
    """int8 where the device computes with it, else the narrowest float that it has."""
    return "int8" if "int8" in device.formats else next(kind for kind in target.precisions if kind in device.formats)


def _demand_precisions(target: DenseTarget, device: Device, asked: Iterable[str]) -> None:
    for precision in asked:
        if precision not in target.precisions:
            raise InputError(f"--precision {precision!r} is not one of {', '.join(target.precisions)}, which target {target.name} takes.")
        if precision in ("int8", "fp16") and precision not in device.formats:
            usable = ", ".join(kind for kind in target.precisions if kind in device.formats)
            raise InputError(f"{device.name} has no {precision}, its formats are {', '.join(device.formats)}: use --precision {usable}.")


def _demand_between(target: DenseTarget, device: Device, recipe: Recipe) -> None:
    if recipe.between == "attention" and recipe.between not in target.between(device):
        raise InputError(
            f"the recipe wants attention's products in integers, which {target.engine} does not take on {device.name}: leave `between` out, or use "
            "--engine openvino for a CPU with VNNI."
        )


def _example(reference: Reference, data: Data) -> dict[str, np.ndarray]:
    """What the network is traced with: two samples, or as many as the program takes."""
    size = reference.batch or 2
    if reference.batch is not None and min(len(data.calibration), len(data.held_out)) < size:
        raise InputError(
            f"{reference.name} was exported for {size} samples a call, and of the data {len(data.calibration)} calibrate and {len(data.held_out)} "
            f"judge: give {2 * size} samples or more, or export it with dynamic_shapes={{name: {{0: Dim('batch')}}}}."
        )
    return first_samples(data.calibration, size)


def _by_engine(bench: Workbench, kept: list[Quantised]) -> tuple[list[Candidate], list[Finding]]:
    """What `auto` tries of a second engine; where that refuses a graph, the first one's candidates are left, and a finding says so."""
    found: list[Candidate] = []
    for floats in bench.target.floats(isa_flags()):
        if any(candidate.recipe.floats == floats for candidate in found):
            continue  # tried where the network did not bear fewer bits
        wanted = msgspec.structs.replace(_recipe(bench.target, bench.device, AUTO[0]), floats=floats)
        try:
            found += dense_candidates(bench, wanted, True, kept)[0]
        except EngineError as error:
            return found, [Finding("cpu.engine", "warning", bench.target.engine, f"left out from here on: {error}")]
    return found, []


def _demand_calibration(data: Data, recipe: Recipe, allowed: bool) -> None:
    if data.generated and "int8" in recipe.precisions and not allowed:
        raise InputError(
            "int8 needs real inputs to find its ranges: give --calib data.npz, or --precision fp32; "
            "--allow-uncalibrated goes on with generated inputs."
        )


def _recipe(target: DenseTarget, device: Device, precision: str) -> Recipe:
    usual = target.recipe(device)
    floats = precision if precision in FLOATS else usual.floats
    return msgspec.structs.replace(usual, default=precision, floats=floats)


def _check(target: DenseTarget, graph: Any, device: Device) -> list[Finding]:
    findings = target.check(graph, device)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        listed = "; ".join(f"{finding.node}: {finding.message}" for finding in errors[:3])
        raise InputError(f"{device.name} cannot run this network ({len(errors)} findings): {listed}.")
    return findings


def _probes(data: Data, program: Program) -> list[dict[str, np.ndarray]]:
    """The traced example, another slice of real data, and random inputs: what the export is compared on.

    Random within the data's range: far outside it, say raw units around 0 instead of 37, float32 may lose its digits in module and graph alike.
    """
    size = len(next(iter(program.example.values())))
    random = mixed_samples(data.calibration, size, seed=3).inputs
    return [program.example, dict(data.held_out.take(slice(0, size)).inputs), dict(random)]
