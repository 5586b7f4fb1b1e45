"""Event cameras' files: the same events whatever the format, the hand found on a large sensor, and one sentence for what is broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import edgeattn
from edgeattn.errors import InputError
from edgeattn.export.recordings import read_recording, read_recordings
from edgeattn.models.fingerspelling import recordings
from edgeattn.models.saliency import cut_out, region
from edgeattn.models.sign_language import EVENTS, SIDE
from edgeattn.runtime.events import EVENT, frames

FILES = Path(__file__).parent / "recordings"


@pytest.fixture(scope="module")
def letter():
    return recordings(1, 7)[0][0]


def small(count=200, sensor=(34, 34), last=30_000):
    random = np.random.default_rng(0)
    events = np.zeros(count, EVENT)
    events["t"] = np.sort(random.integers(0, last, count))
    events["t"] -= events["t"][0]
    events["y"], events["x"] = random.integers(0, sensor[0], count), random.integers(0, sensor[1], count)
    events["p"] = random.integers(0, 2, count)
    return events


def write_n_mnist(path, events):
    """Five bytes an event; time stamps of 23 bits."""
    t, p = events["t"].astype(np.int64), events["p"].astype(np.int64)
    columns = [events["x"], events["y"], p << 7 | t >> 16, t >> 8 & 255, t & 255]
    path.write_bytes(np.column_stack(columns).astype(np.uint8).tobytes())


def test_an_aedat4_file_of_inivations_library_gives_the_events_it_was_written_from(letter):
    pytest.importorskip("aedat", reason="AEDAT4 needs aedat: pip install 'edgeattn[events]'")
    read = read_recording(FILES / "Y" / "letter.aedat4")
    assert read.sensor == (48, 48)
    expected = letter[:1000].copy()
    expected["t"] -= expected["t"][0]
    np.testing.assert_array_equal(read.events, expected)


def test_an_n_mnist_file_gives_its_events(tmp_path):
    events = small()
    write_n_mnist(tmp_path / "a.bin", events)
    read = read_recording(tmp_path / "a.bin")
    assert read.sensor == (34, 34)
    np.testing.assert_array_equal(read.events, events)


def test_an_n_mnist_overflow_moves_the_clock_on_and_is_no_event(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes([1, 2, 0, 0, 0, 0, 240, 0, 0, 0, 3, 4, 128, 0, 9]))
    read = read_recording(tmp_path / "a.bin").events
    assert read["t"].tolist() == [0, 2**13 + 9]
    assert read["p"].tolist() == [0, 1]


def test_an_asl_dvs_file_counts_its_rows_from_below(tmp_path):
    events = small(sensor=(180, 240))
    columns = {"ts": events["t"] + 5, "x": events["x"], "y": 179 - events["y"], "pol": events["p"]}
    savemat(tmp_path / "a.mat", {name: column[:, None] for name, column in columns.items()})
    read = read_recording(tmp_path / "a.mat")
    assert read.sensor == (180, 240)
    np.testing.assert_array_equal(read.events, events)


@pytest.mark.parametrize("packed", [False, True])
def test_an_npz_file_gives_its_events_in_the_order_of_time(tmp_path, packed):
    events = small()
    shuffled = np.random.default_rng(1).permutation(events)
    np.savez(tmp_path / "a.npz", **({"events": shuffled} if packed else {name: shuffled[name] for name in EVENT.names}))
    np.testing.assert_array_equal(read_recording(tmp_path / "a.npz").events["t"], events["t"])


def test_an_npz_file_may_say_its_sensor_and_must_hold_all_fields(tmp_path):
    events = small()
    np.savez(tmp_path / "a.npz", sensor=[180, 240], **{name: events[name] for name in EVENT.names})
    assert read_recording(tmp_path / "a.npz").sensor == (180, 240)
    np.savez(tmp_path / "b.npz", t=events["t"], x=events["x"], y=events["y"])
    with pytest.raises(InputError, match="b.npz.*it lacks p"):
        read_recording(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"1234", "multiple of 5"),
        ("a.bin", b"", "no events"),
        ("a.mat", b"not a file", "cannot be read as .mat"),
        ("a.npz", b"PK\x03\x04", "cannot be read as .npz"),
        ("a.txt", b"", "no recording that is known"),
    ],
)
def test_a_broken_recording_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.*{message}"):
        read_recording(tmp_path / name)


def test_a_truncated_aedat4_file_is_named(tmp_path):
    pytest.importorskip("aedat", reason="AEDAT4 needs aedat: pip install 'edgeattn[events]'")
    (tmp_path / "cut.aedat4").write_bytes((FILES / "Y" / "letter.aedat4").read_bytes()[:3000])
    with pytest.raises(InputError, match="cut.aedat4 cannot be read"):
        read_recording(tmp_path / "cut.aedat4")


def test_a_folder_gives_frames_of_the_networks_input_and_labels_by_class(tmp_path, letter):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    np.savez(tmp_path / "b" / "1.npz", events=letter)
    write_n_mnist(tmp_path / "a" / "1.bin", small())
    samples = read_recordings(tmp_path, EVENTS, 30)
    assert samples.labels.tolist() == [0, 1]
    assert samples.inputs["events"].shape == (2, 30, 48, 48)
    moved = letter.copy()
    moved["t"] -= moved["t"][0]
    np.testing.assert_array_equal(samples.inputs["events"][1], frames(moved, (48, 48), 30))
    assert not samples.inputs["events"][0, :, :7].any()  # 34 rows in the middle of 48
    assert samples.inputs["events"][0, :, 7:41].any()


def test_classes_that_are_numbers_are_their_own_labels(tmp_path, letter):
    for name in ("3", "11"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "1.npz", events=letter)
    assert sorted(read_recordings(tmp_path, EVENTS, 30).labels) == [3, 11]


def test_a_folder_without_recordings_says_where_they_are_looked_for(tmp_path):
    with pytest.raises(InputError, match="CLASS"):
        read_recordings(tmp_path, EVENTS, 35)


def test_the_salient_place_of_a_large_sensor_is_nearer_to_the_hand_than_the_middle_of_all_events():
    sensor = (180, 240)
    events, _, centres = recordings(12, 7, sensor)
    found = np.array([region(one, sensor, 35) for one in events])
    middle = np.array([(np.median(one["y"]), np.median(one["x"])) for one in events])
    distance, other = (np.hypot(*(points - centres).T) for points in (found, middle))
    assert np.median(distance) < 0.75 * np.median(other)
    assert (distance < SIDE / 3).all()  # a third of a hand


def test_a_region_is_moved_onto_the_sensor_and_scaled():
    events = small(sensor=(180, 240))
    events["x"][0], events["y"][0] = 239, 179
    corner = cut_out(events, (180, 240), (179, 239), 96, 48)
    assert corner["x"].max() == 47 and corner["y"].max() == 47
    inside = (events["x"] >= 144) & (events["y"] >= 84)
    assert len(corner) == inside.sum()


def test_recordings_compile_and_judge_like_frames(tmp_path):
    pytest.importorskip("nir", reason="spiking targets need nir: pip install 'edgeattn[spinnaker]'")
    events, labels, _ = recordings(24, 5)
    for index, (one, label) in enumerate(zip(events, labels, strict=True)):
        folder = tmp_path / "set" / f"{label:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{index}.npz", events=one)
    weights = edgeattn.models.registry.find("sign_language").weights
    compiled = edgeattn.compile(weights, "spinnaker", calib=tmp_path / "set", output=tmp_path / "a.edge")
    assert compiled.manifest.parity.metric.reference > 70  # of 12 letters, 93 % of which the network knows
    with pytest.raises(InputError, match="folder of recordings"):
        edgeattn.compile(edgeattn.models.registry.find("ecg_nat").weights, "cpu", calib=tmp_path / "set", output=tmp_path / "b.edge")
    shutil.rmtree(tmp_path / "set")
