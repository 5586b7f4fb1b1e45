"""The canonical graph: one operator for each idea, names of the module tree, equal to the module or refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeattn.errors import CheckFailed, InputError
from edgeattn.export.compare import check_graph, relative
from edgeattn.export.graph import to_graph
from edgeattn.export.host import host_session
from edgeattn.export.lift import lift
from edgeattn.export.passes.linear_as_matmul import LAYER
from edgeattn.export.trace import run_module, trace
from edgeattn.models.reference import Reference
from edgeattn.models.registry import find
from edgeattn.runtime.manifest import TensorSpec


def program_of(module: nn.Module, dynamic=None, **example):
    specs = tuple(TensorSpec(name=name, shape=array.shape, dtype=str(array.dtype)) for name, array in example.items())
    reference = Reference("test", lambda: module, specs, ("y",), "a test")
    return trace(reference, example, dynamic)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return program_of(nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True).eval(), src=normal(2, 10, 32))


def operators(graph):
    return Counter(node.op_type for node in graph.graph)


def test_attention_gelu_and_norms_are_single_operators(encoder):
    counts = operators(to_graph(encoder))
    assert counts["Attention"] == 1
    assert counts["Gelu"] == 1
    assert counts["LayerNormalization"] == 2
    assert counts["Softmax"] == counts["Erf"] == counts["Gemm"] == counts["Constant"] == 0


def test_every_linear_layer_is_a_tagged_matmul_over_a_named_weight(encoder):
    layers = {n.metadata_props[LAYER]: n for n in to_graph(encoder).graph if LAYER in n.metadata_props}
    assert set(layers) == {"self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"}
    weight = layers["linear1"].inputs[1]
    assert weight.name == "linear1.weight"
    assert tuple(weight.shape) == (32, 64)


def test_nodes_are_named_after_the_module_tree():
    names = [node.name for node in to_graph(trace(find("rpattention"), {"x": normal(2, 8, 8)})).graph]
    assert "blocks.0.attention.query/MatMul" in names
    assert "blocks.2.mlp.1/Gelu" in names
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["ecg_nat", "rpattention", "ister"])
def test_the_graph_equals_the_module_for_every_batch_size(name):
    reference = find(name)
    shape = reference.inputs[0].shape[1:]
    program = trace(reference, {"x": normal(2, *shape)})
    graph = to_graph(program)
    assert check_graph(graph, program, [{"x": normal(size, *shape, seed=size)} for size in (1, 2, 7)]) < 1e-4


def test_a_small_constant_that_keeps_a_quotient_finite_is_kept_and_a_true_zero_is_not():
    class Unit(nn.Module):
        def forward(self, x):
            return 1.0 * (x + 0.0) / 1.0 / ((x - 0.0).square().sum(-1, keepdim=True) + 1e-9).sqrt()

    program = program_of(Unit(), x=np.zeros((2, 4), np.float32))
    graph = to_graph(program)
    assert operators(graph) == {"Pow": 1, "ReduceSum": 1, "Add": 1, "Sqrt": 1, "Div": 1}
    assert check_graph(graph, program, [program.example]) == 0


def test_a_graph_that_differs_names_the_first_node(encoder):
    graph = to_graph(encoder)
    bias = graph.graph.initializers["linear1.bias"]
    bias.const_value = ir.tensor(bias.const_value.numpy() + 1)
    with pytest.raises(CheckFailed, match="first at node linear1/Add"):
        check_graph(graph, encoder, [encoder.example])


def test_a_dynamic_sequence_axis_is_exported():
    class Pool(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x, keep):
            weight = keep[..., None].to(x.dtype)
            return (self.layer(x) * weight).sum(1) / weight.sum(1)

    torch.manual_seed(0)
    example = {"x": normal(2, 6, 8), "keep": np.ones((2, 6), bool)}
    program = program_of(Pool(), {"x": (0, 1), "keep": (0, 1)}, **example)
    graph = to_graph(program)
    assert [str(dim) for dim in graph.graph.inputs[0].shape] == ["batch", "axis1", "8"]
    longer = {"x": normal(3, 11, 8), "keep": np.random.default_rng(0).random((3, 11)) < 0.9}
    assert relative(program.run(longer)[0], host_session(graph).run(None, longer)[0]) < 1e-5


def test_an_axis_the_module_fixes_cannot_be_made_dynamic():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(2, -1)

    with pytest.raises(InputError, match="dynamic axes x:0"):
        program_of(Fixed(), {"x": (0,)}, x=normal(2, 6))
    assert program_of(Fixed(), None, x=normal(2, 6)).dynamic == {}


def test_several_inputs_and_outputs_keep_their_order():
    class Two(nn.Module):
        def forward(self, a, b):
            return {"sum": a + b, "difference": a - b}

    specs = tuple(TensorSpec(name=name, shape=(2, 3), dtype="float32") for name in ("a", "b"))
    reference = Reference("two", Two, specs, ("sum", "difference"), "a test")
    program = trace(reference, {"a": normal(2, 3), "b": normal(2, 3, seed=1)})
    graph = to_graph(program)
    assert [value.name for value in graph.graph.outputs] == ["sum", "difference"]
    assert check_graph(graph, program, [program.example]) == 0


def test_a_tied_weight_is_lifted_for_both_its_uses():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(20, 8)

        def forward(self, ids):
            return nn.functional.linear(self.embed(ids), self.embed.weight)

    torch.manual_seed(0)
    program = program_of(Tied(), ids=np.arange(8).reshape(2, 4))
    assert isinstance(lift(program.exported).get_submodule("embed"), nn.Linear)
    graph = to_graph(program)
    assert check_graph(graph, program, [program.example]) < 1e-5


@pytest.mark.parametrize("name", ["ecg_nat", "rpattention", "ister"])
def test_the_lifted_module_computes_what_was_trained(name):
    reference = find(name)
    inputs = {"x": normal(5, *reference.inputs[0].shape[1:])}
    program = trace(reference, {"x": inputs["x"][:2]})
    np.testing.assert_allclose(run_module(lift(program.exported), inputs)[0], program.run(inputs)[0], atol=1e-5)


def test_an_operator_the_engine_lacks_is_named_by_node(encoder):
    graph = to_graph(encoder)
    node = ir.node("Warp", [graph.graph.inputs[0]], name="linear1/Warp")
    graph.graph.append(node)
    graph.graph.outputs.append(node.outputs[0])
    with pytest.raises(InputError, match="Warp"):
        host_session(graph)
