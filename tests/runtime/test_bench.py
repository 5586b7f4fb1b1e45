"""`bench` reports what it measured and no more."""

from __future__ import annotations

import time

import numpy as np
import pytest

import edgeattn
from edgeattn.errors import InputError
from edgeattn.runtime.bench import RUNS_FOR, _compare, _percentile


def test_a_percentile_needs_enough_runs_behind_it(ecg_bundle):
    result = edgeattn.bench(ecg_bundle, runs=70)
    latency = result.latency_ms
    assert latency["p50"] <= latency["p90"]
    assert latency["p99"] is None
    assert latency["p999"] is None
    assert result.runs == 70
    assert result.cold_start_ms > latency["mean"]


def test_the_json_has_the_documented_keys(ecg_bundle):
    plain = edgeattn.bench(ecg_bundle, runs=5).to_json()
    documented = {"latency_ms", "throughput_per_s", "runs", "warmup_runs", "threads", "cold_start_ms", "rss_mb", "machine"}
    assert documented <= set(plain)
    assert set(plain["latency_ms"]) == {"p50", "p90", "p99", "p999", "mean"}
    assert plain["machine"]["cpu"]


def test_percentiles_are_of_measured_runs():
    times = np.arange(10_000.0)
    assert _percentile(times, "p999") in times
    assert _percentile(times[: RUNS_FOR["p999"] - 1], "p999") is None


def test_a_bundle_against_itself_shows_no_difference(ecg_bundle):
    comparison = edgeattn.bench(ecg_bundle, against=ecg_bundle, runs=200).comparison
    low, high = comparison.interval
    assert low <= comparison.ratio <= high


def test_a_real_difference_has_an_interval_below_one():
    random = np.random.default_rng(0)
    fast, slow = random.normal(1.0, 0.1, 500), random.normal(1.2, 0.1, 500)
    assert _compare("other", fast, slow).verdict == "faster"
    assert _compare("other", slow, fast).verdict == "slower"


def test_spaced_calls_start_at_their_period_and_are_held_against_calls_in_a_row(ecg_bundle):
    begun = time.perf_counter()
    result = edgeattn.bench(ecg_bundle, against=ecg_bundle, runs=20, every=15.0)
    assert time.perf_counter() - begun >= 39 * 0.015
    assert (result.runs, result.every_ms) == (20, 15.0)
    assert result.back_to_back_ms > 0
    assert result.throughput_per_s <= 1000 / 15.0
    assert result.comparison is not None


def test_calls_longer_than_their_period_are_counted(ecg_bundle):
    assert any("20 of 20 calls took longer" in note for note in edgeattn.bench(ecg_bundle, runs=20, every=0.001).notes)


@pytest.mark.parametrize("options", [{"runs": 0}, {"seconds": -1.0}, {"every": 0.0}, {"every": float("nan")}])
def test_nothing_to_measure_is_wrong_use(ecg_bundle, options):
    with pytest.raises(InputError):
        edgeattn.bench(ecg_bundle, **options)
