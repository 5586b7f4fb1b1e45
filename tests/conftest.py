"""Fixtures that read aloud: a compiled ECG bundle, a copy of it to damage, and the shipped weights."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker a core: more threads would wait for each other, six times as long
    os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(TESTS / "systems"))  # users' own modules, as `--model sentence_encoder:build` finds them

from edgeattn.models.registry import weights_file  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """What machines keep for themselves goes to a folder of the tests' own, in child processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEATTN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def ecg_weights() -> Path:
    return weights_file("ecg_nat")


@pytest.fixture(scope="session")
def ecg_compilation(ecg_weights, tmp_path_factory):
    """The ECG checkpoint compiled once for this machine."""
    import edgeattn

    return edgeattn.compile(ecg_weights, output=tmp_path_factory.mktemp("bundle") / "ecg.edge")


@pytest.fixture(scope="session")
def ecg_bundle(ecg_compilation) -> Path:
    """The bundle of the ECG checkpoint; not to be changed, copy it with `damaged`."""
    return ecg_compilation.bundle


@pytest.fixture
def bundle_copy(ecg_bundle, tmp_path) -> Path:
    """A fresh copy of the bundle, to damage."""
    return Path(shutil.copytree(ecg_bundle, tmp_path / "copy.edge"))


@pytest.fixture(scope="session")
def sentence_files(tmp_path_factory):
    """A user's sentence encoder: bare weights, a .pt2 program, TorchScript and calibration data."""
    import sentence_encoder

    return _user_files(sentence_encoder, tmp_path_factory.mktemp("sentence"))


@pytest.fixture(scope="session")
def vision_files(tmp_path_factory):
    """A user's shifted-window vision model, likewise."""
    import window_vision

    return _user_files(window_vision, tmp_path_factory.mktemp("vision"), script=False)


def _user_files(system, folder: Path, script: bool = True) -> dict[str, Path]:
    import numpy as np
    import torch

    module = system.build().eval()
    files = {kind: folder / f"model.{kind}" for kind in ("pt", "pt2", "ts", "npz")}
    files["positional pt2"] = folder / "positional.pt2"
    prefixed = {f"module.{key}": value for key, value in module.state_dict().items()}
    torch.save({"model_state_dict": prefixed, "optimizer": {"step": 3}, "epoch": 7}, files["pt"])
    example = {name: torch.from_numpy(array) for name, array in system.data(2).items()}
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, (), kwargs=example, dynamic_shapes={name: {0: batch} for name in example})
    torch.export.save(program, files["pt2"])
    program = torch.export.export(module, tuple(example.values()), dynamic_shapes=tuple({0: batch} for _ in example))
    torch.export.save(program, files["positional pt2"])
    if script:
        torch.jit.trace(module, tuple(example.values()), check_trace=False).save(files["ts"])
    np.savez(files["npz"], **system.data(200))
    return files
