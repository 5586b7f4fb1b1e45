"""The whole pipeline: from a checkpoint to a bundle that proves itself."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgeattn
from edgeattn.errors import GateFailed, InputError
from edgeattn.models.registry import weights_file
from edgeattn.ranking import NEAR
from edgeattn.runtime.machine import isa_flags
from edgeattn.targets.cpu.passes.signs import saturates


def digests(bundle: Path) -> dict[str, str]:
    files = (path for path in bundle.rglob("*") if path.is_file() and "evidence" not in path.relative_to(bundle).parts)
    return {path.relative_to(bundle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def weight_bytes(bundle: Path) -> tuple[int, int]:
    """(bytes of the quantised weights as stored, bytes they would take in fp32)."""
    import onnx

    stored = full = 0
    for tensor in onnx.load(bundle / "model.onnx").graph.initializer:
        if len(tensor.dims) == 2 and tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8):
            count = int(np.prod(tensor.dims))
            stored, full = stored + count, full + 4 * count
    return stored, full


@pytest.mark.parametrize("name", ["ecg_nat", "rpattention", "ister"])
def test_a_zoo_checkpoint_compiles_to_int8_within_its_tolerance(name, tmp_path):
    result = edgeattn.compile(weights_file(name), output=tmp_path / "b.edge")
    plain = result.to_json()
    assert plain["precision"] == "int8"
    assert plain["integer_layers"]["integer_in_engine"] == plain["integer_layers"]["quantised"] > 10
    metric = plain["parity"]["metric"]
    if name == "ister":
        assert metric["artifact"] <= 1.01 * metric["reference"]
    else:
        assert metric["artifact"] >= metric["reference"] - 0.5
    stored, full = weight_bytes(tmp_path / "b.edge")
    assert 0 < stored <= 0.3 * full
    assert edgeattn.verify(tmp_path / "b.edge").ok


def test_compiling_twice_gives_the_same_bytes_outside_evidence(ecg_bundle, ecg_weights, tmp_path):
    edgeattn.compile(ecg_weights, output=tmp_path / "again.edge")
    assert digests(tmp_path / "again.edge") == digests(ecg_bundle)


def test_the_json_has_the_documented_keys(ecg_compilation):
    plain = ecg_compilation.to_json()
    assert set(plain) == {
        "bundle",
        "target",
        "device",
        "precision",
        "candidates",
        "parity",
        "integer_layers",
        "checks",
        "findings",
        "left_to_device",
        "warnings",
    }
    documented = {"name", "precision", "agreement", "metric", "max_abs_error", "passed", "chosen", "latency_ms"}
    assert documented <= set(plain["candidates"][0])
    assert {"max_abs_error", "cosine", "agreement", "metric"} <= set(plain["parity"])
    assert {"name", "reference", "artifact"} <= set(plain["parity"]["metric"])


@pytest.mark.parametrize("kind", ["pt", "pt2", "positional pt2", "ts"])
def test_a_sentence_encoder_that_no_zoo_file_knows_compiles(sentence_files, kind, tmp_path):
    options = {"model": "sentence_encoder:build"} if kind == "pt" else {}
    result = edgeattn.compile(sentence_files[kind], calib=sentence_files["npz"], output=tmp_path / "b.edge", **options)
    assert [spec.name for spec in result.manifest.inputs] == ["input_ids", "attention_mask"]
    assert result.manifest.passed
    assert "int8" in result.manifest.precision
    assert "layers.0.intermediate" in result.manifest.layers
    session = edgeattn.load(tmp_path / "b.edge")
    import sentence_encoder

    inputs = sentence_encoder.data(5, seed=9)
    with torch.no_grad():
        expected = sentence_encoder.build().eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()}).numpy()
    actual = next(iter(session.run(**inputs).values()))
    assert np.linalg.norm(actual - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", ["pt", pytest.param("pt2", marks=pytest.mark.slow)])
def test_a_window_attention_vision_model_compiles(vision_files, kind, tmp_path):
    options = {"model": "window_vision:build"} if kind == "pt" else {}
    result = edgeattn.compile(vision_files[kind], calib=vision_files["npz"], output=tmp_path / "b.edge", **options)
    assert result.manifest.passed
    assert edgeattn.verify(tmp_path / "b.edge").ok


class Weather(nn.Module):
    """Air pressure in Pa, (batch, 16) → (batch, 2). At 0 Pa float32 leaves the normalisation no digits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm((x - 101325) / 500))


def test_a_network_of_raw_units_is_compared_with_its_export_in_their_range(tmp_path):
    pressure = (101325 + 500 * np.random.default_rng(0).standard_normal((64, 16))).astype(np.float32)
    np.savez(tmp_path / "p.npz", x=pressure)
    batch = torch.export.Dim("batch", min=1)
    torch.export.save(torch.export.export(Weather().eval(), (torch.from_numpy(pressure),), dynamic_shapes=({0: batch},)), tmp_path / "p.pt2")
    result = edgeattn.compile(tmp_path / "p.pt2", calib=tmp_path / "p.npz", precision="fp32", output=tmp_path / "b.edge")
    check = next(check for check in result.manifest.checks if check.name == "graph equals module")
    assert float(check.detail.split()[-1]) < 1e-5


@pytest.fixture(scope="module")
def outlier_files(tmp_path_factory):
    import outliers

    folder = tmp_path_factory.mktemp("outliers")
    torch.save(outliers.build().state_dict(), folder / "o.pt")
    np.savez(folder / "o.npz", **outliers.data(800))
    return folder


def test_the_outlier_model_has_outliers_of_a_hundred_times_the_median():
    import outliers

    _, hidden = outliers.build().hidden(torch.from_numpy(outliers.data(256)["x"]))
    assert hidden.abs().max() > 100 * hidden.abs().median()


def test_a_model_that_breaks_int8_becomes_mixed_precision_and_names_the_raised_layers(outlier_files, tmp_path):
    files = {"model": "outliers:build", "calib": outlier_files / "o.npz"}
    result = edgeattn.compile(outlier_files / "o.pt", output=tmp_path / "b.edge", **files)
    plain = result.to_json()
    assert plain["candidates"][0]["name"] == "int8"
    assert not plain["candidates"][0]["passed"]
    chosen = next(candidate for candidate in plain["candidates"] if candidate["chosen"])
    assert chosen["passed"]
    assert "down" in chosen["raised_layers"], "the layer that reads the outliers is the one to raise"
    assert len(chosen["raised_layers"]) < 4
    assert plain["precision"] == "mixed fp32+int8"
    assert any("down" in warning for warning in plain["warnings"])
    assert "only this layer" in (tmp_path / "b.edge" / "evidence" / "layers.csv").read_text()
    assert edgeattn.verify(tmp_path / "b.edge").ok


def test_a_recipe_is_re_applied_as_edited(outlier_files, tmp_path):
    from edgeattn import Recipe

    recipe = Recipe(activation="asymmetric").raised("down", "fp32", "by hand").raised("head", "fp32", "by hand")
    result = edgeattn.compile(
        outlier_files / "o.pt", recipe=recipe, model="outliers:build", calib=outlier_files / "o.npz", output=tmp_path / "b.edge"
    )
    assert result.manifest.layers["down"] == "fp32"
    assert result.manifest.layers["up"] == "int8"
    assert Recipe.read(tmp_path / "b.edge" / "recipe.yaml") == recipe


def test_a_users_labels_are_judged_by_the_task_metric(outlier_files, tmp_path):
    import outliers

    arrays = outliers.data(400, seed=3)
    with torch.no_grad():
        scores = outliers.build()(torch.from_numpy(arrays["x"])).numpy()
    np.savez(tmp_path / "labelled.npz", **arrays, labels=scores.argmax(1))
    files = {"model": "outliers:build", "calib": tmp_path / "labelled.npz"}
    result = edgeattn.compile(outlier_files / "o.pt", output=tmp_path / "b.edge", **files)
    metric = result.manifest.parity.metric
    assert (metric.name, metric.reference) == ("accuracy", 100.0)
    assert metric.artifact >= 99.5


def test_labels_that_do_not_fit_the_outputs_are_refused_in_one_sentence(outlier_files, tmp_path):
    import outliers

    arrays = outliers.data(400, seed=3)
    np.savez(tmp_path / "labelled.npz", **arrays, labels=np.zeros((400, 1), np.int64))
    with pytest.raises(InputError, match=r"labels of shape \(200, 1\) do not fit the outputs, which need \(200,\)"):
        edgeattn.compile(outlier_files / "o.pt", output=tmp_path / "b.edge", model="outliers:build", calib=tmp_path / "labelled.npz")
    assert not (tmp_path / "b.edge").exists()


def test_a_dynamic_sequence_axis_reaches_the_bundle(sentence_files, tmp_path):
    import sentence_encoder

    axes = {"input_ids": (0, 1), "attention_mask": (0, 1)}
    files = {"model": "sentence_encoder:build", "calib": sentence_files["npz"]}
    edgeattn.compile(sentence_files["pt"], output=tmp_path / "b.edge", dynamic=axes, precision="fp32", **files)
    session = edgeattn.load(tmp_path / "b.edge")
    inputs = {name: np.ascontiguousarray(array[:, :9]) for name, array in sentence_encoder.data(3, seed=5).items()}
    with torch.no_grad():
        expected = sentence_encoder.build().eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()}).numpy()
    np.testing.assert_allclose(next(iter(session.run(**inputs).values())), expected, atol=1e-4)
    with pytest.raises(InputError, match="disagree on axis 'axis1'"):
        session.run(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"][:, :5].copy())


def test_without_real_data_int8_is_refused_and_allowed_only_on_request(sentence_files, tmp_path):
    with pytest.raises(InputError, match="--calib data.npz.*--allow-uncalibrated"):
        edgeattn.compile(sentence_files["pt2"], output=tmp_path / "b.edge")
    result = edgeattn.compile(sentence_files["pt2"], output=tmp_path / "b.edge", allow_uncalibrated=True)
    assert "generated inputs" in result.manifest.provenance.calibration


def test_fp32_needs_no_data_and_equals_the_reference(sentence_files, tmp_path):
    result = edgeattn.compile(sentence_files["pt2"], output=tmp_path / "b.edge", precision="fp32")
    assert result.manifest.parity.relative_error < 1e-5


def exported_for(batch, folder, samples):
    """A program exported without free axes, and that many samples for it."""
    x = (101325 + 500 * np.random.default_rng(0).standard_normal((samples, 16))).astype(np.float32)
    np.savez(folder / "p.npz", x=x)
    torch.export.save(torch.export.export(Weather().eval(), (torch.zeros(batch, 16),)), folder / "p.pt2")
    return x


def test_a_program_of_a_fixed_batch_is_judged_on_all_samples_in_that_batch(tmp_path):
    x = exported_for(3, tmp_path, 64)  # 64 is no multiple of three
    result = edgeattn.compile(tmp_path / "p.pt2", calib=tmp_path / "p.npz", task="regression", precision="int8", output=tmp_path / "b.edge")
    assert result.manifest.inputs[0].shape == (3, 16)
    assert edgeattn.verify(tmp_path / "b.edge").ok
    expected = Weather().eval()(torch.from_numpy(x[:3])).detach().numpy()
    np.testing.assert_allclose(edgeattn.load(tmp_path / "b.edge").run(x[:3])["output"], expected, atol=0.05 * np.abs(expected).max())
    with pytest.raises(InputError, match="3"):
        edgeattn.load(tmp_path / "b.edge").run(x[:2])


def test_a_program_of_a_fixed_batch_says_how_many_samples_it_needs(tmp_path):
    exported_for(40, tmp_path, 64)
    with pytest.raises(InputError, match="exported for 40 samples a call, .*: give 80 samples or more"):
        edgeattn.compile(tmp_path / "p.pt2", calib=tmp_path / "p.npz", precision="fp32", output=tmp_path / "b.edge")


def test_a_program_of_a_large_fixed_batch_compiles_in_fp16(tmp_path):
    exported_for(150, tmp_path, 300)
    options = {"calib": tmp_path / "p.npz", "task": "regression", "precision": "fp16", "target": "jetson"}
    result = edgeattn.compile(tmp_path / "p.pt2", **options, output=tmp_path / "b.edge")
    assert result.manifest.inputs[0].shape == (150, 16)


def test_a_network_that_misses_its_gate_is_not_written_unless_forced(tmp_path, ecg_weights, monkeypatch):
    from edgeattn import dense
    from edgeattn.runtime.manifest import Tolerance

    monkeypatch.setattr(dense, "default_tolerance", lambda *_: Tolerance(relative_error=0.0))
    with pytest.raises(GateFailed, match="no candidate for ecg_nat"):
        edgeattn.compile(ecg_weights, output=tmp_path / "b.edge", precision="fp32")
    assert list(tmp_path.iterdir()) == []
    edgeattn.compile(ecg_weights, output=tmp_path / "b.edge", precision="fp32", force=True)
    result = edgeattn.verify(tmp_path / "b.edge")
    assert not result.ok
    assert any("--force" in check.detail for check in result.checks)


def test_auto_takes_the_fastest_measured_that_passes(tmp_path, ecg_weights):
    plain = edgeattn.compile(ecg_weights, output=tmp_path / "b.edge", precision="auto").to_json()
    bits = ", 7-bit weights" if saturates(isa_flags()) else ""
    assert {candidate["name"] for candidate in plain["candidates"]} >= {f"int8{bits}", f"int8-dynamic{bits}", "fp32"}
    passed = [candidate for candidate in plain["candidates"] if candidate["passed"]]
    assert all(candidate["latency_ms"] for candidate in passed)
    near = (1 + NEAR) * min(candidate["latency_ms"] for candidate in passed)
    chosen = next(candidate for candidate in passed if candidate["chosen"])
    assert chosen["latency_ms"] <= near
    assert chosen["relative_error"] == min(candidate["relative_error"] for candidate in passed if candidate["latency_ms"] <= near)


def test_a_named_board_that_is_not_this_machine_is_not_timed(tmp_path, ecg_weights):
    plain = edgeattn.compile(ecg_weights, "raspberry-pi-5", output=tmp_path / "b.edge").to_json()
    assert plain["device"] == "raspberry-pi-5"
    assert all(candidate["latency_ms"] is None for candidate in plain["candidates"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int7"}, "int7"),
        ({"target": "toaster"}, "no device is called 'toaster'"),
        ({"dynamic": {"z": [0]}}, "--dynamic names z"),
        ({"calib": "none.npz"}, "none.npz cannot be read"),
    ],
)
def test_wrong_options_are_named(ecg_weights, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        edgeattn.compile(ecg_weights, output=tmp_path / "b.edge", **options)
    assert list(tmp_path.iterdir()) == []


def test_calibration_data_of_other_names_are_refused(ecg_weights, sentence_files):
    with pytest.raises(InputError, match="attention_mask, input_ids, the network takes x"):
        edgeattn.compile(ecg_weights, calib=sentence_files["npz"])


@pytest.mark.parametrize("seconds", [0, 2], ids=["importing", "compiling"])
def test_ctrl_c_leaves_nothing_behind(ecg_weights, tmp_path, seconds):
    command = [sys.executable, "-m", "edgeattn", "compile", str(ecg_weights), "--precision", "auto", "-o", str(tmp_path / "b.edge")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():  # earlier, Python itself is still starting
        time.sleep(0.1)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "nothing half-written" in stderr
    assert list(tmp_path.iterdir()) == []
