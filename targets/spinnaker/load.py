"""How a mapped network is spread over cores so that each keeps up with real time, from the spikes that calibration showed.

A core has one millisecond for the synaptic events that arrive in it. sPyNNaker 4 was measured to handle "within a factor of 2" of 10,000 a
millisecond (Rhodes et al., "sPyNNaker: a software package for running PyNN simulations on SpiNNaker", Front. Neurosci. 2018), so 5,000 is the
limit kept here. Fewer neurons on a core means fewer synaptic events there. A core of spike sources sends at most 100 packets in one step
(sPyNNaker warns above: TOO_MANY_SPIKES), so a busy input is dealt out over several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...runtime.emulator import ALWAYS, Board, Population

EVENTS_PER_STEP = 5000  # synaptic events on one core
PACKETS_PER_STEP = 100  # spikes from one core of spike sources
MOST, FEWEST = 256, 16  # neurons a core: sPyNNaker's default for IF_curr_exp, and where more cores stop helping


def membership(population: Population) -> np.ndarray:
    """Which PyNN population each neuron belongs to: those that share a pair of ring-buffer shifts do."""
    return np.ravel(np.unique(population.shifts, axis=1, return_inverse=True)[1])


def parts_of(population: Population) -> list[np.ndarray]:
    """The neurons of each PyNN population."""
    member = membership(population)
    return [np.flatnonzero(member == part) for part in range(int(member.max()) + 1)]


def spread(board: Board, trains: Mapping[str, np.ndarray]) -> Board:
    """The board with neurons per core, input cores and, where even the fewest neurons are too busy, a slower clock.

    trains: by population and "input", (samples, steps, size) of 0 and 1.
    """
    populations, slowest = [], 1
    flat = {name: train.reshape(-1, train.shape[2]).astype(np.float32) for name, train in trains.items()}
    flat[ALWAYS] = np.ones((len(flat["input"]), 1), np.float32)
    for population in board.populations:
        arriving = sum(flat[p.source] @ (p.weights != 0).astype(np.float32) for p in board.projections if p.target == population.name)
        per_core, peak = MOST, _busiest(arriving, population, MOST)
        while peak > EVENTS_PER_STEP and per_core > FEWEST:
            per_core //= 2
            peak = _busiest(arriving, population, per_core)
        populations.append(replace(population, per_core=per_core))
        slowest = max(slowest, math.ceil(peak / EVENTS_PER_STEP))
    return replace(board, populations=tuple(populations), input_parts=_input_parts(flat["input"]), time_scale=slowest)


def _busiest(arriving: np.ndarray, population: Population, per_core: int) -> float:
    """The most synaptic events that any core of the population gets in one step; arriving: (steps, neurons)."""
    peaks = []
    for part in parts_of(population):
        starts = np.arange(0, len(part), per_core)
        peaks.append(float(np.add.reduceat(arriving[:, part], starts, axis=1).max()))
    return max(peaks)


def _input_parts(spikes: np.ndarray) -> int:
    """Into how many cores the input is dealt, pixel by pixel in turn, so that none sends more packets in a step than it should."""
    parts = max(1, math.ceil(float(spikes.sum(1).max(initial=0)) / PACKETS_PER_STEP))
    while parts < spikes.shape[1] and max(spikes[:, part::parts].sum(1).max() for part in range(parts)) > PACKETS_PER_STEP:
        parts += 1
    return parts
