"""The user's data: read, checked, split; what is wrong is named by array and place."""

from __future__ import annotations

import numpy as np
import pytest

from edgeattn.errors import InputError
from edgeattn.export.data import generated_samples, mixed_samples, parse_dynamic, parse_inputs, read_samples, split
from edgeattn.models.reference import Samples


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def test_arrays_and_labels_are_read(tmp_path):
    samples = read_samples(saved(tmp_path, x=np.ones((10, 3), np.float32), labels=np.arange(10)))
    assert set(samples.inputs) == {"x"}
    assert len(samples) == 10
    assert samples.labels.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no input arrays"),
        ({"x": np.ones((4, 2)), "y": np.ones((5, 2))}, "x 4, y 5"),
        ({"x": np.array([[1.0, np.nan]])}, r"array x holds nan at \(0, 1\)"),
        ({"x": np.array(["a", "b"])}, "dtype"),
        ({"x": np.zeros((0, 3))}, "same number of samples"),
        ({"x": np.array([{"code": 1}], dtype=object)}, "plain arrays"),
    ],
)
def test_bad_data_are_named(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        read_samples(saved(tmp_path, **arrays))


def test_a_file_that_is_no_npz_is_named(tmp_path):
    (tmp_path / "data.npz").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="data.npz"):
        read_samples(tmp_path / "data.npz")
    with pytest.raises(InputError, match="cannot be read"):
        read_samples(tmp_path / "none.npz")


def test_the_split_shares_no_sample_and_repeats():
    samples = generated_samples({"x": np.zeros((2, 5), np.float32)}, 40)
    first, second = split(samples), split(samples)
    rows = {tuple(row) for row in first[0].inputs["x"]}
    assert len(first[0]) + len(first[1]) == 40
    assert not rows & {tuple(row) for row in first[1].inputs["x"]}
    np.testing.assert_array_equal(first[1].inputs["x"], second[1].inputs["x"])


def test_mixed_samples_stay_in_the_range_of_their_place():
    x = (np.array([37.0, 1013.0, 0.2]) + np.random.default_rng(0).uniform(0, 0.1, (20, 4, 3))).astype(np.float32)
    mixed = mixed_samples(Samples({"x": x, "index": np.arange(20)[:, None]}), 6)
    assert (mixed.inputs["x"][:, None] == x).any(1).all(), "each number is one that a sample has there"
    assert mixed.inputs["index"].shape == (6, 1) and mixed.inputs["index"].max() < 20
    known = {row.tobytes() for row in x}
    assert not any(row.tobytes() in known for row in mixed.inputs["x"])


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match="7 calibration samples are too few"):
        split(generated_samples({"x": np.zeros((1, 2), np.float32)}, 7))


def test_inputs_are_generated_from_their_description():
    arrays = parse_inputs(["x=2x3x4", "ids=2x8:int64:5..9", "mask=2x8:bool"])
    assert arrays["x"].shape == (2, 3, 4)
    assert arrays["x"].dtype == np.float32
    assert arrays["ids"].min() >= 5
    assert arrays["ids"].max() < 9
    assert arrays["mask"].dtype == bool


@pytest.mark.parametrize("text", ["x", "x=", "x=axb", "x=2x3:float99", "=2x3"])
def test_a_wrong_description_is_explained(text):
    with pytest.raises(InputError, match="--input"):
        parse_inputs([text])


def test_dynamic_axes_are_parsed():
    assert parse_dynamic(["x:0,1", "mask:0"]) == {"x": (0, 1), "mask": (0,)}
    assert parse_dynamic([]) is None
    with pytest.raises(InputError, match="--dynamic"):
        parse_dynamic(["x"])
