"""The gate passes what computes the same and says why it refuses the rest."""

from __future__ import annotations

import numpy as np
import pytest

from edgeattn.models.metrics import ACCURACY, MEAN_SQUARED_ERROR
from edgeattn.models.reference import Reference, Samples
from edgeattn.quantize.gate import default_tolerance, judge


def reference(task="classification", metric=None):
    return Reference("r", None, (), ("y",), "a test", task, metric=metric)


def scores(count=1000, classes=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, classes))


def verdict(expected, outputs, labels=None, **kind):
    ref = reference(**kind)
    held_out = Samples({"x": expected}, labels)
    return judge(ref, held_out, [expected], [outputs], default_tolerance(ref, labels is not None))


def flipped(expected, count):
    outputs = expected.copy()
    outputs[:count] = -outputs[:count]
    return outputs


def test_equal_outputs_pass():
    assert verdict(scores(), scores()).passed


@pytest.mark.parametrize(("wrong", "passed"), [(4, True), (6, False)])
def test_without_labels_top1_must_agree_on_995_of_1000(wrong, passed):
    result = verdict(scores(), flipped(scores(), wrong))
    assert result.passed is passed
    if not passed:
        assert "agrees with the reference on 99.40%" in result.reason


@pytest.mark.parametrize(("lost", "passed"), [(4, True), (7, False)])
def test_with_labels_half_a_point_of_accuracy_may_be_lost(lost, passed):
    expected = scores()
    labels = expected.argmax(1)
    result = verdict(expected, flipped(expected, lost), labels, metric=ACCURACY)
    assert result.passed is passed
    assert result.parity.metric.reference == 100.0


def test_a_better_metric_is_no_loss():
    expected = scores()
    labels = (-expected).argmax(1)
    assert verdict(expected, -expected, labels, metric=ACCURACY).passed


@pytest.mark.parametrize(("worse", "passed"), [(1.004, True), (1.02, False)])
def test_a_falling_metric_may_rise_by_one_percent(worse, passed):
    labels = np.zeros((100, 3))
    expected = np.ones((100, 3))
    result = verdict(expected, expected * np.sqrt(worse), labels, task="regression", metric=MEAN_SQUARED_ERROR)
    assert result.passed is passed


@pytest.mark.parametrize(("factor", "passed"), [(1.005, True), (1.02, False)])
def test_regression_without_labels_may_differ_by_one_percent(factor, passed):
    assert verdict(scores(), scores() * factor, task="regression").passed is passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_no_numbers_never_pass(bad):
    outputs = scores()
    outputs[3, 1] = bad
    result = verdict(scores(), outputs, scores().argmax(1), metric=ACCURACY)
    assert not result.passed
    assert "NaN" in result.reason
