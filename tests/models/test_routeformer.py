"""RouteFormer: the data's geometry, the mathematics of encoder and decoder, and routes that beat the nearest neighbour."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from edgeattn.models import routeformer as rf
from edgeattn.models.data.areas import OPTIONS, choose_options, fields, length, search
from edgeattn.models.registry import find
from edgeattn.models.route_learning import decode, gap


@pytest.fixture(scope="module")
def networks():
    return find("routeformer").module(), find("routeformer_step").module()


@pytest.mark.parametrize("extent", [0.0, 0.06])
def test_local_search_finds_the_shortest_route_among_all_orders(extent):
    options = fields(2, 7, 3, extent)
    orders = [np.array([[0, *order]]) for order in itertools.permutations(range(1, 7))]
    exact = [min(length(one, choose_options(one, order))[0] for order in orders) for one in (options[:1], options[1:])]
    np.testing.assert_allclose(length(options, search(options, starts=8)), exact, rtol=1e-9)


def test_dynamic_programming_takes_the_best_of_all_options():
    options, order = fields(1, 4, 5), np.array([[0, 2, 1, 3]])
    every = [length(options, order * OPTIONS + np.array([[0, *some]]))[0] for some in itertools.product(range(OPTIONS), repeat=3)]
    assert length(options, choose_options(options, order))[0] == pytest.approx(min(every))


def test_a_sweep_covers_its_area_and_ends_at_a_corner():
    options = fields(50, 5, 0)[:, 1:]
    entry, leave, work = options[..., :2], options[..., 2:4], options[..., 4]
    centre = entry.mean(2, keepdims=True)
    np.testing.assert_allclose(np.abs(leave - centre), np.abs(entry - centre), atol=1e-6)
    assert (work >= np.linalg.norm(leave - entry, axis=-1) - 0.02 - 1e-6).all()


def test_the_cache_follows_the_order_of_the_nodes(networks):
    options = torch.from_numpy(fields(2, 12, 1))
    order = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(11, generator=torch.Generator().manual_seed(0))])
    with torch.no_grad():
        for plain, moved in zip(networks[0](options), networks[0](options[:, order]), strict=True):
            torch.testing.assert_close(plain[:, order], moved, atol=1e-4, rtol=1e-4)


def test_probabilities_sum_to_one_over_what_is_left(networks):
    encoder, step = networks
    options = torch.from_numpy(fields(3, 10, 2))
    visited = torch.zeros(3, 10, dtype=torch.bool)
    visited[:, [0, 4, 7]] = True
    with torch.no_grad():
        share = step(options, *encoder(options), torch.full((3,), 7 * OPTIONS), visited).exp().reshape(3, 10, OPTIONS)
    torch.testing.assert_close(share.sum((1, 2)), torch.ones(3))
    assert not share[:, [0, 4, 7]].any()


def test_without_distances_attention_is_plain_softmax_attention():
    torch.manual_seed(0)
    near, plain = rf.DistanceAttention(16, 2, near=True), rf.DistanceAttention(16, 2, near=False)
    plain.load_state_dict({name: value for name, value in near.state_dict().items() if name != "weight"})
    torch.nn.init.zeros_(near.weight)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(near(x, torch.rand(2, 5, 5)), plain(x, torch.rand(2, 5, 5)))


def test_drawn_routes_visit_every_node_once_with_the_likelihood_they_say(networks):
    encoder, step = networks
    options = torch.from_numpy(fields(2, 8, 4))
    torch.manual_seed(0)
    with torch.no_grad():
        route, likelihood = decode(encoder, step, options, samples=3)
    assert (np.sort(route.numpy() // OPTIONS, 1) == np.arange(8)).all()
    assert (likelihood < 0).all()


def test_greedy_routes_beat_the_nearest_neighbour_by_far(networks):
    held_out = rf.evaluation()
    options = held_out.inputs["options"]
    near = 100 * np.mean(length(options, rf.nearest(options)) / held_out.truth[:, 0, 5] - 1)
    assert near > find("routeformer").reached + 5


def test_the_gap_of_a_longer_route_is_its_excess():
    held_out = rf.calibration().take(slice(0, 16))
    cache = rf.cached(find("routeformer").module(), held_out.inputs["options"])
    labels = held_out.truth.copy()
    before = gap(cache, labels)
    labels[..., 5] *= 2
    assert gap(cache, labels) == pytest.approx((100 + before) / 2 - 100, abs=1e-3)
