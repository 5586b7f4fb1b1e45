"""WD-FQDet: the Haar transform's algebra, the data's two lights, and a fusion that outlives one of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeattn.models import wd_fqdet
from edgeattn.models.data.two_light import SIDE, scenes
from edgeattn.models.registry import find
from edgeattn.models.training import all_outputs


def test_the_haar_transform_keeps_energy_and_is_undone_by_its_transpose():
    haar, x = wd_fqdet.Haar(2), torch.randn(3, 2, SIDE, SIDE)
    bands = haar(x)
    torch.testing.assert_close(bands.square().sum(), x.square().sum())
    back = torch.nn.functional.conv_transpose2d(bands.flatten(1, 2), haar.convolution.weight, stride=2, groups=2)
    torch.testing.assert_close(back, x)


def test_a_flat_scene_has_a_low_band_alone():
    bands = wd_fqdet.Haar(2)(torch.full((1, 2, SIDE, SIDE), 3.0))
    torch.testing.assert_close(bands[:, :, 0], torch.full((1, 2, SIDE // 2, SIDE // 2), 6.0))
    assert not bands[:, :, 1:].any()


def test_haar_weights_are_exact_in_eight_bits():
    weight = find("wd_fqdet").module().fusion.haar.convolution.weight
    assert set(weight.unique().tolist()) == {-0.5, 0.5}


def test_tokens_are_patches():
    x = torch.arange(2 * SIDE * SIDE).reshape(1, 2, SIDE, SIDE).float()
    found = wd_fqdet.tokens(x)
    torch.testing.assert_close(found[0, wd_fqdet.GRID + 2], x[0, :, 4:8, 8:12].reshape(-1))


def test_queries_come_from_the_tokens_with_the_largest_score():
    torch.manual_seed(0)
    module = wd_fqdet.Detector().eval()
    with torch.no_grad():
        module.offset.weight.zero_(), module.offset.bias.zero_()
        module.score_low.weight.zero_(), module.score_high.weight.zero_()
        place = module(torch.rand(4, 2, SIDE, SIDE))[1]
    assert ((place > 0) & (place < SIDE)).all()


def test_the_label_is_where_the_digit_is():
    samples = scenes("train", 50, 3, kind=0)
    image = np.clip(samples.inputs["x"][:, 0] - 0.4, 0, None)
    at = np.arange(SIDE)
    middle = np.stack([np.einsum("nyx,y->n", image, at), np.einsum("nyx,x->n", image, at)], 1) / image.sum((1, 2))[:, None]
    assert np.abs(middle - samples.truth[:, 1:3]).mean() < 1.5


def test_at_night_the_visible_channel_says_little_and_by_day_the_infrared_is_cluttered():
    good, day, night = (scenes("train", 200, 5, kind).inputs["x"] for kind in range(3))
    assert night[:, 1].std() > 1.5 * good[:, 1].std()
    assert day[:, 0].std() > 1.3 * good[:, 0].std()


@pytest.mark.parametrize("g", [0, 1])
def test_the_gate_says_which_band_chooses_the_queries(g):
    torch.manual_seed(0)
    module, x = wd_fqdet.Detector(queries=1).eval(), torch.rand(8, 2, SIDE, SIDE)
    with torch.no_grad():
        module.offset.weight.zero_(), module.offset.bias.zero_()
        module.fusion.gate[2].weight.zero_(), module.fusion.gate[2].bias.fill_(200.0 * g - 100)
        low, high, gate = module.fusion(x)
        scores = (module.score_high(high), module.score_low(low))[g][..., 0]
        torch.testing.assert_close(module(x)[1], module.middle[0, scores.argmax(1)])
    assert (gate == g).all()


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_the_task_is_beyond_a_linear_classifier(kind):
    from sklearn.linear_model import RidgeClassifier

    train, held_out = scenes("train", 2000, 6), scenes("evaluation", 500, 30 + kind, kind)
    linear = RidgeClassifier().fit(train.inputs["x"].reshape(len(train), -1), train.truth[:, 0])
    points = 100 * linear.score(held_out.inputs["x"].reshape(len(held_out), -1), held_out.truth[:, 0])
    assert points < wd_fqdet.DETECTED.compute(all_outputs(find("wd_fqdet").module(), held_out), held_out.truth) - 5
