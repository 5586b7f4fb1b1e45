"""Moving averages as products."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ...emit import Emitter
from .one_by_one import OneByOne
from .selection import whole_number

LONGEST = 128  # steps: a product takes 2 of these an element, ONNX Runtime's one-dimensional pooling some 0.7 ns an element and step of its window


class MovingAverage(OneByOne):
    """AveragePool(Concat(Expand(x[..., :1]), x, Expand(x[..., -1:])))   becomes   x @ A, where A [steps, means] holds 1 / window.

    1. How the trend of a series is taken: its ends are repeated, so that there are as many means as steps. 2. Any Concat along the last axis of x and
    of single steps of it, repeated or not.
    Left alone: pooling with other padding, in two dimensions or with gaps, and series longer than 128 steps.
    """

    kinds = ("AveragePool",)

    def replace(self, graph: ir.Graph, node: ir.Node) -> bool:
        joined = node.inputs[0].producer() if node.inputs[0] is not None else None
        window, stride = _window(node)
        if joined is None or joined.op_type != "Concat" or window == 0 or joined.attributes["axis"].as_int() not in (2, -1):
            return False
        whole = [part for part in joined.inputs if part is not None and _single(part) is None]
        steps = whole[0].shape[-1] if whole and whole[0].shape is not None else None
        if len(set(whole)) != 1 or not isinstance(steps, int) or steps > LONGEST:
            return False
        x, read = whole[0], []
        for part in joined.inputs:
            one = _single(part)
            if one is not None and one[0] is not x:
                return False
            read += list(range(steps)) if one is None else [one[1] % steps] * one[2]
        means = (len(read) - window) // stride + 1
        matrix = np.zeros((steps, means), np.float32)
        for mean in range(means):
            np.add.at(matrix[:, mean], read[mean * stride : mean * stride + window], np.float32(1 / window))
        emit = Emitter(graph, node)
        emit.finish(emit("MatMul", x, constant(graph, f"{node.name}/means", matrix), like=node.outputs[0]))
        return True


def _window(node: ir.Node) -> tuple[int, int]:
    """(length, stride) of pooling along one axis without padding or gaps, else (0, 0)."""
    given = {name: attribute.value for name, attribute in node.attributes.items()}
    size, plain = given["kernel_shape"], {"pads": (0, 0), "dilations": (1,), "ceil_mode": 0, "auto_pad": "NOTSET"}
    if len(size) != 1 or any(given.get(name, value) != value for name, value in plain.items()):
        return 0, 0
    return int(size[0]), int(given.get("strides", (1,))[0])


def _single(value: ir.Value | None) -> tuple[ir.Value | None, int, int] | None:
    """(x, index, times) where `value` is one step of x along its last axis, so many times; else None."""
    times, node = 1, value.producer() if value is not None else None
    if node is not None and node.op_type == "Expand" and value is not None and value.shape is not None and isinstance(value.shape[-1], int):
        times, value = value.shape[-1], node.inputs[0]
        node = value.producer() if value is not None else None
    if node is None or node.op_type != "Slice" or value is None or value.shape is None or value.shape[-1] != 1 or len(node.inputs) < 4:
        return None
    source, start, axis = node.inputs[0], whole_number(node.inputs[1]), whole_number(node.inputs[3])
    if source is None or source.shape is None or start is None or axis not in (-1, len(source.shape) - 1) or source.shape[:-1] != value.shape[:-1]:
        return None
    return source, start, times
