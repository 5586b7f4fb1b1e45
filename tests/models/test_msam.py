"""Spectral attention: what its gate depends on, and scenes whose truth is known."""

from __future__ import annotations

import numpy as np
import torch

from edgeattn.models import msam
from edgeattn.models.data import road_scenes
from edgeattn.models.metrics import MEAN_IOU
from edgeattn.models.operations import operations
from edgeattn.models.registry import find


def test_the_gate_is_its_equation():
    torch.manual_seed(0)
    layer, x = msam.SpectralAttention(), torch.randn(3, 12, 4, 5)
    torch.nn.init.normal_(layer.share)
    means = x.mean((2, 3)).numpy()
    share = layer.share.softmax(0).tolist()
    seen = np.zeros_like(means)
    for a, scale in zip(share, layer.scales, strict=True):
        kernel = scale.weight.detach().numpy().reshape(-1)
        padded = np.pad(means, ((0, 0), (len(kernel) // 2,) * 2))
        seen += a * np.stack([padded[:, i : i + len(kernel)] @ kernel for i in range(12)], 1)
    expected = x.numpy() / (1 + np.exp(-seen))[:, :, None, None]
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, atol=1e-5)


def test_one_kernel_of_width_one_gates_each_channel_by_its_own_mean():
    layer = msam.SpectralAttention(kernels=(1,))
    x = torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(layer.gate(x), torch.sigmoid(x.mean((2, 3)) * layer.scales[0].weight.reshape(())))


def test_the_gate_does_not_see_where_in_the_image_a_spectrum_is():
    layer, x = msam.SpectralAttention(), torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(layer.gate(x), layer.gate(x.flatten(2)[:, :, torch.randperm(16)].reshape(2, 16, 4, 4)))


def test_attention_costs_less_than_a_percent():
    ours, plain = msam.UNet(), msam.twin()
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in (ours, plain)]
    assert 0 < sizes[0] - sizes[1] < 0.01 * sizes[1]
    costs = [operations(network, torch.zeros(1, 16, 32, 32)) for network in (ours, plain)]
    assert costs[0] < 1.01 * costs[1]


def test_a_pixel_without_noise_inside_a_material_has_its_spectrum_under_one_light():
    samples = road_scenes.scenes(20, seed=5)
    spectra = road_scenes.spectra()
    for x, labels in zip(samples.inputs["x"], samples.labels, strict=True):
        sky = x[:, :2][:, labels[:2] == road_scenes.SKY].mean(1) if (labels[:2] == road_scenes.SKY).sum() > 20 else None
        road = x[:, 24:][:, labels[24:] == road_scenes.ROAD].mean(1) if (labels[24:] == road_scenes.ROAD).sum() > 60 else None
        if sky is not None and road is not None:
            ratio = (sky / road) / (spectra[road_scenes.SKY] / spectra[road_scenes.ROAD])
            assert np.abs(ratio - 1).mean() < 0.15, "the light cancels between two materials of one scene"


def test_the_task_is_beyond_a_linear_classifier_of_pixels():
    from sklearn.linear_model import LogisticRegression

    train, held_out = road_scenes.scenes(15, seed=5), road_scenes.scenes(100, seed=7)
    flat = [part.inputs["x"].transpose(0, 2, 3, 1).reshape(-1, road_scenes.BANDS) for part in (train, held_out)]
    linear = LogisticRegression(max_iter=60, C=100.0).fit(flat[0], train.labels.ravel())
    scores = linear.decision_function(flat[1]).reshape(100, 32, 32, -1)
    assert MEAN_IOU.compute([scores], held_out.labels) < find("msam").reached - 5


def test_mean_iou_counts_each_class_once():
    labels = np.array([[0, 0, 0, 1]])
    scores = np.eye(3)[[[0, 0, 1, 1]]]
    assert MEAN_IOU.compute([scores], labels) == 100 * np.mean([2 / 3, 1 / 2]), "a class that neither has is left out"
