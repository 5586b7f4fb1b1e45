"""Does the network fit the machine, and how much of it does it take: checked before anything is mapped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...devices import Device
from ...errors import InputError
from ...runtime.emulator import ALWAYS, Board, Population
from .load import membership, parts_of

SYSTEM_CORES = 2  # of a chip's 18: the monitor, and one for the tools' own use
CORES_PER_CHIP = 18 - SYSTEM_CORES
ROW_HEADER, SYNAPSE = 12, 4  # bytes: a row's three words, and one word a fixed synapse (synapse_row.h)
PER_NEURON, PER_CORE = 524, 1600  # bytes of a core's other regions for IF_curr_exp, as sPyNNaker 1!7.4.1 sizes them
ENTRIES = 1023  # of a chip's routing table that an application may use
RING_BITS = 14  # of a ring buffer's index in DTCM: neurons, two receptors, delay (sPyNNaker's MAX_RING_BUFFER_BITS)


@dataclass(frozen=True)
class Budget:
    """An estimate of what the mapper will use.

    cores: input_parts, one for biases, and ceil(neurons / per_core) a population; sdram: bytes on the cores of neurons, rows as long as the
    longest of their matrix (12 + 4 synapses) plus 1600 + 524 neurons a core; entries: of the fullest routing table when cores fill chips in
    the order of the signal: one for each way that spikes of a population take from there.
    """

    populations: int
    cores: int
    synapses: int
    sdram: int
    entries: int


def budget_of(board: Board) -> Budget:
    """The estimate, by the formulas of `Budget`; neurons of one shift pair form one population."""
    parts = {"input": [np.arange(part, board.inputs, board.input_parts) for part in range(board.input_parts)]}
    if any(projection.source == ALWAYS for projection in board.projections):
        parts[ALWAYS] = [np.arange(1)]
    per_core = dict.fromkeys(parts, board.inputs)
    for population in board.populations:
        parts[population.name], per_core[population.name] = parts_of(population), population.per_core
    cores = {name: [part[at : at + per_core[name]] for part in parts[name] for at in range(0, len(part), per_core[name])] for name in parts}
    return Budget(
        populations=sum(len(parts[population.name]) for population in board.populations),
        cores=sum(len(of) for of in cores.values()),
        synapses=sum(int(np.count_nonzero(projection.weights)) for projection in board.projections),
        sdram=sum(_sdram(board, population, parts, per_core) for population in board.populations),
        entries=_entries(board, cores),
    )


def _entries(board: Board, cores: dict[str, list[np.ndarray]]) -> int:
    """Entries of the fullest routing table. Cores are placed in the order of the signal; spikes go to the cores that have synapses for them, and
    cores of one population whose spikes leave a router the same way share an entry."""
    first = dict(zip(cores, np.cumsum([0] + [len(of) for of in cores.values()]), strict=False))
    member = {population.name: membership(population) for population in board.populations}
    member |= {"input": np.arange(board.inputs) % board.input_parts, ALWAYS: np.zeros(1, int)}
    count = sum(len(of) for of in cores.values())
    chip = _chips(board, cores, member)
    reached = np.zeros((count, count), bool)
    for projection in board.projections:
        before, after = cores[projection.source], cores[projection.target]
        rows = np.add.reduceat(projection.weights[np.concatenate(before)] != 0, _starts(before), axis=0)
        pairs = np.add.reduceat(rows[:, np.concatenate(after)], _starts(after), axis=1) > 0
        top, left = first[projection.source], first[projection.target]
        reached[top : top + len(before), left : left + len(after)] |= pairs
    routes: set[tuple[int, str, int, tuple[int, ...], bytes]] = set()
    for name, of in cores.items():
        for core, neurons in enumerate(of, first[name]):
            home, targets = int(chip[core]), set(chip[reached[core]].tolist())
            abroad = targets - {home, 0}
            through = {0} if abroad and home else set()  # neighbours of the first chip reach each other across it
            for where in {home} | targets | through:
                onward = tuple(sorted(targets - {where} if where == home else abroad if where == 0 else ()))
                routes.add((where, name, member[name][neurons[0]], onward, (reached[core] & (chip == where)).tobytes()))
    return int(max(np.bincount([route[0] for route in routes])))


def _chips(board: Board, cores: dict[str, list[np.ndarray]], member: dict[str, np.ndarray]) -> np.ndarray:
    """The chip of each core, as sPyNNaker's placer fills them: in order, and on to a fresh chip after a population that did not fit on one."""
    populations = [(name, int(member[name][neurons[0]])) for name, of in cores.items() for neurons in of]
    chips: list[int] = []
    chip, used = 0, 1  # the first one carries one more of the tools' cores
    for index, population in enumerate(populations):
        fresh = index > 0 and population != populations[index - 1]
        if used == CORES_PER_CHIP or (fresh and chips[-1] != chips[populations.index(populations[index - 1])]):
            chip, used = chip + 1, 0
        chips.append(chip)
        used += 1
    return np.array(chips)


def _starts(cores: list[np.ndarray]) -> np.ndarray:
    return np.cumsum([0] + [len(core) for core in cores[:-1]])


def _sdram(board: Board, population: Population, parts: dict[str, list[np.ndarray]], per_core: dict[str, int]) -> int:
    """Bytes of all cores of one population; every core gets what its neediest one would."""
    total = 0
    for part in parts[population.name]:
        here = min(len(part), population.per_core)
        rows = 0
        for projection in (p for p in board.projections if p.target == population.name):
            for before in parts[projection.source]:
                there = min(len(before), per_core[projection.source])
                padded = -(-len(before) // there) * there
                block = projection.weights[np.ix_(before, part)]
                for sign in (1, -1):
                    present = sign * block > 0
                    longest = int(np.add.reduceat(present, np.arange(0, len(part), here), axis=1, dtype=np.int64).max())
                    rows += padded * (ROW_HEADER + SYNAPSE * longest) if longest else 0
        total += -(-len(part) // here) * (rows + PER_NEURON * here + PER_CORE)
    return total


def check_budget(board: Board, device: Device) -> Budget:
    """Raises InputError, saying what to change, for a network that exceeds the device's cores, memory or routing tables."""
    budget = budget_of(board)
    chips = int(device.extra["chips"].value)
    per_chip = int(device.extra["cores_per_chip"].value) - SYSTEM_CORES
    if budget.cores > chips * per_chip:
        raise InputError(
            f"the network needs about {budget.cores} cores, {device.name} has {chips * per_chip} for it: use fewer neurons or more boards."
        )
    memory = device.memory_bytes.value if device.memory_bytes else float("inf")
    if budget.sdram > memory:
        raise InputError(f"the network's synapses need about {budget.sdram:,} bytes, {device.name} has {memory:,.0f}: prune it.")
    for projection in board.projections:
        size = next((min(p.per_core, p.size) for p in board.populations if p.name == projection.target), 1)
        longest = 2 ** (RING_BITS - 1 - (size - 1).bit_length())
        if projection.delay >= longest:
            raise InputError(
                f"the synapses from {projection.source} to {projection.target} skip {projection.delay} layers; "
                f"ring buffers in a core's DTCM hold {longest - 1} steps beside {size} neurons: use a shorter skip."
            )
    if budget.entries > ENTRIES:
        raise InputError(f"{budget.entries} cores send spikes, a routing table has {ENTRIES} entries: use fewer and larger populations.")
    return budget
