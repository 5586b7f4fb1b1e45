"""Action chunks: the ensemble's weights, and a loop that has an action by its deadline or says that there is none."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgeattn.errors import InputError
from edgeattn.runtime.chunks import ChunkedControl, Ensemble, NoAction

LONG = 30.0  # seconds: never reached
SHORT = 0.05


def chunk(*actions):
    return np.array(actions, np.float32)[:, None]


def test_one_chunk_is_played_in_order():
    ensemble = Ensemble()
    ensemble.add(5, chunk(1, 2, 3))
    assert [ensemble.action(step).item() for step in (5, 6, 7)] == [1, 2, 3]


@pytest.mark.parametrize("decay", [0.0, 0.3, -0.3])
def test_chunks_that_overlap_are_weighted_from_the_oldest(decay):
    ensemble = Ensemble(decay)
    for start, actions in ((2, (9, 9, 8)), (0, (1, 2, 3, 4, 5)), (4, (7,))):
        ensemble.add(start, chunk(*actions))
    weights = np.exp(-decay * np.arange(3))
    assert ensemble.action(4).item() == pytest.approx((weights * (5, 8, 7)).sum() / weights.sum())


def test_many_robots_are_ensembled_at_once():
    ensemble, x = Ensemble(0.0), np.random.default_rng(0).standard_normal((2, 7, 4, 3))
    ensemble.add(0, x[0])
    ensemble.add(1, x[1])
    np.testing.assert_allclose(ensemble.action(2), (x[0, :, 2] + x[1, :, 1]) / 2)


def test_a_chunk_that_begins_later_says_nothing_yet_and_one_that_ended_nothing_more():
    ensemble = Ensemble()
    ensemble.add(3, chunk(1, 2))
    with pytest.raises(NoAction, match="step 2"):
        ensemble.action(2)
    assert ensemble.action(4).item() == 2
    with pytest.raises(NoAction, match="step 5"):
        ensemble.action(5)


def test_a_quick_policy_is_asked_at_every_step():
    with ChunkedControl(lambda x: chunk(*(x[0] + np.arange(3))), LONG, decay=0.0) as control:
        assert [control.act(step, np.array([10.0 * step])).item() for step in range(3)] == [0, 5.5, 11]
    assert control.late == 0


class Held:
    """A policy that answers when it is let go; the chunk tells what it saw."""

    def __init__(self):
        self.go, self.seen = threading.Event(), []

    def __call__(self, x):
        self.seen.append(float(x[0]))
        assert self.go.wait(LONG)
        return chunk(*(100 * x[0] + np.arange(4)))


def test_without_a_first_answer_there_is_no_action_and_a_late_one_is_used_for_what_is_left():
    held = Held()
    with ChunkedControl(held, SHORT) as control:
        with pytest.raises(NoAction, match="step 0"):
            control.act(0, np.array([1.0]))
        held.go.set()
        control.deadline = LONG
        assert control.act(1, np.array([1.0])).item() == pytest.approx(101, abs=1)
    assert control.late == 1


def test_while_an_answer_is_late_older_chunks_are_played_and_nothing_else_is_asked():
    held = Held()
    held.go.set()
    with ChunkedControl(held, LONG) as control:
        control.act(0, np.array([1.0]))
        held.go.clear()
        control.deadline = SHORT
        assert [control.act(step, np.array([2.0])).item() for step in (1, 2, 3)] == [101, 102, 103]
        assert (control.late, held.seen) == (3, [1, 2])
        with pytest.raises(NoAction, match="step 4"):
            control.act(4, np.array([2.0]))
        held.go.set()


def test_the_observation_may_be_changed_while_the_policy_reads_it():
    held, x = Held(), np.array([3.0])
    with ChunkedControl(held, SHORT) as control:
        with pytest.raises(NoAction):
            control.act(0, x)
        x[0] = 7
        held.go.set()
        control.deadline = LONG
        assert control.act(1, np.array([3.0])).item() < 310


def test_what_the_policy_raises_is_raised_in_the_loop():
    def broken(_):
        raise ValueError("no camera")

    with ChunkedControl(broken, LONG) as control, pytest.raises(ValueError, match="no camera"):
        control.act(0, np.zeros(1))


def test_a_deadline_is_longer_than_nothing():
    with pytest.raises(InputError, match="deadline"):
        ChunkedControl(lambda x: x, 0.0)
