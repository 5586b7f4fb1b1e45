"""Interactive scans: the recurrence step by step, what is exchanged, and scenes whose depth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeattn.models import interactive_ssm
from edgeattn.models.data import boxes
from edgeattn.models.registry import find
from edgeattn.models.training import tensors


@pytest.mark.parametrize("crossed", [True, False])
def test_each_token_is_read_through_the_other_modality_of_its_pixel(crossed):
    torch.manual_seed(0)
    layer = interactive_ssm.InteractiveScan(6, state=3, crossed=crossed)
    x, way = torch.randn(2, 10, 6), layer.ways[0]
    delta, a, b, c = way(x)
    state, expected = torch.zeros(2, 6, 3), []
    for t in range(10):
        state = torch.exp(delta[:, t, :, None] * a) * state + (delta[:, t] * x[:, t])[..., None] * b[:, t, None]
        partner = t ^ 1 if crossed else t
        expected.append((state @ c[:, partner, :, None])[..., 0] + way.skip * x[:, t])
    torch.testing.assert_close(layer.scan(x, way), torch.stack(expected, 1))


def test_windows_do_not_see_each_other_in_the_scan():
    torch.manual_seed(0)
    layer = interactive_ssm.Windowed(interactive_ssm.InteractiveScan(4), window=2)
    x = torch.randn(1, 4, 4, 2, 4)
    moved = x.clone()
    moved[0, 3, 3] += 1
    changed = (layer(x) != layer(moved)).any(-1)[0].any(-1)
    assert changed[2:, 2:].all()
    assert changed.sum() == 4


def test_a_constant_added_to_the_depth_is_added_to_the_result():
    part = tensors(interactive_ssm.evaluation().take(slice(0, 4)).inputs)
    module = find("interactive_ssm").module()
    with torch.no_grad():
        torch.testing.assert_close(module(part["image"], part["depth"] + 2), module(**part) + 2, atol=1e-4, rtol=1e-4)


def test_a_scene_has_depth_edges_where_boxes_end_and_none_where_posters_do():
    image, depth = boxes.scenes(50, seed=3, boxes=0, posters=3)
    assert not boxes.edges(depth).any()
    assert np.abs(np.diff(image, axis=-1)).max() > 0.2
    second = np.diff(boxes.scenes(50, seed=3)[1], n=2, axis=-1)
    assert np.median(np.abs(second)) < 1e-5  # planes almost everywhere
    assert (np.abs(second).max((1, 2, 3)) > 0.2).mean() > 0.9  # and a jump in almost every scene


def test_coarse_depth_is_the_mean_of_its_pixels():
    depth = boxes.scenes(2, seed=1)[1]
    np.testing.assert_allclose(boxes.coarse(depth, 4, 0.0, 0)[1, 0, 2, 5], depth[1, 0, 8:12, 20:24].mean(), rtol=1e-5)


def test_neither_bilinear_depth_nor_a_linear_map_of_both_inputs_comes_near():
    from sklearn.linear_model import Ridge

    train, held_out = interactive_ssm.samples(600, 30), interactive_ssm.evaluation()
    smooth = functional.interpolate(torch.from_numpy(held_out.inputs["depth"]), scale_factor=4, mode="bilinear").numpy()
    flat = [np.concatenate([part.inputs[name].reshape(len(part), -1) for name in ("image", "depth")], 1) for part in (train, held_out)]
    linear = Ridge(10.0).fit(flat[0], train.truth.reshape(len(train), -1)).predict(flat[1]).reshape(held_out.truth.shape)
    best = min(interactive_ssm.RMSE.compute([each], held_out.truth) for each in (smooth, linear))
    assert best > 1.1 * find("interactive_ssm").reached
