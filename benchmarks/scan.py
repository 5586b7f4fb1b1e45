"""A selective scan in chunks against the same scan unrolled step by step: python benchmarks/scan.py [--write]

One Mamba layer of 64 channels with a state of 16. Seconds from the module to the canonical graph (tracing included), at 256 and 4,096 steps, and
the latency of both forms at 256 steps on ONNX Runtime as the cpu target lowers them, and of the unrolled one as it was exported, in turn, one thread,
one sample. --write puts the table into docs/performance.md.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from exponents import DIM, graph_of, session_of
from networks import Selective
from report import bootstrap, replace_section

from edgeattn.export.host import host_session, serialise
from edgeattn.runtime.bursts import in_turn
from edgeattn.runtime.machine import cpu_model
from edgeattn.targets.graphs import without_metadata

STATE, SHORT, LONG = 16, 256, 4096


class Unrolled(Selective):
    """The same layer with a loop over the steps, as the authors' reference has it (selective_scan_ref of mamba_ssm)."""

    def scan(self, u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        outputs, state = [], torch.zeros_like(a).expand(u.shape[0], *a.shape)
        decay, entering = torch.exp(delta[..., None] * a), (delta * u)[..., None] * b[:, :, None]
        for step in range(u.shape[1]):
            state = decay[:, step] * state + entering[:, step]
            outputs.append((state @ c[:, step, :, None])[..., 0])
        return torch.stack(outputs, 1)


def main(arguments: list[str]) -> None:
    """Prints a line a form, writes scan.json."""
    (graph, chunked), (loop, unrolled) = (made(kind, SHORT) for kind in (Selective, Unrolled))
    exported = {"nodes": unrolled["nodes"], "seconds": unrolled["seconds"]}
    found = {f"in chunks, {SHORT} steps": chunked, f"in chunks, {LONG} steps": made(Selective, LONG)[1], f"unrolled, {SHORT} steps": unrolled}
    found[f"unrolled, {SHORT} steps, as exported"] = exported
    x = {"x": np.random.default_rng(0).normal(size=(1, SHORT, DIM)).astype(np.float32)}
    sessions = [session_of(graph), session_of(loop), host_session(serialise(without_metadata(loop)))]
    outputs = [session.run(None, x)[0] for session in sessions]
    assert all(np.allclose(output, outputs[0], atol=1e-4) for output in outputs), "the forms must agree"
    times = in_turn([partial(session.run, None, x) for session in sessions], rounds=60, seconds=12.0)
    for one, column in zip((chunked, unrolled, exported), times, strict=True):
        one["ms"] = float(np.median(column))
    ratios = {
        name: bootstrap(column, times[0], np.divide) for name, column in zip(("as the cpu target lowers it", "as exported"), times[1:], strict=True)
    }
    for name, one in found.items():
        print(f"{name}: {one['nodes']} nodes, {one['seconds']:.1f} s" + (f", {one['ms']:.3g} ms" if "ms" in one else ""), flush=True)
    print(compared(ratios))
    Path("scan.json").write_text(json.dumps({"cpu": cpu_model(), "forms": found, "ratios": ratios}, indent=2) + "\n")
    if "--write" in arguments:
        replace_section(Path(__file__).parents[1] / "docs" / "performance.md", "benchmarks/scan.py", markdown(found, compared(ratios)))


def made(kind: type[Selective], steps: int) -> tuple[ir.Model, dict[str, Any]]:
    """The graph; how many nodes it has, and the seconds that it took."""
    start = time.perf_counter()
    graph = graph_of(lambda: kind(DIM, DIM, STATE), steps)
    return graph, {"nodes": len(graph.graph), "seconds": time.perf_counter() - start}


def compared(ratios: dict[str, tuple[float, list[float]]]) -> str:
    shown = (f"{ratio:.2f} ({low:.2f} to {high:.2f}) {name}" for name, (ratio, (low, high)) in ratios.items())
    return f"Unrolled over chunks at {SHORT} steps: {', '.join(shown)}."


def markdown(figures: dict[str, dict[str, Any]], ratios: str) -> str:
    lines = [f"On {cpu_model()}, one thread.", "", "| form | nodes | seconds to export | ms |", "| --- | --- | --- | --- |"]
    for name, one in figures.items():
        lines.append(f"| {name} | {one['nodes']} | {one['seconds']:.1f} | {format(one['ms'], '.3g') if 'ms' in one else ''} |")
    return "\n".join(lines) + f"\n\n{ratios}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
