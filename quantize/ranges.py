"""The range of every value of a graph over calibration data, read by running it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from ..export.host import host_session
from ..export.passes.nodes import node_of
from ..models.reference import Samples

SAMPLES, BATCH = 128, 2  # samples in all, and at a time: without optimisation every value of a call lies in memory of its own


def value_ranges(model: ir.Model, calibration: Samples, names: Collection[str] | None = None) -> dict[str, tuple[float, float]]:
    """(least, largest) of every float value (of those named) over the first calibration samples, by name; NaN where a value was NaN.

    Where the graph takes a fixed number of samples a call, at least that many are given, and a rest is left out.
    """
    probe = model.clone()
    graph = probe.graph
    watched = [value for value in [*graph.inputs, *(out for node in graph for out in node.outputs)] if value.dtype == ir.DataType.FLOAT]
    watched = [value for value in watched if names is None or value.name in names]
    graph.outputs.clear()
    for value in watched:
        for kind in ("ReduceMin", "ReduceMax"):
            extreme = node_of(kind, [value], f"{value.name}|{kind}", ir.DataType.FLOAT, (), {"keepdims": 0})
            graph.append(extreme)
            graph.outputs.append(extreme.outputs[0])
    session = host_session(probe, optimise=False)  # with every value watched there is nothing to optimise, only seven times the time to open it
    fixed = next((int(value.shape[0]) for value in graph.inputs if value.shape and isinstance(value.shape[0], int)), None)
    size = fixed or BATCH
    count = min(len(calibration), max(SAMPLES, size))
    starts = range(0, count - count % (fixed or 1), size)
    runs = [session.run(None, dict(calibration.take(slice(at, at + size)).inputs)) for at in starts]
    least, largest = np.min(runs, axis=0)[0::2], np.max(runs, axis=0)[1::2]
    return {str(value.name): (float(low), float(high)) for value, low, high in zip(watched, least, largest, strict=True)}
