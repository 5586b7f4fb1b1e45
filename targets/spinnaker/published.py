"""The mapping published with the sign network (arXiv 2605.06005, inference_on_spinnaker), kept as the lowest rung: what a user gets by hand.

IF_curr_exp with its membrane 4 mV below threshold, excitatory and inhibitory synapses of 5 and 3 ms, 1 ms refractory, weights scaled by 1 (first
layer), 0.3 (hidden) and 2 (readout), the readout's neurons inhibiting each other with 1.3 nA, and no step after the window. Its ring buffers are
left to sPyNNaker there; here they get what the sums seen need, so that rounding is not what this rung loses by.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...export.network import Network
from ...runtime.emulator import Board, Population, Projection
from .lower import Ranges, rounded_weights, shifts_for

FIRST, HIDDEN, READOUT, LATERAL = 1.0, 0.3, 2.0, 1.3
TAU_E, TAU_I, TAU_M = 5.0, 3.0, 11.993  # ms; tau_m is -1 / ln(0.92)


def lower_as_published(network: Network, ranges: dict[str, Ranges]) -> Board:
    """The board as their script builds it, whatever the leak of the source; each synapse waits one step, as if the graph were a chain."""
    populations, projections = [], []
    for neurons in network.neurons:
        readout = neurons.name == network.readout
        scale = READOUT if readout else FIRST if neurons.depth == 1 else HIDDEN
        lateral = LATERAL * (1 - np.eye(neurons.size)) if readout else np.zeros((neurons.size, neurons.size))
        plain = Population(
            neurons.name, neurons.size, TAU_M, 1.0, TAU_E, TAU_I, -65.0, -65.0, -61.0, 1.0, np.zeros((2, neurons.size), np.int64)
        )  # fmt: skip
        sums = ranges[neurons.name].sums * scale
        population = replace(plain, shifts=shifts_for(np.stack([sums[0], sums[1] + lateral.sum(0)]), grouped=False))
        populations.append(population)
        for synapses in neurons.inputs:
            projections.append(Projection(synapses.source, neurons.name, rounded_weights(synapses.weights * scale, population.shifts)))
        if readout:
            projections.append(Projection(neurons.name, neurons.name, rounded_weights(-lateral, population.shifts)))
    return Board(network.inputs, tuple(populations), tuple(projections), network.readout, 0)
