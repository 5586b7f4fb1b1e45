"""Spiking networks on the emulated board: what was trained, spike for spike but for rounding, or a clear refusal."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgeattn
from edgeattn.devices import find_device
from edgeattn.errors import InputError
from edgeattn.models.sign_language import SignNetwork
from edgeattn.models.spiking import Coincidence, Leaky, SpikingNetwork, Wire, settle
from edgeattn.runtime.emulator import Emulator, synapse_constants

nir = pytest.importorskip("nir", reason="spiking targets need nir: pip install 'edgeattn[spinnaker]'")

from edgeattn.export.network import network_of, spike_counts  # noqa: E402
from edgeattn.export.nir import read_nir, to_nir  # noqa: E402
from edgeattn.targets.spinnaker import TARGET  # noqa: E402
from edgeattn.targets.spinnaker.lower import LARGEST_THETA, lower_network, lower_to_membrane, measure  # noqa: E402

PAPER = Path(__file__).parents[3] / "shared" / "checkpoints" / "sign-language"
NAMES = ("ASL-DVS_35ms", "SL_MNIST_35ms", "SL_MNIST_100ms")


class Small(SpikingNetwork):
    """40 inputs → 30 → 5, random weights that make it fire."""

    input_shape = (40,)

    def __init__(self, beta=0.9, hidden=30, bias=False):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(40, hidden, bias=bias), nn.Linear(hidden, 5, bias=False)
        with torch.no_grad():
            self.first.weight.mul_(4)
            self.second.weight.mul_(6)
        self.one, self.two = Leaky(beta), Leaky(beta)

    def wiring(self):
        return {"one": Wire(self.one, [("input", self.first)]), "two": Wire(self.two, [("one", self.second)])}


class Gated(Small):
    """A population that fires where two others coincide, and a synapse that skips a layer."""

    def __init__(self):
        super().__init__()
        self.other, self.skip = nn.Linear(40, 30, bias=False), nn.Linear(40, 5, bias=False)
        with torch.no_grad():
            self.other.weight.mul_(4)
        self.third = Leaky(0.9)

    def wiring(self):
        return {
            "one": Wire(self.one, [("input", self.first)]),
            "other": Wire(self.third, [("input", self.other)]),
            "both": Wire(Coincidence(), [("one", None), ("other", None)]),
            "two": Wire(self.two, [("both", self.second), ("input", self.skip)]),
        }


def random_events(count, seed=0):
    return (np.random.default_rng(seed).random((count, 25, 40)) < 0.2).astype(np.uint8)


def board_of(module, events, **options):
    network = network_of(to_nir(module))
    return lower_network(network, measure(network, events), **options)


def counts_of(board, events):
    return Emulator(board).run(events).spikes[board.readout].sum(1)


@pytest.mark.parametrize(
    ("module", "same"), [(Small(), 0.95), (Small(bias=True), 0.9), (Gated(), 0.95)], ids=["chain", "bias", "coincidence and skip"]
)
def test_the_emulated_board_gives_the_source_networks_spike_counts(module, same):
    events = random_events(200, seed=1)
    board = board_of(module, random_events(100))
    with torch.no_grad():
        expected = module(torch.from_numpy(events)).numpy()
    counts = counts_of(board, events)
    assert expected.sum() > 500
    assert (counts == expected).all(1).mean() > same


def test_settled_weights_and_leaks_spike_on_the_board_exactly_as_in_the_source_network():
    module, events = Small(), random_events(200, seed=1)
    settle(module)
    board = board_of(module, random_events(100))
    with torch.no_grad():
        expected = module.trains(torch.from_numpy(events))
    spikes = Emulator(board).run(events).spikes
    for depth, name in enumerate(expected):
        np.testing.assert_array_equal(spikes[name][:, depth : depth + 25], expected[name].numpy())
    weights = module.first.weight.detach().numpy().T
    np.testing.assert_array_equal(board.projections[0].weights, LARGEST_THETA * weights)


@pytest.mark.parametrize("beta", [0.3, 0.8, 0.9, 0.95, 0.99])
def test_a_leak_becomes_the_nearest_decay_that_the_board_has(beta):
    def decay(tau):
        return synapse_constants(tau)[0] / 2**32

    (tau,) = {population.tau_syn_e for population in board_of(Small(beta=beta), random_events(100)).populations}
    near = -1 / np.log(beta) + np.arange(-1000, 1001) / 2**15
    assert abs(decay(tau) - beta) == pytest.approx(min(abs(decay(other) - beta) for other in near), abs=1e-9)


def test_reset_by_subtraction_is_what_the_usual_mapping_loses():
    module, events = Small(), random_events(200, seed=1)
    network = network_of(to_nir(module))
    ranges = measure(network, random_events(100))
    with torch.no_grad():
        expected = module(torch.from_numpy(events)).numpy()
    same = {name: (counts_of(board, events) == expected).all(1).mean() for name, board in
            {"synapse": lower_network(network, ranges), "membrane": lower_to_membrane(network, ranges)}.items()}  # fmt: skip
    assert same["synapse"] > same["membrane"] + 0.3


def test_a_spike_at_the_last_step_still_counts():
    module, events = Small(), np.zeros((1, 25, 40), np.uint8)
    events[0, 24] = 1
    with torch.no_grad():
        expected = module(torch.from_numpy(events)).numpy()
    assert expected.sum() > 0
    np.testing.assert_array_equal(counts_of(board_of(module, events), events), expected)


def test_no_ring_buffer_saturates_on_calibration_data():
    events = random_events(100)
    assert sum(Emulator(board_of(Small(), events)).run(events).saturated.values()) == 0


def test_scales_by_neuron_make_few_populations():
    board = board_of(Small(), random_events(100))
    assert all(len(np.unique(population.shifts, axis=1).T) <= 3 for population in board.populations)


def test_a_convolution_becomes_the_dense_matrix_of_its_synapses():
    module = SignNetwork()
    synapses = network_of(to_nir(module)).neurons[0].inputs[0]
    frame = torch.rand(2, 1, 48, 48)
    expected = module.conv1(frame).flatten(1).detach().numpy()
    np.testing.assert_allclose(frame.flatten(1).numpy() @ synapses.weights, expected, atol=1e-5)


def test_our_leaky_neuron_is_snntorchs():
    snn = pytest.importorskip("snntorch", reason="compares with snnTorch itself")
    theirs, ours = snn.Leaky(beta=0.92, reset_mechanism="subtract"), Leaky(0.92)
    torch.manual_seed(0)
    a, b = theirs.init_leaky(), torch.zeros(8, 6)
    for _ in range(50):
        x = torch.rand(8, 6)
        spike_a, a = theirs(x, a)
        spike_b, b = ours(x, b)
        torch.testing.assert_close(spike_a, spike_b)
        torch.testing.assert_close(a, b)


def chain(*nodes):
    named = {"input": nir.Input(input_type={"input": np.array([4])}), **{f"n{i}": node for i, node in enumerate(nodes)}}
    named["output"] = nir.Output(output_type={"output": np.array([4])})
    names = list(named)
    return nir.NIRGraph(nodes=named, edges=list(pairwise(names)), type_check=False)


def full(values, changes):
    return {key: np.full(4, value) for key, value in {**values, **changes}.items()}


def lif(reset="subtract", **changes):
    return nir.LIF(**full({"tau": 0.01, "r": 10.0, "v_leak": 0.0, "v_threshold": 1.0}, changes), metadata={"reset": reset} if reset else {})


def cuba(reset="value", **changes):
    values = {"tau_syn": 0.005, "tau_mem": 0.01, "r": 10.0, "w_in": 5.0, "v_leak": 0.0, "v_threshold": 1.0}
    return nir.CubaLIF(**full(values, changes), metadata={"reset": reset})


def mix(bias=0.0):
    weights = np.random.default_rng(3).normal(0.1, 0.4, (4, 4))
    return nir.Affine(weights, np.full(4, bias)) if bias else nir.Linear(weights)


@pytest.mark.parametrize(
    "nodes",
    [
        (mix(), lif()),
        (mix(0.05), lif()),
        (mix(), lif(v_leak=0.5)),
        (mix(), lif("value")),
        (mix(), lif("hold")),
        (mix(), lif("value", v_reset=0.25)),
        (mix(), cuba()),
        (mix(), nir.IF(r=np.full(4, 1000.0), v_threshold=np.ones(4), metadata={"reset": "subtract"})),
        (mix(), nir.Threshold(np.full(4, 0.3))),
        (nir.Scale(np.full(4, 2.0)), lif(), mix(), lif()),
    ],
    ids=["lif", "bias", "v_leak", "reset to 0", "hold", "v_reset", "cuba", "if", "threshold", "scale and two layers"],
)
def test_each_kind_of_neuron_fires_on_the_board_as_nir_defines_it(nodes):
    network = network_of(chain(*nodes))
    random = np.random.default_rng(5)
    calibration, events = (random.random((100, 40, 4)) < 0.3).astype(np.uint8), (random.random((200, 40, 4)) < 0.3).astype(np.uint8)
    expected = spike_counts(network, events)
    counts = counts_of(lower_network(network, measure(network, calibration)), events)
    assert expected.sum() > 1000
    assert (np.abs(counts - expected) <= 1).all(1).mean() > 0.98
    assert abs(counts.sum() / expected.sum() - 1) < 0.01


FOUR = {"r": np.ones(4), "v_leak": np.zeros(4), "v_threshold": np.ones(4)}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((nir.Linear(np.eye(4)), nir.CubaLI(*[np.ones(4)] * 4), lif()), r"n1 \(CubaLI\) has no mapping"),
        ((nir.Linear(np.eye(4)), nir.LIF(tau=np.array([0.01, 0.02, 0.01, 0.01]), **FOUR)), "n1: tau differs"),
        ((nir.Linear(np.eye(4)), lif(tau=0.0001)), "n1: tau is 0.0001 s, shorter than the time step"),
        ((nir.Linear(np.eye(4)), lif(v_threshold=np.nan)), "n1: v_threshold holds NaN"),
        ((nir.Linear(np.full((4, 4), np.nan)), lif()), "n0: weight holds NaN"),
        ((nir.Linear(np.ones((4, 3))), lif()), r"n0 \(Linear\) takes 3 inputs and receives 4"),
        ((nir.Linear(np.eye(4)), lif("graded")), "n1: its metadata name the reset 'graded'"),
        ((nir.Linear(np.eye(4)),), "must end in one layer of spiking neurons"),
    ],
)  # fmt: skip
def test_what_has_no_mapping_is_named_by_node(nodes, message):
    with pytest.raises(InputError, match=message):
        network_of(chain(*nodes))


def test_two_states_the_board_does_not_have_are_refused():
    network = network_of(chain(mix(), cuba("subtract")))
    with pytest.raises(InputError, match="n1: synaptic currents"):
        lower_network(network, measure(network, np.ones((2, 5, 4), np.uint8)))


def test_a_loop_is_refused():
    graph = chain(nir.Linear(np.eye(4)), lif())
    graph.edges.append(("n1", "n0"))
    with pytest.raises(InputError, match="recurrent"):
        network_of(graph)


def test_a_file_that_leaves_the_reset_open_is_taken_as_nirs_equation_with_a_warning():
    network = network_of(chain(mix(), lif(None)))
    assert network.neurons[0].reset == "value"
    (finding,) = TARGET.check(network, find_device("spinnaker-3")[0])
    assert (finding.severity, finding.node) == ("warning", "n1")


FILES = Path(__file__).parent / "nir"


@pytest.mark.parametrize(("name", "timestep", "reset"), [("snntorch", 1e-4, "subtract"), ("norse", 1e-6, None)])
def test_a_file_of_another_framework_spikes_as_that_framework_does(name, timestep, reset):
    kept = np.load(FILES / f"{name}.npz")
    module = read_nir(FILES / f"{name}.nir", timestep, reset)
    assert kept["counts"].sum() > 700
    np.testing.assert_array_equal(module(torch.from_numpy(kept["events"])).numpy(), kept["counts"])


def test_a_file_of_another_framework_compiles_on_the_users_events(tmp_path):
    np.savez(tmp_path / "events.npz", events=np.concatenate([np.load(FILES / "snntorch.npz")["events"]] * 5))
    options = {"calib": tmp_path / "events.npz", "output": tmp_path / "n.edge", "timestep": 1e-4, "reset": "subtract"}
    compilation = edgeattn.compile(FILES / "snntorch.nir", "spinnaker", **options)
    assert compilation.manifest.parity.agreement >= 0.99
    with pytest.raises(InputError, match="--target spinnaker"):
        edgeattn.compile(FILES / "snntorch.nir", "cpu", **options)


def test_scales_are_not_chosen_from_generated_events_unasked(tmp_path):
    with pytest.raises(InputError, match=r"give --calib events.npz"):
        edgeattn.compile(
            FILES / "norse.nir", "spinnaker", example={"events": np.zeros((4, 30, 8), np.uint8)}, timestep=1e-6, output=tmp_path / "n.edge"
        )


def test_a_truncated_nir_file_is_refused(tmp_path):
    nir.write(tmp_path / "n.nir", chain(mix(), lif()))
    (tmp_path / "n.nir").write_bytes((tmp_path / "n.nir").read_bytes()[:900])
    with pytest.raises(InputError, match="no readable NIR file"):
        read_nir(tmp_path / "n.nir")
