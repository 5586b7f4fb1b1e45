"""Passes of the cpu target that only change how long a graph takes: the same bits from fewer or faster operators."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from edgeattn.devices import Device
from edgeattn.export.graph import to_graph
from edgeattn.export.host import host_session
from edgeattn.export.trace import trace
from edgeattn.models.reference import Reference
from edgeattn.runtime.manifest import TensorSpec
from edgeattn.targets.target import find_target

DEVICE = Device(name="test", target="cpu", description="a test", isa=("avx2",))


class Formula(nn.Module):
    def __init__(self, formula):
        super().__init__()
        self.formula = formula
        self.weight = nn.Parameter(torch.randn(40, 16))

    def forward(self, x, y):
        return self.formula(x, y, self.weight)


def lowered(formula, **shapes):
    """(operators of the lowered graph, its output, the module's) on random inputs of these shapes, two samples."""
    torch.manual_seed(0)
    module, random = Formula(formula), np.random.default_rng(0)
    example = {name: random.normal(size=(2, *shape)).astype(np.float32) for name, shape in shapes.items()}
    specs = tuple(TensorSpec(name=name, shape=("batch", *array.shape[1:]), dtype="float32") for name, array in example.items())
    program = trace(Reference("test", lambda: module, specs, ("z",), "a test"), example)
    graph = find_target("cpu").lower(to_graph(program), DEVICE)
    return Counter(node.op_type for node in graph.graph), host_session(graph).run(None, example)[0], program.run(example)[0]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda x, y, w: x[..., None] * y[:, :, None, :], {"MatMul": 1, "Mul": 0}),
        (lambda x, y, w: y[:, :, None, :] * x[..., None], {"MatMul": 1, "Mul": 0}),
        (lambda x, y, w: x[..., None] * w, {"MatMul": 1, "Mul": 1}),
        (lambda x, y, w: w + x[..., None], {"MatMul": 1, "Add": 1}),
    ],
    ids=["outer", "outer from the right", "rows of a matrix", "sum"],
)
def test_a_broadcast_along_a_small_last_axis_is_a_product_of_the_same_bits(formula, expected):
    kinds, output, wanted = lowered(formula, x=(32, 40), y=(32, 16))
    assert {kind: kinds[kind] for kind in expected} == expected
    np.testing.assert_array_equal(output, wanted)


@pytest.mark.parametrize(
    ("formula", "shapes"),
    [
        (lambda x, y, w: x[..., None] * y[:, :, None, :], {"x": (4, 40), "y": (4, 16)}),
        (lambda x, y, w: x[..., None] * y[:, :, None, :], {"x": (32, 40), "y": (32, 65)}),
        (lambda x, y, w: x * y, {"x": (32, 40, 16), "y": (32, 40, 16)}),
    ],
    ids=["small", "wide", "no broadcast"],
)
def test_other_multiplications_stay(formula, shapes):
    kinds, output, wanted = lowered(formula, **shapes)
    assert (kinds["Mul"], kinds["MatMul"]) == (1, 0)
    np.testing.assert_array_equal(output, wanted)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda x, y, w: x.sum(1) + y, {"MatMul": 1, "ReduceSum": 0}),
        (lambda x, y, w: x * x.sum(-2, keepdim=True), {"MatMul": 1, "ReduceSum": 0}),
        (lambda x, y, w: x.mean(1) * y, {"MatMul": 1, "ReduceMean": 0}),
        (lambda x, y, w: x - x.mean(1, keepdim=True), {"MatMul": 1, "ReduceMean": 0}),
        (lambda x, y, w: x[:, :20].sum(1) + y, {"MatMul": 0, "ReduceSum": 1}),
        (lambda x, y, w: x - x.mean(2, keepdim=True), {"MatMul": 0, "ReduceMean": 1}),
        (lambda x, y, w: x.mean((1, 2))[:, None] * y, {"MatMul": 0, "ReduceMean": 1}),
        (lambda x, y, w: x.reshape(-1, 4, 16, 64).mean(2), {"MatMul": 0, "ReduceMean": 1}),
    ],
    ids=["sum", "kept axis", "mean", "mean of a kept axis", "small", "channels", "both axes", "heads"],
)
def test_tokens_are_pooled_by_a_product_where_nothing_but_the_batch_is_before_them(formula, expected):
    kinds, output, wanted = lowered(formula, x=(64, 64), y=(64,))
    assert {kind: kinds[kind] for kind in expected} == expected
    np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-5)


def test_the_only_element_of_an_axis_is_squeezed_out_not_gathered():
    kinds, output, wanted = lowered(lambda x, y, w: (x @ y[..., None])[..., 0] + x[:, :, 1], x=(40, 16), y=(16,))
    assert kinds["Squeeze"] >= 1 and kinds["Gather"] <= 1
    np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("formula", "left"),
    [
        (lambda x, y, w: x.reshape(-1, 4, 8)[:, :, None].squeeze(2).reshape(-1, 32) * 2, {}),
        (lambda x, y, w: x.reshape(-1, 4, 8).reshape(-1, 2, 16)[:, None] + 1, {"Reshape": 1}),
        (lambda x, y, w: x[:, None, None].permute(0, 3, 1, 2) + 1, {"Reshape": 1}),
        (lambda x, y, w: x.reshape(-1, 8, 4).transpose(1, 2) + 1, {"Reshape": 1, "Transpose": 1}),
        (lambda x, y, w: x.reshape(-1, 4, 8).reshape(-1, 2, 16), {"Reshape": 1}),
    ],
    ids=["back to the same", "other axes", "axes of length 1", "a transpose that moves", "the output"],
)
def test_what_moves_no_element_is_one_reshape_or_none(formula, left):
    kinds, output, wanted = lowered(formula, x=(32,), y=(1,))
    shapes = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Identity")
    assert {kind: kinds[kind] for kind in shapes if kinds[kind]} == left
    np.testing.assert_array_equal(output, wanted)


def test_a_packed_projection_is_taken_apart_by_one_split():
    def heads(x, y, w):
        q, k, v = x.reshape(-1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        return q * k - v

    kinds, output, wanted = lowered(heads, x=(5, 24), y=(1,))
    assert (kinds["Split"], kinds["Gather"], kinds["Reshape"]) == (1, 0, 3)
    np.testing.assert_array_equal(output, wanted)


def test_a_part_of_a_packed_projection_is_gathered():
    kinds, output, wanted = lowered(lambda x, y, w: x.reshape(-1, 5, 3, 8)[:, :, 2] * 2, x=(5, 24), y=(1,))
    assert (kinds["Split"], kinds["Gather"]) == (0, 1)
    np.testing.assert_array_equal(output, wanted)


def trend(x, before, after, window, stride=1):
    parts = [x[..., :1].expand(-1, -1, before), x, x[..., -1:].expand(-1, -1, after)]
    return nn.functional.avg_pool1d(torch.cat(parts, -1), window, stride)


@pytest.mark.parametrize(("steps", "before", "after", "stride"), [(64, 4, 4, 1), (128, 8, 1, 1), (31, 3, 5, 2)])
def test_a_moving_average_over_repeated_ends_is_a_product(steps, before, after, stride):
    kinds, output, wanted = lowered(lambda x, y, w: trend(x, before, after, 9, stride) * 2, x=(5, steps), y=(1,))
    assert (kinds["MatMul"], kinds["AveragePool"], kinds["Concat"]) == (1, 0, 0)
    np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, y, w: trend(x.repeat(1, 1, 5), 4, 4, 9) * 2,
        lambda x, y, w: nn.functional.avg_pool1d(torch.cat([x[..., :1], x, x[..., -1:]], -1), 3, padding=1) * 2,
        lambda x, y, w: nn.functional.avg_pool1d(torch.cat([x, 2 * x], -1), 3) * 2,
        lambda x, y, w: nn.functional.avg_pool1d(torch.cat([x, x[..., :1] + 1], -1), 3) * 2,
    ],
    ids=["a long series", "padded with zeros", "two series", "a changed end"],
)
def test_other_averages_stay(formula):
    kinds, output, wanted = lowered(formula, x=(5, 30), y=(1,))
    assert (kinds["MatMul"], kinds["AveragePool"]) == (0, 1)
    np.testing.assert_allclose(output, wanted, rtol=1e-5, atol=1e-6)


def test_a_selective_scan_has_no_small_broadcast_left():
    from edgeattn.models.recurrence import linear_recurrence

    def scan(x, y, w):
        states = linear_recurrence(torch.exp(-x.abs()[..., None] * w.exp()), x[..., None] * y[:, :, None, :])
        return (states @ y[..., None])[..., 0]

    kinds, output, wanted = lowered(scan, x=(64, 40), y=(64, 16))
    assert kinds["Gather"] == 0
    assert kinds["MatMul"] == 3
    np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-5)
