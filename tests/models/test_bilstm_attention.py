"""BiLSTM with attention: its bounded weights, its padding, and reviews that mean what their label says."""

from __future__ import annotations

import math

import numpy as np
import torch

from edgeattn.models import bilstm_attention
from edgeattn.models.data.reviews_with_negation import BLAME, NEGATORS, PRAISE, reviews


def test_two_words_weights_differ_by_a_factor_of_e_squared_at_most():
    torch.manual_seed(0)
    layer = bilstm_attention.BoundedAttention(8)
    share = layer.weights(100 * torch.randn(5, 30, 8), torch.ones(5, 30, dtype=torch.bool))
    torch.testing.assert_close(share.sum(-1), torch.ones(5))
    assert float((share.amax(-1) / share.amin(-1)).detach().max()) <= math.e**2 + 1e-3


def test_without_differences_attention_is_the_mean_of_the_words_that_are_there():
    layer = bilstm_attention.BoundedAttention(4)
    torch.nn.init.zeros_(layer.score.weight)
    h, real = torch.randn(2, 6, 4), torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    torch.testing.assert_close(layer(h, real), torch.stack([h[0, :4].mean(0), h[1].mean(0)]))


def test_padding_gets_no_attention_and_the_last_word_is_found_before_it():
    ids = torch.tensor([[5, 30, 26, 0, 0, 0]])
    network = bilstm_attention.BiLSTMAttention().eval()
    assert network.attention.weights(network.states(ids), ids != 0)[0, 3:].tolist() == [0, 0, 0]
    rival = bilstm_attention.BiLSTMAttention(pool="last").eval()
    h = rival.states(ids)
    torch.testing.assert_close(rival(ids), rival.classify(torch.cat([h[:, 2, :32], h[:, 0, 32:]], 1)))


def test_a_review_means_what_its_label_says():
    ids, labels, counting = reviews(300, 40, seed=4)
    for row, label, marked in zip(ids, labels, counting, strict=True):
        meant, turned = 0, False
        for word in row[marked]:
            if word in NEGATORS:
                turned = True
                continue
            assert word in PRAISE or word in BLAME
            meant, turned = meant + (1 if (word in PRAISE) != turned else -1), False
        assert (meant > 0) == bool(label) and meant != 0
        assert not np.isin(row[~marked], np.concatenate([PRAISE, BLAME, NEGATORS])).any()


def test_counting_words_does_not_solve_the_task():
    assert bilstm_attention.counted_words(bilstm_attention._part(4000, 22)[0], bilstm_attention.evaluation()) < 65
