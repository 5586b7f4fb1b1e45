"""Gates mixed across scales: order of the sequences, the block against its recurrence, and slices whose classes need two scales."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from edgeattn.models import attention_mamba
from edgeattn.models.data import lesions
from edgeattn.models.mamba import Mamba, TwoWayMamba
from edgeattn.models.registry import find
from edgeattn.models.selective_scan import selective_scan


def test_a_mamba_block_is_its_recurrence_step_by_step():
    torch.manual_seed(0)
    block, x = Mamba(3, state=2), torch.randn(2, 7, 3)
    entered, parts, state, expected = block.enter(x), block.parameters_of, torch.zeros(2, 6, 2), []
    for t in range(7):
        window = functional.pad(entered, (0, 0, 3, 0))[:, t : t + 4]
        token = functional.silu((window * block.conv.weight[:, 0].T).sum(1) + block.conv.bias)
        delta, a, b, c = parts(token[:, None])
        state = torch.exp(delta[:, 0, :, None] * a) * state + (delta[:, 0] * token)[..., None] * b[:, 0, None]
        y = (state @ c[:, 0, :, None])[..., 0] + parts.skip * token
        expected.append(block.leave(y * functional.silu(block.gate(x[:, t]))))
    torch.testing.assert_close(block(x), torch.stack(expected, 1))


def test_a_step_with_no_time_is_passed_over():
    torch.manual_seed(0)
    block = Mamba(2, state=3)
    delta, a, b, c = block.parameters_of(torch.randn(1, 6, 4))
    x, still = torch.randn(1, 6, 4), delta.clone()
    still[:, 3] = 0
    kept = [0, 1, 2, 4, 5]
    whole = selective_scan(x, still, a, b, c)[:, kept]
    torch.testing.assert_close(whole, selective_scan(x[:, kept], still[:, kept], a, b[:, kept], c[:, kept]))


def test_two_ways_with_equal_weights_do_not_know_first_from_last():
    torch.manual_seed(0)
    both = TwoWayMamba(2, state=2)
    both.backwards.load_state_dict(both.forwards.state_dict())
    x = torch.randn(2, 9, 2)
    torch.testing.assert_close(both(x.flip(1)), both(x).flip(1))


def test_scales_are_interleaved_so_that_those_of_one_place_are_neighbours():
    gates = attention_mamba.MambaGates(4, 3, state=2, hidden=5)
    seen = []
    gates.place_scan.forward = lambda x: seen.append(x) or x
    scales = [torch.full((1, 4, 2, 3), float(s)) + torch.arange(6.0).reshape(2, 3) * 10 for s in range(4)]
    gates.of_places(scales)
    assert seen[0].shape == (1, 24, 2)
    assert seen[0][0, :8, 0].tolist() == [0, 1, 2, 3, 10, 11, 12, 13]


def test_gates_of_a_coarse_scale_depend_on_the_fine_one():
    torch.manual_seed(0)
    gates = attention_mamba.MambaGates(4, 3, state=2, hidden=5)
    scales = [torch.randn(1, 4, 4, 4) for _ in range(4)]
    moved = [scales[0] + 3 * torch.randn(1, 4, 4, 4), *scales[1:]]
    assert not torch.allclose(gates.of_places(scales)[:, 3], gates.of_places(moved)[:, 3])
    rival = attention_mamba.ConvolutionGates(4, 3, hidden=5)
    torch.testing.assert_close(rival(scales)[1][:, 3], rival(moved)[1][:, 3])


def test_lesions_lie_in_organs_and_bright_blobs_outside_are_background():
    image, labels = lesions.slices(200, seed=4)
    counts = np.bincount(labels.ravel(), minlength=3) / labels.size
    assert 0.1 < counts[1] < 0.5
    assert 0.01 < counts[2] < 0.15
    bright = image[:, 0] > 1.6
    assert (labels[bright] == 0).mean() > 0.2


def test_a_linear_map_of_the_pixels_around_is_far_below():
    from sklearn.linear_model import LogisticRegression

    train, held_out = attention_mamba.samples(60, 30), attention_mamba.samples(100, 21)
    rows = [
        np.lib.stride_tricks.sliding_window_view(np.pad(p.inputs["x"][:, 0], ((0, 0), (3, 3), (3, 3))), (7, 7), (1, 2)) for p in (train, held_out)
    ]
    flat = [row.reshape(-1, 49) for row in rows]
    pick = np.random.default_rng(0).permutation(len(flat[0]))[:4000]
    model = LogisticRegression(max_iter=60).fit(flat[0][pick], train.truth.reshape(-1)[pick])
    scores = model.decision_function(flat[1]).reshape(*held_out.truth.shape, 3)
    assert attention_mamba.DICE.compute([scores], held_out.truth) < find("attention_mamba").reached - 10
