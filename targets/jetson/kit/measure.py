"""Latency, power and energy on the board. The rules and the JSON of `edgeattn bench`, with what only a board can tell added.

A percentile is given only where enough runs stand behind it (MLPerf's early stopping: 64 runs for p90, 662 for p99, 6,636 for p99.9).
"""

import math
import resource
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from . import board
from .bundle import Bundle
from .engine import Engine, Say
from .errors import KitError

RUNS_FOR = {"p50": 1, "p90": 64, "p99": 662, "p999": 6636}
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
WINDOW, STABLE, LONGEST_WARM_UP, LONGEST_WARM_UP_S = 20, 0.02, 50, 10.0
WHOLE = ("VDD_IN", "POM_5V_IN", "VIN")  # rails that feed the whole module
FEWEST_READINGS = 10
READ_EVERY_S = 0.1
BACK_TO_BACK = 200  # runs that a spaced measurement is held against


class PowerMeter:
    """Reads the rails beside the measurement, from the sensors or, where those cannot be read, from tegrastats."""

    def __init__(self) -> None:
        self.readings = []  # type: List[Dict[str, int]]
        self.source = "INA sensors" if board.rails() else None
        self._stop = threading.Event()
        self._stats = None if self.source else board.tegrastats_rails()
        if self._stats is not None:
            self.source = "tegrastats"
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "PowerMeter":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        if self._stats is not None:
            self._stats.terminate()
        self._thread.join(timeout=2.0)

    def _read(self) -> None:
        if self._stats is not None and self._stats.stdout is not None:
            for line in self._stats.stdout:
                if self._stop.is_set():
                    return
                self._keep(board.line_rails(line))
        elif self.source:
            while not self._stop.wait(READ_EVERY_S):
                self._keep(board.rails())

    def _keep(self, rails: Dict[str, int]) -> None:
        if rails:
            self.readings.append(rails)

    def report(self) -> Dict[str, Any]:
        """mean watts by rail; None where the board gave too few readings."""
        if len(self.readings) < FEWEST_READINGS:
            return {"source": self.source, "readings": len(self.readings), "mean_w": None}
        names = sorted(set.intersection(*(set(reading) for reading in self.readings)))
        mean = {name: sum(reading[name] for reading in self.readings) / len(self.readings) / 1000.0 for name in names}
        return {"source": self.source, "readings": len(self.readings), "mean_w": mean}


def bench(
    bundle: Bundle,
    engine: Engine,
    identity: Dict[str, Any],
    runs: int,
    seconds: Optional[float],
    every: Optional[float],
    first: Callable[[], float],
    say: Say,
) -> Dict[str, Any]:
    """What `bench` prints. every: milliseconds from call to call. first: measures the milliseconds of a new process up to its first answer."""
    if runs < 1 or (seconds is not None and seconds <= 0) or (every is not None and not 0 < every < math.inf):
        raise KitError("bench needs at least one run (--runs) or a positive time (--seconds), and calls a positive time apart (--every).")
    queries = queries_of(bundle)
    say("warming up")
    warm = _warm_up(engine, queries)
    alone = None if every is None else float(np.median(_times(engine, queries, BACK_TO_BACK, None, None, say)))
    before = {"temperatures_c": board.temperatures(), "gpu_clock_hz": board.gpu_clock(), "cooling": board.cooling()}
    with PowerMeter() as meter:
        times = _times(engine, queries, runs, seconds, every, say)
    after = {"temperatures_c": board.temperatures(), "gpu_clock_hz": board.gpu_clock(), "cooling": board.cooling()}
    mean = sum(times) / len(times)
    period = max(mean, every or 0.0)
    power = meter.report()
    return {
        "latency_ms": dict([(name, percentile(times, name)) for name in RUNS_FOR], mean=mean),
        "throughput_per_s": 1000.0 / period,
        "runs": len(times),
        "warmup_runs": warm,
        "threads": 1,
        "cold_start_ms": first(),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000.0,
        "engine": "TensorRT {}".format(identity["tensorrt"]),
        "variant": bundle.manifest["variant"],
        "machine": identity,
        "power": power,
        "every_ms": every,
        "back_to_back_ms": alone,
        "energy_per_inference_j": energy(power, period),
        "before": before,
        "after": after,
        "notes": _notes(times, before, after, power, every or math.inf),
    }


def queries_of(bundle: Bundle) -> List[Dict[str, np.ndarray]]:
    """The golden inputs one sample at a time; all at once where the batch is fixed."""
    if not bundle.batched:
        return [bundle.inputs]
    count = len(next(iter(bundle.inputs.values())))
    return [{name: np.ascontiguousarray(array[index : index + 1]) for name, array in bundle.inputs.items()} for index in range(count)]


def percentile(times: List[float], name: str) -> Optional[float]:
    """The smallest time that at least this share of the runs did not exceed; None with too few runs."""
    if len(times) < RUNS_FOR[name]:
        return None
    ordered = sorted(times)
    return ordered[math.ceil(SHARES[name] * (len(ordered) - 1))]


def energy(power: Dict[str, Any], period_ms: float) -> Optional[Dict[str, float]]:
    """Joules per inference by rail: mean power over the measured runs times the mean time from one to the next; the board's idle power is in it."""
    return {name: watts * period_ms / 1000.0 for name, watts in power["mean_w"].items()} if power["mean_w"] else None


def cold_start(command: List[str]) -> float:
    """Milliseconds of a new process that loads the kept engine and answers once."""
    start = time.perf_counter()
    run = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    elapsed = time.perf_counter() - start
    if run.returncode != 0:
        raise KitError("a new process could not run the engine: {}".format((run.stderr.strip() or "no message").splitlines()[-1]))
    return elapsed * 1000.0


def _warm_up(engine: Engine, queries: List[Dict[str, np.ndarray]]) -> int:
    start, last = time.perf_counter(), float("inf")
    for window in range(1, LONGEST_WARM_UP + 1):
        median = float(np.median([_once(engine, queries[index % len(queries)]) for index in range(WINDOW)]))
        if abs(median - last) < STABLE * median or time.perf_counter() - start > LONGEST_WARM_UP_S:
            return window * WINDOW
        last = median
    return LONGEST_WARM_UP * WINDOW


def _times(
    engine: Engine, queries: List[Dict[str, np.ndarray]], runs: int, seconds: Optional[float], every: Optional[float], say: Say
) -> List[float]:
    """Milliseconds of each call; with `every` a call starts so often, or at once where the one before took longer."""
    times = []  # type: List[float]
    start = due = time.perf_counter()
    while (time.perf_counter() - start < seconds) if seconds is not None else (len(times) < runs):
        if every is not None:
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due, time.perf_counter()) + every / 1000.0
        times.append(_once(engine, queries[len(times) % len(queries)]))
        if len(times) % 50 == 0:
            say("run {} of {}".format(len(times), runs) if seconds is None else "run {}".format(len(times)))
    return times


def _once(engine: Engine, query: Dict[str, np.ndarray]) -> float:
    start = time.perf_counter()
    engine.run(query)
    return (time.perf_counter() - start) * 1000.0


def _notes(times: List[float], before: Dict[str, Any], after: Dict[str, Any], power: Dict[str, Any], every: float = math.inf) -> List[str]:
    notes = ["latency covers the copies to and from the GPU"]
    late = sum(one > every for one in times)
    if late:
        notes.append("{} of {} calls took longer than the {:g} ms from one to the next".format(late, len(times), every))
    if before["cooling"] or after["cooling"]:
        held = ", ".join(sorted(set(before["cooling"]) | set(after["cooling"])))
        notes.append("the board was throttling ({}): cool it and repeat".format(held))
    if before["gpu_clock_hz"] and after["gpu_clock_hz"] and before["gpu_clock_hz"] != after["gpu_clock_hz"]:
        clocks = before["gpu_clock_hz"] / 1e6, after["gpu_clock_hz"] / 1e6
        notes.append("the GPU's clock moved from {:.0f} to {:.0f} MHz: run sudo jetson_clocks first for figures that repeat".format(*clocks))
    half = len(times) // 2 or 1
    medians = float(np.median(times[:half])), float(np.median(times[half:] or times))
    if abs(medians[1] - medians[0]) > 0.1 * medians[0]:
        notes.append("the median moved from {:.3g} to {:.3g} ms while measuring: throttling or other load".format(*medians))
    if power["mean_w"] is None:
        notes.append("no power: {} readings of the rails; measure for longer (--seconds), or the board has no sensor".format(power["readings"]))
    elif not set(WHOLE) & set(power["mean_w"]):
        notes.append("no rail here measures the whole module: energy is given by rail and must not be read as the board's")
    return notes
