"""What a session holds: its weights, not the file as well and not what reading it took. What a training frees is not faulted in again."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

import edgeattn

MEASURE = """
import sys
import edgeattn
from edgeattn.runtime.memory import give_back

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024

def opened():
    before = resident()
    session = edgeattn.load(sys.argv[1])
    session.run(**inputs)
    return session, resident() - before

import numpy as np
inputs = {"input": np.ones((1, 1024), np.float32)}
first = opened()  # brings the engine's code
give_back()
print(opened()[1])
"""


FREED = """
import resource, numpy as np
from edgeattn.runtime.memory import keep_freed_memory
{first}
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what mallopt sets is glibc's")
def test_kept_memory_is_not_faulted_in_again():
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", FREED.format(first=first)], capture_output=True, text=True, check=True).stdout)
        for first in ("", "keep_freed_memory()")
    )
    assert kept < usual / 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("engine", "most"), [("onnxruntime", 3), ("openvino", 4.5)])
def test_an_open_session_does_not_keep_what_reading_its_file_took(engine, most, tmp_path):
    """OpenVINO keeps a network's weights as they are and as its kernels want them."""
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"needs {engine}")
    x = torch.randn(8, 1024)
    module = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(6))).eval()
    torch.export.save(torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)), tmp_path / "a.pt2")
    np.savez(tmp_path / "x.npz", input=x.numpy())
    edgeattn.compile(tmp_path / "a.pt2", calib=tmp_path / "x.npz", task="regression", engine=engine, precision="fp32", output=tmp_path / "a.edge")
    done = subprocess.run([sys.executable, "-c", MEASURE, tmp_path / "a.edge"], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < most * (tmp_path / "a.edge" / "model.onnx").stat().st_size
