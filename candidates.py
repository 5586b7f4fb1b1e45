"""Candidates for one dense network on one device: quantised, lowered, gated on held-out data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from .quantize.attention import IntegerAttention, attends
from .quantize.between import IntegersBetween, integers_throughout
from .quantize.calibrate import Quantised, quantise
from .quantize.costs import LayerCost
from .quantize.gate import Verdict, judge
from .quantize.half import place_floats
from .quantize.insert import quantised_graph
from .quantize.ladder import Ladder, climb
from .quantize.recipe import FLOATS, Floats, Recipe
from .runtime.manifest import Tolerance
from .runtime.memory import give_back, trim
from .targets.graphs import layer_precisions, without_metadata
from .targets.target import DenseTarget, HostSession

LARGE = 4e6  # bytes of weights
AUTO = ("int8", "int8-dynamic", "fp32")  # what --precision auto tries, narrowest first


@dataclass(frozen=True)
class Candidate:
    """One way to deliver the network.

    size: bytes of its graph; latency_ms: median of one sample on this machine, None where it was not measured;
    variant: its name in a bundle that carries several.
    """

    name: str
    recipe: Recipe
    verdict: Verdict
    target: DenseTarget = field(repr=False)
    lowered: ir.Model = field(repr=False)
    size: int
    quantised_layers: int = 0
    latency_ms: float | None = None
    chosen: bool = False
    delivered: bool = False
    variant: str = ""

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
            "between": self.recipe.between,
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

    @cached_property
    def is_large(self) -> bool:
        """Whether what a candidate leaves behind, such as Brevitas' network in cycles of references, is worth looking for."""
        return sum(value.const_value.nbytes for value in self.graph.graph.initializers.values() if value.const_value is not None) > LARGE

    def lower(self, quantised: Quantised) -> ir.Model:
        graph = quantised_graph(self.graph, quantised)
        if quantised.recipe.between == "int8":
            IntegersBetween(quantised.recipe, self.calibration)(graph)
        lowered: ir.Model = self.target.lower(graph, self.device)
        if quantised.recipe.between == "attention":
            IntegerAttention(self.calibration)(lowered)
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
        candidate = Candidate(name, quantised.recipe, verdict, self.target, lowered, len(serialise(without_metadata(lowered))), len(quantised.layers))
        del session
        trim()
        return candidate


def dense_candidates(bench: Workbench, recipe: Recipe, auto: bool, kept: list[Quantised]) -> tuple[list[Candidate], tuple[LayerCost, ...]]:
    """The candidates in the order tried, and the layers' costs where they had to be measured.

    A network whose every operator has a form on integers is tried in integers throughout before all else.
    auto: int8 with its ladder, int8-dynamic and fp32, to be chosen by latency, both int8 in coarser weights where those are faster and pass;
    else the recipe's own ladder, with floats as the last rung. What passes in int8 is tried with attention's products in integers too, where the
    target takes them.
    Where the rest shall run in fewer bits than fp32, the network in those alone comes first: one that does not bear it is quantised with fp32 around.
    kept: integers that passed, to which this adds; those that passed in another engine or with other floats around are not made again.
    """
    found: list[Candidate] = []
    passed: list[Quantised] = []

    def attempt(name: str, quantised: Quantised) -> Verdict:
        found.append(bench.candidate(name, quantised))
        if found[-1].verdict.passed:
            passed.append(replace(quantised, module=None))
        if bench.is_large:
            give_back()
        return found[-1].verdict

    def passes(name: str, candidate: Recipe) -> bool:
        bench.progress(f"trying {name}")
        return attempt(name, quantise(bench.program, candidate, bench.calibration)).passed

    def coarser_passes(finer: Recipe) -> bool:
        coarser = bench.target.coarser(finer, bench.device)
        return coarser is not None and passes(f"{coarser.default}, {coarser.weight_bits}-bit weights", coarser)

    between = bench.target.between(bench.device)
    integers = recipe.precisions - set(FLOATS)
    if recipe.floats != "fp32" or not integers:
        found.append(_float(bench, recipe if not integers else _plain(recipe, recipe.floats)))
    failed = bool(found) and not found[0].verdict.passed and recipe.floats != "fp32"
    if not integers:
        return found + ([_float(bench, _plain(recipe, "fp32"))] if failed else []), ()
    recipe = msgspec.structs.replace(recipe, floats="fp32") if failed else recipe
    if "int8" in between and recipe.default == "int8" and not recipe.layers and integers_throughout(bench.graph.graph):
        throughout = msgspec.structs.replace(recipe, between="int8")
        if passes("int8 throughout", throughout) and not auto:
            return found, ()
    coarser = auto and coarser_passes(recipe)
    before = (quantised.around(recipe.floats) for quantised in kept)
    same = next((quantised for quantised in before if quantised.recipe == recipe), None)
    known = same is not None and not coarser and attempt(recipe.default, same).passed
    ladder = Ladder(True) if coarser or known else climb(bench.program, recipe, bench.calibration, attempt, bench.progress)
    kept.extend(passed)
    if auto and passed and "attention" in between and attends(bench.graph.graph):
        bench.progress("trying attention in integers")
        best = passed[-1]
        attempt(f"{recipe.default} with attention", replace(best, recipe=msgspec.structs.replace(best.recipe, between="attention")))
    dynamic = msgspec.structs.replace(recipe, default="int8-dynamic")
    if auto and dynamic.default in bench.target.precisions and not coarser_passes(dynamic):
        passes(dynamic.default, dynamic)
    if recipe.floats == "fp32" and (auto or not ladder.passed):
        found.append(_float(bench, _plain(recipe, "fp32")))
    return found, ladder.costs


def run_batches(session: HostSession, samples: Samples, program: Program, size: int = BATCH) -> list[np.ndarray]:
    """A graph's outputs over all samples, `size` at a time; in the traced batch size where the batch is fixed."""
    return in_batches(partial(session.run, None), samples.inputs, program.fixed_batch or size, program.fixed_batch is not None)


def _plain(recipe: Recipe, floats: Floats) -> Recipe:
    """The recipe with nothing quantised."""
    return msgspec.structs.replace(recipe, default=floats, floats=floats, layers={}, equalise=None)


def _float(bench: Workbench, recipe: Recipe) -> Candidate:
    bench.progress(f"lowering {recipe.default}")
    return bench.candidate(recipe.default, Quantised(recipe, {}, {}))
