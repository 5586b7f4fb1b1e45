"""float16 with float32 islands: what stays in float32, and that the host computes what a board in float16 would."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from edgeattn.export.host import host_session
from edgeattn.export.passes.linear_as_matmul import LAYER
from edgeattn.models.reference import Samples
from edgeattn.quantize.half import islands_of, on_host, place_floats, strongly_typed
from edgeattn.quantize.recipe import Recipe

HALF = Recipe(default="fp16", floats="fp16")
BLOCK = (
    "q = MatMul(x, w) a = MatMul(q, t) m = Add(a, mask) p = Softmax(m) o = MatMul(p, v) "
    "n = LayerNormalization<epsilon=0.00001>(o, gain, bias) s = ReduceMean(n, axis) y = Sub(n, s)"
)


def graph(body, constants, inputs="float[2,8] x", outputs="float[2,8] y"):
    text = f'<ir_version: 9, opset_import: ["": 20]> g ({inputs}) => ({outputs}) {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items())
    model = ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))
    for number, node in enumerate(model.graph):
        node.name = f"node{number}:{node.op_type}"
    return model


def block(scale=1.0):
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(8, 8)).astype(np.float32) for name in ("w", "t", "v")}
    weights["t"] *= scale
    mask = np.triu(np.full((8, 8), -1e30, np.float32), 1)[:2]
    return graph(BLOCK, {**weights, "mask": mask, "gain": np.ones(8, np.float32), "bias": np.zeros(8, np.float32), "axis": np.array([-1])})


def samples(count=16):
    return Samples({"x": np.random.default_rng(1).normal(size=(count, 8)).astype(np.float32)})


def marked(model, recipe=HALF):
    place_floats(model, recipe, samples())
    return model


def run(model, x):
    return host_session(model, as_written=True).run(None, {"x": x})[0]


def test_sums_and_masks_stay_in_float32_and_products_do_not():
    islands = islands_of(marked(block()))
    assert islands == {"node2:Add": "a mask", "node3:Softmax": "a sum", "node6:ReduceMean": "a sum"}


def test_a_step_of_the_inputs_stays_in_float32_with_what_leads_to_it_and_a_step_of_a_product_does_not():
    body = "a = Add(x, half) b = Mul(a, scale) c = Floor(b) q = MatMul(c, w) r = Floor(q) y = Add(r, half)"
    constants = {"half": np.float32(0.5), "scale": np.float32(4), "w": np.eye(8, dtype=np.float32)}
    assert islands_of(marked(graph(body, constants))) == {f"node{n}": "a step of the inputs" for n in ("0:Add", "1:Mul", "2:Floor")}


def test_logits_that_float16_cannot_hold_stay_in_float32():
    islands = islands_of(marked(block(scale=5e3)))
    assert islands["node1:MatMul"].startswith("a reaches ")
    assert "node4:MatMul" not in islands, "the weights that softmax gives fit again"


def test_a_range_within_float16_needs_headroom():
    model = graph("a = Mul(x, c) b = Div(a, c) y = Relu(b)", {"c": np.float32(2.5e4)})
    assert islands_of(marked(model)), "calibration reaches past half of 65,504: other data may reach past all of it"
    assert not islands_of(marked(graph("a = Mul(x, c) b = Div(a, c) y = Relu(b)", {"c": np.float32(2.5)})))


def test_a_constant_that_float16_rounds_to_almost_nothing_keeps_its_node_in_float32():
    assert islands_of(marked(graph("a = Add(x, c) y = Relu(a)", {"c": np.float32(1e-6)}))) == {"node0:Add": "a small constant"}


def test_squares_and_roots_around_a_sum_stay_with_it():
    body = "q = Mul(x, x) m = ReduceMean(q, axis) e = Add(m, c) r = Sqrt(e) y = Div(x, r)"
    islands = islands_of(marked(graph(body, {"c": np.float32(0.01), "axis": np.array([-1])})))
    assert set(islands) == {"node0:Mul", "node1:ReduceMean", "node2:Add", "node3:Sqrt"}


def test_a_threshold_of_an_input_is_compared_in_float32_and_answers_alike():
    body = (
        "l = Gather<axis=1>(x, last) d = Sub(l, c) a = Abs(d) f = LessOrEqual(a, t) g = Cast<to=1>(f) "
        "r = Gather<axis=1>(x, last) h = Mul(r, t) y = Mul(g, h)"
    )
    model = marked(graph(body, {"c": np.float32(40.0), "t": np.float32(0.5), "last": np.array(-1)}, outputs="float[2] y"))
    assert list(islands_of(model).values())[:4] == ["before a comparison"] * 3 + ["a comparison"]
    x = np.full((2, 8), 40.5, np.float32)
    x[1] = np.nextafter(x[1], np.float32(41))  # float16 does not know one from the other
    y = run(on_host(model), x)
    assert y[0] > 0
    assert y[1] == 0


def test_a_layer_that_the_recipe_wants_in_float32_stays_there():
    model = block()
    next(iter(model.graph)).metadata_props[LAYER] = "first"
    assert islands_of(marked(model, HALF.raised("first", "fp32", "by hand")))["node0:MatMul"] == "the recipe"


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_typed_graph_is_valid_and_the_host_computes_what_it_says(scale):
    model = marked(block(scale))
    typed = ir.serde.serialize_model(strongly_typed(model))
    onnx.checker.check_model(typed, full_check=True)
    x = samples().inputs["x"][:2]
    expected = ReferenceEvaluator(typed).run(None, {"x": x})[0]
    np.testing.assert_allclose(run(on_host(model), x), expected, atol=4e-3)
    assert np.abs(run(on_host(model), x) - run(model, x)).max() > 1e-4, "float16 leaves its mark"


def test_overflow_shows_on_the_host():
    model = marked(graph("a = Mul(x, c) y = Div(a, c)", {"c": np.float32(100.0)}))
    assert np.isinf(run(on_host(model), np.full((2, 8), 1000, np.float32))).all()
    assert np.isfinite(run(model, np.full((2, 8), 1000, np.float32))).all()


def test_scales_become_float16_and_never_zero():
    body = "a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) d = DequantizeLinear<axis=1>(k, t) y = MatMul(b, d)"
    scales = np.array([1e-9, *[0.01] * 7], np.float32)
    weights = np.random.default_rng(0).integers(-127, 128, (8, 8)).astype(np.int8)
    model = marked(graph(body, {"s": np.float32(0.05), "z": np.int8(0), "k": weights, "t": scales}))
    typed = strongly_typed(model)
    kinds = {node.op_type: {value.dtype for value in node.inputs if value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)} for node in typed.graph}
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == kinds["MatMul"] == {ir.DataType.FLOAT16}
    stored = next(value for name, value in typed.graph.initializers.items() if name.startswith("t"))
    assert (stored.const_value.numpy() > 0).all()
    x = samples().inputs["x"][:2]
    np.testing.assert_allclose(run(on_host(model), x), run(model, x), rtol=2e-3, atol=2e-2)


def test_quantised_weights_follow_a_product_that_stays_in_float32():
    body = "a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) d = DequantizeLinear<axis=1>(k, t) y = MatMul(b, d)"
    weights = np.full((8, 8), 127, np.int8)
    model = marked(graph(body, {"s": np.float32(0.05), "z": np.int8(0), "k": weights, "t": np.full(8, 300, np.float32)}))
    assert {name.split(":")[0] for name in islands_of(model)} >= {"node2", "node3"}
    onnx.checker.check_model(ir.serde.serialize_model(strongly_typed(model)), full_check=True)
