"""Angle-I2P: angles against their definition, their invariance, the hierarchy, and the matches it is judged on."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import angle_i2p as system
from edgeattn.models.data.matches import matches
from edgeattn.models.layers import SelfAttention


def some(count=2, points=20, scale=None):
    image, cloud, right = matches(count, 5, points, scale)
    return torch.from_numpy(image), torch.from_numpy(cloud), torch.from_numpy(right)


def test_angles_are_those_of_the_triangle_of_three_points():
    image = some()[0]
    near = torch.arange(3).expand(2, 20, 3)
    found = system.angles(image, near).numpy()
    for i, j, k in ((4, 7, 2), (9, 5, 0), (11, 19, 1)):
        a, b = (image[1, other].numpy() - image[1, i].numpy() for other in (j, k))
        expected = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        np.testing.assert_allclose(found[1, i, j, k], expected, atol=1e-3)


@torch.no_grad()
def test_consistency_is_the_mean_over_the_nearest_matches_in_the_cloud():
    image, cloud, _ = some()
    layer = system.AngleConsistency(near=4)
    apart = np.linalg.norm(cloud[0, 6] - cloud[0], axis=1)
    near = torch.from_numpy(np.argsort(apart)[1:5].copy())
    difference = [system.angles(points, near.expand(2, 20, 4))[0, 6] for points in (image, cloud)]
    expected = torch.exp(-(((difference[0] - difference[1]) / layer.tolerance.exp()) ** 2)).mean(-1)
    torch.testing.assert_close(layer(image, cloud)[0, 6], expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_angles_survive_scale_and_motion_and_lengths_survive_motion_alone():
    image, cloud, _ = some(scale=1.0)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    for layer, survives in ((system.AngleConsistency(), True), (system.LengthConsistency(), False)):
        c = layer(image, cloud)
        torch.testing.assert_close(layer(image @ turn + 1, cloud), c, atol=2e-2, rtol=2e-2)
        assert torch.allclose(layer(2.5 * image, cloud), c, atol=2e-2) == survives


@torch.no_grad()
def test_the_network_s_scores_do_not_change_with_the_scale():
    network, (image, cloud, _) = system.REFERENCE.module(), some(4, system.MATCHES)
    torch.testing.assert_close(network(3 * image, cloud), network(image, cloud), atol=1e-2, rtol=1e-2)


@torch.no_grad()
def test_right_pairs_are_more_consistent_than_others():
    image, cloud, right = some(40, system.MATCHES)
    c = system.AngleConsistency()(image, cloud)
    both = (right[:, :, None] * right[:, None]).bool() & ~torch.eye(system.MATCHES, dtype=torch.bool)
    assert c[both].mean() > 3 * c[(right[:, :, None] + right[:, None]) == 0].mean()


@torch.no_grad()
def test_equal_consistency_leaves_plain_attention():
    torch.manual_seed(0)
    layer, plain = system.ConsistentAttention(16, 2).eval(), SelfAttention(16, 2).eval()
    plain.load_state_dict({key: value for key, value in layer.state_dict().items() if key != "weight"})
    x = torch.randn(2, 20, 16)
    torch.testing.assert_close(layer(x, torch.full((2, 20, 20), 0.3)), plain(x))


@torch.no_grad()
def test_the_local_block_sees_less_of_an_inconsistent_match_than_the_global_one():
    torch.manual_seed(0)
    x, c = torch.randn(1, 20, 16), torch.full((1, 20, 20), 0.5)
    c[..., 7] = 0.05
    moved = x.clone()
    moved[0, 7] += 1
    changes = []
    for weight in (0.0, 1.0, system.LOCAL):
        torch.manual_seed(0)
        layer = system.ConsistentAttention(16, 2, weight).eval()
        changes.append(float((layer(x, c) - layer(moved, c))[0, :7].norm()))
    assert changes[0] > 5 * changes[1] > 25 * changes[2]


def test_right_matches_are_one_similarity_apart_and_wrong_ones_are_not():
    image, cloud, right = matches(5, 3, 400)
    for index in range(5):
        chosen = right[index] == 1
        assert 0.05 < chosen.mean() < 0.6
        a, b = (points[index][chosen] - points[index][chosen].mean(0) for points in (image, cloud))
        u, sizes, v = np.linalg.svd(a.T @ b)
        scale = np.sqrt((a**2).sum() / (b**2).sum())
        assert np.abs(a - scale * b @ (u @ v).T).mean() < 0.05 * np.abs(a).mean()
        assert np.linalg.det(u @ v) > 0 and len(sizes) == 3
        far = np.linalg.norm(
            (image[index] - image[index][chosen].mean(0)) - scale * (cloud[index] - cloud[index][chosen].mean(0)) @ (u @ v).T, axis=1
        )
        assert np.median(far[~chosen]) > 5 * np.median(far[chosen])


def test_the_task_is_beyond_a_linear_classifier():
    from sklearn.linear_model import LogisticRegression

    parts = [system.samples(300, seed) for seed in (6, 7)]
    flat = [np.concatenate([part.inputs["image"], part.inputs["cloud"]], -1).reshape(-1, 6) for part in parts]
    linear = 100 * LogisticRegression().fit(flat[0], parts[0].truth.ravel()).score(flat[1], parts[1].truth.ravel())
    assert linear < system.REFERENCE.reached - 10, f"a linear classifier of single matches reaches {linear:.1f}"
