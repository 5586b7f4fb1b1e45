"""sPyNNaker's binaries on the emulated board next to the emulator: python benchmarks/board.py [LETTERS] [--write]

The sign network, compiled on 60 letters of seed 4, sees letters of seed 6 on a board that `edgeattn board` starts, by the bundle's own script;
compared are the spike counts of its readout. --write puts the table into docs/spinnaker.md.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tables import machine, table, write_section

import edgeattn
from edgeattn.models.fingerspelling import letters
from edgeattn.models.registry import weights_file

HOST = "127.0.0.46"


def compiled(folder: Path) -> Path:
    samples = letters(60, seed=4)
    np.savez(folder / "letters.npz", events=samples.inputs["events"], labels=samples.labels)
    options = {"calib": folder / "letters.npz", "output": folder / "sign.edge", "force": True}
    return edgeattn.compile(weights_file("sign_language"), "spinnaker", **options).bundle


def row(bundle: Path, folder: Path, count: int) -> tuple[str, ...]:
    """Letters, steps, letters with every count of the emulator's, spikes of the readout, seconds of sPyNNaker, of the board, and on the clock."""
    events = letters(count, seed=6).inputs["events"]
    np.savez(folder / "run.npz", events=events)
    script = [sys.executable, bundle / "device" / "run_on_board.py", "--board", HOST, "--events", folder / "run.npz", "--samples", str(count)]
    with subprocess.Popen([sys.executable, "-m", "edgeattn", "board", "--host", HOST], stdout=subprocess.PIPE, text=True) as board:
        board.stdout.readline()
        begun, started = _children(), time.perf_counter()
        done = subprocess.run(script, capture_output=True, text=True, check=True)
        seconds, mapped = time.perf_counter() - started, _children()
        board.send_signal(signal.SIGTERM)
        said = board.stdout.read()
    ended = _children()
    counts = np.array(json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"mapped"')))["counts"])
    expected = np.asarray(edgeattn.load(bundle).run(events=events)["counts"])
    steps = next(line.split()[0] for line in said.splitlines() if "of real time" in line)
    same = int((counts == expected).all(1).sum())
    times = (f"{mapped - begun:.1f}", f"{ended - mapped:.1f}", f"{seconds:.1f}")
    return (f"{count}", f"{int(steps):,}", f"{same} of {count}", f"{int(counts.sum()):,}", *times)


def _children() -> float:
    """Processor seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:] if argument.isdigit()] or [1, 16, 100]
    with tempfile.TemporaryDirectory() as name:
        bundle = compiled(Path(name))
        rows = [row(bundle, Path(name), count) for count in sizes]
    header = (
        "letters",
        "steps",
        "all spike counts equal",
        "spikes of the readout",
        "sPyNNaker, processor seconds",
        "board, processor seconds",
        "seconds in all",
    )
    text = f"{table(header, rows)}\n\n{machine()}; load of {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores by other work."
    print(text)
    if "--write" in sys.argv:
        write_section("spinnaker.md", "board runs", text)


if __name__ == "__main__":
    main()
