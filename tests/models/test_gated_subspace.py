"""Gated subspace inference: its algebra, its limits, and the brackets it is judged on."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import gated_subspace as system
from edgeattn.models.data.brackets import KINDS, nested_brackets


def layer_on(rank: int, tolerance: float, dim: int = 12):
    torch.manual_seed(0)
    linear = torch.nn.Linear(dim, 7)
    basis = torch.linalg.qr(torch.randn(dim, dim))[0][:rank].contiguous()
    return linear, basis, system.GatedLinear.of(linear, basis, tolerance)


@torch.no_grad()
def test_the_two_branches_are_subspace_part_plus_gated_residual():
    linear, basis, gated = layer_on(rank=5, tolerance=0.8)
    x = torch.randn(40, 12) * torch.rand(12)
    residual = x - x @ basis.T @ basis
    gate = (residual.norm(dim=-1, keepdim=True) / x.norm(dim=-1, keepdim=True) > 0.8).float()
    expected = (x @ basis.T) @ (linear.weight @ basis.T).T + gate * (residual @ linear.weight.T) + linear.bias
    assert 0 < gate.mean() < 1
    torch.testing.assert_close(gated(x), expected)


@torch.no_grad()
def test_without_tolerance_or_with_every_direction_the_layer_is_the_plain_one():
    x = torch.randn(40, 12)
    for rank, tolerance in ((3, 0.0), (12, 1.0)):
        linear, _, gated = layer_on(rank, tolerance)
        torch.testing.assert_close(gated(x), linear(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_token_inside_the_subspace_skips_and_loses_nothing():
    linear, basis, gated = layer_on(rank=3, tolerance=0.05)
    x = torch.randn(40, 3) @ basis
    assert not gated.leaves(x, gated.basis(x)).any()
    torch.testing.assert_close(gated(x), linear(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_a_skipped_residual_costs_is_bounded_by_the_tolerance():
    linear, _, gated = layer_on(rank=9, tolerance=0.5)
    x = torch.randn(400, 12)
    error = (gated(x) - linear(x)).norm(dim=-1)
    assert error.max() > 0
    assert (error <= 0.5 * torch.linalg.matrix_norm(linear.weight, 2) * x.norm(dim=-1) + 1e-5).all()


def test_the_strongest_directions_are_those_of_the_singular_value_decomposition():
    torch.manual_seed(0)
    x = torch.randn(200, 8) * torch.arange(1, 9)
    basis = system.strongest_directions(x, 3)
    expected = torch.linalg.svd(x, full_matrices=False)[2][:3]
    torch.testing.assert_close((basis @ expected.T).abs(), torch.eye(3), atol=1e-4, rtol=0)


def test_a_tighter_tolerance_skips_less_and_agrees_more():
    figures = system.measure()
    tolerances = ("0.05", "0.1", "0.2", "1")
    skipped = [figures[f"residuals skipped % at tolerance {tolerance}"] for tolerance in tolerances]
    agreement = [figures[f"top-1 agreement % at tolerance {tolerance}"] for tolerance in tolerances]
    assert skipped == sorted(skipped) and skipped[-1] == 100
    assert agreement == sorted(agreement, reverse=True)


def test_labels_are_what_a_stack_says():
    samples = nested_brackets(20, seed=7)
    for tokens, labels in zip(samples.inputs["tokens"], samples.truth, strict=True):
        stack = []
        for token, label in zip(tokens, labels, strict=True):
            if token > KINDS:
                assert stack.pop() == token - KINDS
            elif token > 0:
                stack.append(token)
            assert label == (stack[-1] if stack else 0)


def test_the_task_is_beyond_a_linear_classifier_of_the_last_tokens():
    from sklearn.linear_model import LogisticRegression

    def last(samples, count=6):
        hot = np.eye(system.VOCABULARY)[samples.inputs["tokens"]]
        padded = np.concatenate([np.zeros((len(hot), count, hot.shape[2])), hot], 1)
        windows = np.concatenate([padded[:, k + 1 : k + 1 + hot.shape[1]] for k in range(count)], -1)
        return windows.reshape(-1, windows.shape[-1]), samples.truth.ravel()

    fitted = LogisticRegression(max_iter=60).fit(*last(nested_brackets(120, seed=5)))
    linear = 100 * fitted.score(*last(nested_brackets(120, seed=6)))
    assert linear < system.REFERENCE.reached - 10, f"a linear classifier reaches {linear:.1f}"
