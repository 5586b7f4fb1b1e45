"""A bundle is written whole or not at all, and what stood there before is not lost."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeattn.errors import BundleError, InputError
from edgeattn.runtime import bundle as bundles
from edgeattn.runtime.bundle import Bundle, write_bundle
from edgeattn.runtime.manifest import json_schema, seal, unseal

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "digest"), values))
def test_what_is_sealed_unseals_to_itself(plain):
    opened = unseal(seal(plain), "x")
    opened.pop("digest")
    assert opened == plain


@given(st.dictionaries(st.text(min_size=1), st.integers(), min_size=1), st.data())
def test_any_changed_byte_breaks_the_seal(plain, data):
    sealed = bytearray(seal(plain))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BundleError):
        unseal(bytes(sealed), "x")


def test_a_written_manifest_satisfies_the_published_schema(ecg_bundle):
    jsonschema.validate(json.loads((ecg_bundle / "manifest.json").read_bytes()), json_schema())


def test_the_published_schema_is_that_of_the_types():
    published = Path(bundles.__file__).parent / "manifest.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(json_schema())), "run: python -m edgeattn.runtime.manifest"


def parts(ecg_bundle):
    opened = Bundle.open(ecg_bundle)
    return opened.manifest, dict(opened.files)


@pytest.mark.parametrize("stop", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_stays_when_writing_stops(ecg_bundle, tmp_path, monkeypatch, stop):
    manifest, files = parts(ecg_bundle)
    target = tmp_path / "new.edge"
    original, calls = bundles._write, []

    def fail(path, data):
        calls.append(path)
        if len(calls) == 3:
            raise stop
        original(path, data)

    monkeypatch.setattr(bundles, "_write", fail)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        write_bundle(target, manifest, files, {})
    assert list(tmp_path.iterdir()) == []
    if isinstance(stop, OSError):
        assert "No space left" in str(caught.value)


def test_an_older_bundle_survives_a_failed_replacement(ecg_bundle, tmp_path, monkeypatch):
    manifest, files = parts(ecg_bundle)
    target = tmp_path / "old.edge"
    write_bundle(target, manifest, files, {})

    def fail(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundles, "_write", fail)
    with pytest.raises(InputError):
        write_bundle(target, manifest, files, {"x.json": b"{}"})
    assert [path.name for path in tmp_path.iterdir()] == ["old.edge"]
    assert Bundle.open(target).manifest == manifest


def test_a_folder_that_is_no_bundle_is_not_replaced(ecg_bundle, tmp_path):
    manifest, files = parts(ecg_bundle)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not an edgeattn bundle"):
        write_bundle(tmp_path / "mine", manifest, files, {})
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
