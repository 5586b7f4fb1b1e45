"""HYPERPOSE: the geometry that it stands on, and skeletons whose bones keep their length."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import hyperpose
from edgeattn.models.data.skeletons import OFFSETS, PARENTS, bone_lengths, motions, rotations
from edgeattn.models.registry import find


def points(count, scale=1.0):
    return hyperpose.exponential(scale * torch.randn(count, 6, dtype=torch.float64))


def test_exponentials_lie_on_the_hyperboloid_and_logarithms_undo_them():
    torch.manual_seed(0)
    v = torch.randn(50, 6, dtype=torch.float64)
    p = hyperpose.exponential(v)
    torch.testing.assert_close(hyperpose.lorentz(p, p).diagonal(), -torch.ones(50, dtype=torch.float64), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(hyperpose.logarithm(p), v, atol=1e-6, rtol=1e-6)


def test_distance_obeys_the_triangle_inequality_and_is_the_length_of_the_tangent():
    torch.manual_seed(0)
    a, b, c = points(40), points(40), points(40)
    direct, around = hyperpose.distance(a, c), hyperpose.distance(a, b)[:, :, None] + hyperpose.distance(b, c)[None]
    assert bool((direct[:, None] <= around + 1e-6).all())
    v = torch.randn(40, 6, dtype=torch.float64)
    origin = hyperpose.exponential(torch.zeros(1, 6, dtype=torch.float64))
    torch.testing.assert_close(hyperpose.distance(origin, hyperpose.exponential(v))[0], v.norm(dim=-1), atol=1e-4, rtol=1e-4)


def test_near_the_origin_attention_is_euclidean():
    torch.manual_seed(0)
    layer = hyperpose.HyperbolicAttention(8, 1, 5)
    for linear in (layer.query, layer.key, layer.value):
        torch.nn.init.normal_(linear.weight, std=0.02)
        torch.nn.init.zeros_(linear.bias)
    x = torch.randn(1, 5, 8)
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    expected = layer.project((-(torch.cdist(q, k) ** 2)).softmax(-1) @ v)
    torch.testing.assert_close(layer(x), expected, atol=2e-3, rtol=2e-2)


def test_a_frame_outside_the_window_changes_nothing():
    torch.manual_seed(0)
    layer = hyperpose.HyperbolicAttention(8, 2, 8, window=5)
    x = torch.randn(1, 8, 8)
    moved = x.clone()
    moved[0, 7] += 3
    torch.testing.assert_close(layer(x)[0, :5], layer(moved)[0, :5])
    assert not torch.allclose(layer(x)[0, 5], layer(moved)[0, 5])


def test_bones_keep_their_length_and_images_are_projections():
    image, joints = motions(20, 8, seed=1, noise=0.0)
    lengths = bone_lengths(joints)
    np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:, :1], lengths.shape), atol=1e-5)
    np.testing.assert_allclose(lengths[:, 0] / np.linalg.norm(OFFSETS[1:], axis=-1), np.broadcast_to(lengths[:, 0, :1] / 0.13, (20, 15)), rtol=1e-4)
    np.testing.assert_allclose(image, 4 * joints[..., :2] / (4 + joints[..., 2:]), atol=1e-5)
    assert (PARENTS[1:] < np.arange(1, 16)).all()


def test_rotations_turn_without_stretching():
    matrices = rotations(np.random.default_rng(0).standard_normal((10, 3)))
    np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (10, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(rotations(np.array([0, 0, np.pi / 2])) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_knees_and_elbows_bend_one_way():
    joints = motions(50, 4, seed=2)[1].astype(np.float64)
    across = joints[:, :, 4] - joints[:, :, 1]  # from the right hip to the left
    for hip, knee, ankle in ((1, 2, 3), (4, 5, 6)):
        thigh, shank = joints[:, :, knee] - joints[:, :, hip], joints[:, :, ankle] - joints[:, :, knee]
        forwards = np.cross(across, [0, 1, 0])
        bent = np.sum((shank / 0.43 - thigh / 0.44) * forwards, -1)
        assert (bent < 0.02).mean() > 0.85, "thighs turn about other axes too, so a few shanks lean forwards"


def test_a_linear_lift_is_clearly_worse():
    linear = hyperpose.linear_lift(hyperpose._part(2000, 45), hyperpose.evaluation())
    assert linear > 1.15 * find("hyperpose").reached, f"a linear lift reaches {linear:.0f} mm"
