"""A coreset in synapses: its kernel, who fires, and what it is worth against drawn readings."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import coresets_spiking as system
from edgeattn.models.coresets import survey
from edgeattn.models.training import tensors


def test_the_overlap_of_two_places_is_a_gaussian_of_their_distance():
    places = np.array([[0.4, 0.5], [0.43, 0.5], [0.4, 0.58], [0.7, 0.2]])
    response = system.tuning(places)
    response /= np.linalg.norm(response, axis=1, keepdims=True)
    apart = np.linalg.norm(places - places[0], axis=1)
    np.testing.assert_allclose(response @ response[0], np.exp(-(apart**2) / (4 * system.WIDTH**2)), atol=0.02)


@torch.no_grad()
def test_synapses_hold_the_readings_of_a_coreset():
    memory = system.REFERENCE.module()
    rows = system.kept(256, balanced=True)
    first, second = memory.keys.weight.numpy(), memory.values.weight.numpy()
    np.testing.assert_allclose(first / np.linalg.norm(first, axis=1, keepdims=True), system.keys()[rows], atol=1e-6)
    field = survey().truth[rows, :2]
    gain = second[0, 0] / field[0, 0]
    np.testing.assert_allclose(second, gain * np.stack([field[:, 0], field[:, 1], -field[:, 0], -field[:, 1]]), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_neurons_of_near_readings_fire_and_those_of_far_ones_do_not():
    memory, rows = system.REFERENCE.module(), system.kept(256, balanced=True)
    part, places = system.samples(200, 21), system.readings(200, 21).inputs["place"]
    fired = memory.trains(tensors(part.inputs)["events"])["memory"].sum(1).numpy()
    apart = np.linalg.norm(places[:, None] - survey().inputs["place"][rows], axis=-1)
    assert fired[apart < 0.04].mean() > 20 * fired[(apart > 0.12) & (apart < 0.2)].mean()
    assert fired[apart > 0.25].sum() == 0


def test_place_cells_fire_at_their_rate():
    events = system.samples(300, 22).inputs["events"]
    expected = system.RATE * system.tuning(system.readings(300, 22).inputs["place"]).sum(1)
    np.testing.assert_allclose(events.sum((2, 3)).mean(1), expected, atol=1.2)
    assert abs(events.sum((1, 2, 3)).mean() / system.STEPS - expected.mean()) < 0.02


def test_labels_are_the_way_the_field_points():
    truth, labels = system.readings(100, 23).truth, system.samples(100, 23).truth
    angle = np.rint(np.arctan2(truth[:, 1], truth[:, 0]) / (np.pi / 2)).astype(int) % 4
    assert (angle == labels).all()


def test_coresets_answer_better_than_drawn_readings_on_average():
    part = system.evaluation().take(slice(0, 500))
    scores = [np.mean([system.accuracy_of(system.kept(256, balanced, seed), part) for seed in range(4)]) for balanced in (True, False)]
    assert scores[0] > scores[1] + 1, scores
