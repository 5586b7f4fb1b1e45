"""Failures in imitation: what a bias of keys does to attention, an arena whose geometry is known, and a closed loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeattn.models import failure_demo
from edgeattn.models.data import reaching
from edgeattn.models.failure_demo import FAILURE, SUCCESS
from edgeattn.models.layers import merge_heads, split_heads
from edgeattn.models.registry import find
from edgeattn.models.training import outputs


@pytest.fixture
def parts():
    torch.manual_seed(0)
    layer = failure_demo.BiasedAttention(8, 2, biased=True).eval()
    return layer, torch.randn(3, 5, 8), torch.randn(3, failure_demo.TOKENS, 8), torch.tensor(np.stack([SUCCESS, FAILURE, SUCCESS]))


def test_attention_is_its_equation(parts):
    layer, x, tokens, mode = parts
    key = layer.key(tokens) + (mode @ layer.key_bias.weight.T).reshape(3, 3, 8)
    value = layer.value(tokens) + (mode @ layer.value_bias.weight.T).reshape(3, 3, 8)
    q, k, v = (split_heads(y, 2) for y in (layer.query(x), key, value))
    weights = (q @ k.transpose(-1, -2) / 2.0).softmax(-1)
    torch.testing.assert_close(layer.weights(x, tokens, mode), weights)
    torch.testing.assert_close(layer(x, tokens, mode), layer.project(merge_heads(weights @ v)))


def test_a_bias_common_to_all_keys_would_say_nothing(parts):
    layer, x, tokens, mode = parts
    with torch.no_grad():
        layer.key_bias.weight.copy_(torch.randn(8, 2).repeat(failure_demo.TOKENS, 1))
    torch.testing.assert_close(layer.weights(x, tokens, mode), layer.weights(x, tokens, mode.flip(1)))


def test_discrepancy_is_nothing_without_a_bias_and_at_most_log_two():
    torch.manual_seed(0)
    module = failure_demo.ChunkPolicy().eval()
    x = torch.from_numpy(reaching.starts(6, 0))
    with torch.no_grad():
        assert ((module.discrepancy(x) > 0) & (module.discrepancy(x) < np.log(2))).all()
        module.attentions[0].key_bias.weight.mul_(1e3)
        assert module.discrepancy(x).max() > 0.3
        module.attentions[0].key_bias.weight.zero_()
        torch.testing.assert_close(module.discrepancy(x), torch.zeros(6), atol=1e-6, rtol=0)


def test_the_expert_reaches_every_goal_while_near_misses_and_nonsense_do_not():
    assert reaching.demonstrations(200, 0, 7)[2].all()
    assert reaching.demonstrations(200, 1, 7)[2].mean() < 0.1
    assert reaching.demonstrations(200, 2, 7)[2].mean() < 0.1


def test_near_misses_end_at_the_goal_but_have_touched_the_obstacle():
    seen, _, _ = reaching.demonstrations(100, 1, 8)
    place, goal, middle, radius = seen[..., :2], seen[..., 2:4], seen[..., 4:6], seen[..., 6]
    assert (np.linalg.norm(place - goal, axis=-1)[:, -1] < reaching.NEAR).all()
    clear = np.linalg.norm(place - middle, axis=-1) - radius
    assert (clear.min(1) < 0).mean() > 0.9
    assert clear.min() > -0.1


def test_the_expert_goes_straight_where_the_way_is_free_and_along_the_tangent_where_not():
    free = np.array([[0.1, 0.5, 0.9, 0.5, 0.5, 0.9, 0.1]], np.float32)
    np.testing.assert_allclose(reaching.steer(free, 0.0), [[1, 0]], atol=1e-6)
    blocked = np.array([[0.1, 0.5, 0.9, 0.5, 0.5, 0.45, 0.1]], np.float32)
    step = reaching.steer(blocked, 0.0)[0]
    to_middle = blocked[0, 4:6] - blocked[0, :2]
    assert abs(step[0] * to_middle[1] - step[1] * to_middle[0]) == pytest.approx(0.1, abs=1e-6)  # passes at the radius
    assert step[1] > 0  # on the side of the goal


def test_chunks_are_the_actions_that_followed():
    seen, done, _ = reaching.demonstrations(5, 0, 9)
    samples = failure_demo.chunks(5, 0, 9, SUCCESS)
    for index in (0, 17, -1):
        robot, time = next(
            (r, t) for r in range(5) for t in range(reaching.STEPS) if np.array_equal(seen[r, t], samples.inputs["observation"][index])
        )
        np.testing.assert_array_equal(samples.truth[index], done[robot, time : time + failure_demo.CHUNK].astype(np.float32))


def test_the_expert_in_chunks_succeeds_in_the_loop_and_straight_ahead_does_not():
    def expert(now, _, margin=reaching.MARGINS[0]):
        return np.repeat(reaching.steer(now, margin)[:, None], failure_demo.CHUNK, 1)

    def straight(now, _):
        return expert(now, _, margin=-1.0)

    assert failure_demo.drive(expert, 100) > 90
    assert failure_demo.drive(straight, 100) < 30


def test_failures_that_are_not_told_do_harm_and_told_ones_lower_the_error():
    told, alone, untold = find("failure_demo").module(), failure_demo.rival("successes"), failure_demo.rival("untold")
    assert failure_demo.drive(failure_demo.policy(told)) > failure_demo.drive(failure_demo.policy(untold)) + 20
    held_out = failure_demo.evaluation()
    errors = [failure_demo.ERROR.compute([outputs(module, held_out)], held_out.truth) for module in (told, alone)]
    assert errors[0] < errors[1]


def test_a_linear_policy_is_far_below():
    from sklearn.linear_model import Ridge

    train, held_out = failure_demo.chunks(200, 0, 100, SUCCESS), failure_demo.evaluation()
    linear = Ridge(1e-3).fit(train.inputs["observation"], train.truth.reshape(len(train), -1))
    predicted = linear.predict(held_out.inputs["observation"]).reshape(held_out.truth.shape)
    assert failure_demo.ERROR.compute([predicted], held_out.truth) > 1.5 * find("failure_demo").reached
    assert failure_demo.drive(lambda now, _: linear.predict(now).reshape(-1, failure_demo.CHUNK, 2), 100) < 30
