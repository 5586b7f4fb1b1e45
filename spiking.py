"""The spiking half of the pipeline: module → NIR → mappings, each run by the emulator and gated against the source network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import GateFailed, InputError
from .evidence import evidence_files
from .export.network import network_of
from .export.nir import NirModule, to_nir
from .export.trace import run_module
from .plots import ladder
from .quantize.gate import Verdict, judge
from .runtime.bundle import write_bundle
from .runtime.emulator import Board, Emulator
from .runtime.golden import Golden, pack_golden
from .runtime.manifest import SCHEMA_VERSION, Check, Manifest, TensorSpec, Tolerance
from .sources import Data, Request, provenance_of
from .targets.target import Artifact, Finding, SpikingTarget

AGREEMENT = 0.99  # less than one point lost
GOLDEN = 16
BATCH = 100


@dataclass(frozen=True)
class SpikingCandidate:
    """One mapping and how it agrees with the source network. identical: share of samples with every spike count equal."""

    name: str
    board: Board
    verdict: Verdict
    identical: float
    saturated: int
    counts: np.ndarray
    chosen: bool = False

    def to_json(self) -> dict[str, Any]:
        """One entry of `candidates` in `compile --json`."""
        parity = self.verdict.parity
        return {
            "name": self.name,
            "precision": "s16.15",
            "agreement": parity.agreement,
            "identical": self.identical,
            "metric": None if parity.metric is None else parity.metric.artifact,
            "max_abs_error": parity.max_abs_error,
            "relative_error": parity.relative_error,
            "saturated_ring_buffers": self.saturated,
            "passed": self.verdict.passed,
            "reason": self.verdict.reason,
            "chosen": self.chosen,
            "latency_ms": None,
        }


def compile_spiking(
    request: Request, target: SpikingTarget, allow_uncalibrated: bool
) -> tuple[Manifest, tuple[SpikingCandidate, ...], tuple[Finding, ...]]:
    """Maps the network, lets the emulated board judge every mapping, and writes the bundle of the best one that passes.

    Raises InputError for what has no mapping, naming it; GateFailed where none agrees on 99 % of held-out samples and `force` is not set.
    """
    reference, device, data = request.reference, request.device, request.data
    if data.generated and not allow_uncalibrated:
        raise InputError(
            f"scales are chosen from what events make the neurons of {reference.name} do: give --calib events.npz; "
            "--allow-uncalibrated goes on with generated events."
        )
    request.progress("exporting to NIR")
    name, module = reference.inputs[0].name, reference.module()
    graph = to_nir(module, tuple(int(size) for size in reference.inputs[0].shape[2:]))
    network = module.network if isinstance(module, NirModule) else network_of(graph)
    findings = target.check(network, device)
    request.progress("measuring ranges and mapping")
    boards = target.variants(network, device, _flat(data.calibration.inputs[name]))
    request.progress("running the source network")
    expected = run_module(module, data.held_out.inputs, BATCH)[0]
    tolerance = Tolerance(agreement=AGREEMENT)
    candidates = []
    for label, board in boards.items():
        request.progress(f"emulating the board: {label}")
        counts, saturated = _emulate(board, data.held_out.inputs[name])
        verdict = judge(reference, data.held_out, [expected], [counts], tolerance)
        candidates.append(SpikingCandidate(label, board, verdict, float((counts == expected).all(1).mean()), saturated, counts))
    best = max(candidates, key=lambda candidate: (candidate.verdict.parity.agreement or 0.0, candidate.identical))
    if not best.verdict.passed and not request.force:
        raise GateFailed(
            f"no mapping of {reference.name} on {device.name} passes the gate: the best, {best.name}, fails because {best.verdict.reason}."
        )
    candidates = [replace(candidate, chosen=candidate is best) for candidate in candidates]
    request.progress("packaging")
    trains = Emulator(best.board).run(_flat(data.held_out.inputs[name][:GOLDEN])).spikes
    artifact = target.package(network, best.board, device, trains)
    golden = _golden(name, data, expected, best.counts)
    manifest = _manifest(request, best, artifact, expected, tolerance, golden)
    files = {**artifact.files, "network.nir": _nir_bytes(graph), "golden.safetensors": pack_golden(golden)}
    written = write_bundle(request.output, manifest, files, {**evidence_files(candidates, (), findings, artifact), **_ladder(candidates)})
    return written, tuple(candidates), tuple(findings)


def _emulate(board: Board, events: np.ndarray) -> tuple[np.ndarray, int]:
    """(counts (samples, classes) float32, how often a ring buffer was full)."""
    emulator, counts, saturated = Emulator(board), [], 0
    for start in range(0, len(events), BATCH):
        run = emulator.run(_flat(events[start : start + BATCH]))
        counts.append(run.spikes[board.readout].sum(1, dtype=np.float32))
        saturated += sum(run.saturated.values())
    return np.concatenate(counts), saturated


def _ladder(candidates: Sequence[SpikingCandidate]) -> dict[str, bytes]:
    """ladder.md and ladder.svg: every mapping on the same samples."""
    rows = ["| mapping | same class | all spike counts equal | ring buffers full |", "| --- | --- | --- | --- |"]
    shares = [candidate.verdict.parity.agreement or 0.0 for candidate in candidates]
    for candidate, share in zip(candidates, shares, strict=True):
        rows.append(f"| {candidate.name}{', chosen' * candidate.chosen} | {share:.1%} | {candidate.identical:.1%} | {candidate.saturated:,} |")
    return {"ladder.md": ("\n".join(rows) + "\n").encode(), "ladder.svg": ladder([c.name for c in candidates], {"": shares}, AGREEMENT)}


def _flat(events: np.ndarray) -> np.ndarray:
    if events.ndim < 3 or events.dtype.kind not in "uib" or events.max(initial=0) > 1:
        raise InputError(f"event frames are integers 0 or 1 of shape (samples, steps, ...), not {events.dtype} {events.shape}.")
    return events.reshape(*events.shape[:2], -1)


def _golden(name: str, data: Data, expected: np.ndarray, counts: np.ndarray) -> Golden:
    inputs = {name: np.ascontiguousarray(data.held_out.inputs[name][:GOLDEN])}
    ranges = {name: np.array([0, 1], np.uint8)}
    return Golden(inputs, {"counts": expected[:GOLDEN]}, {"counts": counts[:GOLDEN]}, ranges)


def _manifest(request: Request, best: SpikingCandidate, artifact: Artifact, expected: np.ndarray, tolerance: Tolerance, golden: Golden) -> Manifest:
    reference, device = request.reference, request.device
    allowed = float(np.abs(golden.artifact["counts"] - golden.reference["counts"]).max(initial=0.0))
    spec = reference.inputs[0]
    return Manifest(
        schema=SCHEMA_VERSION,
        name=reference.name,
        target=device.target,
        device=device.name,
        engine=artifact.engine,
        artifact=artifact.main,
        inputs=(TensorSpec(spec.name, ("batch", "steps", *spec.shape[2:]), spec.dtype, spec.unit, spec.preprocessing),),
        outputs=(TensorSpec("counts", ("batch", expected.shape[1]), "float32", unit="spikes in the window"),),
        precision="s16.15",
        layers=dict(artifact.layers),
        integer_layers=artifact.integer_layers,
        tolerance=Tolerance(agreement=tolerance.agreement, absolute_error={"counts": allowed}),
        parity=best.verdict.parity,
        passed=best.verdict.passed,
        provenance=provenance_of(request.checkpoint, reference, request.data),
        checks=(
            Check(name="emulated board", ok=best.verdict.passed, detail=f"{best.name}; {best.identical:.1%} of samples identical"),
            *artifact.checks,
        ),
        left_to_device=artifact.left_to_device,
        warnings=() if best.verdict.passed else (f"this bundle misses its gate: {best.verdict.reason}.",),
    )


def _nir_bytes(graph: Any) -> bytes:
    """The NIR graph as the bytes of its HDF5 file."""
    import io

    import nir

    buffer = io.BytesIO()
    nir.write(buffer, graph)
    return buffer.getvalue()
