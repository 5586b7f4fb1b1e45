"""Hardmax attention: the limit of softmax, its leaders, and a network that is integers throughout."""

from __future__ import annotations

import pytest
import torch

import edgeattn
from edgeattn.models import hardmax
from edgeattn.models.registry import find
from edgeattn.models.training import tensors


def test_hardmax_is_the_limit_of_softmax_attention_as_its_temperature_falls():
    torch.manual_seed(0)
    z = torch.randn(4, 12, 5)
    layer = hardmax.HardmaxAttention().eval()
    errors = [float((hardmax.softly(z, temperature) - layer(z)).abs().max()) for temperature in (1.0, 0.1, 1e-4)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-5


def test_a_leader_never_moves_and_every_norm_grows_or_stays():
    torch.manual_seed(0)
    z = torch.randn(6, 20, 4)
    leads = hardmax.pointed_at(z) == torch.arange(20)
    moved = (z + hardmax.HardmaxAttention().eval()(z)) / 2
    torch.testing.assert_close(moved[leads], z[leads])
    assert bool((moved.norm(dim=-1) >= z.norm(dim=-1) - 1e-6)[~leads].all()), "a follower's product with its target exceeds its own square"


def test_many_steps_leave_as_many_places_as_there_are_leaders_or_pairs_of_them():
    z = torch.randn(1, 30, 2, generator=torch.Generator().manual_seed(1))
    for _ in range(200):
        z = (z + hardmax.HardmaxAttention().eval()(z)) / 2
    leaders = z[0, (hardmax.pointed_at(z) == torch.arange(30))[0]]
    assert len(torch.unique((z[0] * 1e3).round(), dim=0)) < 30 and len(leaders) < 30
    hull = (z @ leaders.T.expand(1, 2, len(leaders))).argmax(-1)[0]
    assert float((z[0] - leaders[hull]).norm(dim=1).max()) < 1e-2


def test_the_label_is_the_sign_of_the_strongest_planted_word():
    chosen, samples = hardmax.words(200, 3), hardmax.sentences(200, 3)
    direction = hardmax.vocabulary()[hardmax.VOCABULARY - 1] - hardmax.vocabulary()[hardmax.VOCABULARY - 2]
    along = (samples.inputs["x"] * direction[:, None]).sum(1)
    strongest = along[range(200), chosen.argmax(1)]
    assert ((strongest > 0) == (samples.labels == 1)).mean() > 0.97
    assert ((chosen >= hardmax.NEUTRAL).sum(1) >= 4).all()


def test_the_task_is_beyond_a_linear_classifier():
    from sklearn.linear_model import RidgeClassifier

    train, held_out = hardmax.sentences(4000, 100), hardmax.evaluation()
    flat = [part.inputs["x"].reshape(len(part), -1) for part in (train, held_out)]
    assert 100 * RidgeClassifier().fit(flat[0], train.labels).score(flat[1], held_out.labels) < find("hardmax").reached - 5


def test_the_figures_show_clusters_led_by_planted_words():
    figures = hardmax.measure()
    assert figures["leaders per sentence"] < 6 and figures["leaders that are sentiment words, %"] > 60


@pytest.mark.parametrize("device", ["x86-avx512-vnni", "x86-avx2"])
def test_the_bundle_holds_no_float_between_its_input_and_its_scores(device, tmp_path):
    compilation = edgeattn.compile(find("hardmax").weights, device, model="hardmax", output=tmp_path / "it.edge")
    assert [candidate.name for candidate in compilation.candidates if candidate.chosen] == ["int8 throughout"]
    operators = next(check.detail for check in compilation.manifest.checks if check.name == "engine graph read back")
    kinds = {part.split()[1] for part in operators.split(", ")}
    on_integers = {"ArgMax", "Expand", "GatherElements", "Reshape", "Transpose", "Unsqueeze"}
    assert {kind for kind in kinds if "Integer" not in kind and "QLinear" not in kind} == on_integers | {"QuantizeLinear"}


def test_straight_through_training_has_the_hard_value_and_a_gradient():
    layer, z = hardmax.HardmaxAttention(), torch.randn(2, 6, 3, requires_grad=True)
    torch.testing.assert_close(layer.train()(z), layer.eval()(z))
    layer.train()(z).sum().backward()
    assert float(z.grad.abs().max()) > 0
    assert tensors({"x": hardmax.evaluation().inputs["x"][:1]})["x"].shape == (1, hardmax.FEATURES, hardmax.TOKENS)
