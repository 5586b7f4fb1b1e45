"""Integers between layers: which networks have them throughout, and what they compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeattn.devices import find_device
from edgeattn.export.graph import to_graph
from edgeattn.export.host import host_session
from edgeattn.export.trace import trace
from edgeattn.models.reference import Reference, Samples
from edgeattn.quantize import Recipe, quantise
from edgeattn.quantize.between import IntegersBetween, integers_throughout
from edgeattn.quantize.insert import quantised_graph
from edgeattn.runtime.manifest import TensorSpec
from edgeattn.targets.cpu.lower import lower


class Products(nn.Module):
    """A layer, a product of activations, a sum with a scaled move, a layer; `extra` is put in the middle."""

    def __init__(self, extra):
        super().__init__()
        self.first, self.last, self.extra = nn.Conv1d(6, 8, 1), nn.Linear(8, 3), extra

    def forward(self, x):
        z = torch.relu(self.first(x)).transpose(1, 2)
        z = self.extra(z + (z @ z.transpose(1, 2)) @ z * 0.05)
        return self.last(nn.functional.avg_pool1d(z.transpose(1, 2), 5).flatten(1))


def graph_of(module, activation="asymmetric"):
    torch.manual_seed(0)
    module.eval()
    reference = Reference("p", lambda: module, (TensorSpec(name="x", shape=("batch", 6, 5), dtype="float32"),), ("y",), "a test", "regression")
    program = trace(reference, inputs(2))
    recipe = Recipe(activation=activation, between="int8")
    graph = to_graph(program)
    return program, graph, recipe, quantise(program, recipe, Samples(inputs(128, 1)))


def inputs(count, seed=0):
    return {"x": np.random.default_rng(seed).standard_normal((count, 6, 5)).astype(np.float32)}


@pytest.mark.parametrize("activation", ["asymmetric", "symmetric"])
def test_every_value_between_layers_is_held_in_integers_and_stays_near(activation):
    torch.manual_seed(0)
    program, graph, recipe, quantised = graph_of(Products(nn.Identity()), activation)
    assert integers_throughout(graph.graph)
    held = quantised_graph(graph, quantised)
    IntegersBetween(recipe, Samples(inputs(128, 1)))(held)
    for node in held.graph:
        if node.op_type in ("MatMul", "AveragePool", "Mul"):
            assert all(value.producer() is not None and value.producer().op_type == "DequantizeLinear" for value in node.inputs), node.name
    expected = program.run(inputs(64, 2))[0]
    actual = host_session(held, as_written=True).run(None, inputs(64, 2))[0]
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) < 0.1
    lowered = lower(held, find_device("x86-avx2", ())[0])
    kernels = host_session(lowered).run(None, inputs(64, 2))[0]
    assert np.abs(kernels - actual).max() < 0.05 * np.abs(actual).max(), "a rounding tie may fall the other way, no more"


def test_a_move_keeps_the_scale_of_what_it_moves():
    _, graph, recipe, quantised = graph_of(Products(nn.Identity()))
    held = quantised_graph(graph, quantised)
    IntegersBetween(recipe, Samples(inputs(128, 1)))(held)
    for node in held.graph:
        if node.op_type == "Transpose":
            reader = next(use.node for use in node.outputs[0].uses())
            assert float(reader.inputs[1].const_value.numpy()) == float(node.inputs[0].producer().inputs[1].const_value.numpy())


def test_a_network_with_an_exponential_has_no_such_form():
    assert not integers_throughout(graph_of(Products(nn.Softmax(-1)))[1].graph)


def test_a_network_without_products_of_activations_is_left_to_its_layers():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv1d(6, 8, 1), nn.Conv1d(8, 3, 1)

        def forward(self, x):
            return self.second(torch.relu(self.first(x)))

    assert not integers_throughout(graph_of(Plain())[1].graph)
