"""State in the synapse: a leaky neuron with reset by subtraction on the stock IF_curr_exp, term by term.

source   m_t = beta m_(t-1) + i_t - theta z_(t-1),            z_t = [m_t > theta]
board    I_t = decay I_(t-1) + init (w arriving at t),        V_t = I_exc - I_inh,   spike = [V_t >= V_thresh]

IF_curr_exp resets its membrane, never its synaptic current. With tau_m = cm so small that exp(-dt/tau_m) is 0 the membrane has no memory and
equals the current; tau_syn = -dt/ln(beta) makes the current the integrator; an inhibitory synapse of each neuron onto itself, delay 1 ms, takes
theta off one step after a spike. The source fires at m > theta, the board at V >= V_thresh: V_thresh is theta plus one unit of s16.15.

Scales are chosen from measured ranges: theta as large as s16.15 holds for the largest current seen, then for each neuron the smallest
ring-buffer shift that holds the largest sum of weights seen in one step. Each layer delays by one step, so the run is extended by one step per layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...errors import InputError
from ...runtime.emulator import ONE, Board, Constants, Population, Projection, stored_weights
from .chain import Layer

MEMORYLESS = 0.05  # ms: exp(-1 / 0.05) is below the smallest s16.15
HEADROOM = 2.0  # currents may grow to twice what calibration showed before s16.15 overflows
MARGIN = 1.1  # ring buffers hold ten percent more than the largest sum seen
GROUPS = 3  # populations a layer is split into at most, by how large their sums get
LARGEST_THETA = 64.0


@dataclass(frozen=True)
class Ranges:
    """What calibration showed of one layer. current: largest |m| / threshold; sums: (2, neurons), the largest excitatory and inhibitory
    sum of weights in one step."""

    current: float
    sums: np.ndarray


def measure(layers: list[Layer], spikes: np.ndarray) -> list[Ranges]:
    """Runs the source network in float64 on (samples, steps, inputs) and keeps each layer's ranges, worst over samples and steps."""
    ranges = []
    trains = spikes.astype(np.float64)
    for layer in layers:
        samples, steps, _ = trains.shape
        size = layer.weights.shape[1]
        membrane, fired = np.zeros((samples, size)), np.zeros((samples, size))
        out = np.zeros((samples, steps, size))
        excitatory, inhibitory = np.maximum(layer.weights, 0), np.maximum(-layer.weights, 0)
        # A single synapse must fit even where calibration never used it; the reset's is one of them.
        sums, current = np.stack([excitatory.max(0), np.maximum(inhibitory.max(0), layer.threshold)]), 0.0
        for step in range(steps):
            arriving = trains[:, step] @ excitatory, trains[:, step] @ inhibitory + layer.threshold * fired
            sums = np.maximum(sums, [part.max(0) for part in arriving])
            membrane = layer.beta * membrane + arriving[0] - arriving[1]
            current = max(current, float(np.abs(membrane).max()))
            fired = (membrane > layer.threshold).astype(np.float64)
            out[:, step] = fired
        ranges.append(Ranges(current / layer.threshold, sums))
        trains = out
    return ranges


def lower_chain(layers: list[Layer], ranges: list[Ranges], grouped: bool = True) -> Board:
    """The board's populations and projections. grouped: ring-buffer shifts by neuron (at most three groups a layer), else one a layer."""
    populations, projections, source = [], [], "input"
    for layer, measured in zip(layers, ranges, strict=True):
        theta = _theta(layer, measured)
        tau = -1.0 / math.log(layer.beta)
        size = layer.weights.shape[1]
        plain = Population(
            layer.name, size, MEMORYLESS, MEMORYLESS, tau, tau, 0.0, 0.0, theta + 1 / ONE, 0.0, np.zeros((2, size), np.int64)
        )  # fmt: skip
        scale = theta / layer.threshold / (Constants.of(plain).inits[0] / 2**32)
        shifts = _shifts(measured.sums * scale, grouped)
        population = replace(plain, shifts=shifts)
        populations.append(population)
        projections.append(Projection(source, layer.name, _rounded(layer.weights * scale, shifts)))
        projections.append(Projection(layer.name, layer.name, _rounded(-np.eye(size) * layer.threshold * scale, shifts)))
        source = layer.name
    return Board(layers[0].weights.shape[0], tuple(populations), tuple(projections), source, len(layers))


def _theta(layer: Layer, measured: Ranges) -> float:
    """The largest power of two, up to 64 mV, that keeps the currents within s16.15."""
    room = 65536.0 / (HEADROOM * max(measured.current, 1.0))
    if room < 1:
        raise InputError(
            f"{layer.name}: its membrane grows to {measured.current:.3g} times the threshold, beyond s16.15: retrain with smaller weights."
        )
    return min(LARGEST_THETA, 2.0 ** math.floor(math.log2(room)))


def _shifts(sums: np.ndarray, grouped: bool) -> np.ndarray:
    """(2, neurons): the smallest shift s with sums below 2^(s+1), merged into groups so that few populations arise."""
    needed = np.maximum(np.ceil(np.log2(np.maximum(sums * MARGIN, 2.0**-20))) - 1, 0).astype(np.int64)
    if needed.max() > 15:
        raise InputError(f"a neuron receives up to {sums.max():.3g} nA in one step, more than a ring buffer holds: retrain with smaller weights.")
    rank = np.minimum(needed.max() - needed.max(0), GROUPS - 1) if grouped else np.zeros(needed.shape[1], np.int64)
    for group in np.unique(rank):
        members = rank == group
        needed[:, members] = needed[:, members].max(1, keepdims=True)
    return needed


def _rounded(weights: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Weights as the board will hold them, exact in float32."""
    excitatory, inhibitory = stored_weights(weights, shifts)
    units = 2.0 ** (shifts - 15)
    return (excitatory * units[0] - inhibitory * units[1]).astype(np.float32)


def lower_to_membrane(layers: list[Layer], ranges: list[Ranges], extended: bool = True) -> Board:
    """The usual mapping, kept as the rung to compare with: the membrane integrates, and a spike resets it to zero, not by subtraction.

    extended: run one step longer per layer; without it the last spikes fall out of the window.
    """
    populations, projections, source = [], [], "input"
    for layer, measured in zip(layers, ranges, strict=True):
        tau, theta, size = -1.0 / math.log(layer.beta), 2.0, layer.weights.shape[1]
        plain = Population(layer.name, size, tau, tau, MEMORYLESS, MEMORYLESS, 0.0, 0.0, theta + 1 / ONE, 0.0, np.zeros((2, size), np.int64))
        scale = theta / layer.threshold / (Constants.of(plain).inits[0] / 2**32) / (1 - layer.beta)
        shifts = _shifts(measured.sums * scale, grouped=False)
        populations.append(replace(plain, shifts=shifts))
        projections.append(Projection(source, layer.name, _rounded(layer.weights * scale, shifts)))
        source = layer.name
    return Board(layers[0].weights.shape[0], tuple(populations), tuple(projections), source, len(layers) if extended else 0)
