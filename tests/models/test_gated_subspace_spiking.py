"""Rank-k synapses in spikes: what the relays carry, what is stored, and what is read."""

from __future__ import annotations

import pytest
import torch

from edgeattn.models import gated_subspace_spiking as system
from edgeattn.models.fingerspelling import letters
from edgeattn.models.registry import find


@pytest.fixture(scope="module")
def whole():
    return find("sign_language").module()


@pytest.fixture(scope="module")
def some():
    return letters(24, seed=77)


@torch.no_grad()
def test_both_halves_of_the_synapses_multiply_to_the_projection_of_the_whole(whole, some):
    ours = system.RankK(rank=12).take(whole, some)
    directions = ours.basis.weight[:12] / system.GAIN
    torch.testing.assert_close(directions @ directions.T, torch.eye(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.basis.weight[12:], -ours.basis.weight[:12])
    product = ours.image.weight @ ours.basis.weight / 2  # each direction is carried by two relays of opposite sign
    torch.testing.assert_close(product, whole.fc1.weight @ directions.T @ directions, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_of_two_relays_of_opposite_sign_the_one_with_the_stronger_input_fires_more(whole, some):
    ours = system.RankK(rank=12).take(whole, some)
    trains = ours.trains(torch.from_numpy(some.inputs["events"]))
    current = (trains["lif1"] @ ours.basis.weight[:12].T).sum(1)
    fired = trains["relay"].sum(1)
    clear = current.abs() > 5
    assert clear.sum() > 20
    assert (torch.sign(fired[:, :12] - fired[:, 12:]) == torch.sign(current))[clear].float().mean() > 0.95


def test_fewer_synapses_are_stored_and_read(whole, some):
    ours = system.REFERENCE.module()
    stored = ours.basis.weight.numel() + ours.image.weight.numel()
    assert stored == 2 * 24 * (256 + 512) and whole.fc1.weight.numel() > 3 * stored
    read = [system.synaptic_events(whole, some, {"lif1": whole.fc1}), system.synaptic_events(ours, some, {"lif1": ours.basis, "relay": ours.image})]
    assert 0 < read[1] < read[0]
