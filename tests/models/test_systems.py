"""Each system: its mathematics, its data, and weights that reach what they are said to reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgeattn.errors import InputError
from edgeattn.export.trace import flatten_outputs
from edgeattn.models import ecg_nat, ister, rpattention
from edgeattn.models.layers import SelfAttention, merge_heads, split_heads
from edgeattn.models.operations import operations
from edgeattn.models.registry import find, systems
from edgeattn.models.training import metric_of, tensors

NAMES = [name for name, reference in systems().items() if reference.reached is not None]


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_weights_reach_their_metric(name):
    reference = find(name)
    slack = 0.2 if reference.metric.unit == "points" else 0.002 * abs(reference.reached)
    assert metric_of(reference, reference.module()) == pytest.approx(reference.reached, abs=slack)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_load_without_code(name):
    reference = find(name)
    for path in filter(None, (reference.weights, reference.twin_weights)):
        assert path.stat().st_size < 1_000_000
        assert all(isinstance(value, torch.Tensor) for value in torch.load(path, weights_only=True).values())


@pytest.mark.parametrize("name", NAMES)
def test_the_claim_is_measured_in_finite_figures(name):
    figures = find(name).measure()
    assert figures and all(np.isfinite(value) for value in figures.values())


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_takes_the_same_inputs_and_the_paper_size_is_larger(name):
    reference = find(name)
    part = tensors(reference.calibration().take(slice(0, 2)).inputs)
    with torch.no_grad():
        ours, twins = (flatten_outputs(module(**part)) for module in (reference.module(), reference.twin().eval()))
    assert [output.shape for output in ours] == [output.shape for output in twins]
    count = [sum(p.numel() for p in build().parameters()) for build in (reference.build, reference.paper)]
    assert count[1] > 2 * count[0]


@pytest.mark.parametrize("name", NAMES)
def test_calibration_and_evaluation_share_no_sample(name):
    reference = find(name)
    parts = (reference.calibration(), reference.evaluation())
    rows = [{b"".join(array[i].tobytes() for array in part.inputs.values()) for i in range(len(part))} for part in parts]
    assert not rows[0] & rows[1]


@pytest.mark.training
@pytest.mark.parametrize("name", NAMES)
def test_training_from_scratch_reaches_the_metric_within_noise(name):
    reference = find(name)
    usual = 3.0 if reference.metric.unit == "points" else 0.1 * abs(reference.reached)
    value, noise = reference.train(seed=1)[1], reference.noise or usual
    assert value >= reference.reached - noise if reference.metric.higher_is_better else value <= reference.reached + noise


def test_training_repeats_bit_for_bit_with_its_seed():
    first, second = (find("ister").train(seed=5, epochs=1)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_unknown_system_names_its_neighbours():
    with pytest.raises(InputError, match="ecg_nat"):
        find("ecg_net")
    assert list(systems()) == sorted(systems())


@pytest.mark.parametrize("tokens", [12, 192, 134])
def test_neighbourhood_attention_is_softmax_attention_over_each_window(tokens):
    torch.manual_seed(0)
    window, heads = 5, 2
    layer = ecg_nat.NeighbourhoodAttention(8, heads, tokens, window).eval()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(3, tokens, 8)
    q, k, v = (split_heads(linear(x), heads) for linear in (layer.query, layer.key, layer.value))
    expected = torch.zeros_like(q)
    for i in range(tokens):
        start = min(max(i - window // 2, 0), tokens - window)
        near = slice(start, start + window)
        offsets = torch.arange(start, start + window) - i + window - 1
        logits = (q[:, :, i : i + 1] @ k[:, :, near].transpose(-1, -2)) / 2.0 + layer.bias[:, None, offsets]
        expected[:, :, i] = (logits.softmax(-1) @ v[:, :, near])[:, :, 0]
    torch.testing.assert_close(layer(x), layer.project(merge_heads(expected)))


def test_a_window_over_all_tokens_without_bias_is_plain_attention():
    torch.manual_seed(0)
    layer = ecg_nat.NeighbourhoodAttention(8, 2, 6, 6).eval()
    plain = SelfAttention(8, 2)
    plain.load_state_dict({key: value for key, value in layer.state_dict().items() if key != "bias"})
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(layer(x), plain(x))


def test_a_far_token_changes_nothing_in_neighbourhood_attention():
    torch.manual_seed(0)
    layer = ecg_nat.NeighbourhoodAttention(8, 2, 16, 5).eval()
    x = torch.randn(1, 16, 8)
    moved = x.clone()
    moved[0, 15] += 5
    torch.testing.assert_close(layer(x)[0, :10], layer(moved)[0, :10])
    assert not torch.allclose(layer(x)[0, 14], layer(moved)[0, 14])


def test_representatives_are_shared_out_completely():
    torch.manual_seed(0)
    layer = rpattention.RepresentativeAttention(16, 4, 5)
    share = layer.routing(torch.randn(2, 30, 16))
    torch.testing.assert_close(share.sum(-1), torch.ones(2, 30))


def test_representative_attention_does_not_see_the_order_of_tokens():
    torch.manual_seed(0)
    layer = rpattention.RepresentativeAttention(16, 4, 5).eval()
    x, order = torch.randn(2, 30, 16), torch.randperm(30)
    torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]), atol=1e-5, rtol=1e-4)


def test_representative_attention_costs_linear_time_in_tokens():
    layer = rpattention.RepresentativeAttention(16, 4, 8)
    counts = [operations(layer, torch.randn(1, tokens, 16)) for tokens in (256, 512, 1024)]
    assert (counts[2] - counts[1]) == 2 * (counts[1] - counts[0])


def test_operations_count_the_products_of_softmax_attention():
    layer, tokens, dim = SelfAttention(8, 2), 30, 8
    assert operations(layer, torch.randn(1, tokens, dim)) == 4 * 2 * tokens * dim**2 + 2 * 2 * tokens**2 * dim


def test_dot_attention_is_its_equation():
    torch.manual_seed(0)
    layer = ister.DotAttention(8).eval()
    x = torch.randn(3, 5, 8)
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    g = sum(functional.gelu(q.softmax(1)[:, n] * k[:, n]) for n in range(5))
    torch.testing.assert_close(layer(x), layer.project(v * g[:, None]))


def test_ister_forecasts_move_with_the_scale_and_level_of_each_series():
    module = find("ister").module()
    x = torch.from_numpy(find("ister").evaluation().inputs["x"][:4])
    scale, level = torch.rand(9) * 3 + 0.5, torch.randn(9)
    with torch.no_grad():
        torch.testing.assert_close(module(x * scale + level), module(x) * scale + level, atol=2e-3, rtol=2e-3)


def test_the_beat_labels_are_where_the_beats_are():
    signal, beats = ecg_nat.recording()
    samples = ecg_nat.windows(0.75, 1.0, 8, seed=2)
    offsets = np.arange(int(0.75 * len(signal)), len(signal) - ecg_nat.WINDOW, 8)
    for index in (0, 100, 2000):
        inside = beats[(beats >= offsets[index]) & (beats < offsets[index] + ecg_nat.WINDOW)]
        expected = (inside[0] - offsets[index]) // 16 if len(inside) else ecg_nat.SECTORS
        assert samples.labels[index] == expected


@pytest.mark.parametrize("name", ["ecg_nat", "rpattention"])
def test_the_task_is_beyond_a_linear_classifier(name):
    from sklearn.linear_model import RidgeClassifier

    module = {"ecg_nat": lambda: ecg_nat.windows(0.0, 0.6, 8, seed=3), "rpattention": lambda: rpattention.digits("train")}[name]
    train, held_out = module(), find(name).evaluation()
    flat = [part.inputs["x"].reshape(len(part), -1) for part in (train, held_out)]
    linear = 100 * RidgeClassifier().fit(flat[0], train.labels).score(flat[1], held_out.labels)
    assert linear < find(name).reached - 5, f"a linear classifier reaches {linear:.1f}"
