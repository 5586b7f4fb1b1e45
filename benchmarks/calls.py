"""A bundle's session and the raw engine call by call, for session.py: python benchmarks/calls.py BUNDLE ENGINE X.npy

In a process that holds what a device's does and no more: no torch, nothing that a compile left behind.
Prints JSON: the milliseconds of each round's median, [session's, raw] in a row and by the milliseconds from call to call the medians.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from raw import Run, open_onnx, open_openvino

import edgeattn
from edgeattn.runtime.bursts import in_turn, spaced
from edgeattn.runtime.engines import SLOWER_FUSED

ROUNDS, SECONDS = 200, 20.0
GAPS = {5.0: 400, 20.0: 200, 100.0: 60}  # milliseconds from call to call: rounds


def main(bundle: Path, engine: str, inputs: Path) -> dict[str, Any]:
    session, x = edgeattn.load(bundle), np.load(inputs)
    both = [partial(session.run, x=x), partial(raw_call(bundle, engine, x), {"x": x})]
    in_a_row = [column.tolist() for column in in_turn(both, ROUNDS, SECONDS)]
    apart = {every: np.median(list(islice(spaced(both, every), rounds)), axis=0).ravel().tolist() for every, rounds in GAPS.items()}
    return {"in_a_row": in_a_row, "apart": apart}


def raw_call(bundle: Path, engine: str, x: np.ndarray) -> Run:
    if engine == "onnxruntime":
        return open_onnx(str(bundle / "model.onnx"), 1, SLOWER_FUSED)
    import openvino

    model = openvino.Core().read_model(bundle / "model.onnx")
    model.reshape({"x": x.shape})
    return open_openvino(model, 1, {"INFERENCE_PRECISION_HINT": "f32"})


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))))
