"""What compiling and tuning ViT-tiny takes: python benchmarks/compiling.py [--write]

New processes, three times in turn: `edgeattn compile --variants 4` (every candidate of both engines, gated, timed, the four best packaged), then
`edgeattn tune`. Seconds by the wall clock, the median and the range; the most memory as the kernel counts it for each process. --write puts the
table into docs/performance.md.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cpu import subject
from report import replace_section

from edgeattn.runtime.cache import VARIABLE
from edgeattn.runtime.machine import machine

NETWORK, VARIANTS, RUNS = "vit_tiny", "4", 3


def main(arguments: list[str]) -> None:
    """Prints a line a process."""
    at = machine()
    text = f"{NETWORK} on {at['cpu']}, {at['cores']} cores, load {at['load_average_1min']:.1f} at the start.\n\n"
    text += "| command | s | peak memory, MB |\n| --- | --- | --- |\n"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        module, _, given = subject(NETWORK, folder)
        weights = sum(parameter.numel() for parameter in module.parameters()) * 4 / 1e6
        options = ["--model", given["model"], "--calib", str(given["calib"]), "--task", given["task"], "--variants", VARIANTS]
        environment = {**os.environ, VARIABLE: str(folder / "kept"), "PYTHONPATH": str(Path(__file__).parent)}
        found: dict[str, list[tuple[float, float]]] = {"compile": [], "tune": []}
        for index in range(RUNS):
            bundle = str(folder / f"{index}.edge")
            found["compile"].append(run(["compile", str(given["checkpoint"]), *options, "-o", bundle], environment))
            found["tune"].append(run(["tune", "--again", bundle], environment))
        for command, figures in found.items():
            seconds, peak = [one for one, _ in figures], max(memory for _, memory in figures)
            shown = f"edgeattn {command}" + (f" --variants {VARIANTS}" if command == "compile" else "")
            span = f"{statistics.median(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})"
            text += f"| `{shown}` | {span} | {peak:.0f} |\n"
            print(f"{shown}: {span} s, {peak:.0f} MB", flush=True)
    text += f"\nThe float32 weights are {weights:.0f} MB.\n"
    if "--write" in arguments:
        replace_section(Path(__file__).parents[1] / "docs" / "performance.md", "benchmarks/compiling.py", text)


def run(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """(seconds, megabytes)."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "edgeattn", *words], env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"edgeattn {words[0]} failed: see above")
    return time.perf_counter() - begun, used.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main(sys.argv[1:])
