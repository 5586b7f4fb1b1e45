"""The cpu target: integer kernels in the engine, exact on every instruction set, attention as one operator."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import edgeattn
from edgeattn.devices import Device, find_device
from edgeattn.errors import InputError
from edgeattn.export.graph import to_graph
from edgeattn.export.host import host_session
from edgeattn.export.trace import trace
from edgeattn.models.reference import Reference, Samples
from edgeattn.models.registry import find
from edgeattn.quantize import Recipe, quantise
from edgeattn.quantize.insert import quantised_graph
from edgeattn.runtime.machine import isa_flags
from edgeattn.runtime.manifest import TensorSpec
from edgeattn.targets.cpu.passes.multi_head_attention import FEW
from edgeattn.targets.target import find_target

ISAS = {"avx2": ("avx2",), "vnni": ("avx2", "avx512_vnni"), "arm": ("asimd",)}
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def device(isa):
    return Device(name="test", target="cpu", description="a test", isa=ISAS[isa])


@pytest.fixture(scope="module")
def cpu():
    return find_target("cpu")


@pytest.fixture(scope="module")
def program():
    return trace(find("rpattention"), {"x": normal(2, 8, 8)})


@pytest.fixture(scope="module")
def calibration():
    return find("rpattention").calibration().take(slice(0, 64))


@pytest.fixture(scope="module", params=["int8 symmetric", "int8 asymmetric", "int8-dynamic asymmetric"])
def quantised(request, program, calibration):
    precision, activation = request.param.split()
    return quantised_graph(to_graph(program), quantise(program, Recipe(default=precision, activation=activation), calibration))


@pytest.mark.parametrize("isa", ISAS)
def test_every_quantised_layer_is_an_integer_kernel_in_the_engine(cpu, quantised, isa):
    artifact = cpu.package(cpu.lower(quantised, device(isa)), device(isa))
    layers = artifact.integer_layers
    assert layers.quantised == layers.integer_in_engine == 35
    assert artifact.warnings == ()


@pytest.mark.parametrize("isa", ISAS)
def test_lowering_keeps_what_the_quantised_graph_computes(cpu, program, calibration, isa):
    if isa == "vnni" and not _has_vnni():
        pytest.skip("this CPU has no VNNI, whose kernel this path is for")
    graph = quantised_graph(to_graph(program), quantise(program, Recipe(activation="asymmetric"), calibration))
    inputs = {"x": calibration.inputs["x"]}
    expected = host_session(graph, optimise=False).run(None, inputs)[0]
    actual = host_session(cpu.lower(graph, device(isa))).run(None, inputs)[0]
    exact = program.run(inputs)[0]
    # Rounding ties fall either way when float sums are ordered otherwise; that must stay small beside the rounding itself.
    assert np.linalg.norm(actual - exact) < 1.2 * np.linalg.norm(expected - exact)
    assert (actual.argmax(1) == expected.argmax(1)).mean() > 0.98


def one_layer(weight, scale_of_inputs=1.0):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            self.layer.weight = nn.Parameter(torch.from_numpy(weight))

        def forward(self, x):
            return self.layer(x)

    module = Layer()
    spec = TensorSpec(name="x", shape=(2, weight.shape[1]), dtype="float32")
    return trace(Reference("layer", lambda: module, (spec,), ("y",), "a test", "regression"), {"x": normal(2, weight.shape[1])})


@pytest.mark.parametrize("isa", ISAS)
def test_products_at_the_end_of_the_range_do_not_saturate(cpu, isa):
    """255 x 127 twice is more than 16 bits hold, which is where AVX2's own u8 x s8 instruction saturates."""
    from edgeattn.models.reference import Samples

    program = one_layer(np.ones((4, 64), np.float32))
    samples = Samples({"x": np.concatenate([np.full((8, 64), 5.0, np.float32), np.full((8, 64), -0.1, np.float32)])})
    graph = quantised_graph(to_graph(program), quantise(program, Recipe(activation="asymmetric", bias_correction=False, percentile=99.99), samples))
    if isa == "vnni" and not _has_vnni():
        pytest.skip("this CPU has no VNNI, whose kernel this path is for")
    actual = host_session(cpu.lower(graph, device(isa))).run(None, {"x": samples.inputs["x"][:1]})[0]
    np.testing.assert_allclose(actual, 320.0, rtol=0.02)


def ones_for_openvino(isa):
    """A layer whose weights are 1, as OpenVINO gets it for a CPU."""
    target = find_target("cpu", "openvino")
    program = one_layer(np.ones((4, 64), np.float32))
    samples = Samples({"x": np.concatenate([np.full((8, 64), 5.0, np.float32), np.full((8, 64), -5.0, np.float32)])})
    return target.lower(quantised_graph(to_graph(program), quantise(program, target.recipe(device(isa)), samples)), device(isa))


def sum_of_fives(lowered):
    """64 of them, by that layer."""
    return float(find_target("cpu", "openvino").session(lowered).run(None, {"x": np.full((1, 64), 5.0, np.float32)})[0].max())


@needs_openvino
@pytest.mark.parametrize(("isa", "largest", "kind"), [("avx2", 63, "INT8"), ("vnni", 127, "UINT8"), ("arm", 127, "INT8")])
def test_openvino_gets_integers_as_the_cpu_multiplies_them(isa, largest, kind):
    lowered = ones_for_openvino(isa)
    assert [np.abs(array).max() for array in integer_weights(lowered)] == [largest]
    assert {node.outputs[0].dtype.name for node in lowered.graph if node.op_type == "QuantizeLinear"} == {kind}
    if isa == "avx2" or (isa == "vnni" and _has_vnni()):
        np.testing.assert_allclose(sum_of_fives(lowered), 320.0, rtol=0.02)


@needs_openvino
@pytest.mark.skipif("avx2" not in isa_flags(), reason="needs an x86 CPU with AVX2")
def test_openvino_without_vnni_does_not_saturate_on_weights_of_7_bits():
    """Its kernels kept to AVX2, as on a CPU that has no more; full-range weights show that they are."""
    script = "from test_cpu import *; print(*(sum_of_fives(ones_for_openvino(isa)) for isa in ('avx2', 'vnni')))"
    only_avx2 = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    ran = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, env=only_avx2, capture_output=True, text=True, check=True)
    exact, saturated = map(float, ran.stdout.split())
    np.testing.assert_allclose(exact, 320.0, rtol=0.02)
    assert saturated < 160


def integer_weights(lowered):
    tensors = [value.const_value for value in lowered.graph.initializers.values() if value.dtype == ir.DataType.INT8]
    return [tensor.numpy() for tensor in tensors if tensor.size > 4]


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_weights_of_7_bits_are_multiplied_as_they_are_without_vnni_and_do_not_saturate(cpu, precision):
    program = one_layer(np.ones((4, 64), np.float32))
    samples = Samples({"x": np.concatenate([np.full((8, 64), 5.0, np.float32), np.full((8, 64), -0.1, np.float32)])})
    usual = Recipe(default=precision, activation="asymmetric", bias_correction=False, percentile=99.99)
    coarser = cpu.coarser(usual, device("avx2"))
    assert coarser is not None and cpu.coarser(coarser, device("avx2")) is None
    lowered = cpu.lower(quantised_graph(to_graph(program), quantise(program, coarser, samples)), device("avx2"))
    assert [np.abs(array).max() for array in integer_weights(lowered)] == [63]
    np.testing.assert_allclose(host_session(lowered).run(None, {"x": samples.inputs["x"][:1]})[0], 320.0, rtol=0.02)


def test_auto_tries_weights_of_7_bits_where_they_are_faster_and_of_8_only_if_those_fail(tmp_path):
    tried = {}
    for name in ("x86-avx2", "x86-avx512-vnni"):
        compiled = edgeattn.compile(find("ister").weights, name, precision="auto", engine="onnxruntime", output=tmp_path / name)
        tried[name] = [candidate.name for candidate in compiled.candidates]
    assert tried == {
        "x86-avx2": ["int8, 7-bit weights", "int8-dynamic, 7-bit weights", "fp32"],
        "x86-avx512-vnni": ["int8", "int8-dynamic", "fp32"],
    }


def test_auto_falls_back_to_8_bits_and_its_ladder_where_weights_of_7_bits_miss_the_gate(tmp_path, monkeypatch):
    from edgeattn import dense
    from edgeattn.runtime.manifest import Tolerance

    monkeypatch.setattr(dense, "default_tolerance", lambda *_: Tolerance(relative_error=1e-5))
    compiled = edgeattn.compile(find("ister").weights, "x86-avx2", precision="auto", engine="onnxruntime", output=tmp_path / "b.edge")
    names = [candidate.name for candidate in compiled.candidates]
    assert names[:2] == ["int8, 7-bit weights", "int8"] and names[-3:] == ["int8-dynamic, 7-bit weights", "int8-dynamic", "fp32"]
    assert [candidate.name for candidate in compiled.candidates if candidate.chosen] == ["fp32"]


def _has_vnni():
    return any("vnni" in flag for flag in isa_flags())


class Masked(nn.Module):
    def __init__(self, packed):
        super().__init__()
        self.packed = packed
        self.qkv = nn.Linear(16, 48)

    def forward(self, x, mask):
        batch, length, _ = x.shape
        if self.packed:
            q, k, v = self.qkv(x).reshape(batch, length, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (t.reshape(batch, length, 4, 4).transpose(1, 2) for t in self.qkv(x).split(16, -1))
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return y.transpose(1, 2).reshape(batch, length, 16)


def lowered_with_mask(cpu, mask, packed, keys):
    """Attention of 3 samples of so many tokens; (lowered graph, its output, the module's)."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    masks = {
        "boolean per key": (random.random((3, 1, 1, keys)) < 0.7) | (np.arange(keys) == 0),
        "boolean per pair": (random.random((3, 1, keys, keys)) < 0.7) | np.eye(keys, dtype=bool),
        "float per head": normal(3, 4, keys, keys),
    }
    module, example = Masked(packed), {"x": normal(3, keys, 16), "mask": masks[mask]}
    specs = tuple(TensorSpec(name=name, shape=array.shape, dtype=str(array.dtype)) for name, array in example.items())
    program = trace(Reference("masked", lambda: module, specs, ("y",), "a test"), example)
    lowered = cpu.lower(to_graph(program), device("avx2"))
    return lowered, host_session(lowered).run(None, example)[0], program.run(example)[0]


MASKS = ["boolean per key", "boolean per pair", "float per head"]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_attention_becomes_one_operator_whatever_its_mask(cpu, mask, packed):
    lowered, output, expected = lowered_with_mask(cpu, mask, packed, FEW + 1)
    counts = Counter(node.op_type for node in lowered.graph)
    assert counts["MultiHeadAttention"] == 1
    assert counts["Transpose"] == 0, f"transposes left: {counts}"
    assert lowered.opset_imports[""] == 20
    np.testing.assert_allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_masked_attention_over_few_keys_stays_products_and_a_softmax(cpu, mask, packed):
    lowered, output, expected = lowered_with_mask(cpu, mask, packed, 6)
    counts = Counter(node.op_type for node in lowered.graph)
    assert (counts["MultiHeadAttention"], counts["Softmax"]) == (0, 1)
    np.testing.assert_allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("formula", "wanted", "unwanted"),
    [
        (lambda x: nn.functional.layer_norm(x + x.relu(), (16,)), {"Add", "LayerNormalization"}, "SkipLayerNormalization"),
        (lambda x: x[:, 0] @ x[:, 1].transpose(1, 2) + x[:, 2], {"Gather"}, "Split"),
        (lambda x: (x * 0.25) @ x.exp(), {"Mul", "MatMul"}, "FusedMatMul"),
    ],
    ids=["a sum and a norm", "selections of an axis", "a scale and a product"],
)
def test_the_engine_keeps_apart_what_it_fuses_to_something_slower(cpu, formula, wanted, unwanted):
    class Formula(nn.Module):
        def forward(self, x):
            return formula(x)

    program = trace(
        Reference("test", Formula, (TensorSpec(name="x", shape=(2, 3, 16, 16), dtype="float32"),), ("y",), "a test"), {"x": normal(2, 3, 16, 16)}
    )
    artifact = cpu.package(cpu.lower(to_graph(program), device("avx2")), device("avx2"))
    kinds = {part.split()[1] for part in artifact.checks[0].detail.split(", ")}
    assert wanted <= kinds and unwanted not in kinds


def test_causal_attention_keeps_its_order(cpu):
    class Causal(nn.Module):
        def forward(self, x):
            heads = x.reshape(*x.shape[:2], 2, 8).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)

    example = {"x": normal(2, 5, 16)}
    program = trace(Reference("causal", Causal, (TensorSpec(name="x", shape=(2, 5, 16), dtype="float32"),), ("y",), "a test"), example)
    lowered = cpu.lower(to_graph(program), device("avx2"))
    assert any(node.op_type == "MultiHeadAttention" for node in lowered.graph)
    np.testing.assert_allclose(host_session(lowered).run(None, example)[0], program.run(example)[0], atol=1e-5)


def test_lowering_leaves_the_canonical_graph_as_it_was(cpu, program):
    graph = to_graph(program)
    before = [(node.op_type, node.name) for node in graph.graph]
    cpu.lower(graph, device("avx2"))
    assert [(node.op_type, node.name) for node in graph.graph] == before


def test_check_names_a_node_the_engine_does_not_know(cpu, program):
    graph = to_graph(program)
    node = ir.node("Warp", [graph.graph.inputs[0]], domain="acme", name="blocks.0/Warp")
    graph.graph.append(node)
    findings = cpu.check(graph, device("avx2"))
    assert [(f.rule, f.severity, f.node) for f in findings] == [("cpu.unknown-domain", "error", "blocks.0/Warp")]


def test_a_silent_fall_back_to_float_is_a_warning_with_the_layers(cpu, program, calibration):
    """A graph whose Q/DQ never became a kernel is what users get elsewhere; here it must not go unseen."""
    graph = quantised_graph(to_graph(program), quantise(program, Recipe(activation="symmetric"), calibration))
    artifact = cpu.package(graph, device("avx2"))
    assert artifact.integer_layers.integer_in_engine < artifact.integer_layers.quantised
    assert "in float: " in artifact.warnings[0]


def test_an_unknown_target_lists_the_known_ones():
    with pytest.raises(InputError, match="installed targets: .*cpu"):
        find_target("abacus")


def test_the_alias_picks_the_first_device_this_machine_fits():
    chosen, note = find_device("cpu", ("avx2",))
    assert chosen.name == "x86-avx2"
    assert "cpu stands for x86-avx2" in note
    assert find_device("cpu", ("asimd",))[0].name == "arm64"


def test_softplus_is_vectorised_and_right_from_far_below_to_far_above_zero(cpu):
    module = nn.Sequential(nn.Softplus())
    x = np.array([[-1e4, -90, -17, -3, -1e-3, 0, 2, 19, 21, 90, 1e4]] * 2, np.float32)
    spec = TensorSpec(name="input", shape=("batch", x.shape[1]), dtype="float32")
    graph = to_graph(trace(Reference("test", lambda: module, (spec,), ("y",), "a test"), {"input": x}))
    lowered = cpu.lower(graph, device("avx2"))
    assert not [node for node in lowered.graph if node.op_type == "Softplus"]
    expected = np.logaddexp(0, x.astype(np.float64))
    np.testing.assert_allclose(host_session(lowered).run(None, {"input": x})[0], expected, rtol=1e-6, atol=2e-7)


def lowered_step(cpu, tokens):
    """Attention of so many tokens to 20 cached ones and themselves; (lowered graph, program, example)."""

    class Step(nn.Module):
        def forward(self, x, keys, values):
            mask = torch.ones(tokens, tokens, dtype=torch.bool).tril()
            seen = torch.cat([torch.ones(tokens, 20, dtype=torch.bool), mask], 1)
            return nn.functional.scaled_dot_product_attention(x, torch.cat([keys, x], 2), torch.cat([values, x], 2), seen)

    example = {"x": normal(2, 3, tokens, 8), "keys": normal(2, 3, 20, 8, seed=1), "values": normal(2, 3, 20, 8, seed=2)}
    specs = tuple(TensorSpec(name=name, shape=("batch", *array.shape[1:]), dtype="float32") for name, array in example.items())
    program = trace(Reference("test", Step, specs, ("y",), "a test"), example)
    return cpu.lower(to_graph(program), device("avx2")), program, example


@pytest.mark.parametrize("tokens", [1, 3])
def test_attention_of_a_few_tokens_reads_a_cache_where_it_lies(cpu, tokens):
    lowered, program, example = lowered_step(cpu, tokens)
    kinds = Counter(node.op_type for node in lowered.graph)
    assert kinds["MultiHeadAttention"] == 0
    assert {tuple(node.attributes["perm"].as_ints()) for node in lowered.graph if node.op_type == "Transpose"} == {(0, 1, 3, 2)}
    joined = [node for node in lowered.graph if node.op_type == "Concat"]
    assert [node.attributes["axis"].as_int() for node in joined] == [-1], "the scores are joined, not the keys"
    np.testing.assert_allclose(host_session(lowered).run(None, example)[0], program.run(example)[0], rtol=1e-4, atol=1e-5)


def test_keys_are_joined_where_the_scores_would_be_larger(cpu):
    lowered, program, example = lowered_step(cpu, 9)
    assert Counter(node.op_type for node in lowered.graph)["Concat"] == 2
    np.testing.assert_allclose(host_session(lowered).run(None, example)[0], program.run(example)[0], rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """Two layers of equal weights on one input, and one of others."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.other = (nn.Linear(8, 8) for _ in range(3))
        self.second.load_state_dict(self.first.state_dict())

    def forward(self, x):
        return self.first(x) * torch.sigmoid(self.second(x)) + self.other(x)


@pytest.mark.parametrize("engine", ["onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_equal_layers_of_one_input_are_computed_once_and_still_counted(engine, precision):
    target, module = find_target("cpu", engine), Twice()
    x = normal(32, 3, 8)
    spec = TensorSpec(name="x", shape=("batch", 3, 8), dtype="float32")
    program = trace(Reference("test", lambda: module, (spec,), ("y",), "a test"), {"x": x[:2]})
    graph = to_graph(program)
    if precision == "int8":
        graph = quantised_graph(graph, quantise(program, target.recipe(device("avx2")), Samples({"x": x})))
    lowered = target.lower(graph, device("avx2"))
    products = [node for node in lowered.graph if node.op_type in ("MatMul", "Gemm", "MatMulIntegerToFloat")]
    assert len(products) == 2
    artifact = target.package(lowered, device("avx2"))
    assert artifact.layers == dict.fromkeys(("first", "second", "other"), precision)
    counted = 3 if precision == "int8" else 0
    assert (artifact.integer_layers.quantised, artifact.integer_layers.integer_in_engine) == (counted, counted)
    expected = program.run({"x": x})[0]
    assert np.abs(target.session(lowered).run(None, {"x": x})[0] - expected).max() < (0.1 if precision == "int8" else 1e-5)
