"""The device kit: on simulated bindings (simulated_tensorrt.py says what those cannot show), on files as boards have them, for Python 3.6."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from simulated_tensorrt import Bindings, Cudart

import edgeattn
from edgeattn.models.registry import find
from edgeattn.targets.jetson import kit
from edgeattn.targets.jetson.kit import board, cli, measure, plans
from edgeattn.targets.jetson.kit.bundle import Bundle
from edgeattn.targets.jetson.kit.cuda import Cuda
from edgeattn.targets.jetson.kit.engine import Engine, build
from edgeattn.targets.jetson.kit.errors import KitError

KIT = Path(kit.__file__).parent
DEVICES = {8: "jetson-nano", 10: "jetson-orin-nano"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    return {
        generation: edgeattn.compile(find("rpattention").weights, device, output=folder / f"{device}.edge").bundle
        for generation, device in DEVICES.items()
    }


@pytest.fixture
def desk(tmp_path, monkeypatch, bundles):
    """A board: files under a root, simulated bindings and CUDA, the kit's command with a cache of its own."""

    class Desk:
        root = tmp_path / "root"
        cache = tmp_path / "cache"
        cuda = Cudart()

        def connect(self, trt):
            self.trt = trt
            monkeypatch.setitem(sys.modules, "tensorrt", trt)
            monkeypatch.setattr("edgeattn.targets.jetson.kit.cuda.open_library", lambda: self.cuda)
            return self

        def file(self, path, text):
            target = self.root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

        def run(self, *words, generation=10, capsys=None):
            arguments = [*words, "--bundle", str(bundles[generation]), "--cache", str(self.cache), "--json"]
            code = cli.main(arguments)
            return code, json.loads(capsys.readouterr().out)

    desk = Desk()
    desk.file("/proc/meminfo", "MemTotal:        8000000 kB\nMemAvailable:    3000000 kB\n")
    desk.file("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n")
    desk.file("/proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")
    monkeypatch.setattr(board, "ROOT", str(desk.root))
    return desk


def test_the_kit_needs_no_more_than_python_3_6_and_numpy():
    vermin = [Path(sys.executable).with_name("vermin"), "-t=3.6-", "--no-tips"]
    assert subprocess.run([*vermin, *sorted(KIT.glob("*.py"))], check=False).returncode == 0
    assert subprocess.run([*vermin, *sorted(Path(edgeattn.__file__).parent.glob("*.py"))], check=False).returncode != 0, "the check can fail"
    lines = [line for path in KIT.glob("*.py") for line in path.read_text().splitlines()]
    names = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    standard = {"argparse", "ctypes", "glob", "hashlib", "json", "math", "os", "platform", "re", "resource", "shutil", "struct", "subprocess", "sys"}
    assert names <= standard | {"tempfile", "threading", "time", "typing", "numpy", ""}


@pytest.mark.parametrize("generation", [8, 10])
def test_the_engine_gives_the_golden_outputs(generation, bundles, desk, capsys):
    desk.connect(Bindings(generation))
    code, result = desk.run("verify", generation=generation, capsys=capsys)
    assert code == 0 and result["ok"]
    assert [check["name"] for check in result["checks"]] == ["integrity", "engine", "golden vectors"]
    assert result["machine"]["l4t"] == "36.4.3"
    assert result["machine"]["board"] == "NVIDIA Jetson Orin Nano Developer Kit"


def test_new_bindings_get_typed_networks_and_old_ones_flags_and_layers(bundles, desk, capsys):
    desk.connect(Bindings(10)).run("build", capsys=capsys)
    assert ("create_network", 1 << 1) in desk.trt.log, "strongly typed"
    assert not [call for call in desk.trt.log if call[0] == "set_flag"]
    desk.connect(Bindings(8)).run("build", generation=8, capsys=capsys)
    calls = list(desk.trt.log)
    assert ("create_network", 1 << 0) in calls
    assert {flag for name, flag in calls if name == "set_flag"} == {desk.trt.BuilderFlag.FP16, desk.trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS}
    held = {layer for name, layer in calls if name == "float32"}
    wanted = set(json.loads((Path(bundles[8]) / "device" / "build.json").read_text())["float32_layers"])
    assert held >= {layer for layer in wanted if "Softmax" in layer}


def test_the_builder_gets_half_of_the_free_memory_and_the_shapes_of_the_bundle(desk, capsys):
    desk.connect(Bindings(10)).run("build", capsys=capsys)
    assert ("workspace", 3000000 * 1024 // 2) in desk.trt.log
    assert ("profile", {"x": ((1, 8, 8),) * 3}) in desk.trt.log


def test_triton_gets_an_entry_with_the_engine(desk, tmp_path, capsys):
    code, result = desk.connect(Bindings(10)).run("build", "--repository", str(tmp_path / "models"), capsys=capsys)
    entry = tmp_path / "models" / "rpattention"
    assert code == 0 and result["repository"] == str(entry)
    assert (entry / "1" / "model.plan").stat().st_size == result["bytes"]
    text = (entry / "config.pbtxt").read_text()
    assert 'platform: "tensorrt_plan"' in text
    assert 'input [ { name: "x", data_type: TYPE_FP32, dims: [ -1, 8, 8 ] } ]' in text


def test_tritons_own_parser_reads_the_entry(bundles):
    parser = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc]")
    from google.protobuf import text_format

    text = (Path(bundles[10]) / "device" / "triton" / "config.pbtxt").read_text()
    assert text_format.Parse(text, parser.ModelConfig()).input[0].dims == [-1, 8, 8]


def test_the_cpp_example_compiles_where_the_headers_are(bundles, tmp_path):
    folders = [folder for folder in os.environ.get("EDGEATTN_CPP_INCLUDE", "").split(":") if folder]
    if not folders:
        pytest.skip("needs the headers of TensorRT, CUDA and nlohmann/json: EDGEATTN_CPP_INCLUDE=folder:folder")
    flags = ["-std=c++14", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations", *(f"-isystem{folder}" for folder in folders)]
    source = Path(bundles[10]) / "device" / "cpp" / "main.cpp"
    assert subprocess.run(["g++", *flags, "-c", source, "-o", tmp_path / "main.o"], check=False).returncode == 0


def test_an_engine_is_built_once_and_kept(desk, capsys):
    desk.connect(Bindings(10)).run("build", capsys=capsys)
    built = len(desk.trt.log)
    assert desk.run("verify", capsys=capsys)[0] == 0
    assert len(desk.trt.log) == built
    assert next(path.name for path in desk.cache.glob("*.plan")).endswith("-10.3.0-8.7-36.4.3.plan")
    assert not list(desk.cache.glob("*.partial"))


def test_a_foreign_engine_is_refused_in_one_sentence(desk, capsys):
    desk.connect(Bindings(10)).run("build", capsys=capsys)
    plan = next(desk.cache.glob("*.plan"))
    desk.cuda = Cudart(capability=(7, 2))
    code, result = desk.run("verify", "--plan", str(plan), capsys=capsys)
    assert code == 2
    assert "was built for compute_capability 8.7, this board has 7.2: run `build` here" in result["error"]
    shutil.copy(plan, desk.cache / "other.plan")
    assert "was not built by this kit" in desk.run("verify", "--plan", str(desk.cache / "other.plan"), capsys=capsys)[1]["error"]
    plan.write_bytes(plan.read_bytes()[:-5])
    desk.cuda = Cudart()
    assert "changed or cut short" in desk.run("verify", capsys=capsys)[1]["error"]


def test_a_wrong_layer_is_found_by_name(bundles, desk, capsys):
    layers = json.loads((Path(bundles[10]) / "device" / "build.json").read_text())["layers"]
    wrong = layers[len(layers) // 2]
    name = Bundle(str(bundles[10])).manifest["outputs"][0]["name"]
    desk.connect(Bindings(10, spoil={name: lambda a: a + 9, wrong: lambda a: a * 2}))
    code, result = desk.run("verify", capsys=capsys)
    assert code == 1 and not result["ok"]
    failed = {check["name"]: check["detail"] for check in result["checks"] if not check["ok"]}
    assert name in failed["golden vectors"] and "are allowed" in failed["golden vectors"]
    assert failed["first differing layer"].startswith(f"{wrong}: relative error")


def test_nan_from_the_board_is_a_failed_check(bundles, desk, capsys):
    name = Bundle(str(bundles[10])).manifest["outputs"][0]["name"]
    desk.connect(Bindings(10, spoil={name: lambda a: a * np.nan}))
    assert "NaN or infinity" in desk.run("verify", capsys=capsys)[1]["checks"][2]["detail"]


def test_a_refused_graph_gives_tensorrts_own_words(desk, capsys):
    desk.connect(Bindings(10, refuse="Could not find any implementation for node {ForeignNode}"))
    code, result = desk.run("build", capsys=capsys)
    assert code == 2 and "Could not find any implementation" in result["error"]
    assert not desk.cache.exists() or not list(desk.cache.iterdir())


def test_a_graph_for_newer_software_is_refused_by_name(desk, capsys):
    desk.connect(Bindings(8))
    assert "needs TensorRT 10, this board has 8.2.1.8" in desk.run("build", capsys=capsys)[1]["error"]


def test_cuda_errors_are_told(desk, capsys):
    desk.cuda = Cudart(fail="cudaMalloc")
    desk.connect(Bindings(10))
    assert "cudaMalloc failed with CUDA error 2 (out of memory)" in desk.run("verify", capsys=capsys)[1]["error"]


def test_shapes_outside_the_engines_are_told(bundles, desk):
    trt = Bindings(10)
    trt.largest_batch = 1
    desk.connect(trt)
    bundle = Bundle(str(bundles[10]))
    engine = Engine(trt, build(trt, bundle.onnx, bundle.build, 1 << 20)[0], Cuda(desk.cuda))
    with pytest.raises(KitError, match="outside the shapes"):
        engine.run({"x": np.zeros((4, 8, 8), np.float32)})


def test_a_changed_bundle_is_refused(bundles, desk, tmp_path, capsys):
    desk.connect(Bindings(10))
    for name in ("model.onnx", "manifest.json", "device/build.json"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(bundles[10], copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(bytes(data))
        assert cli.main(["verify", "--bundle", str(copy), "--json"]) == 2
        assert "copy the bundle again" in json.loads(capsys.readouterr().out)["error"]


def test_a_full_disk_leaves_nothing_half_written(desk, capsys, monkeypatch):
    desk.connect(Bindings(10))
    written = []

    def full(path, target):
        written.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    code, result = desk.run("build", capsys=capsys)
    assert code == 2 and "No space left on device" in result["error"]
    assert written and not list(desk.cache.iterdir())


def test_bench_measures_and_says_what_it_could_not(desk, ecg_bundle, capsys, monkeypatch):
    desk.connect(Bindings(10))
    monkeypatch.setattr(measure, "cold_start", lambda command: 123.0)
    code, result = desk.run("bench", "--runs", "70", capsys=capsys)
    assert code == 0
    assert result["runs"] == 70 and result["latency_ms"]["p90"] >= result["latency_ms"]["p50"] > 0
    assert result["latency_ms"]["p99"] is None, "70 runs say nothing of one in a hundred"
    assert result["energy_per_inference_j"] is None and any("no power" in note for note in result["notes"])
    assert any("copies to and from the GPU" in note for note in result["notes"])
    host = edgeattn.bench(ecg_bundle, runs=5).to_json()
    assert set(host) - {"comparison"} <= set(result), "the same keys as edgeattn bench"


def test_energy_comes_from_the_rails_and_names_those_of_the_whole_module(desk, capsys, monkeypatch):
    desk.connect(Bindings(10))
    monkeypatch.setattr(measure, "cold_start", lambda command: 123.0)
    folder = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/"
    for channel, (name, volts, amperes) in enumerate((("VDD_IN", 4968, 1520), ("VDD_CPU_GPU_CV", 4960, 400), ("NC", 0, 0)), 1):
        for file, value in ((f"in{channel}_label", name), (f"in{channel}_input", volts), (f"curr{channel}_input", amperes)):
            desk.file(folder + file, f"{value}\n")
    code, result = desk.run("bench", "--seconds", "1.5", capsys=capsys)
    assert code == 0 and result["power"]["source"] == "INA sensors"
    assert result["power"]["mean_w"] == pytest.approx({"VDD_IN": 7.551, "VDD_CPU_GPU_CV": 1.984})
    assert result["energy_per_inference_j"]["VDD_IN"] == pytest.approx(7.551 * result["latency_ms"]["mean"] / 1000)
    assert not any("whole module" in note for note in result["notes"])


def test_spaced_calls_start_at_their_period_which_is_what_an_inference_costs(desk, capsys, monkeypatch):
    desk.connect(Bindings(10))
    monkeypatch.setattr(measure, "cold_start", lambda command: 123.0)
    monkeypatch.setattr(board, "rails", lambda: {"VDD_IN": 5000})
    code, result = desk.run("bench", "--runs", "60", "--every", "25", capsys=capsys)
    assert code == 0 and result["every_ms"] == 25.0 and result["back_to_back_ms"] > 0
    assert result["throughput_per_s"] <= 40.0
    assert result["energy_per_inference_j"]["VDD_IN"] >= 5.0 * 0.025, "the board draws power between the calls too"
    code, result = desk.run("bench", "--runs", "3", "--every", "1e-6", capsys=capsys)
    assert any("3 of 3 calls took longer" in note for note in result["notes"])
    code, result = desk.run("bench", "--every", "nan", capsys=capsys)
    assert code == 2 and "--every" in result["error"]


def test_the_rails_of_jetpack_4_are_read_too(desk):
    for number, (name, milliwatts) in enumerate((("POM_5V_IN", 1750), ("POM_5V_GPU", 0), ("POM_5V_CPU", 366))):
        desk.file(f"/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_{number}", name + "\n")
        desk.file(f"/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power{number}_input", f"{milliwatts}\n")
    assert board.rails() == {"POM_5V_IN": 1750, "POM_5V_GPU": 0, "POM_5V_CPU": 366}


def test_throttling_and_moving_clocks_are_told():
    before = {"cooling": {}, "gpu_clock_hz": 624750000}
    after = {"cooling": {"gpu-throttle-alert": 1}, "gpu_clock_hz": 306000000}
    notes = measure._notes([1.0] * 50 + [2.0] * 50, before, after, {"mean_w": {"GPU": 3.0}, "readings": 20})
    assert any("throttling (gpu-throttle-alert)" in note for note in notes)
    assert any("from 625 to 306 MHz" in note for note in notes)
    assert any("median moved" in note for note in notes)
    assert any("no rail here measures the whole module" in note for note in notes)


def test_doctor_says_what_is_missing_with_the_line_that_mends_it(desk, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr("edgeattn.targets.jetson.kit.cuda.LIBRARIES", ("libnothing.so",))
    code, result = desk.run("doctor", capsys=capsys)
    assert code == 1
    assert any("python3-libnvinfer" in text for text in result["missing"])
    assert any("nvidia-jetpack" in text for text in result["missing"])
    assert result["machine"]["l4t"] == "36.4.3"


def test_the_folder_runs_by_itself_and_stays_as_it_was(bundles, tmp_path):
    copy = tmp_path / "a.edge"
    shutil.copytree(bundles[10], copy)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "", "HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, copy / "device" / "run.py", "verify"], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1 and "TensorRT's Python bindings are missing" in run.stderr
    assert edgeattn.verify(copy).ok, "nothing was added to the bundle"


def test_real_bindings_take_the_calls_that_build_makes(bundles):
    trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'edgeattn[jetson]'")
    bundle = Bundle(str(bundles[10]))
    engine, _ = build(trt, bundle.onnx, bundle.build, 1 << 28, outputs=bundle.build["layers"][:2])
    assert len(engine) > 1000
    with pytest.raises(KitError, match="cannot read the graph"):
        build(trt, b"not a graph", bundle.build, 1 << 28)


def test_plans_are_kept_outside_the_bundle(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plans.default_folder() == str(tmp_path / "edgeattn")
