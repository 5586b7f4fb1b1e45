"""Attention's two products in integers: which they are, what they compute, and that the gate may refuse them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import edgeattn
from edgeattn.candidates import Workbench, dense_candidates
from edgeattn.devices import find_device
from edgeattn.errors import InputError
from edgeattn.export.graph import to_graph
from edgeattn.export.host import host_session
from edgeattn.export.trace import trace
from edgeattn.models.reference import Reference, Samples
from edgeattn.models.registry import find
from edgeattn.quantize import Recipe
from edgeattn.quantize.attention import IntegerAttention, attends, integer_products
from edgeattn.quantize.gate import default_tolerance
from edgeattn.runtime.machine import isa_flags
from edgeattn.runtime.manifest import TensorSpec
from edgeattn.targets.cpu.openvino import OPENVINO
from edgeattn.targets.cpu.passes.signs import saturates

VNNI, AVX2 = find_device("x86-avx512-vnni", ())[0], find_device("x86-avx2", ())[0]
LENGTH, DIM, HEADS = 12, 16, 2


class Attention(nn.Module):
    """Heads over a bias of positions, a softmax that is none behind them; a `loud` feature of the values is made quiet again there."""

    def __init__(self, loud=1.0):
        super().__init__()
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, 4, bias=False)
        self.bias = nn.Parameter(torch.randn(HEADS, LENGTH, LENGTH))
        self.register_buffer("gain", torch.tensor([loud] + [1.0] * (DIM // HEADS - 1)))

    def parts(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v * self.gain

    def forward(self, x):
        return self.read(nn.functional.scaled_dot_product_attention(*self.parts(x), attn_mask=self.bias))

    def read(self, mixed):
        mixed = (mixed / self.gain).transpose(1, 2).flatten(2)
        return self.out(mixed + torch.softmax(mixed, -1))


def program_of(module):
    specs = (TensorSpec(name="x", shape=("batch", LENGTH, DIM), dtype="float32"),)
    return trace(Reference("a", lambda: module, specs, ("y",), "a test", "embedding"), inputs(2))


def inputs(count, seed=0):
    return {"x": np.random.default_rng(seed).standard_normal((count, LENGTH, DIM)).astype(np.float32)}


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Attention().eval()


def test_both_products_take_integers_and_compute_what_rounding_says(module):
    samples = Samples(inputs(64, 1))
    graph = OPENVINO.lower(to_graph(program_of(module)), VNNI)
    IntegerAttention(samples)(graph)
    assert len(integer_products(graph.graph)) == 2
    with torch.no_grad():
        scale = 1 / math.sqrt(DIM // HEADS)
        seen, new = ((q * scale, k, v) for q, k, v in (module.parts(torch.from_numpy(x["x"])) for x in (samples.inputs, inputs(8, 2))))
        weights = torch.softmax(seen[0] @ seen[1].mT + module.bias, -1)
        q, k, v = (signed(value, like) for value, like in zip(new, seen, strict=True))
        rounded = torch.fake_quantize_per_tensor_affine(torch.softmax(q @ k.mT + module.bias, -1), float(weights.max()) / 255, 0, 0, 255)
        expected = module.read(rounded @ v).numpy()
    actual = host_session(graph, as_written=True).run(None, inputs(8, 2))[0]
    assert np.linalg.norm(actual - expected) < 1e-3 * np.linalg.norm(expected), "a rounding tie may fall the other way, no more"


def signed(value, like):
    return torch.fake_quantize_per_tensor_affine(value, float(like.abs().max()) / 127, 0, -127, 127)


def test_a_softmax_that_no_product_reads_is_no_attention():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(DIM, DIM), nn.Linear(DIM, 4)

        def forward(self, x):
            return self.last(torch.softmax(self.first(x), -1))

    graph = OPENVINO.lower(to_graph(program_of(Gate().eval())), VNNI)
    assert not attends(graph.graph)
    assert not IntegerAttention(Samples(inputs(8)))(graph).modified


def test_it_is_for_openvino_on_a_cpu_that_multiplies_without_saturation(tmp_path):
    assert OPENVINO.between(VNNI) == ("attention",) and OPENVINO.between(AVX2) == ()
    for options in ({"target": "x86-avx512-vnni"}, {"target": "x86-avx2", "engine": "openvino"}, {"target": "jetson"}):
        with pytest.raises(InputError, match="leave `between` out, or use --engine openvino for a CPU with VNNI"):
            edgeattn.compile(
                find("ecg_nat").weights, output=tmp_path / "a.edge", recipe=Recipe(activation="symmetric", between="attention"), **options
            )


@pytest.mark.parametrize(("loud", "passes"), [(1.0, True), (1000.0, False)])
def test_auto_tries_it_and_the_gate_judges(loud, passes):
    torch.manual_seed(0)
    program = program_of(Attention(loud).eval())
    held_out = Samples(inputs(64, 3))
    tolerance = default_tolerance(replace(program.reference, task="embedding"), False)
    bench = Workbench(
        program, to_graph(program), OPENVINO, VNNI, Samples(inputs(64, 1)), held_out, program.run(held_out.inputs), tolerance, lambda _: None
    )
    found = {one.name: one for one in dense_candidates(bench, OPENVINO.recipe(VNNI), True, [])[0]}
    assert found["int8"].verdict.passed and found["int8 with attention"].verdict.passed is passes
    assert found["int8 with attention"].recipe.between == "attention" and found["int8"].recipe.between == "float"
    assert [one.name for one in dense_candidates(bench, OPENVINO.recipe(VNNI), False, [])[0]] == ["int8"], "only where it can be timed"


@pytest.mark.skipif(saturates(isa_flags()), reason="needs a CPU with VNNI")
def test_the_engine_fuses_it_into_integers_and_a_recipe_brings_it_back(tmp_path):
    pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'edgeattn[openvino]'")
    recipe = Recipe(activation="symmetric", between="attention")
    compiled = edgeattn.compile(find("ecg_nat").weights, engine="openvino", recipe=recipe, output=tmp_path / "a.edge")
    assert "12 of 12 products of activations in integers" in compiled.manifest.checks[-1].detail
    assert compiled.manifest.checks[-1].ok and edgeattn.verify(compiled.bundle).ok
    assert Recipe.read(compiled.bundle / "recipe.yaml").between == "attention"
