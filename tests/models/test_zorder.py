"""Z-order attention: the curve, the sort and its undoing, blocks against a mask, and order that does not matter."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import zorder as system
from edgeattn.models.layers import SelfAttention
from edgeattn.models.metrics import ACCURACY
from edgeattn.models.training import outputs


def interleaved(cell):
    """Morton's code by definition, from the cells' binary digits."""
    digits = [f"{int(value):0{system.BITS}b}" for value in cell]
    return int("".join(z + y + x for x, y, z in zip(*digits, strict=True)), 2)


def test_codes_are_the_interleaved_bits_of_the_cells():
    p = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) * 5 - 2.5  # some are outside the grid
    cells = np.clip(np.floor((p.numpy() + 2) * 4), 0, 15)
    assert system.morton(p).tolist() == [interleaved(cell) for cell in cells]


def test_every_cell_has_a_code_of_its_own():
    corners = (torch.cartesian_prod(*3 * [torch.arange(16.0)]) + 0.5) / 4 - 2
    assert sorted(system.morton(corners).tolist()) == list(range(16**3))


def test_sorting_is_undone():
    torch.manual_seed(0)
    code, x = torch.randint(0, 4096, (3, 50)).float(), torch.randn(3, 50, 4)
    order, back = system.ordered(code)
    assert (code.gather(1, order).diff(dim=1) >= 0).all()
    torch.testing.assert_close(system.rows(system.rows(x, order), back), x)


def test_neighbours_on_the_curve_are_neighbours_in_space():
    cloud = torch.from_numpy(system.evaluation().inputs["cloud"][:50, :, :3])
    order, _ = system.ordered(system.morton(cloud))
    spread = [points.unflatten(1, (12, 12)).var(2).sum(-1).mean() for points in (system.rows(cloud, order), cloud)]
    assert spread[0] < 0.35 * spread[1]


@torch.no_grad()
def test_attention_to_chosen_blocks_is_full_attention_under_their_mask():
    torch.manual_seed(0)
    layer, x = system.BlockAttention(12, 3, group=6, others=2).eval(), torch.randn(2, 36, 12)
    blocks = [linear(x).unflatten(1, (6, 6)) for linear in (layer.query, layer.key)]
    chosen = layer.chosen(*blocks)
    assert not (chosen == torch.arange(6)[:, None]).any(), "a block reads itself anyway"
    mask = torch.eye(6, dtype=torch.bool).repeat(2, 1, 1).scatter(2, chosen, True)
    mask = mask.repeat_interleave(6, 1).repeat_interleave(6, 2)
    q, k, v = (linear(x).reshape(2, 36, 3, 4).transpose(1, 2) for linear in (layer.query, layer.key, layer.value))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
    torch.testing.assert_close(layer(x, x), layer.project(expected.transpose(1, 2).reshape(2, 36, 12)), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_all_blocks_or_all_neighbours_are_plain_attention():
    torch.manual_seed(0)
    x, p, plain = torch.randn(2, 24, 12), torch.randn(2, 24, 3), SelfAttention(12, 3).eval()
    layers = [kind(12, 3, group=6, others=3).eval() for kind in (system.BlockAttention, system.NearestAttention)]
    for layer in layers:
        layer.load_state_dict(plain.state_dict())
        torch.testing.assert_close(layer(x, p), plain(x), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_order_in_which_points_come_does_not_matter():
    """One point in every cell, so that no tie leaves the order open."""
    random = np.random.default_rng(0)
    cells = random.permutation(16**3)[: system.POINTS]
    places = (np.stack(np.unravel_index(cells, (16, 16, 16)), -1) + 0.5) / 4 - 2
    normals = random.standard_normal((system.POINTS, 3))
    cloud = torch.from_numpy(np.concatenate([places, normals], 1).astype(np.float32))[None]
    order = torch.from_numpy(random.permutation(system.POINTS))
    network = system.REFERENCE.module()
    torch.testing.assert_close(network(cloud[:, order]), network(cloud)[:, order], atol=1e-4, rtol=1e-4)


def test_an_order_by_space_is_worth_more_than_the_order_given():
    part = system.evaluation().take(slice(0, 200))
    scores = [ACCURACY.compute([outputs(network, part)], part.truth) for network in (system.REFERENCE.module(), system.trained("given"))]
    assert scores[0] > scores[1] + 5, scores
