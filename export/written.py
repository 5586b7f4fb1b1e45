"""Torch code read as ONNX: run on stand-ins for tensors, it writes the nodes of what it computes.

A trace holds a scan as one operator (models/recurrence.py, models/selective_scan.py). torch.onnx would decompose it, which runs its code on fake
tensors, twice, and with an open batch most of an export's time goes there; here the same code runs on `Written`, which knows the few functions
that it calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript.values import Opset
from torch.export import ExportedProgram

from ..models import recurrence, selective_scan

OPSET = 23  # of the canonical graph; the first with Attention, RotaryEmbedding and RMSNormalization
FORMS: dict[Any, Callable[..., Any]] = {
    recurrence.operator._opoverload: recurrence.in_chunks,
    selective_scan.operator._opoverload: selective_scan.in_blocks,
}
Shape = tuple[int | None, ...]
op = Opset("", OPSET)


def translations(exported: ExportedProgram) -> dict[Any, Callable[..., Any]]:
    """What torch.onnx calls for the scans of a program. Not for one that meets unknown sizes other than the batch's: that is decomposed."""
    calls = [node for node in exported.graph.nodes if node.target in FORMS]
    open_calls = {node.target for node in calls if not all(_known(source.meta["val"]) for source in node.all_input_nodes)}
    return {target: _translation(FORMS[target]) for target in {node.target for node in calls} - open_calls}


def _known(tensor: torch.Tensor) -> bool:
    return all(isinstance(size, int) for size in tensor.shape[1:])


def _translation(form: Callable[..., Any]) -> Callable[..., Any]:
    def translate(*values: ir.Value) -> ir.Value:
        result: Written = form(*(_written(value) for value in values))
        return result.value

    return translate


def _written(value: ir.Value) -> Written:
    assert value.shape is not None and value.dtype is not None
    return Written(value, tuple(size if isinstance(size, int) else None for size in value.shape), value.dtype.numpy())


class Written:
    """Stands for a tensor: the ONNX value that holds it, its shape (None: the batch, whose size is not known) and its type."""

    def __init__(self, value: Any, shape: Shape, dtype: np.dtype) -> None:
        self.value, self.shape, self.dtype = value, shape, dtype

    def like(self, value: Any, shape: Shape) -> Written:
        """Of the same type."""
        return Written(value, shape, self.dtype)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Written:
        return FUNCTIONS[function](*args, **(kwargs or {}))

    def dim(self) -> int:
        return len(self.shape)

    def __mul__(self, other: Written) -> Written:
        return self.like(op.Mul(self.value, other.value), _broadcast(self.shape, other.shape))

    def __add__(self, other: Written) -> Written:
        return self.like(op.Add(self.value, other.value), _broadcast(self.shape, other.shape))

    def __matmul__(self, other: Written) -> Written:
        shape = (*_broadcast(self.shape[:-2], other.shape[:-2]), self.shape[-2], other.shape[-1])
        return self.like(op.MatMul(self.value, other.value), shape)

    def __getitem__(self, index: tuple[slice, ...]) -> Written:
        found = self
        for axis, part in enumerate(index):
            size = self.shape[axis]
            if part != slice(None) and size is not None:
                start, stop, _ = part.indices(size)
                found = found._slice(axis, start, stop)
        return found

    def _slice(self, axis: int, start: int, stop: int) -> Written:
        if (start, stop) == (0, self.shape[axis]):
            return self
        return self.like(op.Slice(self.value, [start], [stop], [axis]), _with(self.shape, axis, stop - start))

    def split(self, size: int, axis: int) -> tuple[Written, ...]:
        whole = self.shape[axis] or 0
        if whole % size:
            return tuple(self._slice(axis, start, min(start + size, whole)) for start in range(0, whole, size))
        if whole == size:
            return (self,)
        return tuple(self.like(part, _with(self.shape, axis, size)) for part in op.Split(self.value, axis=axis, num_outputs=whole // size))

    def _reshape(self, shape: Shape) -> Written:
        return self.like(op.Reshape(self.value, [-1 if size is None else size for size in shape]), shape)

    def unflatten(self, axis: int, sizes: tuple[int, ...]) -> Written:
        return self._reshape((*self.shape[:axis], *sizes, *self.shape[axis + 1 :]))

    def flatten(self, first: int, last: int) -> Written:
        return self._reshape((*self.shape[:first], math.prod(size or 0 for size in self.shape[first : last + 1]), *self.shape[last + 1 :]))

    def squeeze(self, axis: int) -> Written:
        return self.like(op.Squeeze(self.value, [axis]), (*self.shape[:axis], *self.shape[axis + 1 :]))

    def unsqueeze(self, axis: int) -> Written:
        return self.like(op.Unsqueeze(self.value, [axis]), (*self.shape[:axis], 1, *self.shape[axis:]))

    def transpose(self, one: int, other: int) -> Written:
        order = list(range(len(self.shape)))
        order[one], order[other] = other, one
        return self.like(op.Transpose(self.value, perm=order), tuple(self.shape[axis] for axis in order))

    def t(self) -> Written:
        return self.transpose(0, 1)

    def sum(self, axis: int, keepdim: bool) -> Written:
        assert keepdim
        return self.like(op.ReduceSum(self.value, [axis], keepdims=1), _with(self.shape, axis, 1))


def _with(shape: Shape, axis: int, size: int | None) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _broadcast(one: Shape, other: Shape) -> Shape:
    length = max(len(one), len(other))
    pairs = zip((1,) * (length - len(one)) + one, (1,) * (length - len(other)) + other, strict=True)
    return tuple(b if a == 1 else a for a, b in pairs)


def _cat(parts: Sequence[Written], axis: int) -> Written:
    if len(parts) == 1:
        return parts[0].like(op.Identity(parts[0].value), parts[0].shape)
    size = sum(part.shape[axis] or 0 for part in parts)
    return parts[0].like(op.Concat(*(part.value for part in parts), axis=axis), _with(parts[0].shape, axis, size))


def _zeros_like(x: Written) -> Written:
    zero = ir.tensor(np.zeros(1, x.dtype), name="zero")
    return x.like(op.ConstantOfShape(op.Shape(x.value), value=zero), x.shape)


def _pad(x: Written, amounts: Sequence[int], mode: str = "constant", value: float | None = None) -> Written:
    """As torch's, with zeros: (before, after) of the last axis, of the one before it, and so on."""
    assert mode == "constant" and not value
    missing = [0] * (2 * len(x.shape) - len(amounts))
    pairs = [*amounts, *missing]
    before, after = pairs[::2][::-1], pairs[1::2][::-1]
    shape = tuple(None if size is None else size + low + high for size, low, high in zip(x.shape, before, after, strict=True))
    return x.like(op.Pad(x.value, [*before, *after]), shape)


FUNCTIONS: dict[Any, Callable[..., Written]] = {
    torch.exp: lambda x: x.like(op.Exp(x.value), x.shape),
    torch.cat: _cat,
    torch.zeros_like: _zeros_like,
    torch.nn.functional.pad: _pad,
}
