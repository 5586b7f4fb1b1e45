"""MambaRain: which axis each mixer sees, its loss, and rain that wind and terrain explain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeattn.models import mambarain
from edgeattn.models.data import rain
from edgeattn.models.registry import find


@pytest.fixture
def small():
    torch.manual_seed(0)
    return mambarain.MambaRain(side=8, dim=8, depth=1, heads=2, state=2).eval()


def test_time_is_scanned_at_each_place_alone_and_only_forwards():
    torch.manual_seed(0)
    mixer, x = mambarain.AlongTime(mambarain.Mamba(4, state=2)).eval(), torch.randn(2, 6, 3, 4)
    for place in range(3):
        torch.testing.assert_close(mixer(x)[:, :, place], mixer.mixer(x[:, :, place]))
    moved = x.clone()
    moved[:, 4] += 1
    torch.testing.assert_close(mixer(x)[:, :4], mixer(moved)[:, :4])
    assert not torch.allclose(mixer(x)[:, 5], mixer(moved)[:, 5])


def test_space_is_attended_in_each_frame_alone():
    torch.manual_seed(0)
    mixer, x = mambarain.InSpace(4, heads=2).eval(), torch.randn(2, 6, 3, 4)
    for frame in range(6):
        torch.testing.assert_close(mixer(x)[:, frame], mixer.mixer(x[:, frame]))


def test_a_state_that_nothing_is_written_to_makes_every_past_look_alike(small):
    past, terrain = torch.rand(2, 8, 8, 8), torch.zeros(2, 1, 8, 8)
    with torch.no_grad():
        assert not torch.allclose(*small(past, terrain))
        mamba = small.blocks[0].attention.mixer
        mamba.parameters_of.write.weight.zero_()
        mamba.parameters_of.write.bias.zero_()
        mamba.conv.weight[:, :, :-1] = 0  # the convolution over four steps is the only other way through time
        torch.testing.assert_close(*small(past, terrain))


def test_amplitudes_ignore_where_rain_is_and_keep_its_power():
    torch.manual_seed(0)
    frames = torch.rand(3, 8, 8)
    torch.testing.assert_close(mambarain.spectrum(frames.roll((2, 3), (1, 2))), mambarain.spectrum(frames))
    whole = torch.fft.fft2(frames, norm="ortho").abs()
    torch.testing.assert_close(whole.square().sum(), frames.square().sum())
    torch.testing.assert_close(mambarain.spectrum(frames), whole[..., :5])
    assert mambarain.loss(0.5)(frames, frames) == 0
    assert mambarain.loss(0.5)(frames, frames.roll(1, 1)) == mambarain.loss(0.0)(frames, frames.roll(1, 1))


def test_the_success_index_counts_hits_among_hits_misses_and_false_alarms():
    truth, forecast = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])
    assert mambarain.csi(forecast, truth) == pytest.approx(100 * 2 / 4)


def test_rain_moves_with_the_wind(monkeypatch):
    monkeypatch.setattr(rain, "LIFT", 0.0)
    known = rain.scenes(200, seed=3, past=8, future=12, side=48, cells=1)
    weight = known.future / np.maximum(known.future.sum((2, 3), keepdims=True), 1e-9)
    axis = np.arange(48)
    centre = np.stack([(weight.sum(3) * axis).sum(2), (weight.sum(2) * axis).sum(2)], -1)
    inside = ((centre > 10) & (centre < 37)).all((1, 2))
    assert inside.sum() > 5
    np.testing.assert_allclose((centre[inside, -1] - centre[inside, 0]) / 11, known.wind[inside], atol=0.03)


def test_rain_is_stronger_where_the_wind_climbs():
    plain, lifted = [], []
    for lift, found in ((0.0, plain), (rain.LIFT, lifted)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rain, "LIFT", lift)
            found.append(rain.scenes(40, seed=4, past=8, future=12))
    slope = (np.stack(np.gradient(plain[0].terrain[:, 0], axis=(1, 2)), -1) * plain[0].wind[:, None, None]).sum(-1)
    factor = lifted[0].future[:, 0] / np.maximum(plain[0].future[:, 0], 1e-12)
    wet = plain[0].future[:, 0] > 1e-3
    np.testing.assert_allclose(factor[wet], (1 + rain.LIFT * np.maximum(slope, 0))[wet], rtol=1e-3)


def test_a_linear_forecast_is_clearly_worse():
    data, held_out = mambarain.samples(600, 31), mambarain.evaluation()
    x, other = (
        np.concatenate([*(array.reshape(len(part), -1) for array in part.inputs.values()), np.ones((len(part), 1))], 1) for part in (data, held_out)
    )
    weights = np.linalg.solve(x.T @ x + 30 * np.eye(x.shape[1]), x.T @ data.truth.reshape(len(data), -1))
    linear = mambarain.csi((other @ weights).reshape(held_out.truth.shape), held_out.truth)
    assert linear < find("mambarain").reached - 3, f"a linear forecast reaches {linear:.1f}"
