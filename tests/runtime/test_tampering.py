"""A changed bundle is refused, by `verify` and by `load`, in a sentence that names the file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import edgeattn
from edgeattn.errors import BundleError
from edgeattn.runtime.manifest import seal


def all_files(bundle: Path) -> list[str]:
    return sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())


def assert_refused(bundle: Path, name: str) -> None:
    with pytest.raises(BundleError) as caught:
        edgeattn.load(bundle)
    assert name in str(caught.value), f"load does not name {name}: {caught.value}"
    result = edgeattn.verify(bundle)
    assert not result.ok
    assert any(name in check.detail for check in result.checks), f"verify does not name {name}: {result.checks}"


def reseal(bundle: Path, **changes) -> None:
    plain = json.loads((bundle / "manifest.json").read_bytes())
    plain.update(changes)
    (bundle / "manifest.json").write_bytes(seal(plain))


def test_the_untouched_bundle_is_accepted(ecg_bundle):
    assert edgeattn.verify(ecg_bundle).ok


def test_a_flipped_byte_in_any_file_is_refused_by_name(bundle_copy):
    for name in all_files(bundle_copy):
        path = bundle_copy / name
        original = path.read_bytes()
        for position in sorted({0, 1, len(original) // 3, len(original) // 2, len(original) - 2, len(original) - 1}):
            data = bytearray(original)
            data[position] ^= 0x20
            path.write_bytes(data)
            assert_refused(bundle_copy, Path(name).name)
        path.write_bytes(original)
    assert edgeattn.verify(bundle_copy).ok


def test_every_byte_of_the_manifest_counts(bundle_copy):
    path = bundle_copy / "manifest.json"
    original = path.read_bytes()
    for position in range(0, len(original), 97):
        data = bytearray(original)
        data[position] ^= 0x01
        path.write_bytes(data)
        with pytest.raises(BundleError, match="manifest.json"):
            edgeattn.load(bundle_copy)


def test_a_removed_file_is_refused_by_name(bundle_copy):
    for name in all_files(bundle_copy):
        data = (bundle_copy / name).read_bytes()
        (bundle_copy / name).unlink()
        if name == "manifest.json":
            with pytest.raises(BundleError, match="manifest.json"):
                edgeattn.load(bundle_copy)
        else:
            assert_refused(bundle_copy, Path(name).name)
        (bundle_copy / name).write_bytes(data)


@pytest.mark.parametrize("name", ["extra.bin", "evidence/extra.json", ".hidden", "device/run.py"])
def test_an_added_file_is_refused_by_name(bundle_copy, name):
    path = bundle_copy / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    assert_refused(bundle_copy, name.split("/")[0])


def test_an_added_empty_folder_is_refused(bundle_copy):
    (bundle_copy / "more").mkdir()
    assert_refused(bundle_copy, "more")


def test_a_truncated_model_is_refused(bundle_copy):
    path = bundle_copy / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    assert_refused(bundle_copy, "model.onnx")


def test_a_file_that_grew_is_refused(bundle_copy):
    path = bundle_copy / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    assert_refused(bundle_copy, "model.onnx")


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/hostname", "a/../../outside", "..\\outside", "C:/model.onnx", "./model.onnx"])
def test_a_path_that_leaves_the_folder_is_refused_even_if_the_manifest_is_sealed(bundle_copy, name):
    (bundle_copy.parent / "outside.onnx").write_bytes(b"x")
    plain = json.loads((bundle_copy / "manifest.json").read_bytes())
    reseal(bundle_copy, files={**plain["files"], name: {"sha256": "0" * 64, "size": 1}})
    with pytest.raises(BundleError) as caught:
        edgeattn.load(bundle_copy)
    assert "leaves the bundle's folder" in str(caught.value)


def test_a_symbolic_link_is_refused_even_if_its_target_is_right(bundle_copy):
    outside = bundle_copy.parent / "model.onnx"
    os.replace(bundle_copy / "model.onnx", outside)
    (bundle_copy / "model.onnx").symlink_to(outside)
    assert_refused(bundle_copy, "model.onnx")


def test_a_newer_schema_asks_for_an_upgrade(bundle_copy):
    reseal(bundle_copy, schema=99)
    with pytest.raises(BundleError, match=r"manifest.json has schema 99.*upgrade"):
        edgeattn.load(bundle_copy)


def test_evidence_of_another_bundle_is_refused(bundle_copy):
    reseal(bundle_copy, name="another")
    assert_refused(bundle_copy, "index.json")


def test_evidence_can_be_added_and_the_bundle_still_verifies(bundle_copy):
    from edgeattn.runtime.bundle import add_evidence

    add_evidence(bundle_copy, "bench.json", b"{}\n")
    assert edgeattn.verify(bundle_copy).ok
    (bundle_copy / "evidence" / "bench.json").write_bytes(b"{ }")
    assert_refused(bundle_copy, "bench.json")
