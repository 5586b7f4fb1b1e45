"""How far the engines' answers are from the module's on this CPU: python benchmarks/errors.py [NAME...] [--write]

The relative error of the first output, |y - module(x)| / |module(x)| over 32 samples, by engine: a fast int8 engine whose products saturate answers
something else. Full range is what ONNX Runtime's quantiser does unless it is told `reduce_range`, as peers.py tells it without VNNI. edgeattn's is
what its gate saw when cpu.py compiled the network; its latency against the fastest peer within 5 % is what cpu.py measured in turn (cpu.json), on one
thread and with two to use. --write puts the table into docs/performance.md.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from cpu import ZOO, subject
from networks import SHAPES
from peers import Peers, quantised_files
from raw import open_onnx
from report import geometric_mean, ratio, replace_section

from edgeattn.runtime.machine import machine

SAMPLES, WITHIN = 32, 0.05  # the gate of networks without a task
FULL = "ONNX Runtime {}, full range"
SHOWN = ("ONNX Runtime static int8", FULL.format("static int8"), "ONNX Runtime dynamic int8", FULL.format("dynamic int8"), "OpenVINO default",
         "OpenVINO NNCF int8")  # fmt: skip


def main(arguments: list[str]) -> None:
    """Prints a line a network."""
    sys.path.insert(0, str(Path(__file__).parent))
    known = json.loads(Path("cpu.json").read_text())
    if known["machine"]["cpu"] != machine()["cpu"]:
        raise SystemExit("cpu.json is of another CPU: run benchmarks/cpu.py here first.")
    text = f"Relative error of the first output on {known['machine']['cpu']}, {SAMPLES} samples; edgeattn's is the gate's.\n\n"
    text += f"| network | {' | '.join(SHOWN)} | edgeattn | against the fastest peer within {WITHIN:.0%} (95 % interval) | with two threads |\n"
    text += "| --- " * (len(SHOWN) + 4) + "|\n"
    ratios: dict[str, list[float]] = {"1": [], "2": []}
    for name in [argument for argument in arguments if not argument.startswith("-")] or [*SHAPES, *ZOO]:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(name, Path(folder))
        cells = [f"{found[label]:.2%}" if label in found else "" for label in SHOWN] + [f"{known['networks'][name]['relative_error']:.2%}"]
        for threads, so_far in ratios.items():
            figures = known["networks"][name]["threads"][threads]
            peer = min((label for label, error in found.items() if error <= WITHIN and label in figures["against"]), key=figures["ms"].get)
            so_far.append(figures["against"][peer]["ratio"])
            cells.append(f"{ratio(figures, peer)} of {peer}")
        text += f"| {name} | {' | '.join(cells)} |\n"
        print(text.splitlines()[-1], flush=True)
    one, two = (f"{geometric_mean(so_far):.2f}" for so_far in ratios.values())
    text += f"\nGeometric mean against the fastest peer within {WITHIN:.0%}: {one}; with two threads {two}.\n"
    if "--write" in arguments:
        replace_section(Path(__file__).parents[1] / "docs" / "performance.md", "benchmarks/errors.py", text)


def measure(name: str, folder: Path) -> dict[str, float]:
    """The error by engine, torch's own 0; data that the peers were calibrated on, so that ranges are not what differs."""
    torch.set_num_threads(1)
    module, data, _ = subject(name, folder)
    rows = [{key: np.ascontiguousarray(array[i : i + 1]) for key, array in data.items()} for i in range(SAMPLES)]
    peers = Peers(module, data, folder)
    (folder / "full").mkdir()
    full = quantised_files(peers.onnx["float"], peers.rows, folder / "full", reduce_range=False)
    runs = peers.runs(1) | {FULL.format(label): open_onnx(str(path), 1) for label, path in full.items()}
    expected = np.stack([_first(runs["torch"](row)) for row in rows])
    found = {label: np.stack([_first(run(row)) for row in rows]) for label, run in runs.items() if label != "torch.compile"}
    return {label: float(np.linalg.norm(answers - expected) / np.linalg.norm(expected)) for label, answers in found.items()}


def _first(outputs: object) -> np.ndarray:
    """A copy of the first output: an engine may write the next ones into the same memory."""
    outputs = next(iter(outputs.values())) if isinstance(outputs, Mapping) else outputs
    return np.asarray(outputs[0] if isinstance(outputs, list | tuple) else outputs).astype(np.float64)


if __name__ == "__main__":
    main(sys.argv[1:])
