"""DemaFormer: the average against its recurrence and its closed form, energies, and streams whose span is known."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from edgeattn.models import demaformer
from edgeattn.models.data import streams
from edgeattn.models.layers import SelfAttention
from edgeattn.models.registry import find
from edgeattn.models.training import tensors


def test_the_damped_average_is_its_recurrence_step_by_step():
    torch.manual_seed(0)
    layer, x = demaformer.DampedAverage(3, averages=2), torch.randn(2, 9, 3)
    alpha, delta = torch.sigmoid(layer.alpha[0]), torch.sigmoid(layer.delta[0])
    state, expected = torch.zeros(2, 3, 2), []
    for t in range(9):
        state = alpha * layer.beta[0] * x[:, t, :, None] + (1 - alpha * delta) * state
        expected.append((layer.eta[0] * state).sum(-1))
    torch.testing.assert_close(layer.one_way(x, 0), torch.stack(expected, 1))


def test_an_impulse_leaves_a_sum_of_exponentials_on_both_sides():
    torch.manual_seed(0)
    layer, x = demaformer.DampedAverage(1, averages=4), torch.zeros(1, 41, 1)
    x[0, 20] = 1
    away = torch.arange(-20, 21)
    expected = torch.zeros(41)
    for way, steps in ((0, away), (1, -away)):
        alpha, delta = torch.sigmoid(layer.alpha[way, 0]), torch.sigmoid(layer.delta[way, 0])
        kernel = (layer.eta[way, 0] * layer.beta[way, 0] * alpha * (1 - alpha * delta) ** steps.clamp(min=0)[:, None]).sum(-1)
        expected += torch.where(steps >= 0, kernel, 0)
    torch.testing.assert_close(layer(x)[0, :, 0], expected)


def test_full_damping_at_the_highest_rate_leaves_no_memory():
    layer, x = demaformer.DampedAverage(3, averages=2), torch.randn(2, 9, 3)
    with torch.no_grad():
        layer.alpha.fill_(50), layer.delta.fill_(50)
    torch.testing.assert_close(layer(x), x * (layer.beta * layer.eta).sum((0, 2)))


def test_without_an_average_it_is_plain_attention():
    torch.manual_seed(0)
    layer, plain, x = demaformer.DemaAttention(8, 2), SelfAttention(8, 2), torch.randn(2, 6, 8)
    layer.average.forward = lambda y: y
    plain.load_state_dict({key: value for key, value in layer.state_dict().items() if not key.startswith("average")})
    smooth = functional.silu(x)
    plain.value.forward = lambda _: functional.linear(x, layer.value.weight, layer.value.bias)
    torch.testing.assert_close(layer(x), plain(smooth) + smooth)


def test_langevin_steps_go_down_the_energy():
    torch.manual_seed(0)
    network = find("demaformer").module()
    z = torch.randn(20, 64, 32)
    assert network.energy(demaformer.WithNegatives(network).langevin(z)).mean() < network.energy(z).mean() - 0.01


def test_moments_of_the_span_asked_for_have_the_least_energy():
    held_out = demaformer.evaluation().take(slice(0, 300))
    with torch.no_grad():
        energy = -find("demaformer").module()(**tensors(held_out.inputs))[..., 0].numpy()
    at = np.arange(energy.shape[1])
    inside = (at >= held_out.truth[:, :1]) & (at < held_out.truth[:, 1:])
    assert energy[inside].mean() < energy[~inside].mean() - 3
    asked_the_other_way = np.roll(held_out.inputs["query"], 1, 1)
    with torch.no_grad():
        other = -find("demaformer").module()(**tensors({**held_out.inputs, "query": asked_the_other_way}))[..., 0].numpy()
    assert other[inside].mean() > energy[inside].mean() + 1


def test_overlap_is_counted_as_steps_shared_by_both():
    spans, truth = np.array([[0, 10], [5, 15], [20, 30], [2.5, 7.5]]), np.array([[0, 10], [0, 10], [0, 10], [0, 10]])
    np.testing.assert_allclose(demaformer.overlap(spans, truth), [1, 5 / 15, 0, 0.5])


def test_outside_the_spans_there_is_nothing_but_noise():
    x, query, spans = streams.streams(400, 3, "train", noise=0.0)
    length = spans[:, 1] - spans[:, 0]
    assert ((length >= streams.SHORTEST) & (length <= streams.LONGEST) & (spans[:, 0] >= 0) & (spans[:, 1] <= 64)).all()
    assert (query.sum(1) == 1).all()
    holds = (x[..., 0] != 0).sum(1) - length  # steps of the shape that was not asked for
    assert ((holds >= streams.SHORTEST - 1) & (holds <= streams.LONGEST)).all()


def test_neither_a_linear_map_nor_a_fixed_span_comes_near():
    from sklearn.linear_model import Ridge

    train, held_out = demaformer.samples(2000, 31, "train"), demaformer.evaluation()
    flat = [(part.inputs["x"][:, None, :, 0] * part.inputs["query"][..., None]).reshape(len(part), -1) for part in (train, held_out)]
    at = np.arange(demaformer.STEPS)
    wanted = ((at >= train.truth[:, :1]) & (at < train.truth[:, 1:])).astype(float)
    middle = Ridge(10.0).fit(flat[0], wanted).predict(flat[1]).argmax(1)
    spans = np.stack([middle - 9, middle + 9], 1)
    assert 100 * (demaformer.overlap(spans, held_out.truth) >= 0.5).mean() < find("demaformer").reached - 20
