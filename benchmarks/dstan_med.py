"""Falsehoods found by a bundle and by the guard in it: python benchmarks/dstan_med.py, into docs/guard.md."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from tables import machine, table, write_section

import edgeattn
from edgeattn.models.dstan_med import Plausibility, detection, evaluation
from edgeattn.models.registry import find
from edgeattn.models.training import all_outputs


def rows(name: str, outputs: list[np.ndarray], truth: np.ndarray) -> list[list[str]]:
    """Sensitivity and precision without a guard, as published, and raising; and alarms per hundred clean windows."""
    alarms = {"no guard": outputs[0].argmax(1), "as published": outputs[1], "raising": outputs[2]}
    return [
        [name, guard, *(f"{value:.1f}" for value in (*detection(alarm, truth), 100 * alarm[truth == 0].mean()))] for guard, alarm in alarms.items()
    ]


def main() -> None:
    reference, held_out = find("dstan_med"), evaluation()
    found = rows("PyTorch", all_outputs(reference.module(), held_out), held_out.truth)
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "int8"):
            made = edgeattn.compile(reference.weights, model="dstan_med", precision=precision, output=Path(folder, f"{precision}.edge"))
            found += rows(precision, list(edgeattn.load(made.bundle).run(**held_out.inputs).values()), held_out.truth)
    detected = table(["bundle", "guard", "sensitivity, %", "precision, %", "alarms in clean windows, %"], found)
    plausible = 100 * Plausibility()(torch.from_numpy(held_out.inputs["x"][held_out.truth == 1])).mean()
    note = f"{len(held_out)} windows, half of them attacked; {plausible:.1f} % of those end plausibly. {machine()}."
    write_section("guard.md", "guard", f"{detected}\n\n{note}")


if __name__ == "__main__":
    main()
