"""Latency of a bundle on this machine, in the spirit of MLPerf's SingleStream: the next query when the last is answered.

A percentile is given only where enough runs stand behind it: MLPerf's early-stopping rule (confidence 0.99, tolerance 0) needs 64 runs for p90,
662 for p99, 6,636 for p99.9 (MLCommons inference rules, "early stopping").
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EdgeattnError, InputError
from .bursts import Bursts, Call, spaced, time_calls
from .golden import queries_of
from .machine import machine
from .session import Session, load

RUNS_FOR = {"p50": 1, "p90": 64, "p99": 662, "p999": 6636}
WINDOW = 20  # runs per warm-up window
STABLE = 0.02  # warm-up ends when the medians of two successive windows differ by less
LONGEST_WARM_UP = 50  # windows
LONGEST_WARM_UP_S = 10.0
BACK_TO_BACK = 200  # runs that a spaced measurement is held against


@dataclass(frozen=True)
class Comparison:
    """ratio: median latency of this bundle over the other's, with a 95 % bootstrap interval."""

    against: str
    ratio: float
    interval: tuple[float, float]
    verdict: str


@dataclass(frozen=True)
class Benchmark:
    """Latencies in milliseconds; a percentile without enough runs behind it is None.

    every_ms, back_to_back_ms: where calls were spaced, from one's start to the next's, and the median without gaps just before.
    """

    latency_ms: dict[str, float | None]
    throughput_per_s: float
    runs: int
    warmup_runs: int
    threads: int
    cold_start_ms: float
    rss_mb: float
    engine: str
    variant: str
    machine: dict[str, Any]
    every_ms: float | None = None
    back_to_back_ms: float | None = None
    notes: tuple[str, ...] = ()
    comparison: Comparison | None = None
    samples_ms: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Every field but the raw samples; `comparison` only where there was one."""
        plain = {key: value for key, value in asdict(self).items() if key != "samples_ms"}
        if self.comparison is None:
            del plain["comparison"]
        return plain


def bench(
    path: str | Path,
    against: str | Path | None = None,
    threads: int | None = None,
    runs: int = 1000,
    seconds: float | None = None,
    every: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Benchmark:
    """Times one sample at a time, the bundle's own golden inputs in turn, in the form and with the threads that `load` takes.

    threads: None: what was tuned, else 1. runs: so many; seconds: instead, for so long. against: another bundle, in bursts in turn with this one.
    every: milliseconds from the start of one call to the next, as in a control loop that sleeps in between; else the next follows at once.
    Raises InputError for runs, seconds or a spacing that measure nothing, BundleError for a damaged bundle.
    """
    if runs < 1 or (seconds is not None and seconds <= 0) or (every is not None and not 0 < every < np.inf):
        raise InputError("bench needs at least one run (--runs) or a positive time (--seconds), and calls a positive time apart (--every).")
    sessions = [load(path, threads)] + ([load(against, threads)] if against is not None else [])
    calls = [_call(session) for session in sessions]
    warm = max(_warm_up(call) for call in calls)
    alone = None if every is None else float(np.median(np.concatenate([found[0] for found in _rounds(Bursts(calls[:1]).rounds(), BACK_TO_BACK)])))
    rounds = _rounds(Bursts(calls).rounds() if every is None else spaced(calls, every), runs, seconds, progress)
    first = np.concatenate([found[0] for found in rounds])[: runs if seconds is None else None]
    return Benchmark(
        latency_ms={**{name: _percentile(first, name) for name in RUNS_FOR}, "mean": float(first.mean())},
        throughput_per_s=1000.0 / max(float(first.mean()), every or 0.0),
        runs=len(first),
        warmup_runs=warm,
        threads=sessions[0].threads,
        cold_start_ms=cold_start(path, threads),
        rss_mb=_resident_mb(),
        engine=sessions[0].engine.version,
        variant=sessions[0].manifest.variant,
        machine=machine(),
        every_ms=every,
        back_to_back_ms=alone,
        notes=tuple(_notes(first, every)),
        comparison=None if against is None else _compare(str(against), *_medians(rounds)),
        samples_ms=first,
    )


def cold_start(path: str | Path, threads: int | None = None) -> float:
    """Milliseconds from the start of a new Python process to the first answer: interpreter, imports, hashing, session, one run."""
    code = (
        "import sys, edgeattn; from edgeattn.runtime.golden import queries_of;"
        "s = edgeattn.load(sys.argv[1], *map(int, sys.argv[2:])); s.run(**queries_of(s.bundle)[0])"
    )
    start = time.perf_counter()
    words = [str(path), *([str(threads)] if threads is not None else [])]
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if result.returncode != 0:
        raise EdgeattnError(f"a new process could not run {path}: {(result.stderr.strip() or 'no message').splitlines()[-1]}")
    return elapsed * 1000


def _call(session: Session) -> Call:
    """One run on the next of the bundle's golden inputs."""
    queries = cycle(queries_of(session.bundle))
    return lambda: session.run(**next(queries))


def _warm_up(call: Call) -> int:
    """Runs until two successive windows have the same median within 2 %, or 10 s have passed; returns the runs made."""
    start, last = time.perf_counter(), np.inf
    for window in range(1, LONGEST_WARM_UP + 1):
        median = float(np.median(time_calls(call, WINDOW)))
        if abs(median - last) < STABLE * median or time.perf_counter() - start > LONGEST_WARM_UP_S:
            return window * WINDOW
        last = median
    return LONGEST_WARM_UP * WINDOW


def _rounds(
    source: Iterable[list[np.ndarray]], runs: int, seconds: float | None = None, progress: Callable[[int, int], None] | None = None
) -> list[list[np.ndarray]]:
    """Rounds from `source` until the first call was timed often, or long, enough."""
    start, done, found = time.perf_counter(), 0, []
    for times in source:
        found.append(times)
        done += len(times[0])
        if progress is not None:
            progress(min(done, runs), runs)
        if done >= runs if seconds is None else time.perf_counter() - start >= seconds:
            break
    return found


def _medians(rounds: list[list[np.ndarray]]) -> list[np.ndarray]:
    """By call, one figure a round."""
    return [np.array([np.median(times) for times in column]) for column in zip(*rounds, strict=True)]


def _percentile(times: np.ndarray, name: str) -> float | None:
    share = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9}[name]
    return float(np.percentile(times, share, method="higher")) if len(times) >= RUNS_FOR[name] else None


def _compare(other: str, mine: np.ndarray, theirs: np.ndarray) -> Comparison:
    """mine, theirs: a figure a round, paired because both saw the same moment of the machine."""
    random = np.random.default_rng(0)
    count = len(mine)
    ratios = []
    for _ in range(1000):
        pick = random.integers(0, count, count)
        ratios.append(np.median(mine[pick]) / np.median(theirs[pick]))
    low, high = (float(value) for value in np.percentile(ratios, [2.5, 97.5]))
    verdict = "faster" if high < 1 else "slower" if low > 1 else "no difference seen"
    return Comparison(other, float(np.median(mine) / np.median(theirs)), (low, high), verdict)


def _notes(times: np.ndarray, every: float | None) -> list[str]:
    """What makes these figures less trustworthy, found on the machine and in the figures themselves."""
    state, notes = machine(), []
    if state["governor"] not in (None, "performance"):
        notes.append(f"the CPU governor is {state['governor']}: clocks may change while measuring")
    if state["load_average_1min"] > max(1, (state["cores"] or 1) / 2):
        notes.append(f"the machine was busy (load {state['load_average_1min']:.1f}): repeat on an idle one")
    late = int((times > every).sum()) if every is not None else 0
    if late:
        notes.append(f"{late} of {len(times)} calls took longer than the {every:g} ms from one to the next")
    halves = np.median(times[: len(times) // 2 or 1]), np.median(times[len(times) // 2 :])
    if abs(halves[1] - halves[0]) > 0.1 * halves[0]:
        notes.append(f"the median moved from {halves[0]:.3g} to {halves[1]:.3g} ms while measuring: throttling or other load")
    return notes


def _resident_mb() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e6
