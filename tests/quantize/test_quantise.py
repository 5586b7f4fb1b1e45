"""Brevitas' numbers, at their layers of the graph: exact where exactness is possible, refused where the recipe makes no sense."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgeattn.errors import InputError
from edgeattn.export.graph import to_graph
from edgeattn.export.host import host_session, serialise
from edgeattn.export.passes.linear_as_matmul import LAYER
from edgeattn.export.trace import in_batches, run_module, trace
from edgeattn.models.reference import Reference, Samples
from edgeattn.models.registry import find
from edgeattn.quantize import Recipe, finetune, quantise
from edgeattn.quantize.calibrate import EqualisationChanged, float_network
from edgeattn.quantize.costs import sensitivity
from edgeattn.quantize.insert import quantised_graph
from edgeattn.runtime.manifest import TensorSpec


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Network(nn.Module):
    """Norm, linear, GELU, linear without bias: small enough that no rounding error is amplified."""

    def __init__(self):
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 8, bias=False)

    def forward(self, x):
        return self.second(nn.functional.gelu(self.first(self.norm(x))))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    module = Network()
    reference = Reference("network", lambda: module, (TensorSpec(name="x", shape=(2, 16), dtype="float32"),), ("y",), "a test", "regression")
    return trace(reference, {"x": normal(2, 16)})


@pytest.fixture(scope="module")
def calibration():
    return Samples({"x": normal(128, 16, seed=1)})


def error(program, quantised, inputs):
    expected = program.run(inputs)[0]
    return float(np.linalg.norm(run_module(quantised.module, inputs)[0] - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("activation", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("precision", ["int8", "w8", "w4"])
@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_the_quantised_graph_computes_what_brevitas_computes(network, calibration, precision, activation, rounding):
    quantised = quantise(network, Recipe(default=precision, activation=activation, weight_rounding=rounding), calibration)
    graph = quantised_graph(to_graph(network), quantised)
    inputs = {"x": normal(64, 16, seed=2)}
    actual = host_session(graph, optimise=False).run(None, inputs)[0]
    expected = run_module(quantised.module, inputs)[0]
    same = np.isclose(actual, expected, atol=1e-5)
    assert same.mean() > 0.98, "more differs than a rounding tie now and then"


def test_weights_are_integers_of_one_scale_a_channel(network, calibration):
    quantised = quantise(network, Recipe(bias_correction=False), calibration)
    layer = quantised.layers["first"]
    original = network.reference.module().first.weight.detach().numpy()
    assert layer.weight.dtype == np.int8
    assert np.abs(layer.weight).max(axis=1).tolist() == [127] * 32
    assert np.abs(layer.weight * layer.scale[:, None] - original).max() <= layer.scale.max() / 2 + 1e-7


def test_int4_weights_take_half_the_bytes_of_int8(network, calibration):
    graph = to_graph(network)
    sizes = {p: len(serialise(quantised_graph(graph, quantise(network, Recipe(default=p), calibration)))) for p in ("w8", "w4")}
    assert sizes["w8"] - sizes["w4"] == pytest.approx((16 * 32 + 32 * 8) / 2, abs=64)


def test_gptq_makes_four_bit_weights_better(calibration):
    program = trace(find("rpattention"), {"x": normal(2, 8, 8)})
    samples = find("rpattention").calibration().take(slice(0, 64))
    errors = {r: error(program, quantise(program, Recipe(default="w4", weight_rounding=r), samples), samples.inputs) for r in ("nearest", "gptq")}
    assert errors["gptq"] < 0.8 * errors["nearest"]


def test_equalisation_leaves_the_float_network_as_it_was_and_helps_outliers(network, calibration):
    module = copy.deepcopy(network.reference.module())
    with torch.no_grad():
        module.norm.weight[3] = 60.0
    reference = Reference("outlier", lambda: module, network.inputs, ("y",), "a test", "regression")
    program = trace(reference, {"x": normal(2, 16)})
    inputs = {"x": normal(64, 16, seed=3)}
    equalised = float_network(program, Recipe(equalise=0.5), calibration)
    np.testing.assert_allclose(run_module(equalised, inputs)[0], program.run(inputs)[0], rtol=1e-4, atol=1e-4)
    plain, better = (error(program, quantise(program, Recipe(equalise=e), calibration), inputs) for e in (None, 0.5))
    assert better < plain
    graph = quantised_graph(to_graph(program), quantise(program, Recipe(equalise=0.5), calibration))
    actual = host_session(graph).run(None, inputs)[0]
    assert np.linalg.norm(actual - program.run(inputs)[0]) / np.linalg.norm(program.run(inputs)[0]) < 1.2 * better


def test_a_bias_that_correction_adds_reaches_the_graph(network):
    samples = Samples({"x": normal(128, 16, seed=1) + 2})
    quantised = quantise(network, Recipe(default="w4"), samples)
    assert quantised.layers["second"].bias is not None
    graph = quantised_graph(to_graph(network), quantised)
    actual = host_session(graph).run(None, dict(samples.inputs))[0]
    np.testing.assert_allclose(actual.mean(0), network.run(samples.inputs)[0].mean(0), atol=5e-3)


def test_a_bias_is_corrected_by_channel_whatever_axes_lie_before():
    torch.manual_seed(0)
    module, rows = Network(), normal(32, 16, seed=1)
    found = []
    for x in (rows, rows.reshape(2, 2, 8, 16)):
        spec = TensorSpec(name="x", shape=(2, *x.shape[1:]), dtype="float32")
        program = trace(Reference("network", lambda: module, (spec,), ("y",), "a test", "regression"), {"x": x[:2]})
        found.append(quantise(program, Recipe(), Samples({"x": x})).layers)
    for path, layer in found[0].items():
        np.testing.assert_allclose(found[1][path].bias, layer.bias, atol=1e-5)


def test_a_raised_layer_stays_float_and_carries_its_reason(network, calibration):
    recipe = Recipe().raised("second", "fp32", "costs too much")
    quantised = quantise(network, recipe, calibration)
    assert set(quantised.layers) == {"first"}
    assert "costs too much" in recipe.to_yaml()


def test_a_recipe_can_be_written_edited_and_read_again(tmp_path):
    path = tmp_path / "recipe.yaml"
    recipe = Recipe(equalise=0.5).raised("head", "w8", "by hand")
    path.write_text(recipe.to_yaml())
    assert Recipe.read(path) == recipe


@pytest.mark.parametrize(
    ("text", "message"), [("default: int7", "int7"), ("colour: red", "colour"), ("layers: [1]", "layers"), ("a: [", "not valid"), ("", "Expected")]
)
def test_a_wrong_recipe_names_its_file_and_field(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        Recipe.read(path)
    assert "recipe.yaml" in str(caught.value)


def test_a_recipe_for_a_layer_that_is_not_there_is_refused(network, calibration):
    with pytest.raises(InputError, match="'third'.*first, second"):
        quantise(network, Recipe().raised("third", "fp32", ""), calibration)


def test_the_costliest_layer_comes_first(network, calibration):
    module = copy.deepcopy(network.reference.module())
    with torch.no_grad():
        module.norm.weight[0] = 500.0  # one outlying channel in front of `first`
        module.first.weight[:, 0] /= 500.0
    reference = Reference("costly", lambda: module, network.inputs, ("y",), "a test", "regression")
    program = trace(reference, {"x": normal(2, 16)})
    costs = sensitivity(program, quantise(program, Recipe(), calibration), calibration)
    assert [cost.layer for cost in costs] == ["first", "second"]
    assert costs[0].alone > 3 * costs[1].alone


class OfFour(Network):
    """A network whose trace fixes the number of samples."""

    def forward(self, x):
        return super().forward(x.reshape(len(x), 16))


def test_a_network_of_a_fixed_batch_is_calibrated_and_searched_in_that_batch():
    torch.manual_seed(0)
    module, samples = OfFour(), Samples({"x": normal(130, 16, seed=1)})
    reference = Reference("of_four", lambda: module, (TensorSpec(name="x", shape=(4, 16), dtype="float32"),), ("y",), "a test", "regression")
    program = trace(reference, {"x": normal(4, 16)})
    assert program.fixed_batch == 4
    quantised = quantise(program, Recipe(), samples)
    assert error(program, quantised, samples.take(slice(0, 4)).inputs) < 0.05
    assert {cost.layer for cost in sensitivity(program, quantised, samples)} == {"first", "second"}


def test_batches_of_a_fixed_size_give_one_answer_for_every_sample():
    x, sizes = normal(10, 3), []

    def outputs(part):
        sizes.append(len(part["x"]))
        return [2 * part["x"]]

    np.testing.assert_array_equal(in_batches(outputs, {"x": x}, 4, True)[0], 2 * x)
    np.testing.assert_array_equal(in_batches(outputs, {"x": x}, 4, False)[0], 2 * x)
    assert sizes == [4, 4, 4, 4, 4, 2]


def test_a_network_whose_axes_equalisation_cannot_follow_is_refused_in_one_sentence():
    reference = find("uniprefill")  # its tokens are gathered into another axis than Brevitas takes for the batch
    samples = reference.calibration()
    program = trace(reference, {name: array[:2] for name, array in samples.inputs.items()})
    with pytest.raises(EqualisationChanged, match="cannot follow the axes of uniprefill: leave `equalise` out"):
        float_network(program, Recipe(equalise=0.5), samples)


def test_distillation_repairs_what_four_bits_cost():
    reference = find("ecg_nat")
    samples = reference.calibration()
    program = trace(reference, {"x": samples.inputs["x"][:2]})
    held_out = dict(reference.evaluation().take(slice(0, 256)).inputs)
    recipe = Recipe(default="w4", activation="asymmetric")
    before = error(program, quantise(program, recipe, samples), held_out)
    tuned = finetune(program, recipe, samples, epochs=4, rate=2e-4)
    assert error(program, tuned, held_out) < 0.75 * before
    graph = quantised_graph(to_graph(program), tuned)
    np.testing.assert_allclose(host_session(graph, optimise=False).run(None, held_out)[0], run_module(tuned.module, held_out)[0], atol=1e-3)


def test_layers_that_read_the_same_tensor_share_its_quantisation():
    program = trace(find("rpattention"), {"x": normal(2, 8, 8)})
    graph = quantised_graph(to_graph(program), quantise(program, Recipe(), find("rpattention").calibration().take(slice(0, 32))))
    quantises = [node for node in graph.graph if node.op_type == "QuantizeLinear"]
    linears = [node for node in graph.graph if LAYER in node.metadata_props]
    assert len(quantises) < len(linears)
