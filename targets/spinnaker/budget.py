"""Does the network fit the machine, and how much of it does it take: checked before anything is mapped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...devices import Device
from ...errors import InputError
from ...runtime.emulator import Board

NEURONS_PER_CORE = 256  # sPyNNaker's default for IF_curr_exp; a spike source array of any size takes one core
SYSTEM_CORES = 2  # of a chip's 18: the monitor, and one for the tools' own use
BYTES_PER_SYNAPSE = 4  # a fixed synapse is one word: weight, delay, type and neuron (synapse_row.h)


@dataclass(frozen=True)
class Budget:
    """An estimate. cores: one for the input, one for biases, ceil(neurons / 256) per population; synapse_bytes: 4 for every nonzero weight."""

    populations: int
    cores: int
    synapses: int
    synapse_bytes: int


def budget_of(board: Board) -> Budget:
    """The estimate, by the formulas of `Budget`; neurons of one shift pair form one population."""
    sizes: list[int] = []
    for population in board.populations:
        _, counts = np.unique(population.shifts, axis=1, return_counts=True)
        sizes += [int(count) for count in counts]
    sources = {projection.source for projection in board.projections} - {population.name for population in board.populations}
    cores = len(sources) + sum(-(-size // NEURONS_PER_CORE) for size in sizes)
    synapses = sum(int(np.count_nonzero(projection.weights)) for projection in board.projections)
    return Budget(len(sizes), cores, synapses, BYTES_PER_SYNAPSE * synapses)


def check_budget(board: Board, device: Device) -> Budget:
    """Raises InputError, saying what to change, for a network that exceeds the device's cores or memory."""
    budget = budget_of(board)
    chips = int(device.extra["chips"].value)
    usable = chips * (int(device.extra["cores_per_chip"].value) - SYSTEM_CORES)
    if budget.cores > usable:
        raise InputError(f"the network needs about {budget.cores} cores, {device.name} has {usable} for it: use fewer neurons or more boards.")
    memory = device.memory_bytes.value if device.memory_bytes else float("inf")
    if budget.synapse_bytes > memory:
        raise InputError(f"the network's synapses need about {budget.synapse_bytes:,} bytes, {device.name} has {memory:,.0f}: prune it.")
    return budget
