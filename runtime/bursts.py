"""Timing several calls on one machine so that their figures compare.

A round makes each of them in a burst of some milliseconds, in random order: so all see the same moments of the machine, and each finds its own data
in the caches, as it would when it runs alone. Beside others, a burst's first call only brings those data back and is not counted.
Where calls use several threads, a rest before each burst lets the last one's threads fall asleep: for milliseconds after a call they spin on cores
that the next needs. A rest puts the cores to sleep as well, and the first calls after it cost about a millisecond more: there a whole burst goes
uncounted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Call = Callable[[], object]
BURST_MS, MOST_CALLS, FEWEST_ROUNDS = 4.0, 50, 10
ASLEEP = 0.02  # seconds of rest for calls of several threads


class Bursts:
    """Rounds of bursts. rest: seconds before each; sizes: counted calls in each one's burst; round_ms: about what a round takes."""

    def __init__(self, calls: Sequence[Call], rest: float = 0.0) -> None:
        self._calls, self._rest = calls, rest
        alone = [min(time_calls(call, 1)[0] for _ in range(4)) for call in calls]
        self.sizes = [int(np.clip(BURST_MS / one, 1, MOST_CALLS)) for one in alone]
        self._skipped = [size if rest > 0 else int(len(calls) > 1 and size > 1) for size in self.sizes]
        self.round_ms = sum(1000 * rest + one * (size + skipped) for one, size, skipped in zip(alone, self.sizes, self._skipped, strict=True))

    def rounds(self) -> Iterator[list[np.ndarray]]:
        """Without end: milliseconds of every counted call, by call."""
        random = np.random.default_rng(0)
        while True:
            found: dict[int, np.ndarray] = {}
            for index in random.permutation(len(self._calls)):
                time.sleep(self._rest)
                skipped = self._skipped[index]
                found[index] = time_calls(self._calls[index], self.sizes[index] + skipped)[skipped:]
            yield [found[index] for index in range(len(self._calls))]


def spaced(calls: Sequence[Call], every: float) -> Iterator[list[np.ndarray]]:
    """Rounds without end of one call each, in random order, `every` milliseconds from start to start; the process sleeps in between."""
    random, due = np.random.default_rng(0), time.perf_counter()
    while True:
        found: dict[int, np.ndarray] = {}
        for index in random.permutation(len(calls)):
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due, time.perf_counter()) + every / 1000
            found[index] = time_calls(calls[index], 1)
        yield [found[index] for index in range(len(calls))]


def in_turn(calls: Sequence[Call], rounds: int = 30, seconds: float = 4.0, fewest: int = FEWEST_ROUNDS, rest: float = 0.0) -> list[np.ndarray]:
    """For each of `calls` the median milliseconds of its burst, one figure a round; fewer rounds, though at least `fewest`, to keep to `seconds`."""
    bursts = Bursts(calls, rest)
    count = int(np.clip(1000 * seconds / max(bursts.round_ms, 1e-6), fewest, max(rounds, fewest)))
    medians = [[float(np.median(times)) for times in found] for _, found in zip(range(count), bursts.rounds(), strict=False)]
    return [np.array(column) for column in zip(*medians, strict=True)]


def time_calls(call: Call, count: int) -> np.ndarray:
    """Milliseconds of each of `count` calls."""
    times = np.empty(count)
    for index in range(count):
        start = time.perf_counter_ns()
        call()
        times[index] = (time.perf_counter_ns() - start) / 1e6
    return times
