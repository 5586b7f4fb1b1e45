"""Timing in turn: every call is made in every round, and never so often that a slow one takes forever."""

from __future__ import annotations

import time

import numpy as np

from edgeattn.runtime import bursts
from edgeattn.runtime.bursts import in_turn


def test_each_round_gives_each_call_one_figure():
    counts = [0, 0]

    def call(index):
        counts[index] += 1

    times = in_turn([lambda: call(0), lambda: call(1)], rounds=12)
    assert [len(values) for values in times] == [12, 12]
    assert min(counts) >= 12 * 50


def test_slow_calls_get_fewer_rounds_and_no_bursts():
    count = 0

    def slow():
        nonlocal count
        count += 1
        time.sleep(0.01)

    assert len(in_turn([slow], rounds=1000, seconds=0.1)[0]) <= 12
    assert count <= 16


def test_calls_of_several_threads_get_a_rest_before_each_burst_that_counts_as_time(monkeypatch):
    made = []
    monkeypatch.setattr(bursts.time, "sleep", lambda seconds: made.append(("rest", seconds)))
    columns = in_turn([lambda: made.append("a"), lambda: made.append("b")], rounds=1000, seconds=0.5, rest=0.02)
    assert made.count(("rest", 0.02)) == 2 * len(columns[0]) <= 26
    runs = [made[index + 1] for index, event in enumerate(made) if event == ("rest", 0.02)]
    assert sorted(runs) == ["a"] * len(columns[0]) + ["b"] * len(columns[0])


def test_calls_that_wake_the_cores_after_a_rest_are_not_counted(monkeypatch):
    cold = 0

    def rested(seconds):
        nonlocal cold
        cold = 4

    def call():
        nonlocal cold
        cold -= 1
        return 3.0 if cold >= 0 else 1.0

    monkeypatch.setattr(bursts.time, "sleep", rested)
    monkeypatch.setattr(bursts, "time_calls", lambda given, count: np.array([given() for _ in range(count)]))
    assert all(np.all(column == 1.0) for column in in_turn([call, call], rounds=12, rest=0.02))
