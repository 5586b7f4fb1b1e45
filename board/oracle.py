"""runtime/emulator.py against the real binary, bit for bit: what sPyNNaker's core records, step by step, next to what the emulator computes.

Compared are, for every neuron and step, the membrane before the update, both currents once the step's input is added (as recorded by sPyNNaker's
`v`, `gsyn_exc` and `gsyn_inh`, in units of 2^-15), and the spikes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime.emulator import ALWAYS, Board, Emulator, State
from ..runtime.spiking import pack_board
from .packets import Packet
from .specification import Loaded, MappedCore, Specification, capture

BINARY = "IF_curr_exp.aplx"
QUANTITIES = ("membrane", "excitatory current", "inhibitory current")


@dataclass(frozen=True)
class Difference:
    """The first value of a quantity that differs: of which neuron, in which step, what the binary has and what the emulator."""

    quantity: str
    population: str
    neuron: int
    step: int
    binary: int
    emulator: int


@dataclass(frozen=True)
class Comparison:
    """compared and equal: by quantity, how many values (neuron, step). first: the earliest difference of each quantity that has one."""

    compared: dict[str, int]
    equal: dict[str, int]
    first: tuple[Difference, ...]

    @property
    def identical(self) -> bool:
        return self.compared == self.equal


@dataclass(frozen=True)
class Traces:
    """(steps, neurons) by population: states in the order of QUANTITIES, and spikes."""

    states: dict[str, np.ndarray]
    spikes: dict[str, np.ndarray]


def map_network(board: Board, folder: Path, steps: int) -> Specification:
    """What sPyNNaker generates for a board and a run of `steps`; its files stay in `folder`."""
    for name, content in pack_board(board).items():
        (folder / name).write_bytes(content)
    return capture(folder, steps)


def run_binary(board: Board, specification: Specification, spikes: np.ndarray) -> Traces:
    """Runs the network's cores on spikes (steps, inputs); input and biases are injected as packets where their sources would send them."""
    loaded, steps = Loaded(specification, (BINARY,)), specification.steps
    sources = {name: _senders(specification, name) for name in ("input", ALWAYS)}
    loaded.begin(steps)
    for step in range(steps + 1):  # the last tick ends the run
        loaded.machine.step()
        fired = {"input": np.flatnonzero(spikes[step]) if step < len(spikes) else (), ALWAYS: [0] if step < len(spikes) else ()}
        for name, senders in sources.items():
            for neuron in fired[name]:
                if neuron in senders:
                    core, atom = senders[neuron]
                    loaded.machine.inject(core.chip, Packet(core.spike(atom, step)))
    traces = Traces(
        {p.name: np.zeros((len(QUANTITIES), steps, p.size), np.int64) for p in board.populations},
        {p.name: np.zeros((steps, p.size), np.uint8) for p in board.populations},
    )
    for core in loaded.cores:
        layer, members = specification.neurons[core.label]
        mine = np.array(members)[core.atoms[0] : core.atoms[0] + core.atoms[1]]
        for channel in range(len(QUANTITIES)):
            rows = np.frombuffer(loaded.recording(core, channel), np.int32).reshape(-1, 1 + core.atoms[1])
            traces.states[layer][channel][np.ix_(rows[:, 0], mine)] = rows[:, 1:]
        words = np.frombuffer(loaded.recording(core, len(QUANTITIES)), np.uint32).reshape(-1, 1 + -(-core.atoms[1] // 32))
        bits = np.unpackbits(words[:, 1:].copy().view(np.uint8), axis=1, bitorder="little")[:, : core.atoms[1]]
        traces.spikes[layer][np.ix_(words[:, 0], mine)] = bits
    return traces


def _senders(specification: Specification, source: str) -> dict[int, tuple[MappedCore, int]]:
    """By neuron of a source, the core that would send its spikes and the neuron's number in its PyNN population."""
    found = {}
    for core in specification.cores:
        layer, members = specification.neurons[core.label]
        if layer == source and core.key is not None:
            first, count = core.atoms
            found.update({members[atom]: (core, atom) for atom in range(first, first + count)})
    return found


def run_emulator(board: Board, spikes: np.ndarray, steps: int) -> Traces:
    """The same of the emulator."""
    padded = np.zeros((1, steps - board.steps_after, board.inputs), np.uint8)
    padded[0, : len(spikes)] = spikes[: padded.shape[1]]
    states = {p.name: np.zeros((len(QUANTITIES), steps, p.size), np.int64) for p in board.populations}

    def watch(step: int, name: str, state: State) -> None:
        states[name][:, step] = [state.membrane[0], state.currents[0][0], state.currents[1][0]]

    run = Emulator(board).run(padded, watch)
    return Traces(states, {p.name: run.spikes[p.name][0] for p in board.populations})


def compare(board: Board, folder: Path, spikes: np.ndarray, steps: int) -> Comparison:
    """Maps a board, runs it on spikes (steps - board.steps_after, inputs) both ways, and counts equal values."""
    binary, emulated = run_binary(board, map_network(board, folder, steps), spikes), run_emulator(board, spikes, steps)
    compared, equal = dict.fromkeys((*QUANTITIES, "spikes"), 0), dict.fromkeys((*QUANTITIES, "spikes"), 0)
    first: dict[str, Difference] = {}
    for population in board.populations:
        pairs = [*zip(QUANTITIES, binary.states[population.name], emulated.states[population.name], strict=True)]
        pairs.append(("spikes", binary.spikes[population.name], emulated.spikes[population.name]))
        for quantity, theirs, ours in pairs:
            same = theirs == ours
            compared[quantity] += same.size
            equal[quantity] += int(same.sum())
            if not same.all():
                step, neuron = map(int, np.argwhere(~same)[0])
                found = Difference(quantity, population.name, neuron, step, int(theirs[step, neuron]), int(ours[step, neuron]))
                if quantity not in first or step < first[quantity].step:
                    first[quantity] = found
    return Comparison(compared, equal, tuple(first.values()))
