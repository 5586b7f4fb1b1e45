"""What each place of a convolution multiplies, as the rows of one matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ....export.passes.constants import constant
from ....export.passes.nodes import node_of
from .one_reshape import shape_input

MOST_TAPS, FEWEST_PRODUCTS = 49, 16  # a Slice a tap; below so many products a tap a convolution's own kernel is as fast
LARGEST_FILLED = 65_536  # weights of groups, zeros between them included: a fourth to a half of ConvInteger's time with VNNI, as much without
END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Window:
    """A convolution's geometry, a number an axis of space. before, after: the padding."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, node: ir.Node) -> Window | None:
        """That of a Conv with padding by numbers; None for others."""
        shape = node.inputs[1].shape  # type: ignore[union-attr]
        kernel = tuple(map(int, shape[2:]))  # type: ignore[index,arg-type]
        axes = len(kernel)
        pads = node.attributes.get_ints("pads", [0] * 2 * axes)
        if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return None
        strides, dilations = (tuple(node.attributes.get_ints(name, [1] * axes)) for name in ("strides", "dilations"))
        return cls(kernel, strides, dilations, tuple(pads[:axes]), tuple(pads[axes:]))

    @property
    def tiles(self) -> bool:
        """Whether windows of several taps lie side by side."""
        return math.prod(self.kernel) > 1 and self.kernel == self.strides and set(self.dilations) == {1} and not any(self.before + self.after)


@dataclass(frozen=True)
class Patches:
    """rows: (samples, places..., products) in the input's integers; nodes: what makes them; weight: (products, filters), to multiply them with."""

    rows: ir.Value
    nodes: list[ir.Node]
    weight: np.ndarray


def patches(graph: ir.Graph, node: ir.Node, source: ir.Value, zero: ir.Value, weight: np.ndarray, path: str) -> Patches | None:
    """The patches of `source`, (samples, channels, space...) of integers whose zero is `zero`, and `weight` (filters, channels, kernel...) to match.

    None where the convolution's own kernel does as well or no such form is known: kernels of many taps that overlap, few products a tap.
    """
    window = Window.of(node)
    if window is None or weight.shape[0] * weight.shape[1] < FEWEST_PRODUCTS:
        return None
    few = math.prod(window.kernel) <= MOST_TAPS
    longer = window.kernel[-1] >= weight.shape[1] or not few  # stretches of a tile are copied whole, of a tap all channels
    known = source.shape is not None and all(isinstance(size, int) and size % step == 0 for size, step in _steps(source, window))
    if window.tiles and longer and known:
        return _side_by_side(graph, source, window, weight, path)
    return _by_tap(graph, node, source, zero, window, weight, path) if few else None


def filled(weight: np.ndarray, groups: int, zero: int) -> np.ndarray | None:
    """The weight over all channels, as a filter has `zero` for those of other groups; None where that is too large to be worth it."""
    if groups == 1:
        return weight
    if weight.size * groups > LARGEST_FILLED:
        return None
    filters, channels = weight.shape[0] // groups, weight.shape[1]
    whole = np.full((weight.shape[0], channels * groups, *weight.shape[2:]), zero, weight.dtype)
    for group in range(groups):
        rows, columns = slice(group * filters, (group + 1) * filters), slice(group * channels, (group + 1) * channels)
        whole[rows, columns] = weight[rows]
    return whole


def _steps(source: ir.Value, window: Window) -> list[tuple[object, int]]:
    return list(zip(source.shape[2:], window.kernel, strict=True))  # type: ignore[index]


def _side_by_side(graph: ir.Graph, source: ir.Value, window: Window, weight: np.ndarray, path: str) -> Patches:
    """(N, C, H, W) → (N, C, H/h, h, W/w, w) → (N, H/h, W/w, C h w)."""
    channels, axes = weight.shape[1], len(window.kernel)
    places = [int(size) // step for size, step in _steps(source, window)]  # type: ignore[call-overload]
    parts = [size for pair in zip(places, window.kernel, strict=True) for size in pair]
    order = [0, *range(2, 2 + 2 * axes, 2), 1, *range(3, 2 + 2 * axes, 2)]
    batch = source.shape[0]  # type: ignore[index]
    split, joined = [batch, channels, *parts], [batch, *places, weight[0].size]
    tiles = node_of("Reshape", [source, shape_input(graph, split)], f"{path}/Reshape:tiles", source.dtype, split)
    turned = node_of("Transpose", tiles.outputs, f"{path}/Transpose:tiles", source.dtype, [batch, *places, channels, *window.kernel], {"perm": order})
    rows = node_of("Reshape", [turned.outputs[0], shape_input(graph, joined)], f"{path}/Reshape:patches", source.dtype, joined)
    return Patches(rows.outputs[0], [tiles, turned, rows], weight.reshape(len(weight), -1).T)


def _by_tap(graph: ir.Graph, node: ir.Node, source: ir.Value, zero: ir.Value, window: Window, weight: np.ndarray, path: str) -> Patches:
    """Channels last, padded with the zero; a slice for each tap, one beside the other."""
    axes, channels = len(window.kernel), weight.shape[1]
    batch, places = node.outputs[0].shape[0], list(node.outputs[0].shape[2:])  # type: ignore[index]
    space = source.shape[2:] if source.shape is not None else [None] * axes
    last = {"perm": [0, *range(2, 2 + axes), 1]}
    nodes = [node_of("Transpose", [source], f"{path}/Transpose:in", source.dtype, [batch, *space, channels], last)]
    if any(window.before + window.after):
        pads = _numbers(graph, [0, *window.before, 0, 0, *window.after, 0])
        padded = [
            size + before + after if isinstance(size, int) else None for size, before, after in zip(space, window.before, window.after, strict=True)
        ]
        nodes.append(node_of("Pad", [nodes[-1].outputs[0], pads, zero], f"{path}/Pad", source.dtype, [batch, *padded, channels]))
    whole = nodes[-1].outputs[0]
    if math.prod(window.kernel) > 1 or set(window.strides) != {1}:
        taps = [_tap(graph, whole, window, offset, [batch, *places, channels], path) for offset in itertools.product(*map(range, window.kernel))]
        width = channels * len(taps)
        beside = node_of("Concat", [tap.outputs[0] for tap in taps], f"{path}/Concat", source.dtype, [batch, *places, width], {"axis": 1 + axes})
        nodes += [*taps, beside]
    return Patches(nodes[-1].outputs[0], nodes, np.moveaxis(weight, (0, 1), (-1, -2)).reshape(-1, len(weight)))


def _tap(graph: ir.Graph, whole: ir.Value, window: Window, offset: tuple[int, ...], shape: list[object], path: str) -> ir.Node:
    """What one tap of the kernel sees from every place: from its offset in steps of the stride, so far that the last tap would still fit."""
    begins = [at * dilation for at, dilation in zip(offset, window.dilations, strict=True)]
    reaches = [(size - 1) * dilation for size, dilation in zip(window.kernel, window.dilations, strict=True)]
    ends = [begin - reach if begin < reach else END for begin, reach in zip(begins, reaches, strict=True)]
    inputs = [_numbers(graph, numbers) for numbers in (begins, ends, range(1, 1 + len(offset)), window.strides)]
    return node_of("Slice", [whole, *inputs], f"{path}/Slice:{'.'.join(map(str, offset))}", whole.dtype, shape)


def _numbers(graph: ir.Graph, numbers: Iterable[int]) -> ir.Value:
    """Named by what it holds, so that taps and layers share it."""
    array = np.array(list(numbers), np.int64)
    return constant(graph, f"numbers.{'x'.join(map(str, array))}", array)
