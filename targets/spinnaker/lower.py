"""State in the synapse: a leaky neuron with reset by subtraction on the stock IF_curr_exp, term by term.

source   m_t = beta m_(t-1) + i_t - theta z_(t-1),            z_t = [m_t > theta]
board    I_t = decay I_(t-1) + init (w arriving at t),        V_t = I_exc - I_inh,   spike = [V_t >= V_thresh]

IF_curr_exp resets its membrane, never its synaptic current. With tau_m = cm so small that exp(-dt/tau_m) is 0 the membrane has no memory and
equals the current; tau_syn = -dt/ln(beta) makes the current the integrator; an inhibitory synapse of each neuron onto itself, delay 1 ms, takes
theta off one step after a spike. The source fires at m > theta, the board at V >= V_thresh: V_thresh is theta plus one unit of s16.15.

Neurons that reset to a value keep their state in the membrane, as the board's do: a memoryless synapse, or the synaptic current of a CubaLIF, before
exp(-dt/tau_m) = beta; a reset that also discards the next step's input is tau_refrac = 1 ms. Coincidence neurons have no memory at either place.

Scales are chosen from measured ranges: theta as large as s16.15 holds for the largest current seen, then for each neuron the smallest
ring-buffer shift that holds the largest sum of weights seen in one step. A population lies `depth` steps behind its source network, so a synapse
that skips layers waits that much longer, and the run is extended by the depth of the readout. A bias is a synapse from a source that fires in
every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...errors import InputError
from ...export.network import Network, Neurons, simulate
from ...runtime.emulator import ALWAYS, ONE, Board, Population, Projection, stored_weights, synapse_constants, to_s1615

MEMORYLESS = 0.05  # ms: exp(-1 / 0.05) is below the smallest s16.15
SLOWEST = 32000.0  # ms, for neurons that do not leak: dt/tau is one unit of s16.15, the smallest the board can take
HEADROOM = 2.0  # currents may grow to twice what calibration showed before s16.15 overflows
MARGIN = 1.1  # ring buffers hold ten percent more than the largest sum seen
GROUPS = 3  # populations a layer is split into at most, by how large their sums get
LARGEST_THETA = 64.0
MEMBRANE_THETA = 2.0  # where the membrane integrates, currents are 1 / (1 - beta) as large


@dataclass(frozen=True)
class Ranges:
    """What calibration showed of one population. current: largest |m| / threshold; sums: (2, neurons), the largest excitatory and inhibitory
    sum of weights in one step; fired: (samples, steps, neurons) bool."""

    current: float
    sums: np.ndarray
    fired: np.ndarray


def measure(network: Network, spikes: np.ndarray) -> dict[str, Ranges]:
    """Runs the source network on (samples, steps, inputs) and keeps each population's ranges, worst over samples and steps."""
    current, sums, fired = {}, {}, {}
    for neurons in network.neurons:
        # A single synapse must fit even where calibration never used it; the reset's is one of them.
        rows = np.concatenate([synapses.weights for synapses in neurons.inputs] + [neurons.bias[None]])
        inhibitory = np.maximum(-rows, 0).max(0)
        sums[neurons.name] = np.stack([np.maximum(rows, 0).max(0), np.maximum(inhibitory, neurons.threshold * (neurons.reset == "subtract"))])
        current[neurons.name] = 0.0
        fired[neurons.name] = np.zeros((*spikes.shape[:2], neurons.size), bool)
    for seen in simulate(network, spikes):
        sums[seen.name] = np.maximum(sums[seen.name], [part.max(0) for part in seen.arrived])
        current[seen.name] = max(current[seen.name], float(np.abs(seen.membrane).max()))
        fired[seen.name][:, seen.step] = seen.fired
    return {neurons.name: Ranges(current[neurons.name] / neurons.threshold, sums[neurons.name], fired[neurons.name]) for neurons in network.neurons}


def lower_network(network: Network, ranges: dict[str, Ranges], grouped: bool = True) -> Board:
    """The board's populations and projections. grouped: ring-buffer shifts by neuron (at most three groups a layer), else one a layer."""
    return _lower(network, ranges, lambda neurons, measured: _population(neurons, measured), grouped)


def lower_to_membrane(network: Network, ranges: dict[str, Ranges], extended: bool = True) -> Board:
    """The usual mapping, kept as the rung to compare with: the membrane integrates, and a spike resets it to zero, not by subtraction.

    extended: run as many steps longer as there are layers; without it the last spikes fall out of the window.
    """
    board = _lower(network, ranges, lambda neurons, _: _membrane(replace(neurons, reset="value", value=0.0)), grouped=False)
    return board if extended else replace(board, steps_after=0)


def _lower(network: Network, ranges: dict[str, Ranges], choose: Callable[[Neurons, Ranges], tuple[Population, float]], grouped: bool) -> Board:
    populations, projections, depth = [], [], {"input": 0}
    for neurons in network.neurons:
        plain, scale = choose(neurons, ranges[neurons.name])
        population = replace(plain, shifts=shifts_for(ranges[neurons.name].sums * scale, grouped))
        populations.append(population)
        depth[neurons.name] = neurons.depth
        incoming = [(synapses.source, synapses.weights, neurons.depth - depth[synapses.source]) for synapses in neurons.inputs]
        if np.any(neurons.bias):
            incoming.append((ALWAYS, neurons.bias[None], neurons.depth))
        if neurons.reset == "subtract" and population.tau_m == MEMORYLESS:
            incoming.append((neurons.name, -np.eye(neurons.size) * neurons.threshold, 1))
        for source, weights, delay in incoming:
            projections.append(Projection(source, neurons.name, rounded_weights(weights * scale, population.shifts), delay))
    return Board(network.inputs, tuple(populations), tuple(projections), network.readout, depth[network.readout])


def _population(neurons: Neurons, measured: Ranges) -> tuple[Population, float]:
    """(the population without shifts, nA a unit of weight) by the kind of its neurons."""
    if neurons.alpha and neurons.reset == "subtract":
        raise InputError(
            f"{neurons.name}: synaptic currents (CubaLIF) with reset by subtraction need two states that a spike leaves alone, the board has one: "
            "use LIF, or reset to a value."
        )
    if neurons.reset != "subtract" and not neurons.memoryless:
        return _membrane(neurons)
    theta = _theta(neurons, measured)
    tau = MEMORYLESS if neurons.memoryless else _time_constant(neurons.beta)
    # The weight that takes theta off is then exact, however coarse its receptor's units are.
    plain = _plain(neurons, (MEMORYLESS, tau, 0.0), theta * _init(tau), 0.0)
    return plain, theta / neurons.threshold


def _membrane(neurons: Neurons) -> tuple[Population, float]:
    """The same for a state in the membrane. V_t = beta V_(t-1) + (1 - beta) I_t, so currents are scaled by 1 / (1 - beta)."""
    beta = min(neurons.beta, 1 - 1 / 256)  # V moves by (1 - beta) of the current: finer than this s16.15 does not resolve
    plain = _plain(
        neurons,
        (_time_constant(beta), _time_constant(neurons.alpha), float(neurons.reset == "hold")),
        MEMBRANE_THETA,
        MEMBRANE_THETA * neurons.value / neurons.threshold,
    )
    return plain, MEMBRANE_THETA / neurons.threshold / _init(plain.tau_syn_e) / (1 - beta)


def _init(tau: float) -> float:
    """What of a weight reaches the current at once."""
    return synapse_constants(tau)[1] / 2**32


def _plain(neurons: Neurons, times: tuple[float, float, float], theta: float, reset: float) -> Population:
    """times: tau_m (and cm, so that R = 1), tau_syn, tau_refrac."""
    tau_m, tau, refractory = times
    shifts = np.zeros((2, neurons.size), np.int64)
    return Population(neurons.name, neurons.size, tau_m, tau_m, tau, tau, 0.0, reset, (to_s1615(theta) + 1) / ONE, refractory, shifts)


def _time_constant(leak: float) -> float:
    """-dt / ln(leak) in ms, within what the board's numbers hold.

    The board cuts the quotient dt / tau off to whole units of s16.15, so that the tau whose decay comes nearest may lie some units lower.
    """
    if leak <= 0:
        return MEMORYLESS
    quotient = max(round(-ONE * math.log(min(leak, 1.0))), 1)
    near = ONE * ONE // quotient
    return min(min((near, near + 1), key=lambda tau: abs(synapse_constants(tau / ONE)[0] / 2**32 - leak)) / ONE, SLOWEST)


def _theta(neurons: Neurons, measured: Ranges) -> float:
    """The largest power of two, up to 64 mV, that keeps the currents within s16.15."""
    room = 65536.0 / (HEADROOM * max(measured.current, 1.0))
    if room < 1:
        raise InputError(
            f"{neurons.name}: its membrane grows to {measured.current:.3g} times the threshold, beyond s16.15: retrain with smaller weights."
        )
    return min(LARGEST_THETA, 2.0 ** math.floor(math.log2(room)))


def shifts_for(sums: np.ndarray, grouped: bool) -> np.ndarray:
    """(2, neurons): the smallest shift s with sums below 2^(s+1), merged into groups so that few populations arise."""
    needed = np.maximum(np.ceil(np.log2(np.maximum(sums * MARGIN, 2.0**-20))) - 1, 0).astype(np.int64)
    if needed.max() > 15:
        raise InputError(f"a neuron receives up to {sums.max():.3g} nA in one step, more than a ring buffer holds: retrain with smaller weights.")
    rank = np.minimum(needed.max() - needed.max(0), GROUPS - 1) if grouped else np.zeros(needed.shape[1], np.int64)
    for group in np.unique(rank):
        members = rank == group
        needed[:, members] = needed[:, members].max(1, keepdims=True)
    return needed


def rounded_weights(weights: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Weights as the board will hold them, exact in float32."""
    excitatory, inhibitory = stored_weights(weights, shifts)
    units = 2.0 ** (shifts - 15)
    return (excitatory * units[0] - inhibitory * units[1]).astype(np.float32)
