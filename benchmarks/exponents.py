"""Time of one layer against sequence length, and the exponent that fits it: python benchmarks/exponents.py [--write]

One layer of 64 channels (4 heads; a window of 7; 16 representatives; a state of 16) over 256 to 8,192 tokens of random numbers, in float32 on ONNX
Runtime as the cpu target lowers it, one thread, one sample. t = c * tokens^e by least squares of the logarithms. --write puts table and plot into
docs/.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from networks import Selective
from report import replace_section, style
from torch import nn

from edgeattn.devices import find_device
from edgeattn.export.graph import to_graph
from edgeattn.export.trace import trace
from edgeattn.models.ecg_nat import NeighbourhoodAttention
from edgeattn.models.ister import DotAttention
from edgeattn.models.layers import SelfAttention
from edgeattn.models.reference import Reference
from edgeattn.models.rpattention import RepresentativeAttention
from edgeattn.runtime.bursts import in_turn
from edgeattn.runtime.machine import cpu_model, isa_flags
from edgeattn.runtime.manifest import TensorSpec
from edgeattn.targets.target import DenseTarget, HostSession, find_target

CPU = find_target("cpu")
DIM, LENGTHS = 64, (256, 512, 1024, 2048, 4096, 8192)
LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "softmax": lambda tokens: SelfAttention(DIM, 4),
    "Ister": lambda tokens: DotAttention(DIM),
    "RPAttention": lambda tokens: RepresentativeAttention(DIM, 4, 16),
    "neighbourhood": lambda tokens: NeighbourhoodAttention(DIM, 4, tokens, 7),
    "Mamba": lambda tokens: Selective(DIM, DIM, 16),
}


def main(arguments: list[str]) -> None:
    """Prints a line a layer, writes exponents.json."""
    found: dict[str, dict[int, float]] = {}
    exponents: dict[str, float] = {}
    for name, make in LAYERS.items():
        found[name] = times = milliseconds(make)
        exponents[name] = float(np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0])
        print(f"{name}: exponent {exponents[name]:.2f}; " + ", ".join(f"{tokens}: {value:.3g} ms" for tokens, value in times.items()), flush=True)
    Path("exponents.json").write_text(json.dumps({"cpu": cpu_model(), "exponents": exponents, "milliseconds": found}, indent=2) + "\n")
    if "--write" in arguments:
        docs = Path(__file__).parents[1] / "docs"
        replace_section(docs / "performance.md", "benchmarks/exponents.py", markdown(found, exponents))
        (docs / "exponents.svg").write_bytes(plot(found, exponents))


def graph_of(make: Callable[[], nn.Module], tokens: int) -> ir.Model:
    """The canonical graph of a layer over (batch, tokens, DIM)."""
    torch.manual_seed(0)
    module = make().eval()
    example = {"x": np.random.default_rng(0).normal(size=(2, tokens, DIM)).astype(np.float32)}
    reference = Reference("layer", lambda: module, (TensorSpec(name="x", shape=("batch", tokens, DIM), dtype="float32"),), ("y",), "random weights")
    return to_graph(trace(reference, example))


def session_of(graph: ir.Model, engine: DenseTarget = CPU) -> HostSession:
    """An engine of the cpu target over the graph, lowered for this machine."""
    return engine.session(engine.lower(graph, find_device("cpu", isa_flags())[0]))


def milliseconds(make: Callable[[int], nn.Module]) -> dict[int, float]:
    """The median of one run of the lowered layer by length, timed in turn: the machine's speed changes within minutes."""
    calls = []
    for tokens in LENGTHS:
        x = np.random.default_rng(0).normal(size=(1, tokens, DIM)).astype(np.float32)
        calls.append(partial(session_of(graph_of(partial(make, tokens), tokens)).run, None, {"x": x}))
    return {tokens: float(np.median(times)) for tokens, times in zip(LENGTHS, in_turn(calls, rounds=40, seconds=15.0), strict=True)}


def markdown(found: dict[str, dict[int, float]], exponents: dict[str, float]) -> str:
    lines = [f"Milliseconds of one layer on {cpu_model()}, one thread.", "", f"| layer | {' | '.join(map(str, LENGTHS))} | exponent |"]
    lines.append("| --- " * (len(LENGTHS) + 2) + "|")
    for name, times in found.items():
        lines.append(f"| {name} | {' | '.join(f'{value:.3g}' for value in times.values())} | {exponents[name]:.2f} |")
    return "\n".join(lines) + "\n\n![time against sequence length](exponents.svg)\n"


def plot(found: dict[str, dict[int, float]], exponents: dict[str, float]) -> bytes:
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.5, 4), layout="constrained")
        axes = figure.subplots()
        for name, times in found.items():
            axes.loglog(list(times), list(times.values()), marker="o", markersize=3, linewidth=1.2, label=f"{name}: {exponents[name]:.2f}")
        axes.set_xticks(LENGTHS, map(str, LENGTHS))
        axes.minorticks_off()
        axes.set_xlabel("tokens")
        axes.set_ylabel("ms")
        axes.legend(title="fitted exponent", frameon=False)
        text = io.BytesIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


if __name__ == "__main__":
    main(sys.argv[1:])
