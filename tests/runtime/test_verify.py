"""`verify` finds what integrity cannot: a model that computes something else, a gate that was missed, a CPU that lacks instructions."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

import edgeattn
from edgeattn.errors import InputError
from edgeattn.runtime import verify as verifying
from edgeattn.runtime.bundle import Bundle, write_bundle
from edgeattn.runtime.compare import parity
from edgeattn.runtime.golden import FILE, Golden, pack_golden, unpack_golden


def rewritten(bundle, target, manifest=None, **files):
    opened = Bundle.open(bundle)
    write_bundle(target, manifest or opened.manifest, {**opened.files, **files}, {})
    return target


def failing(result):
    return {check.name: check.detail for check in result.checks if not check.ok}


def test_the_parity_is_that_of_the_golden_vectors(ecg_bundle):
    result = edgeattn.verify(ecg_bundle)
    golden = unpack_golden(Bundle.open(ecg_bundle).read(FILE))
    error = np.abs(golden.artifact["scores"] - golden.reference["scores"]).max()
    assert result.ok
    assert result.parity.max_abs_error == pytest.approx(error, abs=1e-5)
    assert set(result.to_json()) == {"ok", "checks", "parity"}


def test_outputs_that_differ_name_the_output_and_the_sample(ecg_bundle, tmp_path):
    golden = unpack_golden(Bundle.open(ecg_bundle).read(FILE))
    wrong = {name: array.copy() for name, array in golden.reference.items()}
    wrong["scores"][5, 2] += 10
    changed = pack_golden(Golden(golden.inputs, wrong, golden.artifact, golden.ranges))
    result = edgeattn.verify(rewritten(ecg_bundle, tmp_path / "b.edge", **{FILE: changed}))
    assert "output scores, sample 5" in failing(result)["golden vectors"]


def test_a_forced_bundle_is_reported_as_missing_its_gate(ecg_bundle, tmp_path):
    manifest = msgspec.structs.replace(Bundle.open(ecg_bundle).manifest, passed=False)
    result = edgeattn.verify(rewritten(ecg_bundle, tmp_path / "b.edge", manifest))
    assert "--force" in failing(result)["accuracy gate"]


def test_a_cpu_without_the_instructions_is_told_so(ecg_bundle, monkeypatch):
    monkeypatch.setattr(verifying, "isa_flags", lambda: ("sse2",))
    assert "lacks" in failing(edgeattn.verify(ecg_bundle))["instruction set"]


def test_a_model_that_is_no_onnx_file_fails_as_engine_not_as_traceback(ecg_bundle, tmp_path):
    result = edgeattn.verify(rewritten(ecg_bundle, tmp_path / "b.edge", **{"model.onnx": b"nonsense"}))
    assert "model.onnx cannot be loaded" in failing(result)["engine"]


def test_a_path_that_is_no_bundle_is_wrong_use(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        edgeattn.verify(tmp_path / "nothing")


def test_nan_outputs_never_count_as_equal():
    measured = parity([np.ones((2, 3))], [np.full((2, 3), np.nan)])
    assert measured.max_abs_error == np.inf
    assert measured.agreement == 0.0
