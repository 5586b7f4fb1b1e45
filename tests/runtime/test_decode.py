"""`Session.decode`: the loop of an autoregressive pair of bundles, against the same loop in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgeattn
from edgeattn.errors import InputError
from edgeattn.models.data.areas import OPTIONS, fields, length
from edgeattn.models.registry import find
from edgeattn.models.route_learning import decode


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Encoder and step for any number of nodes, in float32."""
    folder, sessions = tmp_path_factory.mktemp("routes"), []
    for name in ("routeformer", "routeformer_step"):
        open_axes = {spec.name: tuple(range(min(2, len(spec.shape)))) for spec in find(name).inputs}
        made = edgeattn.compile(find(name).weights, "cpu", model=name, precision="fp32", dynamic=open_axes, output=folder / name)
        sessions.append(edgeattn.load(made.bundle))
    return sessions


def cost_of(options):
    return lambda choices: length(np.repeat(options, len(choices), 0), choices)


@pytest.mark.parametrize("nodes", [6, 20, 35])
def test_greedy_choices_are_those_of_the_module(pair, nodes):
    options = fields(1, nodes, 8)
    with torch.no_grad():
        route, likelihood = decode(find("routeformer").module(), find("routeformer_step").module(), torch.from_numpy(options))
    found = pair[0].decode(pair[1], options=options)
    np.testing.assert_array_equal(found.choices, route[0])
    assert found.value == pytest.approx(-float(likelihood[0]), rel=1e-3)


@pytest.mark.parametrize("strategy", ["sample", "beam"])
def test_a_search_visits_every_node_once_and_is_never_worse_than_greedy(pair, strategy):
    options = fields(1, 15, 9)
    greedy, searched = (pair[0].decode(pair[1], how, cost=cost_of(options), options=options) for how in ("greedy", strategy))
    assert sorted(searched.choices // OPTIONS) == list(range(15))
    assert searched.value <= greedy.value
    assert searched.value == pytest.approx(length(options, searched.choices[None])[0])


def test_the_widest_beam_finds_the_likeliest_of_all_sequences(pair):
    options = fields(1, 4, 2, extent=0.03)
    everything = pair[0].decode(pair[1], "beam", width=4000, options=options)
    drawn = [pair[0].decode(pair[1], "sample", width=64, seed=seed, options=options).value for seed in range(4)]
    assert everything.value <= min(drawn) + 1e-6


def test_draws_repeat_with_their_seed(pair):
    options = fields(1, 12, 3)
    first, again = (pair[0].decode(pair[1], "sample", width=4, seed=5, options=options) for _ in range(2))
    np.testing.assert_array_equal(first.choices, again.choices)


def test_a_deadline_already_passed_still_gives_the_greedy_route(pair):
    options = fields(1, 12, 3)
    hurried = pair[0].decode(pair[1], "beam", deadline=1e-9, options=options)
    assert hurried.rounds == 1
    np.testing.assert_array_equal(hurried.choices, pair[0].decode(pair[1], options=options).choices)


def test_improvements_fall_and_end_at_the_value(pair):
    options = fields(1, 20, 4)
    found = pair[0].decode(pair[1], "sample", deadline=0.2, cost=cost_of(options), options=options)
    values = [value for _, value in found.improvements]
    assert values == sorted(values, reverse=True) and values[-1] == found.value


@pytest.mark.parametrize(
    ("change", "message"),
    [({"strategy": "best"}, "not one of greedy"), ({"width": 0}, "width of at least 1"), ({"deadline": 0.0}, "deadline above 0")],
)
def test_wrong_use_is_named(pair, change, message):
    with pytest.raises(InputError, match=message):
        pair[0].decode(pair[1], options=fields(1, 5, 0), **{"strategy": "sample", **change})


def test_two_problems_at_once_are_refused(pair):
    with pytest.raises(InputError, match="one problem at a time"):
        pair[0].decode(pair[1], options=fields(2, 5, 0))


def test_a_bundle_that_is_no_step_is_refused(pair, ecg_bundle):
    with pytest.raises(InputError, match="no decoding step"):
        pair[0].decode(edgeattn.load(ecg_bundle), options=fields(1, 5, 0))
    with pytest.raises(InputError, match="neither takes nor gives"):
        edgeattn.load(ecg_bundle).decode(pair[1], x=np.zeros((1, 256, 1), np.float32))
