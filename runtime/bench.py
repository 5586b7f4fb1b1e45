"""Latency of a bundle on this machine, in the spirit of MLPerf's SingleStream: the next query when the last is answered.

A percentile is given only where enough runs stand behind it: MLPerf's early-stopping rule (confidence 0.99, tolerance 0) needs 64 runs for p90,
662 for p99, 6,636 for p99.9 (MLCommons inference rules, "early stopping").
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EdgeattnError, InputError
from .golden import FILE, unpack_golden
from .machine import machine
from .session import Session, load

RUNS_FOR = {"p50": 1, "p90": 64, "p99": 662, "p999": 6636}
WINDOW = 20  # runs per warm-up window
STABLE = 0.02  # warm-up ends when the medians of two successive windows differ by less
LONGEST_WARM_UP = 50  # windows
LONGEST_WARM_UP_S = 10.0


@dataclass(frozen=True)
class Comparison:
    """ratio: median latency of this bundle over the other's, with a 95 % bootstrap interval."""

    against: str
    ratio: float
    interval: tuple[float, float]
    verdict: str


@dataclass(frozen=True)
class Benchmark:
    """Latencies in milliseconds; a percentile without enough runs behind it is None."""

    latency_ms: dict[str, float | None]
    throughput_per_s: float
    runs: int
    warmup_runs: int
    threads: int
    cold_start_ms: float
    rss_mb: float
    engine: str
    machine: dict[str, Any]
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
    threads: int = 1,
    runs: int = 1000,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Benchmark:
    """Times one sample at a time, the bundle's own golden inputs in turn.

    runs: at least so many; seconds: instead, for so long. against: another bundle, run in turn with this one in random order.
    Raises InputError for runs or seconds that measure nothing, BundleError for a damaged bundle.
    """
    if runs < 1 or (seconds is not None and seconds <= 0):
        raise InputError("bench needs at least one run (--runs) or a positive time (--seconds).")
    sessions = [load(path, threads)] + ([load(against, threads)] if against is not None else [])
    queries = [_queries(session) for session in sessions]
    warm = max(_warm_up(session, query) for session, query in zip(sessions, queries, strict=True))
    times = _interleave(sessions, queries, runs, seconds, progress)
    first = times[0]
    return Benchmark(
        latency_ms={**{name: _percentile(first, name) for name in RUNS_FOR}, "mean": float(first.mean())},
        throughput_per_s=1000.0 / float(first.mean()),
        runs=len(first),
        warmup_runs=warm,
        threads=threads,
        cold_start_ms=cold_start(path, threads),
        rss_mb=_resident_mb(),
        engine=sessions[0].engine.version,
        machine=machine(),
        notes=tuple(_notes(first)),
        comparison=None if against is None else _compare(str(against), times[0], times[1]),
        samples_ms=first,
    )


def cold_start(path: str | Path, threads: int = 1) -> float:
    """Milliseconds from the start of a new Python process to the first answer: interpreter, imports, hashing, session, one run."""
    code = (
        "import sys, edgeattn; from edgeattn.runtime.golden import FILE, unpack_golden;"
        "s = edgeattn.load(sys.argv[1], int(sys.argv[2]));"
        "g = unpack_golden(s.bundle.read(FILE)); s.run(**{k: v[:1] for k, v in g.inputs.items()})"
    )
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", code, str(path), str(threads)], capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - start
    if result.returncode != 0:
        raise EdgeattnError(f"a new process could not run {path}: {(result.stderr.strip() or 'no message').splitlines()[-1]}")
    return elapsed * 1000


def _queries(session: Session) -> list[dict[str, np.ndarray]]:
    """The golden inputs one sample at a time; all at once where the batch is fixed."""
    inputs = unpack_golden(session.bundle.read(FILE)).inputs
    dynamic = all(spec.shape and isinstance(spec.shape[0], str) for spec in session.manifest.inputs)
    if not dynamic:
        return [dict(inputs)]
    count = len(next(iter(inputs.values())))
    return [{name: np.ascontiguousarray(array[i : i + 1]) for name, array in inputs.items()} for i in range(count)]


def _warm_up(session: Session, queries: list[dict[str, np.ndarray]]) -> int:
    """Runs until two successive windows have the same median within 2 %, or 10 s have passed; returns the runs made."""
    start, last = time.perf_counter(), np.inf
    for window in range(1, LONGEST_WARM_UP + 1):
        median = float(np.median([_once(session, queries[i % len(queries)]) for i in range(WINDOW)]))
        if abs(median - last) < STABLE * median or time.perf_counter() - start > LONGEST_WARM_UP_S:
            return window * WINDOW
        last = median
    return LONGEST_WARM_UP * WINDOW


def _interleave(
    sessions: list[Session],
    queries: list[list[dict[str, np.ndarray]]],
    runs: int,
    seconds: float | None,
    progress: Callable[[int, int], None] | None,
) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    times: list[list[float]] = [[] for _ in sessions]
    start = time.perf_counter()
    done = 0
    while time.perf_counter() - start < seconds if seconds is not None else done < runs:
        for index in random.permutation(len(sessions)):
            times[index].append(_once(sessions[index], queries[index][done % len(queries[index])]))
        done += 1
        if progress is not None and done % 50 == 0:
            progress(done, runs)
    return [np.array(values) for values in times]


def _once(session: Session, query: Mapping[str, np.ndarray]) -> float:
    start = time.perf_counter_ns()
    session.run(**query)
    return (time.perf_counter_ns() - start) / 1e6


def _percentile(times: np.ndarray, name: str) -> float | None:
    share = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9}[name]
    return float(np.percentile(times, share, method="higher")) if len(times) >= RUNS_FOR[name] else None


def _compare(other: str, mine: np.ndarray, theirs: np.ndarray) -> Comparison:
    random = np.random.default_rng(0)
    count = len(mine)
    ratios = []
    for _ in range(1000):
        pick = random.integers(0, count, count)  # pairs stay together: both saw the same moment of the machine
        ratios.append(np.median(mine[pick]) / np.median(theirs[pick]))
    low, high = (float(value) for value in np.percentile(ratios, [2.5, 97.5]))
    verdict = "faster" if high < 1 else "slower" if low > 1 else "no difference seen"
    return Comparison(other, float(np.median(mine) / np.median(theirs)), (low, high), verdict)


def _notes(times: np.ndarray) -> list[str]:
    """What makes these figures less trustworthy, found on the machine and in the figures themselves."""
    state, notes = machine(), []
    if state["governor"] not in (None, "performance"):
        notes.append(f"the CPU governor is {state['governor']}: clocks may change while measuring")
    if state["load_average_1min"] > max(1, (state["cores"] or 1) / 2):
        notes.append(f"the machine was busy (load {state['load_average_1min']:.1f}): repeat on an idle one")
    halves = np.median(times[: len(times) // 2 or 1]), np.median(times[len(times) // 2 :])
    if abs(halves[1] - halves[0]) > 0.1 * halves[0]:
        notes.append(f"the median moved from {halves[0]:.3g} to {halves[1]:.3g} ms while measuring: throttling or other load")
    return notes


def _resident_mb() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e6
