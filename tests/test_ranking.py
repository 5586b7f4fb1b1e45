"""How candidates are put in order: the fastest first, without all of them being open at once."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from onnx_ir import DataType

import edgeattn
from edgeattn.candidates import Candidate, Workbench, dense_candidates
from edgeattn.devices import find_device
from edgeattn.export.graph import to_graph
from edgeattn.export.trace import trace
from edgeattn.models.reference import Samples
from edgeattn.models.registry import find
from edgeattn.quantize import calibrate
from edgeattn.quantize.gate import default_tolerance
from edgeattn.quantize.recipe import Recipe
from edgeattn.ranking import rank
from edgeattn.runtime.machine import isa_flags
from edgeattn.targets.cpu.openvino import OPENVINO
from edgeattn.targets.cpu.passes.signs import saturates


class Sleeping:
    """A session whose calls take so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def run(self, names, inputs):
        time.sleep(self.seconds)


@dataclass(eq=False)
class Engine:
    """A target whose graph is the seconds that a call takes; counts the sessions that are open."""

    engine: str
    alive: weakref.WeakSet = field(default_factory=weakref.WeakSet)
    most: int = 0
    name: str = "cpu"

    def session(self, lowered):
        session = Sleeping(lowered)
        self.alive.add(session)
        self.most = max(self.most, len(self.alive))
        return session


def candidate(engine: Engine, seconds: float, size: int, passed: bool = True, error: float | None = None) -> Candidate:
    verdict = SimpleNamespace(passed=passed, parity=SimpleNamespace(relative_error=seconds if error is None else error))
    return Candidate(f"{engine.engine} {seconds}", Recipe(), verdict, engine, seconds, size)


@pytest.fixture
def bench():
    device, _ = find_device("cpu", isa_flags())
    held_out, program = Samples({"x": np.zeros((2, 1))}), SimpleNamespace(fixed_batch=None)
    return SimpleNamespace(target=Engine(""), device=device, progress=lambda _: None, held_out=held_out, program=program)


def test_what_is_far_behind_its_engine_is_timed_and_closed(bench):
    first, second = Engine("a"), Engine("b")
    tried = [candidate(first, 0.03, 3), candidate(first, 0.002, 2), candidate(first, 0.03, 2), candidate(first, 0.03, 1), candidate(second, 0.006, 1)]
    timed, ranked = rank(tried, bench, auto=True)
    assert [one.name for one in ranked[:2]] == ["a 0.002", "b 0.006"]  # slower than its rival by far, but the only one of its engine
    assert [one.latency_ms is not None for one in timed] == [True] * 5
    assert ranked[0].latency_ms == min(one.latency_ms for one in timed)
    assert (first.most, second.most) == (2, 1)


def test_what_misses_its_gate_is_not_timed(bench):
    engine = Engine("a")
    timed, ranked = rank([candidate(engine, 0.001, 1, passed=False), candidate(engine, 0.002, 1)], bench, auto=True)
    assert [one.latency_ms is None for one in timed] == [True, False]
    assert [one.name for one in ranked] == ["a 0.002"]


def test_of_forms_as_fast_as_the_fastest_the_most_accurate_is_taken(bench, monkeypatch):
    monkeypatch.setattr(
        "edgeattn.ranking._medians", lambda calls, rounds: {place: 1000 * call.func.__self__.seconds for place, call in calls.items()}
    )
    engine = Engine("a")
    tried = [candidate(engine, seconds, 1, error=error) for seconds, error in ((1.0, 0.03), (1.008, 0.01), (1.02, 0.001), (1.009, 0.02), (9.0, 0.0))]
    _, ranked = rank(tried, bench, auto=True)
    assert [one.name for one in ranked] == ["a 1.008", "a 1.0", "a 1.009", "a 1.02", "a 9.0"]  # 0.8 % slower, and nearer; 2 % is slower


def test_nothing_is_timed_for_another_machine(bench):
    bench.device, _ = find_device("raspberry-pi-4", isa_flags())
    engine = Engine("a")
    timed, ranked = rank([candidate(engine, 0.002, 1), candidate(engine, 0.001, 1)], bench, auto=True)
    assert all(one.latency_ms is None for one in timed) and len(ranked) == 2 and engine.most == 0


def test_integers_are_made_once_for_several_floats_around_them(monkeypatch):
    pytest.importorskip("openvino")
    made = []
    monkeypatch.setattr(calibrate, "float_network", lambda *given, real=calibrate.float_network: made.append(given) or real(*given))
    reference = find("rpattention")
    samples, held_out = reference.calibration().take(slice(0, 32)), reference.evaluation().take(slice(0, 32))
    program = trace(reference, {name: array[:2] for name, array in samples.inputs.items()})
    device, _ = find_device("cpu", isa_flags())
    expected, tolerance = program.run(held_out.inputs), default_tolerance(reference, True)
    bench = Workbench(program, to_graph(program), OPENVINO, device, samples, held_out, expected, tolerance, lambda _: None)
    kept = []
    narrow, _ = dense_candidates(bench, Recipe(floats="bf16"), True, kept)
    wide, _ = dense_candidates(bench, Recipe(floats="fp32"), True, kept)
    narrow, wide = ([one for one in found if one.recipe.between == "float"] for found in (narrow, wide))
    assert [one.name for one in narrow] == ["bf16", "int8"] and [one.name for one in wide] == ["int8", "fp32"]
    assert len(made) == 1
    integers = [
        [value.const_value.numpy() for value in one.lowered.graph.initializers.values() if value.dtype == DataType.INT8]
        for one in (narrow[1], wide[0])
    ]
    assert integers[0] and all(np.array_equal(one, other) for one, other in zip(*integers, strict=True))


@pytest.mark.skipif(saturates(isa_flags()), reason="needs a CPU with VNNI, for which both engines take the same integers")
def test_integers_are_made_once_for_both_engines(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    made = []
    monkeypatch.setattr(calibrate, "float_network", lambda *given, real=calibrate.float_network: made.append(given[1].default) or real(*given))
    compiled = edgeattn.compile(find("rpattention").weights, precision="auto", output=tmp_path / "a.edge")
    assert sorted(made) == ["int8", "int8-dynamic"]
    assert {one.target.engine for one in compiled.candidates if one.recipe.default == "int8"} == {"onnxruntime", "openvino"}
