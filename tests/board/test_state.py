"""A board that is saved and restored goes on bit for bit as if nothing had been."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

pytest.importorskip("unicorn", reason="emulated cores need unicorn: pip install 'edgeattn[board]'")

from edgeattn.board.chip import Chip
from edgeattn.board.core import Core
from edgeattn.board.machine import Machine
from edgeattn.board.networks import random_board, random_spikes
from edgeattn.board.oracle import BINARY, map_network
from edgeattn.board.packets import Packet
from edgeattn.board.specification import Loaded
from edgeattn.board.state import FORMAT, restore, save
from edgeattn.errors import InputError

STEPS = 40


def go_on(loaded, spikes, steps):
    """Steps the machine; input spikes come as packets of their sources."""
    senders = [core for core in loaded.specification.cores if loaded.specification.neurons[core.label][0] == "input"]
    for step in steps:
        loaded.machine.step()
        for core in senders:
            for neuron in np.flatnonzero(spikes[step]):
                loaded.machine.inject(core.chip, Packet(core.spike(int(neuron), step)))


def recordings(loaded):
    return [loaded.recording(core, channel) for core in loaded.cores for channel in range(4)]


@pytest.fixture(scope="module")
def halfway(spynnaker, tmp_path_factory):
    """A recurrent network in the middle of its run, the rest of its input, and the folder it was mapped in."""
    board, folder = random_board(2, populations=3, size=20), tmp_path_factory.mktemp("network")
    loaded, spikes = Loaded(map_network(board, folder, STEPS), (BINARY,)), random_spikes(2, STEPS + 1, board.inputs)
    loaded.begin(STEPS)
    go_on(loaded, spikes, range(STEPS // 2))
    save(loaded.machine, folder / "board.state", host={"tag": 3})
    return loaded, spikes, folder


def test_a_restored_board_ends_with_the_same_recordings(halfway):
    loaded, spikes, folder = halfway
    machine, host = restore(folder / "board.state")
    assert host == {"tag": 3}
    go_on(loaded, spikes, range(STEPS // 2, STEPS + 1))
    whole, early = recordings(loaded), loaded.machine
    loaded.machine = machine
    go_on(loaded, spikes, range(STEPS // 2, STEPS + 1))
    assert recordings(loaded) == whole
    assert sum(map(len, whole)) > 4 * 60 * STEPS
    assert machine.lost == early.lost


def test_what_is_restored_is_saved_as_it_was(halfway):
    _, _, folder = halfway
    machine, host = restore(folder / "board.state")
    save(machine, folder / "again.state", host)
    with zipfile.ZipFile(folder / "board.state") as first, zipfile.ZipFile(folder / "again.state") as second:
        assert first.namelist() == second.namelist()
        for name in first.namelist():
            assert first.read(name) == second.read(name), name


def test_every_attribute_of_a_device_is_kept_or_never_changes(halfway):
    loaded, _, _ = halfway
    for chip in loaded.machine.chips.values():
        fresh = unused(chip)
        for device, new in zip(devices(chip), fresh, strict=True):
            for name, value in vars(new).items():
                if name not in (*device.STATE, "hops", "_cache") and not callable(value):
                    assert getattr(device, name) == value, f"{type(device).__name__}.{name} changes and is not in STATE"


def devices(chip):
    """In a fixed order."""
    parts = [(core.timers.first, core.timers.second, core.packets, core.dma, core.interrupts) for core in chip.cores.values()]
    return [chip.system, chip.router, *(device for part in parts for device in part)]


def unused(chip):
    """The devices of a chip with the same cores that nobody used."""
    new = Chip(chip.place, lambda chip, packet: None, lambda chip, message: None)
    new.cores = {number: Core(new, number) for number in chip.cores}
    return devices(new)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state.json": json.dumps({"format": FORMAT + 1})}, f"in format {FORMAT + 1}; read is format {FORMAT}"),
        ({"other": "x"}, "holds no board's state"),
        (None, "holds no board's state"),
    ],
)
def test_a_file_without_a_state_is_refused(tmp_path, content, message):
    path = tmp_path / "s"
    if content is None:
        path.write_bytes(b"nothing of the kind")
    else:
        with zipfile.ZipFile(path, "w") as file:
            for name, text in content.items():
                file.writestr(name, text)
    with pytest.raises(InputError, match=message):
        restore(path)


def test_a_state_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    place = tmp_path / "state"
    place.mkdir()
    with pytest.raises(InputError, match="cannot be written to .*state: Is a directory"):
        save(Machine([(0, 0)]), place)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
