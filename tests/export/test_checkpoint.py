"""Any checkpoint is read without running what it holds, or refused in a sentence that says what to do."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgeattn.errors import InputError, UntrustedError
from edgeattn.export.checkpoint import read
from edgeattn.export.match import find_system, mismatch
from edgeattn.models.mamba import Mamba
from edgeattn.models.registry import systems


class Hostile:
    """Touches a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def ecg_state(ecg_weights):
    return torch.load(ecg_weights, weights_only=True)


def same_weights(reference, state):
    loaded = reference.module().state_dict()
    return loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("nest", [(), ("model_state_dict",), ("state_dict",), ("model",), ("checkpoint_is_flat_but", "model")])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_weights_are_found_however_the_trainer_nested_them(ecg_state, tmp_path, nest, prefix):
    value = {prefix + key: tensor for key, tensor in ecg_state.items()}
    for key in reversed([key for key in nest if key != "checkpoint_is_flat_but"]):
        value = {key: value, "optimizer": {"state": {}}, "epoch": 3}
    torch.save(value, tmp_path / "model.pt")
    reference = read(tmp_path / "model.pt")
    assert reference.name == "ecg_nat"
    assert same_weights(reference, ecg_state)


def test_safetensors_are_read(ecg_state, tmp_path):
    save_file(ecg_state, tmp_path / "model.safetensors")
    assert same_weights(read(tmp_path / "model.safetensors"), ecg_state)


def test_a_legacy_file_without_a_zip_is_read(ecg_state, tmp_path):
    torch.save(ecg_state, tmp_path / "model.pth", _use_new_zipfile_serialization=False)
    assert same_weights(read(tmp_path / "model.pth"), ecg_state)


def test_a_hostile_pickle_is_refused_without_running_it(tmp_path):
    touched = tmp_path / "touched"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "extra": Hostile(touched)}, tmp_path / "evil.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Hostile(touched)))
    for name in ("evil.pt", "raw.pt"):
        with pytest.raises(UntrustedError, match="--trust"):
            read(tmp_path / name)
    assert not touched.exists()


def test_a_hostile_program_archive_is_refused_without_running_it(sentence_files, tmp_path):
    touched, evil = tmp_path / "touched", tmp_path / "evil.pt2"
    with zipfile.ZipFile(sentence_files["pt2"]) as source, zipfile.ZipFile(evil, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            if "sample_inputs" in info.filename and not info.is_dir():
                data = pickle.dumps(Hostile(touched))
            target.writestr(info.filename, data)
    with pytest.raises(InputError):
        read(evil)
    assert not touched.exists()


def test_a_pickled_module_needs_trust(tmp_path):
    torch.save(nn.Linear(4, 2), tmp_path / "module.pt")
    with pytest.raises(UntrustedError, match="torch.nn.modules.linear.Linear"):
        read(tmp_path / "module.pt")
    example = {"input": np.zeros((2, 4), np.float32)}
    assert read(tmp_path / "module.pt", trust=True, example=example).outputs == ("output",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 100, "is no checkpoint"),
        (b"hello world, this is text", "is no checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PK\x03\x04" + b"\0" * 40, "truncated or damaged"),
        (b"\x80\x02garbage", "damaged|objects"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content, message):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / "model.pt")
    assert "model.pt" in str(caught.value)


def test_a_truncated_checkpoint_is_named(ecg_weights, tmp_path):
    data = ecg_weights.read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.pt").write_bytes(data[: int(share * len(data))])
        with pytest.raises(InputError, match=r"cut.pt is truncated or damaged"):
            read(tmp_path / "cut.pt")


def test_a_truncated_safetensors_file_is_named(ecg_state, tmp_path):
    save_file(ecg_state, tmp_path / "whole.safetensors")
    data = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut.safetensors cannot be read"):
        read(tmp_path / "cut.safetensors")


def test_weights_with_nan_are_named_by_key(ecg_state, tmp_path):
    ecg_state["embed.weight"][3, 1] = float("nan")
    torch.save(ecg_state, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"embed.weight holds 1 NaN"):
        read(tmp_path / "model.pt")


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 50_000_000)
    with pytest.raises(InputError, match="times its size"):
        read(tmp_path / "bomb.pt")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match="none.pt cannot be read"):
        read(tmp_path / "none.pt")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)


def test_weights_that_fit_no_model_list_the_nearest_and_the_keys(ecg_state):
    ecg_state["embed.extra"] = ecg_state.pop("embed.weight")
    with pytest.raises(InputError) as caught:
        find_system(ecg_state, systems())
    message = str(caught.value)
    assert "Nearest: ecg_nat (missing: embed.weight; unexpected: embed.extra)" in message
    assert "--model package.module:factory" in message


def test_weights_that_fit_several_models_ask_which(ecg_state):
    system = systems()["ecg_nat"]
    with pytest.raises(InputError, match="several models"):
        find_system(ecg_state, {"one": system, "two": system})


def test_another_shape_is_a_mismatch(ecg_state):
    ecg_state["norm.weight"] = torch.ones(3)
    assert "norm.weight (3,) for (64,)" in str(mismatch(ecg_state, systems()["ecg_nat"].build()))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing.here:build", "cannot be imported"),
        ("sentence_encoder:missing", "has no missing"),
        ("sentence_encoder:data", "raised TypeError"),
        ("sentence_encoder:np.ndarray", "has no np.ndarray"),
        ("just_a_word", "neither a zoo name"),
        ("window_vision:build", "do not fit window_vision:build"),
    ],
)
def test_a_wrong_model_argument_is_explained(sentence_files, model, message):
    with pytest.raises(InputError, match=message):
        read(sentence_files["pt"], model=model)


def test_a_user_model_without_inputs_asks_for_them(sentence_files):
    with pytest.raises(InputError, match="--calib data.npz or --input"):
        read(sentence_files["pt"], model="sentence_encoder:build")


def test_a_program_with_a_scan_of_the_zoo_is_read_by_a_new_process(tmp_path):
    path = tmp_path / "scan.pt2"
    torch.export.save(torch.export.export(Mamba(4, state=2).eval(), (torch.zeros(2, 40, 4),)), path)
    code = "import sys; from edgeattn.export.checkpoint import read; print([spec.name for spec in read(sys.argv[1]).inputs])"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stdout == "['x']\n", done.stderr


def test_a_program_brings_its_own_inputs(sentence_files):
    reference = read(sentence_files["pt2"])
    assert [spec.name for spec in reference.inputs] == ["input_ids", "attention_mask"]
    assert reference.inputs[0].dtype == "int64"
