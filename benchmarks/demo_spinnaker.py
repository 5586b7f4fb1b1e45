"""`make demo-spinnaker`: our sign network of three training seeds on the emulated board, judged by labels on letters generated on the spot.

--write puts the figures into docs/spinnaker.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from tables import machine, table, write_section

import edgeattn
from edgeattn.models.fingerspelling import letters
from edgeattn.models.registry import weights_file
from edgeattn.views import show_compilation, show_verification

WEIGHTS = ("sign_language", "sign_language_seed1", "sign_language_seed2")
SAMPLES = 2000  # half of them show the ranges, half judge


def main() -> None:
    """Compiles with labelled letters of a seed that training never saw, verifies, and prints accuracy in simulation and on the emulated board."""
    console = Console(width=120)
    samples = letters(SAMPLES, seed=77)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "letters.npz", **samples.inputs, labels=samples.truth)
        options = {"calib": Path(folder) / "letters.npz", "output": Path(folder) / "sign.edge"}
        results = []
        for seed, weights in enumerate(WEIGHTS):
            console.print(f"training seed {seed}: {weights}")
            compiled = edgeattn.compile(weights_file(weights), "spinnaker", progress=lambda text: console.print(f"... {text}"), **options)
            show_compilation(compiled.to_json(), console)
            show_verification(edgeattn.verify(compiled.bundle).to_json(), console)
            results.append(compiled.manifest.parity.metric)
        for seed, metric in enumerate(results):
            lost = metric.reference - metric.artifact
            console.print(
                f"seed {seed}, {SAMPLES // 2} letters: {metric.reference:.2f} points in simulation, {metric.artifact:.2f} on the emulated board, "
                f"{lost:+.2f} lost"
            )
    if "--write" in sys.argv:
        rows = [(f"{seed}", f"{metric.reference:.2f}", f"{metric.artifact:.2f}") for seed, metric in enumerate(results)]
        write_section("spinnaker.md", "letters", f"{table(('training seed', 'simulation, points', 'emulated board, points'), rows)}\n\n{machine()}.")


if __name__ == "__main__":
    main()
