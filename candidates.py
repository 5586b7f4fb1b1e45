"""Candidates for one dense network on one device: quantised, lowered, gated on held-out data, timed where the device is this machine."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir

from .devices import Device
from .export.host import serialise
from .export.trace import BATCH, Program, in_batches
from .models.reference import Samples
from .quantize.between import IntegersBetween, integers_throughout
from .quantize.calibrate import Quantised, quantise
from .quantize.costs import LayerCost
from .quantize.gate import Verdict, judge
from .quantize.half import place_floats
from .quantize.insert import quantised_graph
from .quantize.ladder import Ladder, climb
from .quantize.recipe import FLOATS, Floats, Recipe
from .runtime.bursts import in_turn
from .runtime.machine import isa_flags
from .runtime.manifest import Tolerance
from .targets.graphs import layer_precisions, without_metadata
from .targets.target import DenseTarget, HostSession

ROUNDS = 100  # of timing: candidates of a small network lie within a few percent
AUTO = ("int8", "int8-dynamic", "fp32")  # what --precision auto tries, narrowest first


@dataclass(frozen=True)
class Candidate:
    """One way to deliver the network.

    latency_ms: median of one sample on this machine, None where it was not measured; variant: its name in a bundle that carries several.
    """

    name: str
    recipe: Recipe
    verdict: Verdict
    target: DenseTarget = field(repr=False)
    lowered: ir.Model = field(repr=False)
    quantised_layers: int = 0
    latency_ms: float | None = None
    chosen: bool = False
    delivered: bool = False
    variant: str = ""

    @cached_property
    def size(self) -> int:
        """Bytes of its graph."""
        return len(serialise(without_metadata(self.lowered)))

    @property
    def precision(self) -> str:
        kinds = set(layer_precisions(self.lowered).values()) or {self.recipe.floats}
        return kinds.pop() if len(kinds) == 1 else "mixed " + "+".join(sorted(kinds))

    @property
    def raised(self) -> list[str]:
        """Layers that the recipe takes out of quantisation."""
        return sorted(path for path, layer in self.recipe.layers.items() if layer.precision in FLOATS)

    def to_json(self) -> dict[str, Any]:
        """One entry of `candidates` in `compile --json`."""
        parity = self.verdict.parity
        return {
            "name": self.name,
            "engine": self.target.engine,
            "precision": self.precision,
            "floats": self.recipe.floats,
            "agreement": parity.agreement,
            "metric": None if parity.metric is None else parity.metric.artifact,
            "max_abs_error": parity.max_abs_error,
            "relative_error": parity.relative_error,
            "passed": self.verdict.passed,
            "reason": self.verdict.reason,
            "raised_layers": self.raised,
            "chosen": self.chosen,
            "delivered": self.delivered,
            "variant": self.variant,
            "latency_ms": self.latency_ms,
            "bytes": self.size,
        }


@dataclass(frozen=True)
class Workbench:
    """Everything that judging a candidate needs."""

    program: Program
    graph: ir.Model
    target: DenseTarget
    device: Device
    calibration: Samples
    held_out: Samples
    expected: Sequence[np.ndarray]
    tolerance: Tolerance
    progress: Callable[[str], None]

    def lower(self, quantised: Quantised) -> ir.Model:
        graph = quantised_graph(self.graph, quantised)
        if quantised.recipe.between == "int8":
            IntegersBetween(quantised.recipe, self.calibration)(graph)
        lowered: ir.Model = self.target.lower(graph, self.device)
        place_floats(lowered, quantised.recipe, self.calibration)
        return lowered

    def candidate(self, name: str, quantised: Quantised) -> Candidate:
        """Lowered and judged; Brevitas' network is not kept, for every one holds all weights. Layers that the engine floats are left in float."""
        lowered = self.lower(quantised)
        session = self.target.session(lowered)
        while floating := self.target.floating(lowered, session):
            quantised = quantised.without(floating, f"{self.target.engine} computes it in float all the same")
            lowered = self.lower(quantised)
            session = self.target.session(lowered)
        outputs = run_batches(session, self.held_out, self.program)
        verdict = judge(self.program.reference, self.held_out, self.expected, outputs, self.tolerance)
        return Candidate(name, quantised.recipe, verdict, self.target, lowered, len(quantised.layers))


def dense_candidates(bench: Workbench, recipe: Recipe, auto: bool) -> tuple[list[Candidate], tuple[LayerCost, ...]]:
    """The candidates in the order tried, and the layers' costs where they had to be measured.

    A network whose every operator has a form on integers is tried in integers throughout before all else.
    auto: int8 with its ladder, int8-dynamic and fp32, to be chosen by latency, both int8 in coarser weights where those are faster and pass;
    else the recipe's own ladder, with floats as the last rung.
    Where the rest shall run in fewer bits than fp32, the network in those alone comes first: one that does not bear it is quantised with fp32 around.
    """
    found: list[Candidate] = []

    def attempt(name: str, quantised: Quantised) -> Verdict:
        found.append(bench.candidate(name, quantised))
        return found[-1].verdict

    def passes(name: str, candidate: Recipe) -> bool:
        bench.progress(f"trying {name}")
        return attempt(name, quantise(bench.program, candidate, bench.calibration)).passed

    def coarser_passes(finer: Recipe) -> bool:
        coarser = bench.target.coarser(finer, bench.device)
        return coarser is not None and passes(f"{coarser.default}, {coarser.weight_bits}-bit weights", coarser)

    integers = recipe.precisions - set(FLOATS)
    if recipe.floats != "fp32" or not integers:
        found.append(_float(bench, recipe if not integers else _plain(recipe, recipe.floats)))
    failed = bool(found) and not found[0].verdict.passed and recipe.floats != "fp32"
    if not integers:
        return found + ([_float(bench, _plain(recipe, "fp32"))] if failed else []), ()
    recipe = msgspec.structs.replace(recipe, floats="fp32") if failed else recipe
    if bench.target.integers_between and recipe.default == "int8" and not recipe.layers and integers_throughout(bench.graph.graph):
        throughout = msgspec.structs.replace(recipe, between="int8")
        if passes("int8 throughout", throughout) and not auto:
            return found, ()
    coarser = auto and coarser_passes(recipe)
    ladder = Ladder(True) if coarser else climb(bench.program, recipe, bench.calibration, attempt, bench.progress)
    dynamic = msgspec.structs.replace(recipe, default="int8-dynamic")
    if auto and dynamic.default in bench.target.precisions and not coarser_passes(dynamic):
        passes(dynamic.default, dynamic)
    if recipe.floats == "fp32" and (auto or not ladder.passed):
        found.append(_float(bench, _plain(recipe, "fp32")))
    return found, ladder.costs


def rank(candidates: Sequence[Candidate], bench: Workbench, auto: bool) -> tuple[list[Candidate], list[Candidate]]:
    """(the candidates, timed; those that pass, the best first): with `auto` the fastest measured, else the one with the most quantised layers.

    Without one that passes, the one nearest to the reference is ranked alone, and the caller decides whether to go on.
    """
    timed = _timed(candidates, bench)
    passed = [candidate for candidate in timed if candidate.verdict.passed]
    if not passed:
        return timed, [min(timed, key=lambda candidate: candidate.verdict.parity.relative_error)]
    if auto and all(candidate.latency_ms is not None for candidate in passed):
        return timed, sorted(passed, key=lambda candidate: candidate.latency_ms or 0.0)
    return timed, sorted(passed, key=lambda candidate: -candidate.quantised_layers)


def run_batches(session: HostSession, samples: Samples, program: Program, size: int = BATCH) -> list[np.ndarray]:
    """A graph's outputs over all samples, `size` at a time; in the traced batch size where the batch is fixed."""
    return in_batches(partial(session.run, None), samples.inputs, program.fixed_batch or size, program.fixed_batch is not None)


def _plain(recipe: Recipe, floats: Floats) -> Recipe:
    """The recipe with nothing quantised."""
    return msgspec.structs.replace(recipe, default=floats, floats=floats, layers={}, equalise=None)


def _float(bench: Workbench, recipe: Recipe) -> Candidate:
    bench.progress(f"lowering {recipe.default}")
    return bench.candidate(recipe.default, Quantised(recipe, {}, {}, bench.program.reference.module()))


def _timed(candidates: Sequence[Candidate], bench: Workbench) -> list[Candidate]:
    """Medians of one sample each, in turn, where the device could be this machine: it is named generically and its instructions fit."""
    if bench.target.name != "cpu" or not bench.device.isa or not set(bench.device.isa) <= set(isa_flags()) or bench.device.cores is not None:
        return list(candidates)
    bench.progress("timing the candidates")
    passing = [candidate for candidate in candidates if candidate.verdict.passed]
    if len(passing) > 1:
        give_back()  # all their sessions are open at once
    sessions = [candidate.target.session(candidate.lowered) for candidate in passing]
    query = dict(bench.held_out.take(slice(0, bench.program.fixed_batch or 1)).inputs)
    times = in_turn([partial(session.run, None, query) for session in sessions], ROUNDS)
    medians = {id(candidate): float(np.median(values)) for candidate, values in zip(passing, times, strict=True)}
    return [replace(candidate, latency_ms=medians.get(id(candidate))) for candidate in candidates]


def give_back() -> None:
    """What nobody holds any more goes back to the system, as far as Python and the allocator keep it: half a second each time."""
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
