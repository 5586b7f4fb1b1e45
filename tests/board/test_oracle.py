"""The emulator against the binary that sPyNNaker puts on a board, bit for bit; sPyNNaker makes the data regions, its wheel holds the code."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("unicorn", reason="emulated cores need unicorn: pip install 'edgeattn[board]'")
if importlib.util.find_spec("spynnaker") is None:
    pytest.skip("the binaries come with sPyNNaker: pip install 'edgeattn[board]'", allow_module_level=True)

import edgeattn
from edgeattn.board.networks import random_board, random_spikes
from edgeattn.board.oracle import compare, map_network, run_binary, run_emulator
from edgeattn.models.fingerspelling import letters
from edgeattn.models.registry import weights_file
from edgeattn.runtime.emulator import Board, Emulator, Population, Projection
from edgeattn.runtime.spiking import unpack_board


def assert_identical(board, folder, spikes, steps):
    result = compare(board, folder, spikes, steps)
    assert result.identical, result.first
    return result


def test_a_random_network_is_identical_in_every_state_and_spike(tmp_path):
    board, spikes = random_board(1, populations=6, size=16), random_spikes(1, 246, 40)
    result = assert_identical(board, tmp_path, spikes, 250)
    assert result.compared["membrane"] == 6 * 16 * 250


def test_full_ring_buffers_and_overflowing_states_are_identical(tmp_path):
    shifts = np.full((2, 8), 9)
    weights = np.linspace(200, 1000, 12 * 8).reshape(12, 8).astype(np.float32) * np.where(np.arange(8) % 2, 1, -1)
    weights = (np.rint(weights * 64) / 64).astype(np.float32)
    layer = Population("one", 8, 2.0, 0.002, 30.0, 20.0, -65.0, -65.0, -50.0, 2.0, shifts)
    board = Board(12, (layer,), (Projection("input", "one", weights),), "one", 1)
    spikes = random_spikes(5, 99, 12)
    emulated = Emulator(board).run(spikes[None])
    assert emulated.saturated["one"] > 0
    states = run_emulator(board, spikes, 100).states["one"][0]
    assert np.abs(states).max() > 2**30, "the membrane reaches the end of s16.15"
    assert_identical(board, tmp_path, spikes, 100)


def test_a_network_of_several_cores_is_identical(tmp_path):
    board = random_board(3, populations=2, size=70)
    board = replace(board, populations=tuple(replace(population, per_core=32) for population in board.populations))
    specification = map_network(board, tmp_path, 60)
    assert len([core for core in specification.cores if core.label.startswith("layer")]) == 6
    spikes = random_spikes(3, 56, 40)
    theirs, ours = run_binary(board, specification, spikes), run_emulator(board, spikes, 60)
    for name, states in ours.states.items():
        np.testing.assert_array_equal(theirs.states[name], states)
        np.testing.assert_array_equal(theirs.spikes[name], ours.spikes[name])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 18))
def test_a_thousand_steps_of_random_networks_are_identical(seed, tmp_path):
    assert_identical(random_board(seed, populations=8), tmp_path, random_spikes(seed, 1196, 40), 1200)


@pytest.mark.slow
def test_the_compiled_sign_network_is_identical_in_every_population(tmp_path):
    samples = letters(60, seed=4)
    np.savez(tmp_path / "letters.npz", events=samples.inputs["events"], labels=samples.labels)
    bundle = edgeattn.compile(
        weights_file("sign_language"), "spinnaker", calib=tmp_path / "letters.npz", output=tmp_path / "sign.edge", force=True
    ).bundle
    board = unpack_board((bundle / "mapping.json").read_bytes(), (bundle / "weights.safetensors").read_bytes())
    events = np.asarray(samples.inputs["events"][0]).reshape(-1, board.inputs)
    assert_identical(board, tmp_path, events, len(events) + board.steps_after)
