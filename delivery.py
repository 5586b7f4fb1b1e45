"""From judged candidates to the bundle: which of them it carries, their files, and what the manifest says of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from .candidates import Candidate, Workbench, run_batches
from .errors import InputError
from .runtime.golden import FILE, Golden, pack_golden
from .runtime.manifest import SCHEMA_VERSION, Check, Manifest, TensorSpec, Tolerance, Variant
from .sources import Data, Request, provenance_of
from .targets.target import Artifact, HostSession

GOLDEN = 16  # samples kept in the bundle with the reference's outputs
MB = 1e6


@dataclass(frozen=True)
class Delivery:
    """One candidate as it lies in the bundle. name: "" where it is the only one; folder: where its files are, "" or ending in a slash."""

    name: str
    folder: str
    candidate: Candidate
    artifact: Artifact
    golden: Golden

    @property
    def size(self) -> int:
        return sum(map(len, self.artifact.files.values()))


def deliveries(request: Request, bench: Workbench, ranked: Sequence[Candidate]) -> list[Delivery]:
    """At most `request.variants` of the ranked candidates, whose files together keep to the size limit; the best that fits comes first.

    Raises InputError where none fits.
    """
    found: list[Delivery] = []
    sizes: list[tuple[int, str]] = []
    limit = np.inf if request.size_limit is None else MB * request.size_limit
    for candidate in _in_turn_by_engine(ranked):
        session = candidate.target.session(candidate.lowered)
        golden = _golden(bench, request.data, session)
        artifact = candidate.target.package(candidate.lowered, bench.device, request.profiles, golden, session)
        del session
        name = _name(candidate, found) if request.variants > 1 else ""
        one = Delivery(name, f"variants/{name}/" if found else "", candidate, artifact, golden)
        sizes.append((one.size, candidate.name))
        if sum(other.size for other in (*found, one)) <= limit:
            found.append(one)
        if len(found) == request.variants:
            break
    if not found:
        size, name = min(sizes)
        raise InputError(f"nothing that passes fits into {request.size_limit:g} MB: the smallest, {name}, has {size / MB:.3g} MB.")
    return found


def marked(candidates: Iterable[Candidate], delivered: Sequence[Delivery]) -> tuple[Candidate, ...]:
    """The candidates, with what became of them."""
    names = {id(one.candidate): one.name for one in delivered}
    return tuple(
        replace(candidate, chosen=candidate is delivered[0].candidate, variant=names.get(id(candidate), ""), delivered=id(candidate) in names)
        for candidate in candidates
    )


def manifest_of(request: Request, bench: Workbench, delivered: Sequence[Delivery], checks: tuple[Check, ...]) -> Manifest:
    """The first delivery's manifest, with the others as its variants."""
    own, *others = (_described(request, bench, one) for one in delivered)
    program, device = bench.program, bench.device
    return Manifest(
        schema=SCHEMA_VERSION,
        name=request.reference.name,
        target=device.target,
        device=device.name,
        inputs=program.inputs,
        outputs=_output_specs(bench),
        passed=delivered[0].candidate.verdict.passed,
        provenance=provenance_of(request.checkpoint, request.reference, request.data),
        left_to_device=delivered[0].artifact.left_to_device,
        variants=tuple(others),
        **{**{name: getattr(own, name) for name in Variant.__struct_fields__}, "checks": (*checks, *own.checks)},
    )


def files_of(delivered: Sequence[Delivery]) -> dict[str, bytes]:
    """By path in the bundle: the first delivery at the top, each other one in its folder of variants/."""
    files: dict[str, bytes] = {}
    for one in delivered:
        golden = one.golden if not files else Golden({}, {}, one.golden.artifact, {})
        recipe = one.candidate.recipe.to_yaml().encode()
        own = {**one.artifact.files, FILE: pack_golden(golden), "recipe.yaml": recipe}
        files |= {f"{one.folder}{name}": data for name, data in own.items()}
    return files


def _described(request: Request, bench: Workbench, one: Delivery) -> Variant:
    candidate, artifact = one.candidate, one.artifact
    return Variant(
        variant=one.name,
        engine=artifact.engine,
        artifact=f"{one.folder}{artifact.main}",
        precision=candidate.precision,
        layers=dict(artifact.layers),
        integer_layers=artifact.integer_layers,
        tolerance=_verify_tolerance(bench.tolerance, one.golden),
        parity=candidate.verdict.parity,
        floats=artifact.floats,
        isa=bench.device.isa if artifact.integer_layers.quantised else (),
        checks=artifact.checks,
        warnings=(*artifact.warnings, *_gate_warnings(candidate, request.data)),
    )


def _in_turn_by_engine(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The best of each engine, then the second best of each, so that a device without one engine finds a variant for another."""
    places: dict[int, int] = {}
    counts: dict[str, int] = {}
    for candidate in ranked:
        places[id(candidate)] = counts.get(candidate.target.engine, 0)
        counts[candidate.target.engine] = places[id(candidate)] + 1
    return sorted(ranked, key=lambda candidate: places[id(candidate)])


def _name(candidate: Candidate, others: Sequence[Delivery]) -> str:
    """engine-candidate, with what runs around it, such as openvino-int8-bf16."""
    floats = candidate.recipe.floats
    around = f"-{floats}" if floats != "fp32" and floats != candidate.name else ""
    name = re.sub(r"[^a-z0-9]+", "-", f"{candidate.target.engine}-{candidate.name}{around}".lower()).strip("-")
    return name if name not in {other.name for other in others} else f"{name}-{len(others)}"


def _golden(bench: Workbench, data: Data, session: HostSession) -> Golden:
    program = bench.program
    count = program.fixed_batch or min(GOLDEN, len(data.held_out))
    part = data.held_out.take(slice(0, count))
    names = program.outputs
    outputs = run_batches(session, part, program, size=1)
    ranges = {name: np.array([array.min(), array.max()]) for name, array in data.calibration.inputs.items()}
    return Golden(
        {name: np.ascontiguousarray(array) for name, array in part.inputs.items()},
        {name: array[:count] for name, array in zip(names, bench.expected, strict=True)},
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


def _output_specs(bench: Workbench) -> tuple[TensorSpec, ...]:
    program = bench.program
    return tuple(
        TensorSpec(name=name, shape=(array.shape[0] if program.fixed_batch else "batch", *array.shape[1:]), dtype=str(array.dtype))
        for name, array in zip(program.outputs, bench.expected, strict=True)
    )


def _gate_warnings(best: Candidate, data: Data) -> tuple[str, ...]:
    warnings = [] if best.verdict.passed else [f"this bundle misses its accuracy gate: {best.verdict.reason}."]
    if best.raised:
        count = f"{len(best.raised)} layer{'s stay' if len(best.raised) > 1 else ' stays'}"
        warnings.append(f"{count} in {best.recipe.floats} (recipe.yaml says why): {', '.join(best.raised)}.")
    if best.recipe.floats == "fp16" and data.generated:
        warnings.append("which nodes float16 cannot hold was read from generated inputs: give --calib data.npz, so that larger real values are seen.")
    return tuple(warnings)
