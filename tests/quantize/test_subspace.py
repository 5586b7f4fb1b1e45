"""Linear layers on the subspaces of their inputs: the rewriting itself, and as an option of the compiler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import edgeattn
from edgeattn.errors import InputError
from edgeattn.export.trace import run_module, trace
from edgeattn.models.reference import Reference, Samples
from edgeattn.models.registry import weights_file
from edgeattn.quantize.subspace import in_subspace
from edgeattn.runtime.manifest import TensorSpec


def flat_inputs(rank: int, count: int = 200) -> np.ndarray:
    """(count, 3, 16) float32 that fill only `rank` dimensions."""
    random = np.random.default_rng(rank)
    return (random.standard_normal((count, 3, rank)) @ random.standard_normal((rank, 16))).astype(np.float32)


class Renamed(nn.Module):
    """The input is called x, whatever the network calls it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


@pytest.fixture
def network():
    torch.manual_seed(0)
    module = Renamed(nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 20, bias=False)))
    reference = Reference("network", lambda: module, (TensorSpec(name="x", shape=("batch", 3, 16), dtype="float32"),), ("y",), "a test", "regression")
    return trace(reference, {"x": flat_inputs(4, 2)})


def test_inputs_that_fill_few_dimensions_lose_nothing(network):
    x = flat_inputs(4)
    reduced = in_subspace(network, 0.999999, Samples({"x": x}))
    assert reduced.ranks["inner.0"] == 4 and "inner.2" not in reduced.ranks
    assert reduced.weights == (16 * 24 + 24 * 20, 4 * (16 + 24) + 24 * 20)
    np.testing.assert_allclose(run_module(reduced.reference.module(), {"x": x})[0], network.run({"x": x})[0], atol=2e-2)


def test_keeping_more_of_the_inputs_costs_less_accuracy(network):
    x = np.random.default_rng(0).standard_normal((200, 3, 16)).astype(np.float32) * np.geomspace(1, 0.01, 16, dtype=np.float32)
    expected = network.run({"x": x})[0]
    outputs = [run_module(in_subspace(network, kept, Samples({"x": x})).reference.module(), {"x": x})[0] for kept in (0.5, 0.9, 0.99)]
    errors = [float(np.abs(output - expected).mean()) for output in outputs]
    assert errors == sorted(errors, reverse=True) and errors[0] > 2 * errors[-1] > 0


def test_the_network_it_was_made_from_stays_as_it_was(network):
    x = flat_inputs(4)
    before = network.run({"x": x})[0]
    in_subspace(network, 0.9, Samples({"x": x}))
    np.testing.assert_array_equal(network.run({"x": x})[0], before)


@pytest.mark.parametrize(("kept", "message"), [(1.5, "share between 0 and 1"), (0.99999999, "no linear layer of network becomes smaller")])
def test_a_share_that_makes_no_sense_is_refused(network, kept, message):
    with pytest.raises(InputError, match=message):
        in_subspace(network, kept, Samples({"x": np.random.default_rng(0).standard_normal((200, 3, 16)).astype(np.float32)}))


def test_a_reduced_network_is_judged_against_the_one_it_came_from(tmp_path):
    result = edgeattn.compile(weights_file("ister"), "cpu", subspace=0.97, precision="fp32", output=tmp_path / "b.edge", force=True)
    parity = result.manifest.parity
    assert parity.relative_error > 1e-3, "the gate compared the reduced network with itself"
    assert next(check.detail for check in result.manifest.checks if check.name == "subspace 0.97").startswith("linear layers reduced: ")
    assert edgeattn.verify(result.bundle).checks


def test_spiking_networks_have_no_such_option(tmp_path):
    with pytest.raises(InputError, match="--subspace is for networks of linear layers"):
        edgeattn.compile(weights_file("spike_attention"), "spinnaker", subspace=0.9, output=tmp_path / "b.edge")
