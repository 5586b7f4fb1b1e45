"""RelFlexformer: its limit, its invariance, its cost, and the clouds it is judged on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeattn.models import relflexformer as system
from edgeattn.models.data.clouds import KINDS, _cone, _cube, _sphere, _torus, rotations, scenes
from edgeattn.models.operations import operations


def cloud_and_layer(form="fourier", frequencies=15):
    torch.manual_seed(0)
    layer = system.RelFlexAttention(16, frequencies=frequencies, form=form).eval()
    return layer, torch.randn(2, 40, 16), torch.rand(2, 40, 3) * 2 - 1


@torch.no_grad()
def test_many_frequencies_give_attention_weighted_by_f_itself():
    layer, x, p = cloud_and_layer("quadratic")
    exact, state = layer.mix(x, p), {name: value for name, value in layer.state_dict().items() if name != "frequencies"}
    errors = []
    for count in (15, 240, 6000):
        estimate = cloud_and_layer(frequencies=count)[0]
        estimate.load_state_dict(state, strict=False)
        errors.append(float((estimate.mix(x, p) - exact).norm() / exact.norm()))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.1, errors


@torch.no_grad()
def test_linear_attention_equals_the_matrix_of_its_features():
    layer, x, p = cloud_and_layer()
    q, k, v = layer.parts(x)
    waves = layer.waves(p)
    a = (q @ k.transpose(2, 3)) * (waves @ waves.transpose(2, 3))
    floor = system.FLOOR * (q @ k.transpose(2, 3)).sum(-1, keepdim=True)
    expected = (a @ v) / torch.maximum(a.sum(-1, keepdim=True), floor)
    torch.testing.assert_close(layer.mix(x, p), expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_function_that_does_not_fall_off_is_the_performer():
    layer, x, p = cloud_and_layer()
    layer.spread.fill_(20.0)
    plain = cloud_and_layer("performer")[0]
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.mix(x, p), plain.mix(x, p), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_moving_the_scene_or_shuffling_its_points_changes_no_score():
    network = system.REFERENCE.module()
    cloud = torch.from_numpy(system.evaluation().inputs["cloud"][:4])
    scores = network(cloud)
    moved = cloud + torch.tensor([0.7, -1.3, 0.4, 0.0, 0.0, 0.0])
    torch.testing.assert_close(network(moved), scores, atol=5e-3, rtol=5e-3)
    order = torch.randperm(system.POINTS, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(cloud[:, order]), scores[:, order], atol=1e-3, rtol=1e-3)


def test_operations_grow_linearly_with_the_points():
    layer = cloud_and_layer()[0]
    counts = [operations(layer, torch.randn(1, points, 16), torch.randn(1, points, 3)) for points in (128, 256, 512)]
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])


def test_frequencies_have_a_gaussian_s_even_moments():
    """The cosine is even, so odd moments, which a QR factor's signs bias, do not matter."""
    drawn = system.orthogonal_gaussian(60_000, 0).numpy()
    np.testing.assert_allclose(drawn.T @ drawn / len(drawn), np.eye(3), atol=0.02)
    np.testing.assert_allclose((drawn**4).mean(0), 3, atol=0.15)
    triple = drawn[:3] / np.linalg.norm(drawn[:3], axis=1, keepdims=True)
    np.testing.assert_allclose(triple @ triple.T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize("surface", [_sphere, _cube, _torus, _cone])
def test_every_surface_is_closed(surface):
    """The mean of outward normals over a closed surface is zero, and they point outwards (divergence theorem: the volume is positive)."""
    place, normal = surface(np.random.default_rng(0), 1, 200_000)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1, atol=1e-9)
    np.testing.assert_allclose(normal.mean(1), 0, atol=0.01)
    assert (place * normal).sum(-1).mean() > 0.1


def testrotations_arerotations_and_scenes_hold_their_kinds():
    turns = rotations(np.random.default_rng(0), (50,))
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (50, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    cloud, kinds = scenes(50, 3)
    assert cloud.shape == (50, system.POINTS, 6) and np.abs(cloud[..., :3]).max() < 2.5
    assert all(np.bincount(row, minlength=len(KINDS)).tolist() == [48 * round(n / 48) for n in np.bincount(row, minlength=4)] for row in kinds)


def test_the_task_is_beyond_a_linear_classifier():
    from sklearn.linear_model import RidgeClassifier

    (cloud, kinds), (others, truth) = scenes(100, 5), scenes(100, 6)
    linear = 100 * RidgeClassifier().fit(cloud.reshape(-1, 6), kinds.ravel()).score(others.reshape(-1, 6), truth.ravel())
    assert linear < system.REFERENCE.reached - 20, f"a linear classifier of single points reaches {linear:.1f}"
