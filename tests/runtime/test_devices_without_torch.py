"""The base install alone, and an ARM64 board by emulation: verify and bench without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edgeattn-aarch64"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "*.edge", "build", "__pycache__", "*.egg-info")
    source = shutil.copytree(ROOT, folder / "source", ignore=ignored)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source], check=True)
    return next(folder.glob("edgeattn-*.whl"))


def test_the_base_install_verifies_and_benches_a_bundle(wheel, ecg_bundle, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel], check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0, "torch must not be there"
    edgeattn = [str(tmp_path / "venv" / "bin" / "edgeattn")]
    verified = subprocess.run([*edgeattn, "verify", ecg_bundle, "--json"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(verified.stdout)["ok"]
    benched = subprocess.run([*edgeattn, "bench", ecg_bundle, "--runs", "70", "--json"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(benched.stdout)["latency_ms"]["p90"] > 0
    asked = subprocess.run([*edgeattn, "compile", "x.pt"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert asked.returncode == 3
    assert "pip install 'edgeattn[compile]'" in " ".join(asked.stderr.split())


@pytest.fixture(scope="module")
def arm_bundle(ecg_weights, tmp_path_factory):
    import edgeattn

    return edgeattn.compile(ecg_weights, "arm64", output=tmp_path_factory.mktemp("arm") / "ecg.edge").bundle


@pytest.fixture(scope="module")
def arm_python():
    """A command that runs Python 3.11 as a 64-bit ARM board would."""
    if shutil.which("apt-get") is None:
        pytest.skip("ARM64 emulation is prepared with Debian's apt-get, which is not here")
    prepared = subprocess.run(["bash", ROOT / "tests" / "aarch64.sh", CACHE], capture_output=True, text=True, check=False)
    if prepared.returncode != 0:
        pytest.skip(f"ARM64 emulation cannot be prepared: {(prepared.stderr.strip() or 'no message').splitlines()[-1]}")
    return ["qemu-aarch64-static", "-L", str(CACHE / "root"), str(CACHE / "root" / "usr" / "bin" / "python3.11")]


def run_on_arm(arm_python, wheel, code, *arguments):
    environment = {**os.environ, "PYTHONPATH": f"{wheel}:{CACHE / 'site'}", "PYTHONHOME": str(CACHE / "root" / "usr")}
    return subprocess.run([*arm_python, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment)


def test_an_arm64_board_verifies_the_bundle_and_refuses_a_damaged_one(arm_python, wheel, arm_bundle, tmp_path):
    code = (
        "import platform, sys, edgeattn\n"
        "assert platform.machine() == 'aarch64'\n"
        "import edgeattn.runtime.machine as m; m.isa_flags = lambda: ('asimd',)\n"
        "import edgeattn.runtime.verify as v; v.isa_flags = lambda: ('asimd',)\n"
        "result = edgeattn.verify(sys.argv[1]); print([c for c in result.checks if not c.ok]); assert result.ok\n"
        "s = edgeattn.load(sys.argv[1]); assert 'torch' not in sys.modules\n"
        "try: edgeattn.load(sys.argv[2])\n"
        "except edgeattn.EdgeattnError as error: print('refused:', error)\n"
    )
    damaged = shutil.copytree(arm_bundle, tmp_path / "damaged.edge")
    (damaged / "model.onnx").write_bytes(b"x" + (damaged / "model.onnx").read_bytes()[1:])
    result = run_on_arm(arm_python, wheel, code, arm_bundle, damaged)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "refused:" in result.stdout
    assert "model.onnx was changed" in result.stdout


def test_an_arm64_board_times_a_run(arm_python, wheel, arm_bundle):
    code = (
        "import sys, edgeattn.runtime.bench as b\n"
        "b.cold_start = lambda *_: 0.0  # child processes are not emulated\n"
        "print(b.bench(sys.argv[1], runs=5).latency_ms['p50'] > 0)\n"
    )
    result = run_on_arm(arm_python, wheel, code, arm_bundle)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.strip().endswith("True")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (None, "TensorRT's Python bindings are missing (No module named 'tensorrt'): sudo apt install python3-libnvinfer"),
        ("import ctypes; ctypes.CDLL('libnvinfer.so.10')", "TensorRT's library is missing (libnvinfer.so.10: cannot open shared object file"),
    ],
)
def test_an_arm64_board_without_tensorrt_says_in_one_sentence_what_is_missing(arm_python, tmp_path, module, said):
    import edgeattn
    from edgeattn.models.registry import find

    bundle = edgeattn.compile(find("rpattention").weights, "jetson-orin-nano", output=tmp_path / "a.edge").bundle
    if module:
        (tmp_path / "bindings").mkdir()
        (tmp_path / "bindings" / "tensorrt.py").write_text(module)
    environment = {**os.environ, "PYTHONPATH": f"{CACHE / 'site'}:{tmp_path / 'bindings'}", "PYTHONHOME": str(CACHE / "root" / "usr")}
    run = subprocess.run([*arm_python, bundle / "device" / "run.py", "verify"], capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 2, run.stderr
    assert run.stderr.count("\n") == 1 and said in run.stderr
    assert edgeattn.verify(bundle).ok
