"""AttnGen: its pooling, its mask, and the truth of its data."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import attngen
from edgeattn.models.data.genome import MOTIF, sequences


def test_pooling_is_its_equation():
    torch.manual_seed(0)
    pool = attngen.AttentionPool(6)
    h = torch.randn(3, 11, 6)
    for sample, result in zip(h, pool(h), strict=True):
        scores = torch.stack([pool.outer.weight[0] @ torch.tanh(pool.inner.weight @ h_i + pool.inner.bias) for h_i in sample])
        share = scores.exp() / scores.exp().sum()
        torch.testing.assert_close(result, sum(a * h_i for a, h_i in zip(share, sample, strict=True)))


def test_pooling_of_equal_positions_is_their_mean():
    torch.manual_seed(0)
    pool, h = attngen.AttentionPool(6), torch.randn(2, 1, 6).expand(-1, 9, -1)
    torch.testing.assert_close(pool(h), h[:, 0])


def test_the_mask_hides_exactly_the_positions_with_the_least_attention():
    x = torch.ones(1, 4, 10)
    attention = torch.tensor([[5.0, 1.0, 4.0, 0.0, 9.0, 8.0, 7.0, 6.0, 3.0, 2.0]])
    assert attngen.hide(x, attention, 0.3)[0, 0].tolist() == [1, 0, 1, 0, 1, 1, 1, 1, 1, 0]
    assert attngen.hide(x, attention, 0.2, least=False)[0, 0].tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    assert torch.equal(attngen.hide(x, attention, 0.0), x)


def test_the_mask_grows_to_its_last_share_in_training():
    network = attngen.AttnGen()
    masking, x = attngen.Masking(network, steps=10), torch.ones(1, 4, 200)
    kept = [float(masking(x)[0, 0].sum()) for _ in range(12)]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == kept[9] == 200 - int(attngen.HIDDEN * 200)


def test_both_classes_are_planted_with_the_same_letters():
    x, labels, planted = sequences(400, 200, seed=3, mutation=0.0)
    letters = x.argmax(1)
    assert planted.sum(1).tolist() == [2 * len(MOTIF)] * 400
    for index in range(400):
        words = letters[index][planted[index]].reshape(2, -1)
        assert all(sorted(word) == sorted(MOTIF) for word in words)
        assert np.array_equal(words, np.stack([MOTIF, MOTIF])) or not labels[index]


def test_the_task_is_beyond_a_linear_classifier():
    from sklearn.linear_model import RidgeClassifier

    train, held_out = attngen._part(6000, 12)[0].take(slice(0, 2000)), attngen.evaluation()
    flat = [part.inputs["x"].reshape(len(part), -1) for part in (train, held_out)]
    assert 100 * RidgeClassifier().fit(flat[0], train.labels).score(flat[1], held_out.labels) < 65
