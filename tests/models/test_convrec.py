"""ConvRec: its stages written out, linear cost, and a shop whose customers have known interests."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeattn.models import convrec
from edgeattn.models.data.shops import CATEGORIES, ITEMS, LEVELS, chances, customers
from edgeattn.models.operations import operations
from edgeattn.models.registry import find


@pytest.mark.parametrize("heads", [1, 4])
def test_a_stage_is_its_equation_on_every_run_of_tokens(heads):
    torch.manual_seed(0)
    stage, x, r = convrec.Stage(8, 3, heads).eval(), torch.randn(2, 12, 8), torch.randn(2, 12, 8)
    torch.nn.init.normal_(stage.own)
    y, pooled = stage(x, r)
    weight, width = stage.conv.weight, 8 // heads
    for run in range(4):
        tokens, at = x[:, 3 * run : 3 * run + 3], slice(3 * run, 3 * run + 3)
        parts = [
            torch.einsum("bkc,ock->bo", tokens[..., head * width : (head + 1) * width], weight[head * width : (head + 1) * width])
            for head in range(heads)
        ]
        found = functional.gelu(stage.mix(torch.cat(parts, -1) + stage.conv.bias))
        expected = stage.norm(found + stage.own * tokens.mean(1) + stage.first * r[:, at].mean(1))
        torch.testing.assert_close(y[:, run], expected)
        torch.testing.assert_close(pooled[:, run], r[:, at].mean(1))


def test_without_convolutions_a_customer_is_the_mean_of_all_tokens():
    torch.manual_seed(0)
    network = convrec.ConvRec(dim=8).eval()
    for stage in network.stages:
        torch.nn.init.zeros_(stage.mix.weight)
        torch.nn.init.zeros_(stage.mix.bias)
        stage.own.data.zero_()
        stage.norm = torch.nn.Identity()
    items, gaps = torch.randint(ITEMS, (3, 70)), torch.randn(3, 70)
    torch.testing.assert_close(network.summary(items, gaps), 0.5 * network.shelf(items, gaps).mean(1))


def test_the_cost_is_linear_in_the_history_and_attention_s_is_not():
    def grows(build):
        cost = [operations(build(tokens), torch.zeros(1, tokens, dtype=torch.int64), torch.zeros(1, tokens)) for tokens in (70, 140, 280)]
        return (cost[2] - cost[1]) / (cost[1] - cost[0])

    assert grows(lambda tokens: convrec.ConvRec(stages=(2, 5, tokens // 10))) == 2
    assert grows(lambda tokens: convrec.SasRec(tokens=tokens)) > 2.3


def test_attributes_are_shared_while_learning_and_folded_after_it_without_a_change():
    torch.manual_seed(0)
    network, items, gaps = convrec.ConvRec(dim=8).eval(), torch.randint(ITEMS, (3, 70)), torch.randn(3, 70)
    plain = network(items, gaps)
    network.shelf.describe(convrec.attributes())
    learning = network(items, gaps)
    assert not torch.allclose(plain, learning)
    network.shelf.fold()
    torch.testing.assert_close(network(items, gaps), learning)
    assert network.state_dict().keys() == convrec.ConvRec(dim=8).state_dict().keys()


def test_hits_count_the_items_that_score_higher():
    scores = np.array([[3.0, 2, 1, 0], [0, 1, 2, 3]])
    assert convrec.hits(scores, np.array([1, 1]), first=2).tolist() == [True, False]
    assert not convrec.hits(np.zeros((1, 384)), np.array([5])).any(), "equal scores for everything find nothing"


def test_customers_keep_their_category_in_a_session_and_return_to_their_favourites_after_it():
    known = customers(4000, seed=7)
    last, following = known.items[:, -2] // LEVELS, known.items[:, -1] // LEVELS
    assert (last == following)[~known.new].mean() == pytest.approx(0.85 + 0.15 / CATEGORIES, abs=0.02)
    assert (following == known.favourites[:, 0])[known.new].mean() == pytest.approx(0.5 + 0.2 / CATEGORIES, abs=0.04)
    assert known.new.mean() == pytest.approx(0.25, abs=0.03)
    assert (known.gaps[known.new, -1].min() > known.gaps[~known.new, -1].max()) or known.gaps[known.new, -1].mean() > 5 + known.gaps[
        ~known.new, -1
    ].mean()


def test_the_chances_of_one_who_knows_the_habits_are_calibrated():
    known = customers(4000, seed=8)
    given = chances(known)
    np.testing.assert_allclose(given.sum(1), 1)
    at = given[np.arange(4000), known.items[:, -1]]
    assert at.mean() == pytest.approx((given**2).sum(1).mean(), rel=0.05)


def test_linear_scores_of_the_last_item_the_history_and_the_gap_are_clearly_worse():
    data, held_out = convrec.purchases(6000, 5), convrec.evaluation()

    def features(samples):
        one, items = np.eye(ITEMS, dtype=np.float32), samples.inputs["items"]
        counts = sum(one[items[:, step]] for step in range(items.shape[1]))
        return np.concatenate([one[items[:, -1]], counts / 7, samples.inputs["gaps"][:, -1:], np.ones((len(samples), 1), np.float32)], 1)

    x, y = features(data), np.eye(ITEMS, dtype=np.float32)[data.truth]
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1], dtype=np.float32), x.T @ y)
    linear = convrec.HIT_RATE.compute([features(held_out) @ weights], held_out.truth)
    assert linear < find("convrec").reached - 10, f"linear scores reach {linear:.1f}"
