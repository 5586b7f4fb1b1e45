"""The spiking network and its letters: labels that events show, gradients that pass the spikes, weights that reach what they are said to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeattn.models.fingerspelling import LETTERS, draw, letters
from edgeattn.models.sign_language import REFERENCE, SignNetwork, shaken
from edgeattn.models.spiking import Leaky
from edgeattn.models.training import outputs

SHIPPED = 93.3  # points on 1,200 letters of seed 3, by training with seed 0


def test_letters_repeat_with_their_seed_and_differ_without():
    first, again, other = letters(20, 1), letters(20, 1), letters(20, 2)
    np.testing.assert_array_equal(first.inputs["events"], again.inputs["events"])
    assert not np.array_equal(first.inputs["events"], other.inputs["events"])
    assert first.inputs["events"].shape == (20, 35, 48, 48)
    assert set(np.unique(first.inputs["events"])) == {0, 1}


def test_every_letter_looks_different():
    images, _ = draw(np.arange(24), np.random.default_rng(0))
    distance = (images[:, None] - images[None]).abs().mean((2, 3)) + 9 * torch.eye(24)
    assert len(LETTERS) == 24
    assert distance.min() > 0.001


def test_straight_fingers_reach_higher_than_a_fist():
    images, _ = draw(np.array([list(LETTERS).index("B"), list(LETTERS).index("S")]), np.random.default_rng(0))
    highest = [int(np.flatnonzero(image.any(1))[0]) for image in images.numpy()]
    assert highest[0] < highest[1] - 5


def test_a_hand_that_moves_fires_more_than_noise():
    assert letters(20, 1).inputs["events"].mean() > 10 * 0.002


def test_the_network_is_its_equation_step_by_step():
    torch.manual_seed(0)
    network = SignNetwork()
    layers = (network.conv1, network.fc1, network.readout)
    with torch.no_grad():
        for synapses in layers:
            synapses.weight.mul_(4)
        events = torch.from_numpy(letters(4, 1).inputs["events"])
        membranes, counts = [torch.zeros(4, size) for size in (256, 512, 24)], torch.zeros(4, 24)
        for step in range(35):
            spikes = events[:, step, None].float()
            for index, synapses in enumerate(layers):
                fired = (membranes[index] > 1).float()
                membranes[index] = 0.92 * membranes[index] + synapses(spikes).flatten(1) - fired
                spikes = (membranes[index] > 1).float()
            counts += spikes
        assert counts.sum() > 0
        torch.testing.assert_close(network(events), counts)


def test_gradients_reach_the_first_layer_through_the_spikes():
    network = SignNetwork()
    network(torch.from_numpy(letters(4, 1).inputs["events"])).sum().backward()
    assert network.conv1.weight.grad.abs().sum() > 0


def test_a_neuron_at_its_threshold_does_not_fire():
    spikes, _ = Leaky()(torch.tensor([[1.0, 1.0001]]), torch.zeros(1, 2))
    assert spikes.tolist() == [[0.0, 1.0]]


def test_shaking_keeps_events_binary():
    assert set(shaken(torch.ones(2, 3, 8, 8)).unique().tolist()) <= {0.0, 1.0}


def test_the_shipped_weights_reach_their_accuracy():
    held_out = letters(1200, 3)
    accuracy = 100 * np.mean(outputs(REFERENCE.module(), held_out).argmax(1) == held_out.labels)
    assert accuracy == pytest.approx(SHIPPED, abs=0.3)
