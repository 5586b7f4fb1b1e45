"""Quantised convolutions whose outputs are floats, against ONNX Runtime's own: python benchmarks/convolutions.py [--write]

One layer a row, as the cpu target lowers it: int8 in, integer products, float out. Beside it the float layer and ONNX Runtime's static int8 (Q/DQ
pairs around input, weight and output, which it runs as QLinearConv, so its output is rounded to 8 bits once more). In turn, one thread, one sample.
--write puts the table into docs/performance.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from exponents import CPU
from onnxruntime import quantization
from peers import Rows, float_graph
from raw import open_onnx
from report import bootstrap, replace_section
from torch import nn

from edgeattn.devices import find_device
from edgeattn.export.data import specs_of
from edgeattn.export.graph import to_graph
from edgeattn.export.trace import trace
from edgeattn.models.reference import Reference, Samples
from edgeattn.quantize.calibrate import quantise
from edgeattn.quantize.insert import quantised_graph
from edgeattn.runtime.bursts import Call, in_turn
from edgeattn.runtime.machine import cpu_model, isa_flags

SAMPLES, UINT8 = 16, quantization.QuantType.QUInt8
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "patches of 16 x 16 of an image of 224 x 224, 3 to 192 channels": (partial(nn.Conv2d, 3, 192, 16, stride=16), (3, 224, 224)),
    "patches of 4 x 4 of an image of 64 x 64, 3 to 64 channels": (partial(nn.Conv2d, 3, 64, 4, stride=4), (3, 64, 64)),
    "5 taps over 200 steps, 32 to 32 channels": (partial(nn.Conv1d, 32, 32, 5, padding=2), (32, 200)),
    "3 x 3 over 32 x 32, 16 to 16 channels": (partial(nn.Conv2d, 16, 16, 3, padding=1), (16, 32, 32)),
    "3 x 3 over 32 x 32, 64 to 64 channels": (partial(nn.Conv2d, 64, 64, 3, padding=1), (64, 32, 32)),
    "3 x 3 over 28 x 28, 128 to 128 channels": (partial(nn.Conv2d, 128, 128, 3, padding=1), (128, 28, 28)),
    "4 taps over 256 steps, each of 64 channels by itself": (partial(nn.Conv1d, 64, 64, 4, groups=64), (64, 256)),
}


class Layer(nn.Module):
    """One layer behind an input called x."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


def main(arguments: list[str]) -> None:
    """Prints a line a layer."""
    lines = []
    for name, (make, shape) in LAYERS.items():
        with tempfile.TemporaryDirectory() as folder:
            times = dict(zip(KINDS, in_turn(calls(make, shape, Path(folder)), rounds=60, seconds=10.0), strict=True))
        ratio, (low, high) = bootstrap(times["edgeattn"], times["static int8"], np.divide)
        cells = [name, *(format(1e3 * float(np.median(times[kind])), ".3g") for kind in KINDS), f"{ratio:.2f} ({low:.2f} to {high:.2f})"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    if "--write" in arguments:
        heads = ["layer", "float", "ONNX Runtime's static int8", "edgeattn's int8", "against static int8 (95 % interval)"]
        text = "\n".join([f"Microseconds on {cpu_model()}, one thread.", "", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|", *lines])
        replace_section(Path(__file__).parents[1] / "docs" / "performance.md", "benchmarks/convolutions.py", text + "\n")


KINDS = ("float", "static int8", "edgeattn")


def calls(make: Callable[[], nn.Module], shape: tuple[int, ...], folder: Path) -> list[Call]:
    """One call by kind."""
    torch.manual_seed(0)
    module = Layer(make()).eval()
    x = {"x": np.random.default_rng(0).normal(size=(SAMPLES, *shape)).astype(np.float32)}
    plain, static = folder / "float.onnx", folder / "static.onnx"
    onnx.save(float_graph(module, x), str(plain))
    rows = [{"x": x["x"][i : i + 1]} for i in range(SAMPLES)]
    quantization.quantize_static(str(plain), str(static), Rows(rows), op_types_to_quantize=["Conv"], per_channel=True, activation_type=UINT8)
    device = find_device("cpu", isa_flags())[0]
    program = trace(Reference("layer", lambda: module, specs_of(Samples(x)), (), "", "regression"), {"x": x["x"][:2]})
    quantised = quantise(program, CPU.recipe(device), Samples(x))
    ours = CPU.session(CPU.lower(quantised_graph(to_graph(program), quantised), device))
    one = {"x": x["x"][:1]}
    return [partial(open_onnx(str(plain), 1), one), partial(open_onnx(str(static), 1), one), partial(ours.run, None, one)]


if __name__ == "__main__":
    main(sys.argv[1:])
