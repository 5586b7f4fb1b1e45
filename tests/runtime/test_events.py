"""Events into a spiking bundle: one by one or as frames, the same counts; every wrong event is named with its index."""

from __future__ import annotations

import numpy as np
import pytest

import edgeattn
from edgeattn.errors import InputError
from edgeattn.runtime.events import EVENT, frames


def some(*rows):
    return np.array(list(rows), EVENT)


def test_an_event_falls_into_its_millisecond_row_and_column():
    found = frames(some((0, 1, 2, 0), (999, 1, 2, 1), (1000, 3, 0, 1)), (4, 5))
    assert found.shape == (2, 4, 5)
    assert np.argwhere(found).tolist() == [[0, 2, 1], [1, 0, 3]]


def test_polarity_is_the_channel_of_an_input_with_two():
    found = frames(some((0, 1, 2, 0), (0, 1, 2, 1), (0, 0, 0, 1)), (2, 4, 5))
    assert np.argwhere(found).tolist() == [[0, 0, 2, 1], [0, 1, 0, 0], [0, 1, 2, 1]]


def test_a_window_leaves_out_what_comes_later_and_fills_up_with_silence():
    events = some((0, 0, 0, 1), (2500, 1, 0, 1))
    assert frames(events, (2, 2), steps=2).sum() == 1
    assert frames(events, (2, 2), steps=9).shape == (9, 2, 2)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (some((5, 0, 0, 0), (9, 0, 0, 0), (8, 0, 0, 0)), "event 2 is out of order: t falls from 9 to 8"),
        (some((-4, 0, 0, 0)), "event 0 lies before the window"),
        (some((0, 0, 0, 0), (1, 5, 0, 0)), "event 1 is off the sensor: x 5, y 0.*4 rows and 5 columns"),
        (some((1_700_000_000_000_000, 0, 0, 0)), "count t from the window's start"),
        (np.zeros(3, [("t", "<i8"), ("x", "<i8")]), "fields t, x, y, p"),
    ],
)
def test_a_wrong_event_is_named(events, message):
    with pytest.raises(InputError, match=message):
        frames(events, (4, 5))


def test_a_polarity_that_is_no_channel_is_refused():
    with pytest.raises(InputError, match="0 or 1"):
        frames(some((0, 0, 0, 7)), (2, 4, 5))


def test_an_input_that_is_no_image_takes_frames_only():
    with pytest.raises(InputError, match="height, width"):
        frames(some((0, 0, 0, 0)), (40,))


@pytest.fixture(scope="module")
def sign(tmp_path_factory):
    pytest.importorskip("nir", reason="spiking targets need nir: pip install 'edgeattn[spinnaker]'")
    from edgeattn.models.fingerspelling import letters
    from edgeattn.models.registry import find

    folder = tmp_path_factory.mktemp("sign")
    samples = letters(40, 5)
    np.savez(folder / "letters.npz", events=samples.inputs["events"], labels=samples.labels)
    edgeattn.compile(find("sign_language").weights, "spinnaker", calib=folder / "letters.npz", output=folder / "sign.edge")
    return edgeattn.load(folder / "sign.edge"), samples.inputs["events"]


def test_one_sample_gives_what_it_gives_in_a_batch(sign):
    session, events = sign
    batch = session.run(events=events[:3])["counts"]
    alone = session.run(events=events[1])["counts"]
    assert alone.shape == (24,)
    np.testing.assert_array_equal(alone, batch[1])


def test_events_one_by_one_give_what_their_frames_give(sign):
    from edgeattn.models.fingerspelling import recordings

    session, _ = sign
    (events,), _, _ = recordings(1, 9)
    np.testing.assert_array_equal(session.run(events)["counts"], session.run(frames(events, (48, 48)))["counts"])


def test_spike_trains_sum_up_to_the_counts(sign):
    session, events = sign
    trains = session.trains(events=events[:2])
    board = session.engine.board
    assert trains[board.readout].shape == (2, 35 + board.steps_after, 24)
    np.testing.assert_array_equal(trains[board.readout].sum(1), session.run(events=events[:2])["counts"])
    assert session.trains(events=events[0])[board.readout].ndim == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((35, 47, 48), np.uint8), "has shape"),
        (np.zeros((35, 48, 48)), "float64"),
        (np.full((35, 48, 48), 2, np.uint8), "holds 2"),
        (some((0, 48, 0, 0)), "off the sensor"),
    ],
)
def test_a_wrong_input_of_a_spiking_bundle_is_named(sign, given, message):
    with pytest.raises(InputError, match=message):
        sign[0].run(events=given)


def test_a_bundle_without_spikes_says_so(ecg_bundle):
    with pytest.raises(InputError, match="no spikes"):
        edgeattn.load(ecg_bundle).trains(x=np.zeros((1, 256, 1), np.float32))
