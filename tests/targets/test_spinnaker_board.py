"""Spinnaker bundles and the board they are for: what they take of it, what a core is asked to do, and what is refused before it is mapped."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import edgeattn
from edgeattn.devices import find_device
from edgeattn.errors import BundleError, InputError
from edgeattn.models.fingerspelling import letters
from edgeattn.models.sign_language import SignNetwork
from edgeattn.runtime.emulator import ALWAYS, Board, Population, Projection
from edgeattn.runtime.spiking import pack_board, unpack_board

nir = pytest.importorskip("nir", reason="spiking targets need nir: pip install 'edgeattn[spinnaker]'")

from edgeattn.targets.spinnaker import TARGET  # noqa: E402
from edgeattn.targets.spinnaker.budget import budget_of, check_budget  # noqa: E402
from edgeattn.targets.spinnaker.energy import activity_of, joules  # noqa: E402
from edgeattn.targets.spinnaker.load import EVENTS_PER_STEP, PACKETS_PER_STEP, spread  # noqa: E402

PAPER = Path(__file__).parents[3] / "shared" / "checkpoints" / "sign-language"
NAMES = ("ASL-DVS_35ms", "SL_MNIST_35ms", "SL_MNIST_100ms")


def chain(weights, delay=1, shifts=None):
    """Sources of one weight matrix into one population."""
    inputs, size = weights.shape
    shifts = np.zeros((2, size), np.int64) if shifts is None else shifts
    population = Population("one", size, 0.05, 0.05, 12.0, 12.0, 0.0, 0.0, 64.0, 0.0, shifts)
    return Board(inputs, (population,), (Projection("input", "one", weights.astype(np.float32), delay),), "one", 1)


def fired(samples, steps, size, count):
    """Trains in which `count` neurons fire in every step."""
    trains = np.zeros((samples, steps, size), np.uint8)
    trains[..., :count] = 1
    return trains


def test_a_population_is_spread_until_its_cores_keep_up():
    board = chain(np.ones((600, 512)))
    calm = spread(board, {"input": fired(2, 3, 600, 10)})
    busy = spread(board, {"input": fired(2, 3, 600, 90)})
    assert calm.populations[0].per_core == 256
    assert busy.populations[0].per_core == 32  # 90 x 32 = 2,880 events in a step; 90 x 64 = 5,760 would be too many
    assert 90 * busy.populations[0].per_core <= EVENTS_PER_STEP
    assert budget_of(busy).cores == 512 // 32 + 1


def test_a_network_that_no_spreading_helps_runs_slower():
    board = spread(chain(np.ones((2304, 64))), {"input": fired(1, 2, 2304, 700)})
    assert board.populations[0].per_core == 16
    assert board.time_scale == 3  # 700 x 16 = 11,200 events


def test_a_busy_input_is_dealt_out_over_cores():
    trains = np.zeros((1, 2, 1000), np.uint8)
    trains[:, :, :250] = 1
    board = spread(chain(np.eye(1000)), {"input": trains})
    assert board.input_parts == 3
    assert max(trains[0, 0, part::3].sum() for part in range(3)) <= PACKETS_PER_STEP


def test_memory_is_rows_as_long_as_the_longest():
    weights = np.zeros((10, 4))
    weights[0], weights[1, 0] = 1, -1
    # ten rows of four excitatory and ten of one inhibitory synapse, each with three words of header, and the rest of one core
    assert budget_of(chain(weights)).sdram == 10 * (12 + 4 * 4) + 10 * (12 + 4 * 1) + 524 * 4 + 1600


def test_a_skip_longer_than_a_ring_buffer_is_refused():
    board = chain(np.ones((4, 256)), delay=40)
    with pytest.raises(InputError, match="skip 40 layers.*DTCM"):
        check_budget(board, find_device("spinnaker-5")[0])
    check_budget(chain(np.ones((4, 16)), delay=40), find_device("spinnaker-5")[0])


def test_energy_counts_what_was_emulated():
    weights = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    board = chain(weights)
    trains = {"input": np.array([[[1, 1], [1, 0]]], np.uint8), "one": np.array([[[0, 0, 0], [1, 0, 1]]], np.uint8)}
    activity = activity_of(board, {**trains, ALWAYS: np.ones((1, 2, 1), np.uint8)})
    assert (activity.input_spikes, activity.spikes, activity.synaptic_events, activity.updates) == (3, 2, 2 * 2 + 1, 6)
    assert joules(board, budget_of(board), activity) == pytest.approx(0.002 * (0.35 + 2 * 0.034) + 5e-9)
    assert joules(replace(board, time_scale=2), budget_of(board), activity) > joules(board, budget_of(board), activity)


@pytest.mark.parametrize("density", [0.02, 1.0])
def test_weights_come_back_from_the_bundle_as_they_were(density):
    random = np.random.default_rng(0)
    weights = random.normal(size=(50, 30)) * (random.random((50, 30)) < density)
    files = pack_board(chain(weights))
    board = unpack_board(files["mapping.json"], files["weights.safetensors"])
    np.testing.assert_array_equal(board.projections[0].weights, weights.astype(np.float32))
    assert len(files["weights.safetensors"]) < 4 * weights.size + 2000
    with pytest.raises(BundleError, match="recompile"):
        unpack_board(files["mapping.json"], files["weights.safetensors"][:200])


def test_a_network_that_exceeds_the_board_is_refused():
    with pytest.raises(InputError, match=r"needs about \d+ cores, spinnaker-3 has 64"):
        check_budget(chain(np.full((40, 17000), 0.1)), find_device("spinnaker-3")[0])


@pytest.fixture(scope="module")
def sign_bundle(tmp_path_factory):
    """The sign network with random weights, compiled by force if it misses the gate: what matters here is the bundle."""
    torch.manual_seed(0)
    module = SignNetwork()
    with torch.no_grad():
        for synapses in (module.conv1, module.fc1, module.readout):
            synapses.weight.mul_(3)
    folder = tmp_path_factory.mktemp("sign")
    torch.save({"model_state_dict": module.state_dict()}, folder / "sign.pt")
    np.savez(folder / "events.npz", events=letters(60, seed=4).inputs["events"])
    return edgeattn.compile(folder / "sign.pt", "spinnaker", calib=folder / "events.npz", output=folder / "sign.edge", force=True).bundle


def test_a_spiking_bundle_verifies_without_torch_or_nir(sign_bundle):
    code = "import sys, edgeattn; r = edgeattn.verify(sys.argv[1]); print(r.checks); assert 'torch' not in sys.modules and 'nir' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(sign_bundle)], check=True)
    checks = {check.name: check.ok for check in edgeattn.verify(sign_bundle).checks}
    assert checks["golden vectors"]
    assert checks["integrity"]


def test_the_kept_nir_graph_is_the_network(sign_bundle):
    graph = nir.read(sign_bundle / "network.nir")
    assert [type(node).__name__ for node in graph.nodes.values()].count("LIF") == 3


def test_events_that_are_no_spikes_are_refused(sign_bundle):
    session = edgeattn.load(sign_bundle)
    with pytest.raises(InputError, match="events holds 3"):
        session.run(events=np.full((1, 35, 48, 48), 3, np.uint8))
    with pytest.raises(InputError, match="events has shape"):
        session.run(events=np.zeros((1, 35, 40, 48), np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_checkpoints_lose_less_than_one_point(name, tmp_path):
    checkpoint = PAPER / f"{name}_model.pt"
    if not checkpoint.is_file():
        pytest.skip("the paper's weights are not here; they carry no licence and are never copied into the project")
    plain = edgeattn.compile(checkpoint, "spinnaker", output=tmp_path / "b.edge").to_json()
    agreement = {candidate["name"]: candidate["agreement"] for candidate in plain["candidates"]}
    assert plain["parity"]["agreement"] >= 0.99
    assert agreement["membrane, hard reset"] < 0.8, "the usual mapping is the rung to beat"


def on_board(bundle, *options):
    """The bundle's own script, as a user starts it; (exit code, stdout, stderr)."""
    if importlib.util.find_spec("spynnaker") is None:
        pytest.skip("mapping needs sPyNNaker: pip install 'edgeattn[spinnaker]'")
    command = [sys.executable, bundle / "device" / "run_on_board.py", *options]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TMPDIR": folder}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert not os.listdir(folder), "nothing is left behind"
    return result.returncode, result.stdout, result.stderr


def assert_mapped_as_estimated(bundle):
    code, out, error = on_board(bundle, "--virtual", "--samples", "2")
    assert code == 0, error[-2000:]
    used = json.loads(next(line for line in out.splitlines() if line.startswith('{"mapped"')))["mapped"]
    kept = edgeattn.Bundle.open(bundle)
    estimate = budget_of(unpack_board(kept.read("mapping.json"), kept.read("weights.safetensors")))
    assert used["cores"] == pytest.approx(estimate.cores, rel=0.1)
    assert used["sdram_bytes"] == pytest.approx(estimate.sdram, rel=0.1)
    assert used["routing_entries"] == pytest.approx(estimate.entries, rel=0.1)
    assert "too many spikes" not in out + error


@pytest.mark.slow
def test_the_virtual_board_maps_the_bundle_as_estimated(sign_bundle):
    assert_mapped_as_estimated(sign_bundle)


@pytest.mark.slow
def test_the_virtual_board_maps_attention_as_estimated(tmp_path):
    samples = letters(60, seed=4)
    np.savez(tmp_path / "letters.npz", events=samples.inputs["events"], labels=samples.labels)
    weights = edgeattn.models.registry.find("spike_attention").weights
    edgeattn.compile(weights, "spinnaker", calib=tmp_path / "letters.npz", output=tmp_path / "a.edge", force=True)
    assert_mapped_as_estimated(tmp_path / "a.edge")


@pytest.mark.slow
def test_a_board_that_does_not_answer_is_named(sign_bundle):
    code, _, error = on_board(sign_bundle, "--board", "192.0.2.1", "--timeout", "5")
    assert code == 2
    assert "board 192.0.2.1 cannot be reached" in error.splitlines()[-1]


def test_the_target_says_what_only_a_board_can_settle(sign_bundle):
    manifest = edgeattn.load(sign_bundle).manifest
    assert any("run_on_board.py" in left for left in manifest.left_to_device)
    assert TARGET.form == "nir"
