"""The jetson target: every rule finds the graph made for it, repaired graphs compute the same, and what a board cannot run is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from rich.console import Console

import edgeattn
from edgeattn.devices import find_device
from edgeattn.errors import InputError
from edgeattn.export.data import parse_profiles
from edgeattn.export.host import serialise
from edgeattn.models.registry import find
from edgeattn.quantize.recipe import Recipe
from edgeattn.targets.jetson.check import RULES, check
from edgeattn.targets.jetson.jetpack import JetPack, line_of
from edgeattn.targets.jetson.lower import lower
from edgeattn.targets.jetson.smoke import smoke
from edgeattn.views import show_compilation

OLD, XAVIER = JetPack("4.6", (8, 2, 1), 13, "3.6"), JetPack("5.1", (8, 5, 2), 17, "3.8")
ORIN, NEW = JetPack("6.2", (10, 3), 20, "3.10"), JetPack("7.2", (10, 16, 2), 20, "3.12")


def graph(body, inputs="float[2,8] x", constants="", outputs="float[2,8] y", opset=23, extra=""):
    """A model from ONNX's text form."""
    domains = f'"" : {opset}' + (f', "{extra}" : 1' if extra else "")
    text = f"<ir_version: 10, opset_import: [{domains}]> g ({inputs}) => ({outputs}) {f'<{constants}>' if constants else ''} {{ {body} }}"
    model = ir.serde.deserialize_model(onnx.parser.parse_model(text))
    for number, node in enumerate(model.graph):
        node.name = f"node{number}"
    return model


def typed(model):
    """With the types and shapes of every value, as an exported graph has them."""
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(ir.serde.serialize_model(model)))


HEADS = "float[2,4,6,8] q, float[2,4,10,8] k, float[2,4,10,8] v"
OUT = "float[2,4,6,8] y"
SCALE, ZERO = "float s = {0.1}", "int8 z = {0}"
CASES = {
    "trt.zero-point": [
        (graph("a = QuantizeLinear(x, s, z) y = DequantizeLinear(a, s, z)", constants=f"{SCALE}, int8 z = {{3}}"), ORIN, "node0"),
    ],
    "trt.uint8": [
        (graph("a = QuantizeLinear(x, s, z) y = DequantizeLinear(a, s, z)", constants=f"{SCALE}, uint8 z = {{0}}"), ORIN, "node0"),
    ],
    "trt.int16": [
        (graph("a = QuantizeLinear(x, s, z) y = DequantizeLinear(a, s, z)", constants=f"{SCALE}, int16 z = {{0}}"), ORIN, "node0"),
    ],
    "trt.int32-bias": [
        (graph("b = DequantizeLinear(w, s) y = Add(x, b)", constants=f"{SCALE}, int32[8] w = {{1,2,3,4,5,6,7,8}}"), ORIN, "node0"),
    ],
    "trt.int4-with-int8": [
        (
            graph(
                "a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) c = DequantizeLinear(w, s) y = MatMul(b, c)",
                inputs="float[2,8] x, int4[8,8] w",
                constants=f"{SCALE}, {ZERO}",
            ),
            NEW,
            "node3",
        ),
    ],
    "trt.one-sided-qdq": [
        (
            graph(
                "a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) y = MatMul(b, w)",
                inputs="float[2,8] x, float[8,8] w",
                constants=f"{SCALE}, {ZERO}",
            ),
            ORIN,
            "node2",
        ),
    ],
    "trt.dynamic-quantisation": [
        (graph("a, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(a, s, z)"), ORIN, "node0"),
        (graph("y = MatMulInteger(x, w)", "int8[2,8] x, int8[8,8] w", outputs="int32[2,8] y"), ORIN, "node0"),
    ],
    "trt.foreign-domain": [
        (graph("y = com.microsoft.FastGelu(x)", extra="com.microsoft"), ORIN, "node0"),
        (graph("y = my.domain.Fancy(x)", extra="my.domain"), NEW, "node0"),
    ],
    "trt.scatter-reduction": [
        (graph('y = ScatterElements<axis=1, reduction="add">(x, i, u)', "float[2,8] x, int64[2,1] i, float[2,1] u"), ORIN, "node0"),
        (graph('y = ScatterND<reduction="mul">(x, i, u)', "float[2,8] x, int64[1,1] i, float[1,8] u"), ORIN, "node0"),
    ],
    "trt.fourier": [
        (graph("y = DFT(x, n, a)", "float[2,8,1] x", "int64 n = {8}, int64 a = {1}", "float[2,8,2] y"), ORIN, "node0"),
    ],
    "trt.control-flow": [
        (
            graph(
                "s, y = Scan<num_scan_inputs=1, body = step (float[8] a, float[8] b) => (float[8] c, float[8] d) "
                "{ c = Add(a, b) d = Identity(c) }>(h, x)",
                "float[8] h, float[2,8] x",
            ),
            ORIN,
            "node0",
        ),
    ],
    "trt.double": [
        (typed(graph("a = Cast<to=11>(x) b = Add(a, a) y = Cast<to=1>(b)")), ORIN, "node0"),
    ],
    "trt.mixed-floats": [
        (typed(graph("a = Cast<to=10>(x) b = Mul(a, w) y = Cast<to=1>(b)", constants="float w = {2.0}")), ORIN, "node1"),
        (graph("y = MatMul(x, w)", "float16[2,8] x, float[8,8] w"), NEW, "node0"),
    ],
    "trt.endless-mask": [
        (graph("a = Add(x, m) y = Softmax(a)", constants="float[8] m = {0, 0, 0, 0, 0, 0, 0, -3.4e38}"), ORIN, "node0"),
        (graph("a = Where(c, m, x) y = Softmax(a)", "bool[2,8] c, float[2,8] x", "float m = {-1e38}"), NEW, "node0"),
    ],
    "trt.attention": [
        (typed(graph("y = Attention(q, k, v)", HEADS, outputs=OUT)), ORIN, "node0"),
        (typed(graph("y = Attention<is_causal=1>(q, k, v)", HEADS, outputs=OUT)), XAVIER, "node0"),
    ],
    "trt.odd-attention": [
        (typed(graph("y = Attention<softcap=20.0>(q, k, v)", HEADS, outputs=OUT)), ORIN, "node0"),
        (typed(graph("y = Attention(q, k, v)", HEADS.replace("2,4,10", "2,2,10"), outputs=OUT)), ORIN, "node0"),
    ],
    "trt.older-operator": [
        (typed(graph("y = Gelu(x)")), XAVIER, "node0"),
        (typed(graph("y = LayerNormalization(x, w, b)", "float[2,8] x, float[8] w, float[8] b")), OLD, "node0"),
        (typed(graph("y = RMSNormalization(x, w)", "float[2,8] x, float[8] w")), ORIN, "node0"),
    ],
    "trt.split-normalization": [
        (
            typed(
                graph(
                    "m = ReduceMean(x, a) c = Sub(x, m) q = Mul(c, c) v = ReduceMean(q, a) e = Add(v, p) r = Sqrt(e) y = Div(c, r)",
                    constants="int64[1] a = {-1}, float p = {1e-5}",
                )
            ),
            ORIN,
            "node6",
        ),
    ],
    "trt.opset": [
        (graph("y = RotaryEmbedding(x, c, s)", "float[1,2,4,8] x, float[1,4,4] c, float[1,4,4] s", outputs="float[1,2,4,8] y"), ORIN, "node0"),
        (graph("y = Mish(x)"), XAVIER, "node0"),
        (graph("y, n, m = Split<axis=1, num_outputs=3>(x)", outputs="float[2,3] y"), XAVIER, "node0"),
    ],
    "trt.int4": [
        (graph("c = DequantizeLinear(w, s) y = MatMul(x, c)", "float[2,8] x, int4[8,8] w", SCALE), XAVIER, "node0"),
    ],
}


def test_every_rule_has_a_graph_made_for_it():
    assert {rule.id for rule in RULES} == set(CASES)
    assert all(rule.evidence and rule.find.__doc__ for rule in RULES)


@pytest.mark.parametrize(("rule", "number"), [(rule, number) for rule, cases in CASES.items() for number in range(len(cases))])
def test_a_rule_finds_its_graph_and_names_the_node(rule, number):
    model, line, node = CASES[rule][number]
    found = [finding for finding in check(model, line) if finding.rule == rule]
    assert [finding.node for finding in found][:1] == [node]
    assert len(found[0].message) > 20


def test_a_plain_layer_breaks_no_rule():
    model = graph("a = MatMul(x, w) b = Add(a, c) y = Relu(b)", "float[2,8] x, float[8,8] w, float[8] c")
    assert [check(model, line) for line in (OLD, XAVIER, ORIN, NEW)] == [[], [], [], []]


def outputs(model, inputs):
    return ort.InferenceSession(serialise(model), providers=["CPUExecutionProvider"]).run(None, inputs)[0]


def repaired_cases():
    mask = "float[2,4,6,8] q, float[2,4,10,8] k, float[2,4,10,8] v, {} m"
    yield "gelu", graph("y = Gelu(x)"), XAVIER
    yield "tanh gelu", graph('y = Gelu<approximate="tanh">(x)'), XAVIER
    yield "normalisation", graph("y = LayerNormalization<epsilon=0.01>(x, w, b)", "float[2,8] x, float[8] w, float[8] b"), OLD
    yield "normalisation over two axes", graph("y = LayerNormalization<axis=-2>(x, w)", "float[2,8] x, float[2,8] w"), OLD
    yield "root mean square", graph("y = RMSNormalization<epsilon=0.01>(x, w)", "float[2,8] x, float[8] w"), ORIN
    yield "equal parts", graph("a, b = Split<axis=1, num_outputs=2>(x) y = Concat<axis=1>(b, a)"), OLD
    size = "int64[4] n = {1, 1, 4, 16}, int64[4] m = {1, 1, 2, 8}, int64[2] o = {2, 8}"
    resized = (
        'a = Reshape(x, m) b = Resize<mode="linear", keep_aspect_ratio_policy="stretch">(a,,,n) c = Resize<mode="linear">(b,,,m) y = Reshape(c, o)'
    )
    yield "another size", graph(resized, constants=size), OLD
    for start, end in ((0, 1), (1, 2), (-1, 2), (0, -1)):
        text = f"s = Shape<start={start}, end={end}>(x) n = ReduceProd<keepdims=0>(s) f = Cast<to=1>(n) y = Mul(x, f)"
        yield f"a shape from {start} to {end}", graph(text), OLD
    yield "attention", graph("y = Attention(q, k, v)", HEADS, outputs=OUT), ORIN
    yield "attention with its own scale", graph("y = Attention<scale=0.5>(q, k, v)", HEADS, outputs=OUT), ORIN
    yield "causal attention", graph("y = Attention<is_causal=1>(q, k, v)", HEADS, outputs=OUT), ORIN
    yield "attention with a bias", graph("y = Attention(q, k, v, m)", mask.format("float[1,1,6,10]"), outputs=OUT), ORIN
    yield "attention with a mask", graph("y = Attention(q, k, v, m)", mask.format("bool[2,1,6,10]"), outputs=OUT), ORIN
    yield "attention for a newer line", graph("y = Attention(q, k, v)", HEADS, outputs=OUT), NEW
    yield "a mask without end", graph("a = Add(x, m) y = Softmax(a)", constants="float[8] m = {0, 0, 0, 0, 0, 0, 0, -3.4e38}"), ORIN
    yield "a large number that masks nothing", graph("a = Add(x, m) y = Sub(a, m)", constants="float[1] m = {-131072}"), ORIN
    yield "a reduction", graph("m = ReduceMean<keepdims=1>(x, a) y = Sub(x, m)", constants="int64[1] a = {-1}"), XAVIER
    yield "a reshape", graph("a = Reshape<allowzero=1>(x, s) y = Reshape(a, t)", constants="int64[1] s = {16}, int64[2] t = {2, 8}"), OLD


@pytest.mark.parametrize(("name", "model", "line"), [pytest.param(*case, id=case[0]) for case in repaired_cases()])
def test_the_repaired_graph_computes_the_same(name, model, line):
    model, random = typed(model), np.random.default_rng(0)
    inputs = {}
    for value in model.graph.inputs:
        shape = tuple(value.shape)
        inputs[value.name] = random.random(shape) < 0.7 if value.dtype == ir.DataType.BOOL else random.normal(size=shape).astype(np.float32)
    lowered = lower(model, line)
    assert not [finding for finding in check(lowered, line, lowered=True) if finding.severity == "error"]
    np.testing.assert_allclose(outputs(lowered, inputs), outputs(model, inputs), atol=2e-6)
    assert lowered.opset_imports[""] == line.opset
    onnx.checker.check_model(ir.serde.serialize_model(lowered), full_check=True)


def test_a_row_that_is_masked_whole_gives_numbers():
    model = typed(graph("y = Attention(q, k, v, m)", f"{HEADS}, bool[1,1,6,10] m", outputs=OUT))
    random = np.random.default_rng(0)
    inputs = {value.name: random.normal(size=tuple(value.shape)).astype(np.float32) for value in model.graph.inputs}
    inputs["m"] = np.zeros((1, 1, 6, 10), bool)
    assert np.isfinite(outputs(lower(model, ORIN), inputs)).all()


def test_graphs_are_made_for_the_oldest_line_that_newer_ones_take_too():
    lines = {name: line_of(find_device(f"jetson-{name}")[0]).name for name in ("nano", "agx-xavier", "orin-nano", "thor")}
    assert lines == {"nano": "4.6", "agx-xavier": "5.1", "orin-nano": "6.2", "thor": "7.0"}


def test_another_line_of_the_board_can_be_asked_for(tmp_path):
    weights = find("rpattention").weights
    edgeattn.compile(weights, "jetson-orin-nano", precision="fp32", jetpack="5.1", output=tmp_path / "a.edge")
    assert onnx.load(tmp_path / "a.edge" / "model.onnx").opset_import[0].version == 17
    assert json.loads((tmp_path / "a.edge" / "device" / "build.json").read_text())["tensorrt"] == "8.5.2"
    with pytest.raises(InputError, match="jetson-orin-nano has no jetpack 4.6: it runs 5.1, 6.2, 7.2"):
        edgeattn.compile(weights, "jetson-orin-nano", jetpack="4.6", output=tmp_path / "b.edge")
    with pytest.raises(InputError, match="no jetpack 5.1 at all"):
        edgeattn.compile(weights, "cpu", jetpack="5.1", output=tmp_path / "b.edge")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return edgeattn.compile(find("ecg_nat").weights, "jetson-orin-nano", output=tmp_path_factory.mktemp("jetson") / "ecg.edge")


def test_a_bundle_holds_its_gate_on_the_host_and_says_what_the_board_must_show(bundle):
    manifest = bundle.manifest
    assert manifest.passed and manifest.precision == "int8"
    assert manifest.parity.metric.artifact > manifest.parity.metric.reference - 1
    assert manifest.integer_layers.integer_in_engine is None
    assert any("device/run.py build" in left for left in manifest.left_to_device)
    assert edgeattn.verify(bundle.bundle).ok
    build = json.loads((Path(bundle.bundle) / "device" / "build.json").read_text())
    assert (build["tensorrt"], build["compute_capability"]) == ("10.3", 8.7)
    assert "--stronglyTyped" in build["command"]
    assert build["profiles"] == {"x": {"least": [1, 256, 1], "usual": [1, 256, 1], "largest": [1, 256, 1]}}


def test_what_was_repaired_is_told_by_rule_and_node(bundle):
    findings = bundle.to_json()["findings"]
    assert {finding["rule"] for finding in findings} == {"trt.attention", "trt.endless-mask"}
    assert all(finding["severity"] == "repaired" and finding["node"] and finding["message"] for finding in findings)
    console = Console(record=True, width=200)
    show_compilation(bundle.to_json(), console)
    text = console.export_text()
    assert "trt.attention" in text and "trtexec" in text


def test_integers_are_symmetric_and_only_at_linear_layers(bundle):
    model = onnx.load(Path(bundle.bundle) / "model.onnx")
    producers = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    zeros = [constants[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert zeros and all(zero.dtype == np.int8 and zero == 0 for zero in zeros)
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    quantised = [[producers[name].op_type == "DequantizeLinear" for name in node.input if name in producers] for node in products]
    assert sum(all(sides) and len(sides) == 2 for sides in quantised) == bundle.manifest.integer_layers.quantised
    assert all(all(sides) or not any(sides) for sides in quantised)


UNAVAILABLE = [("jetson-nano", "int8", "no int8"), ("jetson-thor", "int8-dynamic", "int8, fp16, fp32")]


@pytest.mark.parametrize(("device", "precision", "message"), UNAVAILABLE)
def test_a_precision_that_the_board_has_not_is_refused_at_once(device, precision, message, tmp_path):
    with pytest.raises(InputError, match=message):
        edgeattn.compile(find("ecg_nat").weights, device, precision=precision, output=tmp_path / "a.edge")
    assert not list(tmp_path.iterdir())


def test_a_recipe_is_held_to_the_boards_precisions_and_the_option_is_not(tmp_path):
    weights, floats = find("rpattention").weights, Recipe(default="fp32")
    edgeattn.compile(weights, "jetson-nano", recipe=floats, output=tmp_path / "a.edge")
    with pytest.raises(InputError, match="no int8"):
        edgeattn.compile(weights, "jetson-nano", precision="fp32", recipe=Recipe(default="int8"), output=tmp_path / "b.edge")
    with pytest.raises(InputError, match="'w4' is not one of int8, fp16, fp32"):
        edgeattn.compile(weights, "jetson-thor", recipe=floats.raised("head", "w4", ""), output=tmp_path / "b.edge")


@pytest.fixture(scope="module")
def large_logits(tmp_path_factory):
    import large_logits

    folder = tmp_path_factory.mktemp("large-logits")
    torch.save(large_logits.build().state_dict(), folder / "l.pt")
    np.savez(folder / "l.npz", **large_logits.data(400))
    return folder


@pytest.mark.parametrize("device", ["jetson-nano", "jetson-orin-nano"])
def test_logits_beyond_float16_and_an_endless_mask_become_float32_islands(device, large_logits, tmp_path):
    files = {"model": "large_logits:build", "calib": large_logits / "l.npz"}
    compiled = edgeattn.compile(large_logits / "l.pt", device, precision="fp16", output=tmp_path / "a.edge", **files)
    assert compiled.manifest.passed and compiled.manifest.precision == "fp16"
    assert [candidate.name for candidate in compiled.candidates] == ["fp16"]
    listed = next(check.detail for check in compiled.manifest.checks if check.name == "float32 islands")
    assert "Attention/MatMul" in listed and "reaches" in listed
    build = json.loads((tmp_path / "a.edge" / "device" / "build.json").read_text())
    assert any("Softmax" in node for node in build["float32_islands"])
    assert edgeattn.verify(tmp_path / "a.edge").ok


def test_new_boards_get_a_typed_graph_and_old_ones_the_layers_to_hold_in_float32(large_logits, tmp_path):
    files = {"model": "large_logits:build", "calib": large_logits / "l.npz", "precision": "fp16"}
    kinds = {}
    for device in ("jetson-nano", "jetson-orin-nano"):
        edgeattn.compile(large_logits / "l.pt", device, output=tmp_path / device, **files)
        build = json.loads((tmp_path / device / "device" / "build.json").read_text())
        weights = {tensor.data_type for tensor in onnx.load(tmp_path / device / "model.onnx").graph.initializer if len(tensor.dims) == 2}
        kinds[device] = (build["strongly_typed"], build["flags"], bool(build["float32_layers"]), onnx.TensorProto.FLOAT16 in weights)
    assert kinds == {"jetson-nano": (False, ["fp16"], True, False), "jetson-orin-nano": (True, [], False, True)}


def test_an_engine_is_built_for_the_shapes_asked_for(tmp_path):
    import sentence_encoder

    torch.save(sentence_encoder.build().state_dict(), tmp_path / "s.pt")
    np.savez(tmp_path / "s.npz", **sentence_encoder.data(32))
    files = {"model": "sentence_encoder:build", "calib": tmp_path / "s.npz", "precision": "fp16"}
    length = sentence_encoder.data(1)["input_ids"].shape[1]
    wanted = parse_profiles([f"{name}=1x4,2x{length},4x{length}" for name in ("input_ids", "attention_mask")])
    edgeattn.compile(tmp_path / "s.pt", "jetson-orin-nano", output=tmp_path / "a.edge", profiles=wanted, **files)
    build = json.loads((tmp_path / "a.edge" / "device" / "build.json").read_text())
    assert build["profiles"]["input_ids"] == {"least": [1, 4], "usual": [2, length], "largest": [4, length]}
    assert f"--minShapes=input_ids:1x4,attention_mask:1x4 --optShapes=input_ids:2x{length}" in build["command"]
    short = {name: array[:3, :4] for name, array in sentence_encoder.data(3).items()}
    assert edgeattn.load(tmp_path / "a.edge").run(**short), "what a profile varies is open in the graph too"


def test_profiles_that_cannot_be_are_refused_before_any_work(tmp_path):
    weights, output = find("rpattention").weights, tmp_path / "a.edge"
    for text, message in (("x=8x8x8,1x8x8,9x8x8", "must grow"), ("x=1x8", "2 sizes"), ("z=1x8x8", "inputs are x"), ("x=1x4x8,1x8x8,2x8x8", "axis1")):
        with pytest.raises(InputError, match=message):
            edgeattn.compile(weights, "jetson-orin-nano", profiles=parse_profiles([text]), output=output)
    with pytest.raises(InputError, match="not of the form"):
        parse_profiles(["x=1x8,2x8"])
    with pytest.raises(InputError, match="target cpu builds nothing for certain shapes"):
        edgeattn.compile(weights, "cpu", profiles=parse_profiles(["x=1x8x8"]), output=output)


def test_without_a_wish_a_board_gets_the_narrowest_precision_that_it_has(tmp_path):
    assert edgeattn.compile(find("rpattention").weights, "jetson-nano", output=tmp_path / "a.edge").manifest.precision == "fp16"


def test_an_old_line_gets_an_old_opset(tmp_path):
    edgeattn.compile(find("rpattention").weights, "jetson-nano", precision="fp32", output=tmp_path / "a.edge")
    model = onnx.load(tmp_path / "a.edge" / "model.onnx")
    assert model.opset_import[0].version == 13
    assert not {"Attention", "LayerNormalization", "Gelu"} & {node.op_type for node in model.graph.node}


def test_the_stand_in_builder_accepts_what_it_should_and_says_why_not(bundle):
    pytest.importorskip("tensorrt_rtx", reason="the smoke test needs TensorRT-RTX: pip install 'edgeattn[jetson]'")
    taken = smoke((Path(bundle.bundle) / "model.onnx").read_bytes())
    assert taken.ok and "SM 86 stand-in" in taken.detail
    refused = smoke(serialise(graph("a, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(a, s, z)")))
    assert not refused.ok and "refuses it" in refused.detail


@pytest.mark.parametrize(("script", "message"), [("import time; time.sleep(60)", "did not finish"), ("import os; os.abort()", "exit code -6")])
def test_a_builder_that_hangs_or_crashes_is_contained(monkeypatch, script, message):
    module = sys.modules["edgeattn.targets.jetson.smoke"]
    monkeypatch.setattr(module, "SCRIPT", script)
    monkeypatch.setattr(module, "SECONDS", 2)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    result = smoke(b"")
    assert not result.ok and message in result.detail
