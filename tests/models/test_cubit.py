"""Cubit: its solver, its equation and limits, and the curves it is judged on."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import cubit
from edgeattn.models.data.curves import NOISE, curves, kernel, posterior
from edgeattn.models.registry import find


def mixer(known=12, mix=cubit.RidgeAttention):
    torch.manual_seed(0)
    layer = mix(8, 2, known).eval()
    torch.nn.init.normal_(layer.sharpness)
    torch.nn.init.normal_(layer.ridge)
    return layer


def parts(known=12, tokens=20):
    """q, k, v; the values are inside their range."""
    torch.manual_seed(1)
    return torch.randn(3, 2, tokens, 4), torch.randn(3, 2, known, 4), torch.rand(3, 2, known, 4)


@torch.no_grad()
def test_newton_schulz_inverts_the_worst_matrix_that_can_occur():
    """All keys equal: eigenvalues from the least ridge to the number of points."""
    a = torch.ones(cubit.POINTS, cubit.POINTS) + cubit.LEAST_RIDGE * torch.eye(cubit.POINTS)
    torch.testing.assert_close(cubit.inverse(a) @ a, torch.eye(cubit.POINTS), atol=2e-3, rtol=0)
    assert (cubit.inverse(a, 8) @ a - torch.eye(cubit.POINTS)).abs().max() > 0.1


def test_the_gradient_of_the_last_iteration_is_that_of_the_inverse():
    torch.manual_seed(0)
    factor = torch.rand(6, 6, dtype=torch.float64)
    found = []
    for solve in (cubit.inverse, torch.linalg.inv):
        a = (factor @ factor.T + 0.1 * torch.eye(6)).requires_grad_()
        (solve(a) * torch.arange(36.0).reshape(6, 6)).sum().backward()
        found.append(a.grad)
    torch.testing.assert_close(*found)


@torch.no_grad()
def test_the_mixer_is_kernel_ridge_regression():
    layer, (q, k, v) = mixer(), parts()
    ridge = (cubit.LEAST_RIDGE + layer.ridge.exp()) * torch.eye(12)
    expected = layer.kernel(q, k).double() @ torch.linalg.solve((layer.kernel(k, k) + ridge).double(), v.double())
    torch.testing.assert_close(layer.mix(q, k, v), expected.float(), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_with_little_ridge_every_key_returns_its_own_value_and_softmax_a_mean():
    _, k, v = parts()
    ridge, mean = mixer(), mixer(mix=cubit.NadarayaWatson)
    for layer in (ridge, mean):
        layer.sharpness.fill_(2.0)
        layer.ridge.fill_(-20.0)
    errors = [(layer.mix(k, k, v) - v).norm() / v.norm() for layer in (ridge, mean)]
    assert errors[0] < 0.3 * errors[1], errors


@torch.no_grad()
def test_a_large_ridge_leaves_the_kernel_s_sum():
    layer, (q, k, v) = mixer(), parts()
    layer.ridge.fill_(np.log(1e4))
    torch.testing.assert_close(1e4 * layer.mix(q, k, v), layer.kernel(q, k) @ v, atol=5e-3, rtol=5e-3)


@torch.no_grad()
def test_the_twin_s_mixer_is_softmax_attention():
    layer, (q, k, v) = mixer(mix=cubit.NadarayaWatson), parts()
    unit = [x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for x in (q, k)]
    expected = (layer.sharpness.exp() * (unit[0] @ unit[1].transpose(-1, -2))).softmax(-1) @ v
    torch.testing.assert_close(layer.mix(q, k, v), expected)


@torch.no_grad()
def test_a_value_out_of_range_weighs_no_more_than_one_at_its_border():
    layer, (q, k, v) = mixer(), parts()
    far = v / v.norm(dim=-1, keepdim=True) * cubit.RANGE
    torch.testing.assert_close(layer.mix(q, k, 50 * far), layer.mix(q, k, far), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_order_of_points_does_not_matter():
    network, part = find("cubit").module(), cubit.samples(4, 9).inputs
    order = np.random.default_rng(0).permutation(cubit.POINTS)
    whole = {name: torch.from_numpy(array) for name, array in part.items()}
    shuffled = {**whole, "seen_at": whole["seen_at"][:, order], "seen": whole["seen"][:, order]}
    torch.testing.assert_close(network(**whole), network(**shuffled), atol=1e-3, rtol=1e-3)


def test_curves_have_their_process_s_covariance_and_noise():
    many = curves(6000, 2, 1, seed=1)
    at, values = np.c_[many.seen_at, many.asked_at], np.c_[many.seen, many.truth]
    expected = kernel(at, at, many.scale) + np.diag([NOISE**2, NOISE**2, 0])
    products = values[:, :, None] * values[:, None]
    assert np.abs((products - expected).mean(0)).max() < 0.06


def test_nothing_forecasts_better_than_the_posterior_and_a_line_far_worse():
    known = curves(500, cubit.POINTS, cubit.QUESTIONS, seed=7)
    exact = np.mean((posterior(known) - known.truth) ** 2)
    wider = np.mean((posterior(type(known)(known.seen_at, known.seen, known.asked_at, known.truth, 1.5 * known.scale)) - known.truth) ** 2)
    lines = np.array([np.polyval(np.polyfit(x, y, 1), asked) for x, y, asked in zip(known.seen_at, known.seen, known.asked_at, strict=True)])
    assert exact < wider
    assert np.mean((lines - known.truth) ** 2) > 5 * find("cubit").reached
