"""OpenVINO as the cpu target's second engine: the same numbers, integers read back, and chosen where it is measured as faster."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import edgeattn
from edgeattn.errors import EngineError, InputError, MissingError
from edgeattn.models.registry import find
from edgeattn.ranking import NEAR
from edgeattn.runtime.machine import isa_flags
from edgeattn.runtime.openvino import OpenVinoModel
from edgeattn.targets.cpu.openvino import OpenVinoTarget
from edgeattn.targets.cpu.passes.round_after_concat import RoundAfterConcat
from edgeattn.targets.cpu.passes.signs import saturates
from edgeattn.targets.graphs import layer_precisions

pytest.importorskip("openvino", reason="needs OpenVINO: pip install 'edgeattn[openvino]'")
ZOO = ("ecg_nat", "rpattention", "ister")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openvino")
    return edgeattn.compile(find("ecg_nat").weights, "x86-avx2", engine="openvino", output=folder / "a.edge")


def test_a_bundle_runs_on_openvino_and_verifies(compiled):
    assert compiled.manifest.engine == "openvino" and compiled.manifest.passed
    result = edgeattn.verify(compiled.bundle)
    assert result.checks[2].detail.startswith("openvino ")
    assert all(check.ok for check in result.checks if check.name != "instruction set")
    assert edgeattn.bench(compiled.bundle, runs=3).engine.startswith("openvino ")
    assert any("needs OpenVINO on the device" in warning for warning in compiled.manifest.warnings)


@pytest.mark.parametrize("name", ZOO)
def test_every_quantised_layer_is_an_integer_product_in_the_engine(name, tmp_path):
    layers = edgeattn.compile(find(name).weights, engine="openvino", output=tmp_path / "a.edge").manifest.integer_layers
    assert layers.quantised == layers.integer_in_engine > 0


def test_float_bundles_of_both_engines_compute_the_same(tmp_path):
    weights = find("rpattention").weights
    outputs = []
    for engine in ("onnxruntime", "openvino"):
        edgeattn.compile(weights, engine=engine, precision="fp32", output=tmp_path / engine)
        x = np.random.default_rng(0).normal(size=(5, 8, 8)).astype(np.float32)
        outputs.append(edgeattn.load(tmp_path / engine).run(x=x)["scores"])
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-3, atol=1e-4)


class Reduced(nn.Module):
    """A reduction, and a vector behind it."""

    def __init__(self, axes: int | tuple[int, ...], keepdim: bool, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.axes, self.keepdim = axes, keepdim
        self.vector = nn.Parameter(torch.randn(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(self.axes, self.keepdim) * self.vector + self.vector


@pytest.mark.parametrize(
    ("axes", "keepdim", "shape"), [(-1, False, (16,)), (-1, True, (16, 1)), (1, False, (8,)), (1, True, (1, 8)), ((1, 2), False, (16,))]
)
def test_a_vector_behind_a_reduction_is_added_where_it_belongs(axes, keepdim, shape, tmp_path):
    torch.manual_seed(0)
    module = Reduced(axes, keepdim, shape).eval()
    x = torch.randn(6, *((4, 8, 16) if isinstance(axes, tuple) else (16, 8)))
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "reduced.pt2")
    np.savez(tmp_path / "x.npz", x=np.concatenate([x.numpy()] * 2))
    edgeattn.compile(
        tmp_path / "reduced.pt2", calib=tmp_path / "x.npz", task="regression", engine="openvino", precision="fp32", output=tmp_path / "a.edge"
    )
    (found,) = edgeattn.load(tmp_path / "a.edge").run(x=x.numpy()).values()
    np.testing.assert_allclose(found, module(x).detach(), rtol=1e-5, atol=1e-5)


def test_layers_of_a_program_without_modules_are_integers_too(tmp_path):
    """A .pt2 file names weights, among them one that queries, keys and values share, and no modules."""
    torch.manual_seed(0)
    module, x = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval(), torch.randn(64, 8, 32)
    torch.export.save(torch.export.export(module, (x[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},)), tmp_path / "a.pt2")
    np.savez(tmp_path / "x.npz", src=x.numpy())
    options = {"calib": tmp_path / "x.npz", "task": "embedding", "engine": "openvino", "precision": "int8"}
    manifest = edgeattn.compile(tmp_path / "a.pt2", output=tmp_path / "a.edge", **options).manifest
    assert manifest.layers == dict.fromkeys(("self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"), "int8")
    assert manifest.integer_layers.quantised == manifest.integer_layers.integer_in_engine == 4


class Joined(nn.Module):
    """A layer over tokens of which the first are constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 8)
        self.register_buffer("first", torch.zeros(1, 2, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([self.first.expand(len(x), -1, -1), x], 1))


@pytest.fixture
def joined(tmp_path):
    """What compiles it to integers with a zero point, as on a CPU with VNNI."""
    torch.manual_seed(0)
    module, x = Joined().eval(), torch.randn(8, 6, 16)
    torch.export.save(torch.export.export(module, (x,)), tmp_path / "joined.pt2")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(64, 6, 16)).astype(np.float32))
    target = {"target": "x86-avx512-vnni", "calib": tmp_path / "x.npz", "task": "embedding", "output": tmp_path / "a.edge"}
    return partial(edgeattn.compile, tmp_path / "joined.pt2", **target)


@pytest.mark.skipif(saturates(isa_flags()), reason="needs a CPU with VNNI")
def test_integers_with_a_zero_point_may_follow_constant_tokens(joined):
    compiled = joined(engine="openvino", precision="int8")
    assert compiled.manifest.passed and compiled.candidates[0].recipe.activation == "asymmetric"
    assert compiled.manifest.integer_layers.quantised == compiled.manifest.integer_layers.integer_in_engine == 1


def test_what_openvino_does_not_take_is_left_to_the_first_engine(joined, monkeypatch):
    monkeypatch.setattr(RoundAfterConcat, "call", lambda self, model: ir.passes.PassResult(model, False))
    with pytest.raises(EngineError, match="does not take this graph: .MatMulTransformation"):
        joined(engine="openvino", precision="int8")
    compiled = joined(precision="auto")
    assert compiled.manifest.passed and {one.target.engine for one in compiled.candidates} == {"onnxruntime"}
    (finding,) = compiled.findings
    assert finding.node == "openvino" and "left out from here on: openvino" in finding.message


def test_a_session_serves_several_threads(compiled):
    session = edgeattn.load(compiled.bundle)
    inputs = [np.random.default_rng(seed).normal(size=(1, 256, 1)).astype(np.float32) for seed in range(8)]
    alone = [session.run(x=x) for x in inputs]
    together = [None] * len(inputs)

    def work(index):
        for _ in range(20):
            together[index] = session.run(x=inputs[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for a, b in zip(alone, together, strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in a)


def test_layers_that_the_engine_computes_ahead_or_fuses_whole_are_not_called_float(tmp_path):
    """Queries of learned parameters are constants for one sample, and small perceptrons become one operator."""
    manifest = edgeattn.compile(find("failure_demo").weights, engine="openvino", output=tmp_path / "a.edge").manifest
    assert set(manifest.layers.values()) == {"int8"}
    assert manifest.integer_layers.quantised == manifest.integer_layers.integer_in_engine == len(manifest.layers)


def test_a_layer_that_the_engine_floats_is_left_in_float(tmp_path, monkeypatch):
    def floating(self, lowered, session):
        return ["embed"] if layer_precisions(lowered)["embed"] == "int8" else []

    monkeypatch.setattr(OpenVinoTarget, "floating", floating)
    manifest = edgeattn.compile(find("rpattention").weights, engine="openvino", precision="int8", output=tmp_path / "a.edge").manifest
    assert manifest.passed and manifest.layers["embed"] == "fp32"
    assert any(warning.startswith("1 layer stays in fp32 (recipe.yaml says why): embed") for warning in manifest.warnings)
    assert "openvino computes it in float all the same" in (tmp_path / "a.edge" / "recipe.yaml").read_text()


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-4), ("int8", 0.02)])  # an integer may be rounded the other way (seen on Zen 4)
def test_one_sample_and_many_get_the_same_answers_in_any_order(precision, error, compiled, tmp_path):
    if precision != "int8":
        compiled = edgeattn.compile(find("ecg_nat").weights, "x86-avx2", engine="openvino", precision=precision, output=tmp_path / "a.edge")
    session, x = edgeattn.load(compiled.bundle), find("ecg_nat").evaluation().inputs["x"][:6]
    (name,) = session.run(x=x[:1])
    alone = np.concatenate([session.run(x=x[i : i + 1])[name] for i in range(6)])
    np.testing.assert_allclose(session.run(x=x)[name], alone, rtol=1e-4, atol=error)
    np.testing.assert_array_equal(session.run(x=x[2:3])[name], alone[2:3])


def softmax(*shape: int | str) -> bytes:
    """A model of one operator over (batch, *shape)."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"])], "softmax", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def test_a_free_length_stays_free():
    model = OpenVinoModel(partial(softmax, "length", 4))
    assert not model.one_sample
    for batch, length in ((1, 3), (2, 5), (1, 7)):
        (found,) = model.run({"x": np.ones((batch, length, 4), np.float32)})
        np.testing.assert_allclose(found, np.full((batch, length, 4), 0.25), rtol=1e-6)


INTERRUPTED = """
import signal, sys
from pathlib import Path
from edgeattn.runtime.openvino import OpenVinoModel
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
read = Path(sys.argv[1]).read_bytes
first, second = OpenVinoModel(read), OpenVinoModel(read)
del first
third = OpenVinoModel(read)
del second, third
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


def test_ctrl_c_is_heard_after_models_have_come_and_gone(tmp_path):
    """OpenVINO gives signals a stack of its own on a CPU with AMX; where that is gone, the process ends by a segmentation fault."""
    (tmp_path / "softmax.onnx").write_bytes(softmax(3, 4))
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, tmp_path / "softmax.onnx"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "heard"), done.stderr


@pytest.mark.parametrize("length", [3, 5000], ids=["copied in", "read where it lies"])
def test_answers_follow_their_inputs_and_stay_as_they_are(length):
    model = OpenVinoModel(partial(softmax, length, 4))
    assert model.one_sample
    inputs = [np.random.default_rng(seed).normal(size=(1, length, 4)).astype(np.float32) for seed in range(3)]
    answers = [model.run({"x": x})[0] for x in inputs]
    for x, answer in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(answer, np.exp(x) / np.exp(x).sum(-1, keepdims=True), rtol=1e-5)


def test_bfloat16_is_a_precision_that_the_gate_judges(tmp_path):
    weights = find("rpattention").weights
    manifest = edgeattn.compile(weights, engine="openvino", precision="bf16", output=tmp_path / "a.edge").manifest
    assert (manifest.precision, manifest.floats, manifest.passed) == ("bf16", "bf16", True)
    assert set(manifest.layers.values()) == {"bf16"}
    assert edgeattn.verify(tmp_path / "a.edge").ok
    with pytest.raises(InputError, match="'bf16' is not one of"):
        edgeattn.compile(weights, precision="bf16", output=tmp_path / "b.edge")


def test_auto_tries_both_engines_and_takes_the_fastest(tmp_path):
    plain = edgeattn.compile(find("rpattention").weights, precision="auto", output=tmp_path / "a.edge").to_json()
    assert {candidate["engine"] for candidate in plain["candidates"]} == {"onnxruntime", "openvino"}
    timed = [candidate for candidate in plain["candidates"] if candidate["latency_ms"] is not None]
    assert len(timed) == len([candidate for candidate in plain["candidates"] if candidate["passed"]])
    chosen = next(candidate for candidate in timed if candidate["chosen"])
    near = (1 + NEAR) * min(candidate["latency_ms"] for candidate in timed)
    assert chosen["latency_ms"] <= near
    assert chosen["relative_error"] == min(candidate["relative_error"] for candidate in timed if candidate["latency_ms"] <= near)
    only = edgeattn.compile(find("rpattention").weights, precision="auto", engine="onnxruntime", output=tmp_path / "b.edge").to_json()
    assert {candidate["engine"] for candidate in only["candidates"]} == {"onnxruntime"}


def test_without_openvino_the_sentence_says_how_to_get_it(compiled, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingError, match=r"runs on OpenVINO: .*pip install 'edgeattn\[openvino\]'"):
        edgeattn.load(compiled.bundle)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="engine openvino is not installed"):
        edgeattn.compile(find("ecg_nat").weights, engine="openvino", output=tmp_path / "a.edge")


def test_engines_that_a_target_has_not(tmp_path):
    for target, engine, message in (("cpu", "tvm", "no engine 'tvm': it has onnxruntime"), ("jetson", "openvino", "target jetson has no engine")):
        with pytest.raises(InputError, match=message):
            edgeattn.compile(find("ecg_nat").weights, target, engine=engine, output=tmp_path / "a.edge")
