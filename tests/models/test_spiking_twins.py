"""Spiking twins of dense systems: their mathematics in spikes, one meaning in NIR, and their gate on the emulated board."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgeattn
from edgeattn.export.network import network_of, spike_counts
from edgeattn.export.nir import to_nir
from edgeattn.models import attngen_spiking, baikal_spiking, dstan_med_spiking, hardmax_spiking
from edgeattn.models.registry import find, systems
from edgeattn.models.training import outputs, tensors

TWINS = [name for name, reference in systems().items() if reference.twin_of]


def trains_of(name: str, count: int = 8) -> dict[str, torch.Tensor]:
    """Every population's spikes on calibration samples, (count, steps, neurons)."""
    reference = find(name)
    with torch.no_grad():
        return reference.module().trains(tensors(reference.calibration().take(slice(0, count)).inputs)["events"])


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_names_the_dense_system_whose_data_it_reads(name):
    reference = find(name)
    assert reference.targets == ("spinnaker",)
    assert "spinnaker" not in find(reference.twin_of).targets


@pytest.mark.parametrize("name", TWINS)
def test_the_nir_graph_counts_the_same_spikes(name):
    reference = find(name)
    samples = reference.calibration().take(slice(0, 8))
    module, events = reference.module(), samples.inputs["events"]
    counts = spike_counts(network_of(to_nir(module)), events.reshape(*events.shape[:2], -1))
    np.testing.assert_allclose(counts, outputs(module, samples), atol=1)
    assert counts.sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_a_twin_passes_its_gate_on_the_emulated_board(name, tmp_path):
    parity = edgeattn.compile(find(name).weights, "spinnaker", model=name, output=tmp_path / "a.edge").manifest.parity
    assert parity.agreement >= 0.99
    assert abs(parity.metric.artifact - parity.metric.reference) <= 1


def test_attngens_gate_lets_a_value_through_where_both_fire():
    trains = trains_of("attngen_spiking")
    assert trains["gate"].sum() > 0
    torch.testing.assert_close(trains["gated"], trains["gate"] * trains["value"])


def test_attngens_windows_are_the_sequence():
    events = attngen_spiking.calibration().inputs["events"]
    assert (events.sum(-1) == 1).all(), "one letter at each place"
    np.testing.assert_array_equal(events[:, 1:, :-1], events[:, :-1, 1:])


def test_sigma_delta_spikes_add_up_to_the_number():
    x = np.random.default_rng(0).uniform(-1, 1, (5, 3, 4)).astype(np.float32)
    spikes = hardmax_spiking.spikes_of(x, steps=50)
    assert set(np.unique(spikes)) == {0, 1}
    read = (spikes.sum(1)[:, :3].astype(float) - spikes.sum(1)[:, 3:]) * hardmax_spiking.FULL / 50
    np.testing.assert_allclose(read, np.clip(x, -0.8, 0.8), atol=hardmax_spiking.FULL / 50)


def test_the_winner_does_not_depend_on_the_order_of_words():
    module, samples = find("hardmax_spiking").module(), hardmax_spiking.calibration()
    events = torch.from_numpy(samples.inputs["events"])
    with torch.no_grad():
        torch.testing.assert_close(module(events), module(events[..., torch.randperm(24, generator=torch.Generator().manual_seed(1))]))


def test_a_channel_fires_with_any_of_its_words():
    trains = trains_of("hardmax_spiking")
    torch.testing.assert_close(trains["any"], trains["words"].unflatten(2, (-1, 24)).amax(3))


def test_the_stronger_of_two_words_fires_first():
    module = find("hardmax_spiking").module()
    chosen = hardmax_spiking.words(200, 12)
    with torch.no_grad():
        fired = module.trains(torch.from_numpy(hardmax_spiking.samples(200, 12).inputs["events"]))["words"].unflatten(2, (-1, 24)).amax(2) > 0
    at = torch.where(fired.any(1), fired.int().argmax(1), hardmax_spiking.STEPS).float().numpy()
    strong, weak = chosen >= 380, (chosen >= 320) & (chosen < 340)
    assert at[strong].mean() < at[weak].mean() - 3


@pytest.mark.parametrize(("step", "seen", "silent"), [(1, "rise", "fall"), (-1, "fall", "rise")])
def test_light_that_moves_along_a_string_meets_its_own_trace(step, seen, silent):
    events = torch.zeros(1, baikal_spiking.STEPS, 8, 24, dtype=torch.uint8)
    for slot in range(10):
        events[0, 5 + slot, 2, 12 + step * (slot - 5)] = 1
    with torch.no_grad():
        trains = find("baikal_spiking").module().trains(events)
    assert trains[seen].sum() == 9
    assert trains[silent].sum() == 0


def test_a_hit_leaves_a_trace_into_the_next_slice():
    events = torch.zeros(1, baikal_spiking.STEPS, 8, 24, dtype=torch.uint8)
    events[0, 7, 3, 4] = 1
    with torch.no_grad():
        trace = find("baikal_spiking").module().trains(events)["trace"].unflatten(2, (8, 24))
    assert trace.nonzero().tolist() == [[0, 7, 3, 4], [0, 8, 3, 4]]


def test_comparators_fire_above_their_levels_and_at_changes():
    mean, deviation = (np.array(part, np.float32) for part in (dstan_med_spiking.MEAN, dstan_med_spiking.DEVIATION))
    x = np.repeat(mean[None, :, None], dstan_med_spiking.LENGTH, 2)
    x[0, 0, 7:] += 2 * deviation[0]
    events = dstan_med_spiking.compared(x)[0]
    levels, rises, falls = np.split(events, [8, 11], axis=-1)
    assert (levels[:7, 0].sum(-1) == 4).all() and (levels[7:, 0].sum(-1) == 7).all()
    assert rises[7, 0].tolist() == [1, 1, 1] and rises.sum() == 3
    assert falls.sum() == 0
