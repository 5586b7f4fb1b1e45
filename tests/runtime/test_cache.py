"""What a machine keeps between processes saves work and never changes an answer."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
import pytest

import edgeattn
from edgeattn.runtime import cache

X = np.linspace(-1, 1, 256, dtype=np.float32).reshape(1, 256, 1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


def entry(place):
    (only,) = place.iterdir()
    return only


def test_what_is_kept_comes_back_for_its_key_alone(place):
    cache.keep("thing", "key", b"content")
    assert cache.fetch("thing", "key") == b"content"
    assert cache.fetch("thing", "other") is None
    assert cache.fetch("other", "key") is None


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:40] + b"!" + data[41:], lambda data: b""])
def test_a_damaged_entry_counts_as_absent(place, damage):
    cache.keep("thing", "key", b"a content of some length")
    entry(place).write_bytes(damage(entry(place).read_bytes()))
    assert cache.fetch("thing", "key") is None


def test_an_entry_that_others_may_write_counts_as_absent(place):
    cache.keep("thing", "key", b"content")
    entry(place).chmod(0o666)
    assert cache.fetch("thing", "key") is None


def test_a_link_counts_as_absent(place, tmp_path):
    cache.keep("thing", "key", b"content")
    os.replace(entry(place), tmp_path / "elsewhere")
    cache._path("thing", "key").symlink_to(tmp_path / "elsewhere")
    assert cache.fetch("thing", "key") is None


@pytest.mark.parametrize("where", ["", "/proc/nowhere"])
def test_where_nothing_can_be_kept_nothing_is_said(monkeypatch, where, ecg_bundle):
    monkeypatch.setenv(cache.VARIABLE, where)
    cache.keep("thing", "key", b"content")
    assert cache.fetch("thing", "key") is None
    assert np.isfinite(edgeattn.load(ecg_bundle).run(x=X)["scores"]).all()


def test_the_oldest_entries_make_room(place, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 200)
    for index in range(4):
        cache.keep("thing", str(index), bytes(40))
        os.utime(cache._path("thing", str(index)), (index, index))
    assert [cache.fetch("thing", str(index)) is not None for index in range(4)] == [False, False, True, True]


def test_a_kept_graph_is_not_optimised_again_and_gives_the_same_bits(place, ecg_bundle, monkeypatch):
    levels = []
    real = onnxruntime.InferenceSession

    def watched(data, options, **rest):
        levels.append(options.graph_optimization_level)
        return real(data, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    first, second = (edgeattn.load(ecg_bundle).run(x=X)["scores"] for _ in range(2))
    assert levels == [onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL]
    np.testing.assert_array_equal(first, second)


def test_a_kept_graph_of_another_engine_version_is_left_alone(place, ecg_bundle, monkeypatch):
    edgeattn.load(ecg_bundle)
    before = entry(place).read_bytes()
    monkeypatch.setattr(onnxruntime, "__version__", "0.0.1")
    edgeattn.load(ecg_bundle)
    assert len(list(place.iterdir())) == 2
    assert before in {path.read_bytes() for path in place.iterdir()}


def test_an_entry_that_the_engine_does_not_take_is_made_anew(place, ecg_bundle, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cache, "fetch", lambda kind, key: b"no graph")
        assert np.isfinite(edgeattn.load(ecg_bundle).run(x=X)["scores"]).all()
    assert entry(place).stat().st_size > 1000


def test_the_bundle_stays_as_it_was_written(place, ecg_bundle):
    before = sorted((path, path.stat().st_mtime_ns) for path in ecg_bundle.rglob("*"))
    edgeattn.load(ecg_bundle)
    assert sorted((path, path.stat().st_mtime_ns) for path in ecg_bundle.rglob("*")) == before
