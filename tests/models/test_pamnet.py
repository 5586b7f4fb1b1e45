"""PAMNet: its modulation, its periodicity, and the cycle in its data."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import pamnet
from edgeattn.models.data.cycles import PERIOD, cycle, series
from edgeattn.models.registry import find


def random_network():
    torch.manual_seed(0)
    network = pamnet.PAMNet().eval()
    for table in (network.before.amplitude, network.before.shift, network.after.amplitude, network.after.shift):
        torch.nn.init.normal_(table)
    return network


def test_modulation_is_its_equation_at_every_position():
    torch.manual_seed(0)
    layer = pamnet.Modulation(5, 2, 7, offset=3)
    torch.nn.init.normal_(layer.amplitude)
    torch.nn.init.normal_(layer.shift)
    x, phase = torch.randn(4, 7, 2), torch.tensor([0, 2, 3, 4])
    for index in range(4):
        for step in range(7):
            position = (int(phase[index]) + 3 + step) % 5
            expected = x[index, step] * (1 + layer.amplitude[position]) + layer.shift[position]
            torch.testing.assert_close(layer(x, phase)[index, step], expected)


def test_a_whole_cycle_later_nothing_changes_and_an_hour_later_it_does():
    network, x = random_network(), torch.randn(1, pamnet.LENGTH, 4)
    now, later = (network(x, torch.tensor([phase])) for phase in (3, 4))
    whole = network(x, torch.tensor([3 + PERIOD])) if network.after.turns * PERIOD >= 3 + PERIOD + pamnet.LENGTH + pamnet.HORIZON else now
    torch.testing.assert_close(now, whole)
    assert not torch.allclose(now, later)


def test_without_modulation_it_is_one_map_over_time_for_every_channel():
    torch.manual_seed(0)
    network, x = pamnet.PAMNet().eval(), torch.randn(2, pamnet.LENGTH, 4)
    forecast = network(x, torch.tensor([0, 7]))
    for channel in range(4):
        torch.testing.assert_close(forecast[..., channel], network.time(x[..., channel]))


def test_the_series_have_the_mean_and_spread_of_their_cycle():
    values, known = series(24 * 4000, seed=5), cycle()
    days = values.reshape(-1, PERIOD, 4)
    assert np.abs(days.mean(0) - known.mean).max() < 0.5
    np.testing.assert_allclose(days.std(0), known.spread, rtol=0.15)


def test_a_linear_forecast_is_clearly_worse():
    linear = pamnet.linear_after_normalisation(pamnet._windows(33, 6000).take(slice(0, None, 4)), pamnet.evaluation())
    assert linear > 1.3 * find("pamnet").reached
