"""Timing several engines on one machine so that their figures compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

Call = Callable[[], object]
BURST_MS, MOST_CALLS, FEWEST_ROUNDS = 4.0, 50, 10


def in_turn(calls: Sequence[Call], rounds: int = 30, seconds: float = 6.0) -> list[np.ndarray]:
    """Milliseconds a call takes, one figure a round for each of `calls`; fewer rounds, though at least 10, where `seconds` would not do.

    A round runs each in a burst of some milliseconds, in random order: so all see the same moments of the machine, and each finds its own data in
    the caches, as it would when it runs alone. A figure is the burst's median, without its first call where there are several.
    """
    sizes, turn_ms = [], 0.0
    for call in calls:
        alone = min(_burst(call, 1) for _ in range(4))
        size = int(np.clip(BURST_MS / alone, 1, MOST_CALLS))
        sizes.append(size)
        turn_ms += alone * (size + (size > 1))
    random = np.random.default_rng(0)
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(int(np.clip(1000 * seconds / max(turn_ms, 1e-6), FEWEST_ROUNDS, max(rounds, FEWEST_ROUNDS)))):
        for index in random.permutation(len(calls)):
            times[index].append(_burst(calls[index], sizes[index]))
    return [np.array(values) for values in times]


def _burst(call: Call, count: int) -> float:
    if count > 1:
        call()
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(times))
