"""`make demo`: the ECG checkpoint onto this CPU, verified, timed, and compared with what was trained on the real recording."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import edgeattn
from edgeattn.models.registry import find
from edgeattn.views import show_bench, show_compilation, show_verification


def main() -> None:
    """Compile, verify, bench; then run every evaluation window through the bundle as a robot would."""
    console = Console(width=120)
    reference = find("ecg_nat")
    held_out = reference.evaluation()
    with tempfile.TemporaryDirectory() as folder:
        compiled = edgeattn.compile(
            reference.weights, "cpu", output=Path(folder) / "ecg_nat.edge", progress=lambda text: console.print(f"... {text}")
        )
        show_compilation(compiled.to_json(), console)
        floating = edgeattn.compile(reference.weights, "cpu", precision="fp32", output=Path(folder) / "fp32.edge")
        show_verification(edgeattn.verify(compiled.bundle).to_json(), console)
        benched = edgeattn.bench(compiled.bundle, against=floating.bundle, runs=1000)
        show_bench(benched.to_json(), console)
        session = edgeattn.load(compiled.bundle)
        scores = np.concatenate([session.run(x=held_out.inputs["x"][i : i + 1])["scores"] for i in range(len(held_out))])
        with torch.no_grad():
            expected = reference.module()(torch.from_numpy(held_out.inputs["x"])).numpy()
        table = Table(
            "", "accuracy, points", "size of the artifact, bytes", "median latency, ms", title=f"{len(held_out)} windows of the real recording"
        )
        sizes = [(bundle / "model.onnx").stat().st_size for bundle in (floating.bundle, compiled.bundle)]
        latency = benched.latency_ms["p50"] or float("nan")
        ratio = benched.comparison.ratio if benched.comparison else float("nan")
        accuracy = [reference.metric.compute([outputs], held_out.truth) for outputs in (expected, scores)] if reference.metric else []
        table.add_row("reference (torch); fp32 bundle", f"{accuracy[0]:.2f}", f"{sizes[0]:,}", f"{latency / ratio:.3f}")
        table.add_row("int8 bundle", f"{accuracy[1]:.2f}", f"{sizes[1]:,}", f"{latency:.3f}")
        console.print(table)
        console.print(f"same answer as the reference on {np.mean(expected.argmax(1) == scores.argmax(1)):.2%} of windows")


if __name__ == "__main__":
    main()
