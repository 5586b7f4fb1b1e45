"""ConvRec's spiking twin: what its rows say, which purchases a neuron hears, and which attributes excite an item."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import convrec_spiking
from edgeattn.models.convrec_spiking import COLUMNS, MARGIN, SHARE, STEPS
from edgeattn.models.data.shops import CATEGORIES, ITEMS, LEVELS, customers
from edgeattn.models.registry import find
from edgeattn.models.spiking import settle


def test_a_row_says_the_category_the_level_and_the_gap_of_a_purchase():
    known, events = customers(100, seed=1), convrec_spiking.calibration().inputs["events"]
    assert events.shape == (100, STEPS, 70, COLUMNS)
    assert (events == events[:, :1]).all(), "the frame stands still"
    category, level, gap = np.split(events[:, 0], [CATEGORIES, CATEGORIES + LEVELS], axis=2)
    np.testing.assert_array_equal(category.argmax(2) * LEVELS + level.argmax(2), known.items[:, :-1])
    assert (events[:, 0].sum(2) == 3).all()
    assert (gap[:, -1].argmax(1) == known.new).all(), "days passed before a session begins"


def test_a_purchase_reaches_only_the_neurons_of_its_rows():
    module = find("convrec_spiking").module()
    events = torch.from_numpy(convrec_spiking.calibration().inputs["events"][:4].copy())
    moved = events.clone()
    moved[:, :, 3] = 0
    with torch.no_grad():
        before, after = module.trains(events), module.trains(moved)
    for stage, row, rows in (("stage0", 1, 35), ("stage1", 0, 7)):
        changed = (before[stage] != after[stage]).any(1).unflatten(1, (-1, rows)).any(1).any(0)
        assert changed.nonzero().flatten().tolist() == [row]


def test_an_item_spikes_about_half_as_often_as_its_category_and_level_together():
    module = find("convrec_spiking").module()
    with torch.no_grad():
        trains = module.trains(torch.from_numpy(convrec_spiking.calibration().inputs["events"][:8].copy()))
    wanted, counts = trains["wanted"].sum(1), trains["out"].sum(1)
    item = torch.arange(ITEMS)
    both = MARGIN * SHARE * (wanted[:, item // LEVELS] + wanted[:, CATEGORIES + item % LEVELS])
    assert counts.max() > 3
    assert ((counts <= both) & (counts >= 0.6 * both - 2)).all(), "neurons leak and keep a remainder"


def test_weights_and_leaks_are_already_numbers_that_the_board_has():
    before, module = find("convrec_spiking").module().state_dict(), find("convrec_spiking").module()
    settle(module)
    assert all(torch.equal(before[name], moved) for name, moved in module.state_dict().items())
    assert all((1024 * weight).frac().eq(0).all() for name, weight in before.items() if name.endswith("weight"))


def test_the_whole_history_in_one_stage_is_the_same_network_with_one_convolution():
    shapes = [list(stage.weight.shape) for stage in convrec_spiking.twin().stages]
    assert shapes == [[11, 1, 70, COLUMNS]]
    assert [stage.weight.shape[2] for stage in convrec_spiking.SpikingConvRec().stages] == [2, 5, 7]
