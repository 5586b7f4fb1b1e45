"""DSTAN-Med: attention along both axes, a filter that decides in its own inputs' units, and falsehoods of known shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

import edgeattn
from edgeattn.models import dstan_med
from edgeattn.models.data import vitals
from edgeattn.models.dstan_med import HIGH, LOW, STEP
from edgeattn.models.registry import find
from edgeattn.models.training import all_outputs

USUAL = np.array(dstan_med.MEAN, np.float32)[:, None]


def possible(x):
    """The filter in numpy, channel by channel."""
    last, before = x[:, :, -1], x[:, :, -2]
    return ((last >= np.float32(LOW)) & (last <= np.float32(HIGH)) & (np.abs(last - before) <= np.float32(STEP))).all(1)


def test_a_layer_is_its_equation():
    torch.manual_seed(0)
    layer, x = dstan_med.DualAttention(4, 6, width=5).eval(), torch.randn(3, 4, 6)

    def attention(axis, tokens):
        q, k, v = axis.query(tokens), axis.key(tokens), axis.value(tokens)
        return (q @ k.transpose(1, 2) / tokens.shape[2] ** 0.5).softmax(-1) @ v

    with torch.no_grad():
        layer.shares.copy_(torch.tensor([0.5, 2.0]))
        times = attention(layer.second, x.transpose(1, 2)).transpose(1, 2)
        z = layer.norm(0.5 * attention(layer.first, x) + 2 * times + x)
        torch.testing.assert_close(layer(x), z + layer.narrow(functional.gelu(layer.widen(z))))


def test_attention_over_channels_does_not_see_their_order_and_that_over_time_not_that_of_seconds():
    torch.manual_seed(0)
    layer, x = dstan_med.DualAttention(4, 6, width=5).eval(), torch.randn(2, 4, 6)
    channels, seconds = torch.randperm(4), torch.randperm(6)
    torch.testing.assert_close(layer.first(x)[:, channels], layer.first(x[:, channels]))
    x = x.transpose(1, 2)
    torch.testing.assert_close(layer.second(x)[:, seconds], layer.second(x[:, seconds]))


@pytest.mark.parametrize("channel", range(vitals.CHANNELS))
def test_each_bound_is_kept_to_the_last_bit(channel):
    x = np.repeat(USUAL[None], vitals.LENGTH, 2).repeat(6, 0)
    bounds = np.float32([LOW[channel], HIGH[channel]])
    x[0, channel, :], x[1, channel, :] = bounds
    x[2, channel, :], x[3, channel, :] = np.nextafter(bounds, np.float32([-1e9, 1e9]))
    x[4, channel, -2] = x[4, channel, -1] + 1.001 * STEP[channel]
    x[5, channel, :-2] += 100  # before the last two seconds nothing is looked at
    filtered = dstan_med.Plausibility()(torch.from_numpy(x)).tolist()
    assert filtered == [1, 1, 0, 0, 0, 1]


def test_as_published_an_alarm_in_range_is_cleared_and_the_raising_form_only_adds():
    held_out = dstan_med.evaluation()
    scores, published, raising = all_outputs(find("dstan_med").module(), held_out)
    alarm, plausible = scores.argmax(1) == 1, possible(held_out.inputs["x"])
    np.testing.assert_array_equal(published, alarm & ~plausible)
    np.testing.assert_array_equal(raising, alarm | ~plausible)
    assert (alarm & plausible & (held_out.truth == 1)).sum() > 500, "attacks that are found, in range, and never reported"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_bundle_keeps_the_guard_exact_whatever_the_precision(precision, tmp_path):
    reference = find("dstan_med")
    made = edgeattn.compile(reference.weights, model="dstan_med", precision=precision, output=tmp_path / "guard.edge")
    x = reference.evaluation().inputs["x"].copy()
    x[:500, 5, :] = np.nextafter(np.float32(41), np.float32(42))
    found = edgeattn.load(made.bundle).run(x=x)
    alarm, plausible = found["scores"].argmax(1) == 1, possible(x)
    assert not plausible[:500].any()
    np.testing.assert_array_equal(found["published"], alarm & ~plausible)
    np.testing.assert_array_equal(found["raising"], alarm | ~plausible)


def test_one_channel_is_falsified_by_its_attack_and_clean_windows_are_plausible():
    samples, kinds = vitals.monitor(2000, 5, (0.0, 0.6)), vitals.attacked(2000, 5)
    np.testing.assert_array_equal(samples.truth, kinds >= 0)
    assert possible(samples.inputs["x"])[kinds < 0].mean() > 0.95
    assert np.bincount(kinds[kinds >= 0]).min() > 200


@pytest.mark.parametrize(("kind", "most"), [("instant", 1), ("constant", 10), ("drift", 15), ("bias", 15)])
def test_falsehoods_have_their_shape(kind, most):
    random = np.random.default_rng(0)
    added = np.stack([vitals._falsehood(kind, random) for _ in range(200)])
    touched = (added != 0).sum(1)
    assert 0 < touched.max() <= most
    if kind == "drift":
        assert (np.diff(added, axis=1) >= 0).all()


def test_the_task_is_beyond_a_linear_classifier():
    from sklearn.linear_model import LogisticRegression

    train, held_out = vitals.monitor(8000, 100, (0.0, 0.6)), dstan_med.evaluation()
    flat = [((part.inputs["x"] - USUAL) / np.array(dstan_med.DEVIATION)[:, None]).reshape(len(part), -1) for part in (train, held_out)]
    assert 100 * LogisticRegression(max_iter=200).fit(flat[0], train.labels).score(flat[1], held_out.labels) < find("dstan_med").reached - 10
