"""Convolutions in integers: Brevitas' numbers in the graph, exact kernels in the engine, on every set of signs."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from onnx_ir.passes import common
from torch import nn

from edgeattn.devices import find_device
from edgeattn.errors import InputError
from edgeattn.export.graph import to_graph
from edgeattn.export.host import host_session, serialise
from edgeattn.export.trace import run_module, trace
from edgeattn.models.reference import Reference, Samples
from edgeattn.quantize import Recipe, quantise
from edgeattn.quantize.insert import quantised_graph
from edgeattn.quantize.recipe import Layer
from edgeattn.runtime.manifest import TensorSpec
from edgeattn.targets.cpu.lower import lower
from edgeattn.targets.cpu.openvino import OPENVINO
from edgeattn.targets.cpu.readback import read_back
from edgeattn.targets.graphs import layer_precisions
from edgeattn.targets.target import find_target

SIGNS = {"VNNI": ("avx2", "avx512_vnni"), "AVX2": ("avx2",), "ARM": ("asimd",)}


class Vision(nn.Module):
    """Two convolutions in a row, one by groups behind a GELU, one over a sequence, one linear layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, bias=False)
        self.grouped, self.line, self.head = nn.Conv2d(16, 16, 3, groups=4), nn.Conv1d(16, 8, 3, padding=2, dilation=2), nn.Linear(8, 5)

    def forward(self, x):
        x = self.grouped(nn.functional.gelu(self.second(torch.relu(self.first(x)))))
        return self.head(self.line(x.flatten(2)).mean(-1))


class Named(nn.Module):
    """A layer behind an input called x."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    module = Vision().eval()
    reference = Reference("vision", lambda: module, (TensorSpec(name="x", shape=(2, 3, 12, 12), dtype="float32"),), ("y",), "a test", "regression")
    return trace(reference, images(2))


def images(count, seed=0):
    return {"x": np.random.default_rng(seed).standard_normal((count, 3, 12, 12)).astype(np.float32)}


def device(isa):
    return msgspec.structs.replace(find_device("x86-avx2", ())[0], isa=isa)


@pytest.mark.parametrize("activation", ["symmetric", "asymmetric"])
def test_the_graph_computes_what_brevitas_computes(program, activation):
    quantised = quantise(program, Recipe(activation=activation), Samples(images(64, 1)))
    assert set(quantised.layers) == {"first", "second", "grouped", "line", "head"}
    graph = quantised_graph(to_graph(program), quantised)
    inputs = images(32, 2)
    actual, expected = host_session(graph, optimise=False).run(None, inputs)[0], run_module(quantised.module, inputs)[0]
    assert np.isclose(actual, expected, atol=1e-4).mean() > 0.97, "more differs than a rounding tie now and then"


@pytest.mark.parametrize("name", SIGNS)
def test_the_engine_runs_every_convolution_in_integers_and_computes_the_same(program, name):
    quantised = quantise(program, Recipe(activation="asymmetric"), Samples(images(64, 1)))
    graph = quantised_graph(to_graph(program), quantised)
    lowered = lower(graph, device(SIGNS[name]))
    kinds = [node.op_type for node in lowered.graph]
    counts = [kinds.count(kind) for kind in ("QLinearConv", "MatMulIntegerToFloat", "ConvInteger", "Conv")]
    assert counts == [1, 4, 0, 0]
    layers = tuple(layer_precisions(lowered))
    assert set(read_back(serialise(lowered), layers).integer) == set(layers) == set(quantised.layers)
    inputs = images(32, 2)
    if name == "AVX2":  # exact on every CPU; the others' products are exact where their instructions are
        expected = host_session(graph, optimise=False).run(None, inputs)[0]
        error = np.abs(host_session(lowered).run(None, inputs)[0] - expected).max() / np.abs(expected).max()
        assert error < 0.02, "what a rounded bias may turn over, and nothing more"


GEOMETRIES = {
    "padded": nn.Conv2d(8, 16, 3, padding=1),
    "stride and dilation": nn.Conv2d(8, 16, 3, stride=2, padding=(2, 1), dilation=(2, 1), bias=False),
    "one tap": nn.Conv2d(8, 16, 1),
    "one tap, every other place": nn.Conv2d(8, 16, 1, stride=2),
    "side by side": nn.Conv2d(8, 16, 4, stride=4),
    "side by side in a line": nn.Conv2d(8, 16, (1, 12), stride=(1, 12)),
    "side by side with a rest": nn.Conv2d(8, 16, 5, stride=5),
    "many taps side by side": nn.Conv2d(8, 16, 12, stride=12),
    "many taps": nn.Conv2d(8, 16, 9),
    "padded at one side": nn.Conv2d(8, 16, (4, 1), padding="same"),
    "one channel": nn.Conv2d(8, 1, 3),
    "two groups": nn.Conv2d(8, 16, 3, groups=2),
    "every channel by itself": nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "too many groups": nn.Conv2d(8, 256, 7, groups=8),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_computes_what_its_pairs_compute(name):
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 8, 12, 12)).astype(np.float32)}
    spec = TensorSpec(name="x", shape=(2, 8, 12, 12), dtype="float32")
    program = trace(Reference(name, lambda: Named(GEOMETRIES[name]), (spec,), ("y",), "a test", "regression"), inputs)
    graph = quantised_graph(to_graph(program), quantise(program, Recipe(activation="asymmetric"), Samples(inputs)))
    lowered = lower(graph, device(SIGNS["AVX2"]))
    expected = host_session(graph, optimise=False).run(None, inputs)[0]
    assert np.allclose(host_session(lowered).run(None, inputs)[0], expected, atol=1e-5 * np.abs(expected).max())
    kinds = [node.op_type for node in lowered.graph]
    assert ("ConvInteger" in kinds) == (name in ("many taps", "one channel", "too many groups")) and "Conv" not in kinds


class Pyramid(nn.Module):
    """One layer on two sizes."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x).mean((2, 3)) + self.layer(x[:, :, :8, :8]).mean((2, 3))


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 16, 4, stride=4), nn.Conv2d(2, 16, 3, padding=1)], ids=["side by side", "by tap"])
def test_a_layer_called_on_two_sizes_computes_what_its_pairs_compute(layer):
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 2, 16, 16)).astype(np.float32)}
    spec = TensorSpec(name="x", shape=(2, 2, 16, 16), dtype="float32")
    program = trace(Reference("pyramid", lambda: Pyramid(layer), (spec,), ("y",), "a test", "regression"), inputs)
    graph = quantised_graph(to_graph(program), quantise(program, Recipe(activation="asymmetric"), Samples(inputs)))
    lowered = lower(graph, device(SIGNS["AVX2"]))
    common.NameFixPass()(graph)
    expected = host_session(graph, optimise=False).run(None, inputs)[0]
    assert np.allclose(host_session(lowered).run(None, inputs)[0], expected, atol=1e-5 * np.abs(expected).max())
    assert [node.op_type for node in lowered.graph].count("MatMulIntegerToFloat") == 2


@pytest.mark.parametrize("length", [9, 20])
def test_a_convolution_over_an_axis_of_any_length_computes_what_its_pairs_compute(length):
    inputs = {"x": np.random.default_rng(0).standard_normal((2, 8, 16)).astype(np.float32)}
    module = Named(nn.Conv1d(8, 16, 3, padding=1))
    spec = TensorSpec(name="x", shape=(2, 8, 16), dtype="float32")
    program = trace(Reference("line", lambda: module, (spec,), ("y",), "a test", "regression"), inputs, {"x": (0, 2)})
    graph = quantised_graph(to_graph(program), quantise(program, Recipe(activation="asymmetric"), Samples(inputs)))
    lowered = lower(graph, device(SIGNS["AVX2"]))
    given = {"x": np.random.default_rng(1).standard_normal((3, 8, length)).astype(np.float32)}
    expected = host_session(graph, optimise=False).run(None, given)[0]
    assert np.allclose(host_session(lowered).run(None, given)[0], expected, atol=1e-5 * np.abs(expected).max())
    assert "ConvInteger" not in [node.op_type for node in lowered.graph]


def test_integers_stay_near_the_float_network(program):
    samples, inputs = Samples(images(64, 1)), images(32, 2)
    quantised = quantise(program, Recipe(activation="asymmetric"), samples)
    actual = host_session(lower(quantised_graph(to_graph(program), quantised), device(SIGNS["AVX2"]))).run(None, inputs)[0]
    expected = program.run(inputs)[0]
    assert np.linalg.norm(actual - expected) / np.linalg.norm(expected) < 0.05


def test_openvino_and_jetson_graphs_keep_pairs_around_each_convolution(program):
    quantised = quantise(program, Recipe(activation="symmetric"), Samples(images(64, 1)))
    graph = quantised_graph(to_graph(program), quantised)
    for lowered in (OPENVINO.lower(graph, device(())), find_target("jetson").lower(graph, find_device("jetson-orin-nano", ())[0])):
        for node in lowered.graph:
            if node.op_type == "Conv":
                assert [value.producer().op_type for value in node.inputs[:2]] == ["DequantizeLinear"] * 2
                assert node.inputs[1].producer().attributes["axis"].as_int() == 0


def test_a_convolution_without_such_a_form_stays_float_and_the_recipe_says_why(program):
    quantised = quantise(program, Recipe(default="w8"), Samples(images(16, 1)))
    assert set(quantised.layers) == {"head"}
    assert quantised.recipe.layers["first"] == Layer("fp32", "a convolution has no w8")
    with pytest.raises(InputError, match="first w4, but it is a convolution"):
        quantise(program, Recipe(layers={"first": Layer("w4")}), Samples(images(16, 1)))
