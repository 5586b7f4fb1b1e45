"""The order of the candidates: by latency, measured in turn where the device is this machine, or by what is in integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from .candidates import Candidate, Workbench
from .runtime.bursts import FEWEST_ROUNDS, Call, in_turn
from .runtime.machine import isa_flags

ROUNDS = 100  # candidates of a small network lie within a few percent
LOOK, FAR = 5, 1.5  # rounds of a first look; so many times its engine's fastest is too slow for a second
NEAR = 0.01  # slower than the fastest by no more than this share is as fast: the next process may turn such an order around


def rank(candidates: Sequence[Candidate], bench: Workbench, auto: bool) -> tuple[list[Candidate], list[Candidate]]:
    """(the candidates, timed; those that pass, the best first): with `auto` the fastest measured, else the one with the most quantised layers.

    Of those that are as fast as the fastest the most accurate comes first.
    Without one that passes, the one nearest to the reference is ranked alone, and the caller decides whether to go on.
    """
    passed = [index for index, candidate in enumerate(candidates) if candidate.verdict.passed]
    times, behind = _times(candidates, passed, bench) if passed and _is_here(bench) else ({}, set())
    timed = [replace(candidate, latency_ms=times.get(index)) for index, candidate in enumerate(candidates)]
    if not passed:
        return timed, [min(timed, key=lambda candidate: candidate.verdict.parity.relative_error)]
    if auto and times:
        fastest = sorted(passed, key=lambda index: (index in behind, times[index]))
        near = [index for index in fastest if index not in behind and times[index] <= (1 + NEAR) * times[fastest[0]]]
        best = min(near, key=lambda index: timed[index].verdict.parity.relative_error)
        return timed, [timed[index] for index in (best, *(index for index in fastest if index != best))]
    return timed, [timed[index] for index in sorted(passed, key=lambda index: -timed[index].quantised_layers)]


def _is_here(bench: Workbench) -> bool:
    """Whether the device could be this machine: it is named generically and its instructions fit."""
    device = bench.device
    return bench.target.name == "cpu" and bool(device.isa) and set(device.isa) <= set(isa_flags()) and device.cores is None


def _times(candidates: Sequence[Candidate], places: Sequence[int], bench: Workbench) -> tuple[dict[int, float], set[int]]:
    """(milliseconds of one sample by place, medians of calls in turn; the places of those that a first look left behind).

    An open session holds its network's weights, often twice: one engine after the other, the large graphs first, each form is looked at beside its
    engine's, what is far behind is closed, and the rest are timed together.
    """
    bench.progress("timing the candidates")
    query = dict(bench.held_out.take(slice(0, bench.program.fixed_batch or 1)).inputs)
    times: dict[int, float] = {}
    left: dict[int, Call] = {}
    for place in sorted(places, key=lambda place: (candidates[place].target.engine, -candidates[place].size)):
        candidate = candidates[place]
        left[place] = partial(candidate.target.session(candidate.lowered).run, None, query)
        rivals = [other for other in left if candidates[other].target.engine == candidate.target.engine]
        if len(rivals) > 1:
            look = _medians({rival: left[rival] for rival in rivals}, LOOK)
            for far in (rival for rival in rivals if look[rival] > FAR * min(look.values())):
                times[far] = look[far]
                del left[far]
    behind = set(times)
    return times | _medians(left, ROUNDS), behind


def _medians(calls: dict[int, Call], rounds: int) -> dict[int, float]:
    found = in_turn(list(calls.values()), rounds, fewest=min(rounds, FEWEST_ROUNDS))
    return {place: float(np.median(values)) for place, values in zip(calls, found, strict=True)}
