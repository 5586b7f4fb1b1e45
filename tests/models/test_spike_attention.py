"""Spike-driven self-attention: gates and masks only, trained weights that reach their accuracy, and the same gate on the board as any network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgeattn
from edgeattn.models.fingerspelling import letters
from edgeattn.models.registry import find
from edgeattn.models.spike_attention import CHANNELS, TOKENS, SpikeAttention
from edgeattn.models.training import outputs

SHIPPED = 90.1  # points on 1,200 letters of seed 3, by training with seed 0


@pytest.fixture(scope="module")
def trains():
    with torch.no_grad():
        return find("spike_attention").module().trains(torch.from_numpy(letters(8, 5).inputs["events"]))


def test_agreement_is_the_product_of_query_and_key_spikes(trains):
    assert trains["agree"].sum() > 0
    torch.testing.assert_close(trains["agree"], trains["query"] * trains["key"])


def test_an_open_gate_lets_the_values_of_its_channel_through(trains):
    gate = trains["gate"].repeat_interleave(TOKENS, 2)
    assert trains["gate"].shape[2] == CHANNELS
    assert trains["gated"].sum() > 0
    torch.testing.assert_close(trains["gated"], trains["value"] * gate)


def test_training_leaves_the_sum_over_tokens_as_it_is_and_reaches_the_query():
    network = SpikeAttention()
    with torch.no_grad():
        for synapses in (network.embed, network.query, network.key, network.value, network.attended, network.readout):
            synapses.weight.mul_(4)
    network(torch.from_numpy(letters(4, 1).inputs["events"])).sum().backward()
    assert network.query.weight.grad.abs().sum() > 0
    assert network.sum.weight.grad is None
    assert network.spread.weight.grad is None


@pytest.mark.slow
def test_the_shipped_weights_reach_their_accuracy():
    held_out = letters(1200, 3)
    accuracy = 100 * np.mean(outputs(find("spike_attention").module(), held_out).argmax(1) == held_out.labels)
    assert accuracy == pytest.approx(SHIPPED, abs=0.3)


@pytest.mark.slow
def test_attention_holds_the_gate_on_the_board(tmp_path):
    samples = letters(600, 1003)
    np.savez(tmp_path / "letters.npz", events=samples.inputs["events"], labels=samples.truth)
    compiled = edgeattn.compile(find("spike_attention").weights, "spinnaker", calib=tmp_path / "letters.npz", output=tmp_path / "a.edge")
    parity = compiled.manifest.parity
    assert parity.agreement >= 0.99
    assert abs(parity.metric.artifact - parity.metric.reference) <= 1
