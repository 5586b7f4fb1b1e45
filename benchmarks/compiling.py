"""What compiling and tuning ViT-tiny takes: python benchmarks/compiling.py [--write]

Two new processes: `edgeattn compile --variants 4` (every candidate of both engines, gated, timed, the four best packaged), then `edgeattn tune`.
Seconds by the wall clock; peak memory as the kernel counts it for each process. --write puts the table into docs/performance.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cpu import subject
from report import replace_section

from edgeattn.runtime.cache import VARIABLE
from edgeattn.runtime.machine import machine

NETWORK, VARIANTS = "vit_tiny", "4"


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
        bundle = str(folder / "a.edge")
        environment = {**os.environ, VARIABLE: str(folder / "kept"), "PYTHONPATH": str(Path(__file__).parent)}
        for words in (["compile", str(given["checkpoint"]), *options, "-o", bundle], ["tune", bundle]):
            seconds, peak = run(words, environment)
            shown = f"edgeattn {words[0]}" + (f" --variants {VARIANTS}" if words[0] == "compile" else "")
            text += f"| `{shown}` | {seconds:.0f} | {peak:.0f} |\n"
            print(f"{shown}: {seconds:.1f} s, {peak:.0f} MB", flush=True)
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
