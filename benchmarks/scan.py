"""A selective scan in chunks against the same scan unrolled step by step: python benchmarks/scan.py [--write]

One Mamba layer of 64 channels with a state of 16. Seconds from the module to the canonical graph (tracing included), at 256 and 4,096 steps, and
the latency of both forms at 256 steps on each installed engine as the cpu target lowers them, and of the unrolled one as it was exported (ONNX
Runtime), in turn, one thread, one sample. --write puts the table into docs/performance.md.
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
from exponents import CPU, DIM, graph_of, session_of
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
    engines = [CPU, *CPU.alternatives()]
    sessions = {(engine.engine, index): session_of(form, engine) for engine in engines for index, form in enumerate((graph, loop))}
    sessions["onnxruntime", 2] = host_session(serialise(without_metadata(loop)))
    outputs = [session.run(None, x)[0] for session in sessions.values()]
    assert all(np.allclose(output, outputs[0], atol=1e-4) for output in outputs), "the forms must agree"
    times = dict(zip(sessions, in_turn([partial(session.run, None, x) for session in sessions.values()], rounds=60, seconds=20.0), strict=True))
    for (engine, index), column in times.items():
        (chunked, unrolled, exported)[index][engine] = float(np.median(column))
    ratios = {f"on {engine}": bootstrap(times[engine, 1], times[engine, 0], np.divide) for engine, index in sessions if index == 1}
    ratios["on onnxruntime as exported"] = bootstrap(times["onnxruntime", 2], times["onnxruntime", 0], np.divide)
    for name, one in found.items():
        shown = "".join(f", {one[engine.engine]:.3g} ms on {engine.engine}" for engine in engines if engine.engine in one)
        print(f"{name}: {one['nodes']} nodes, {one['seconds']:.1f} s{shown}", flush=True)
    print(compared(ratios))
    Path("scan.json").write_text(json.dumps({"cpu": cpu_model(), "forms": found, "ratios": ratios}, indent=2) + "\n")
    if "--write" in arguments:
        replace_section(
            Path(__file__).parents[1] / "docs" / "performance.md",
            "benchmarks/scan.py",
            markdown(found, [engine.engine for engine in engines], compared(ratios)),
        )


def made(kind: type[Selective], steps: int) -> tuple[ir.Model, dict[str, Any]]:
    """The graph; how many nodes it has, and the seconds that it took."""
    start = time.perf_counter()
    graph = graph_of(lambda: kind(DIM, DIM, STATE), steps)
    return graph, {"nodes": len(graph.graph), "seconds": time.perf_counter() - start}


def compared(ratios: dict[str, tuple[float, list[float]]]) -> str:
    shown = (f"{ratio:.2f} ({low:.2f} to {high:.2f}) {name}" for name, (ratio, (low, high)) in ratios.items())
    return f"Unrolled over chunks at {SHORT} steps: {', '.join(shown)}."


def markdown(figures: dict[str, dict[str, Any]], engines: list[str], ratios: str) -> str:
    heads = ["form", "nodes", "seconds to export", *(f"ms on {engine}" for engine in engines)]
    lines = [f"On {cpu_model()}, one thread.", "", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, one in figures.items():
        times = [format(one[engine], ".3g") if engine in one else "" for engine in engines]
        lines.append(f"| {' | '.join([name, str(one['nodes']), format(one['seconds'], '.1f'), *times])} |")
    return "\n".join(lines) + f"\n\n{ratios}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
