"""Baikal-GVD's pipeline: sets without order, masks, the reversed gradient, and light that obeys causality."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeattn.models import baikal
from edgeattn.models.data import strings
from edgeattn.models.registry import find
from edgeattn.models.training import all_outputs, tensors


@pytest.fixture(scope="module")
def few():
    return strings.events(8, 3, measured=False)


def test_the_order_of_the_hits_does_not_matter(few):
    module, inputs = find("baikal").module(), tensors(few.inputs)
    order = torch.randperm(strings.HITS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        light, event = module(**inputs)
        moved = module(inputs["hits"][:, order], inputs["present"][:, order])
    torch.testing.assert_close(moved[0], light[:, order], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(moved[1], event, atol=1e-3, rtol=1e-3)


def test_what_stands_in_the_place_of_an_absent_hit_does_not_matter(few):
    module, inputs = find("baikal").module(), tensors(few.inputs)
    filled = torch.where(inputs["present"][..., None], inputs["hits"], 7.0)
    with torch.no_grad():
        expected, found = module(**inputs), module(filled, inputs["present"])
    there = inputs["present"]
    torch.testing.assert_close(found[0][there], expected[0][there], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found[1], expected[1], atol=1e-2, rtol=1e-2)


def test_the_reversal_is_the_identity_with_the_opposite_gradient():
    x = torch.randn(4, requires_grad=True)
    y = baikal.Reversal.apply(x)
    torch.testing.assert_close(y, x)
    (y * torch.arange(4.0)).sum().backward()
    torch.testing.assert_close(x.grad, -torch.arange(4.0))


def test_hidden_labels_do_not_enter_the_loss(few):
    labels = torch.from_numpy(few.truth)
    hidden = labels.clone()
    hidden[4:] = -1
    outputs = (torch.randn(8, strings.HITS), torch.randn(8, 2))
    torch.testing.assert_close(baikal.loss(outputs, hidden), baikal.loss((outputs[0][:4], outputs[1][:4]), labels[:4]))


def test_the_light_of_a_track_travels_no_faster_than_light():
    samples = strings.events(60, 5, measured=False)
    place = samples.inputs["hits"][..., :3] * strings.SCALE[:3]
    time = samples.inputs["hits"][..., 3] * strings.SCALE[3]
    lit = samples.truth[:, : strings.HITS] == 1
    for index in np.flatnonzero(samples.truth[:, strings.HITS] == 0):
        where, when = place[index][lit[index]], time[index][lit[index]]
        apart = np.linalg.norm(where[:, None] - where[None], axis=-1)
        assert (np.abs(when[:, None] - when[None]) <= apart * strings.INDEX / strings.SPEED + 15).all()


def test_most_hits_are_noise_and_more_so_in_the_measured_domain():
    shares = []
    for measured in (False, True):
        hits = strings.events(300, 6, measured).truth[:, : strings.HITS]
        shares.append((hits == 0).sum() / (hits >= 0).sum())
    assert 0.78 < shares[0] < shares[1] < 0.9


def test_f1_is_its_formula():
    labels = np.array([[1.0, 1, 0, 0, -1] + [-1] * (strings.HITS - 5) + [0, 1, 0]])
    kept = np.zeros((1, strings.HITS), bool)
    kept[0, [0, 2, 4]] = True
    assert baikal.f1(kept, labels) == pytest.approx(100 * 2 * 1 / (2 + 2))


def test_the_network_finds_light_that_the_causality_cut_misses():
    held_out = baikal.evaluation().take(slice(0, 400))
    cut = max(baikal.f1(strings.causal(held_out) >= least, held_out.truth) for least in range(2, 12))
    assert baikal.f1(all_outputs(find("baikal").module(), held_out)[0] > 0, held_out.truth) > cut + 5


def test_a_rejection_keeps_what_it_is_asked_to_keep():
    scores, wanted = np.arange(1000.0), np.arange(1000) >= 500
    assert baikal.rejected(scores, wanted, ~wanted, kept=0.99) == 100
    assert baikal.rejected(-scores, wanted, ~wanted, kept=0.99) == 0
    assert baikal.rejected(scores, wanted, wanted, kept=0.9) == pytest.approx(10, abs=0.5)
