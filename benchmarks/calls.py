"""A bundle's session and the raw engine call by call, for session.py: python benchmarks/calls.py BUNDLE ENGINE X.npy session|raw

In a process that holds what a device's does and no more: no torch, nothing that a compile left behind. The last word says which is opened first: the
second lies better in memory (of two raw sessions of ONNX Runtime it was 1 to 5 us faster).
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
from raw import open_onnx, open_openvino

import edgeattn
from edgeattn.runtime.bursts import Call, in_turn, spaced
from edgeattn.runtime.engines import SLOWER_FUSED

ROUNDS, SECONDS = 100, 3.0
GAPS = {5.0: 100, 20.0: 40, 100.0: 12}  # milliseconds from call to call: rounds


def main(bundle: Path, engine: str, inputs: Path, first: str) -> dict[str, Any]:
    x = np.load(inputs)
    opened = {kind: OPEN[kind](bundle, engine, x) for kind in sorted(OPEN, key=lambda kind: kind != first)}
    both = [opened["session"], opened["raw"]]
    in_a_row = [column.tolist() for column in in_turn(both, ROUNDS, SECONDS)]
    apart = {every: np.median(list(islice(spaced(both, every), rounds)), axis=0).ravel().tolist() for every, rounds in GAPS.items()}
    return {"in_a_row": in_a_row, "apart": apart}


def session_call(bundle: Path, engine: str, x: np.ndarray) -> Call:
    return partial(edgeattn.load(bundle).run, x=x)


def raw_call(bundle: Path, engine: str, x: np.ndarray) -> Call:
    if engine == "onnxruntime":
        return partial(open_onnx(str(bundle / "model.onnx"), 1, SLOWER_FUSED), {"x": x})
    import openvino

    model = openvino.Core().read_model(bundle / "model.onnx")
    model.reshape({"x": x.shape})
    return partial(open_openvino(model, 1, {"INFERENCE_PRECISION_HINT": "f32"}), {"x": x})


OPEN = {"session": session_call, "raw": raw_call}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4])))
