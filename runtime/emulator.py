"""A SpiNNaker board's arithmetic on this machine: fixed point, bit for bit what sPyNNaker's IF_curr_exp.aplx computes (board/oracle.py).

State is s16.15 (32-bit integers in units of 2^-15), decays are u0.32, weights unsigned 16-bit in units that a shift per population and receptor
sets. One step of a population of `IF_curr_exp` neurons, in this order (sources in neural_modelling/src/neuron of sPyNNaker):

    ring    = min(sum of the weights that arrive now, 0xFFFF)           synapses.c: ring buffers saturate
    I      += ((ring << shift) * init) >> 32                            synapse_types_exponential_impl.h, add_input_exp; decay.h, decay_s1615
    V       = alpha - exp_TC (alpha - V),  alpha = (I_exc - I_inh) R + V_rest      neuron_model_lif_impl.h, lif_neuron_closed_form
    spike   = V >= V_thresh, then V = V_reset, refractory = T_refract   threshold_type_static.h, neuron_model_has_spiked
    I       = (I * decay) >> 32                                         synapse_types_exponential_impl.h, exp_shaping

While refractory > 0 the membrane stands still and the counter falls; the currents go on. Every product is cut off downwards (the published source
rounds those of the membrane to nearest, the binary does not), every sum and product wraps at 32 bits, and exp() is the board's own series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

ONE = 1 << 15  # 1.0 in s16.15
RING = 0xFFFF  # the largest value of a ring buffer
ALWAYS = "always on"  # a source of one neuron that fires in every step of the input: biases come from it


@dataclass(frozen=True)
class Population:
    """IF_curr_exp neurons with PyNN's parameters: times in ms, potentials in mV, currents in nA, cm in nF.

    shifts: (2, size) int, the ring-buffer shifts of the excitatory and the inhibitory receptor; a weight w is stored as
    round(w 2^(15 - shift)). On the board neurons of one shift pair form one PyNN population; per_core: how many of them share a core.
    """

    name: str
    size: int
    tau_m: float
    cm: float
    tau_syn_e: float
    tau_syn_i: float
    v_rest: float
    v_reset: float
    v_thresh: float
    tau_refrac: float
    shifts: np.ndarray
    per_core: int = 256


@dataclass(frozen=True)
class Projection:
    """weights: (pre, post) float64 in nA, positive to the excitatory receptor, negative to the inhibitory; delay: steps."""

    source: str
    target: str
    weights: np.ndarray
    delay: int = 1


@dataclass(frozen=True)
class Board:
    """A mapped network: an input of `inputs` spike sources called "input", populations in order, and who is read out.

    steps_after: how many steps the run goes on after the last input, one per layer, so that no spike falls out of the window.
    input_parts: cores that the spike sources are dealt out over; time_scale: ms of wall clock a step takes, 1 being real time.
    """

    inputs: int
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    readout: str
    steps_after: int
    input_parts: int = 1
    time_scale: int = 1


@dataclass(frozen=True)
class Run:
    """spikes: per population (samples, steps, size) uint8; saturated: how often a ring buffer was full, per population."""

    spikes: dict[str, np.ndarray]
    saturated: dict[str, int]


def to_s1615(value: float) -> int:
    """The nearest s16.15; InputError for what it cannot hold."""
    bits = round(value * ONE)
    if not -(2**31) <= bits < 2**31:
        raise InputError(f"{value:g} does not fit the board's s16.15 numbers (-65536 to 65536).")
    return bits


def divide(a: int, b: int) -> int:
    """kdivk: s16.15 division, cut off towards zero."""
    quotient = (abs(a) << 15) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def wrap(a: np.ndarray) -> np.ndarray:
    """What a 32-bit register keeps of it: s16.15 sums and products that overflow come out at the other end."""
    return ((a + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def product(a: np.ndarray, b: int) -> np.ndarray:
    """The product of two s16.15, cut off downwards: the binary does not round."""
    return wrap((a * b) >> 15)


def decay_product(a: np.ndarray, decay: int) -> np.ndarray:
    """decay_s1615: s16.15 times u0.32, cut off downwards."""
    high, low = a >> 16, a & 0xFFFF  # a * decay needs 64 bits and a sign; in two parts it never overflows int64
    return (high * decay + ((low * decay) >> 16)) >> 16


@dataclass(frozen=True)
class Constants:
    """What the board computes from a population's parameters when it starts."""

    r_membrane: int
    exp_tc: int
    decays: tuple[int, int]
    inits: tuple[int, int]
    v_rest: int
    v_reset: int
    v_thresh: int
    refractory: int

    @classmethod
    def of(cls, population: Population) -> Constants:
        """neuron_model_initialise and decay_and_init, for a time step of 1 ms."""
        tau_m = to_s1615(population.tau_m)
        synapses = [synapse_constants(tau) for tau in (population.tau_syn_e, population.tau_syn_i)]
        return cls(
            r_membrane=divide(tau_m, to_s1615(population.cm)),
            exp_tc=exp_u3232(-divide(ONE, tau_m)) >> 17,
            decays=(synapses[0][0], synapses[1][0]),
            inits=(synapses[0][1], synapses[1][1]),
            v_rest=to_s1615(population.v_rest),
            v_reset=to_s1615(population.v_reset),
            v_thresh=to_s1615(population.v_thresh),
            refractory=-(-to_s1615(population.tau_refrac) // ONE),
        )


E_POWERS = tuple(round(math.exp(power - 13) * 2**32) for power in range(14))
E_SIXTEENTHS = tuple(round(-math.expm1(-part / 16) * 2**32) for part in range(16))
SERIES = (5294, 4293434720, 2081624032)
SMALLEST_EXPONENT = -340695  # in units of 2^-15: exp() is 0 below


def exp_u3232(exponent: int) -> int:
    """The board's exp of an s16.15 number up to 0, in units of 2^-32 (stdfix-exp.c): a power of e, less its share of sixteenths, less a series

    1 - exp(-y) = 5294 + y (4293434720 - 2081624032 y),   y below 1/16, in units of 2^-28, everything else in units of 2^-32.
    """
    if exponent < SMALLEST_EXPONENT:
        return 0
    whole, rest = -(exponent >> 15), exponent & 0x7FFF
    if not rest:
        return E_POWERS[13 - whole]
    whole, rest = whole - 1, (1 << 15) - rest
    result = E_POWERS[13 - whole]
    result -= (result * E_SIXTEENTHS[rest >> 11] + (1 << 31)) >> 32
    y = (rest & 0x7FF) << 17
    series = SERIES[0] + (((SERIES[1] - ((SERIES[2] * y) >> 32)) * y) >> 32)
    return result - ((result * series + (1 << 31)) >> 32)


def synapse_constants(tau_ms: float) -> tuple[int, int]:
    """(decay, init) as u0.32: exp(-dt/tau), and tau/dt (1 - exp(-dt/tau)), of which each weight is multiplied by the latter."""
    tau = to_s1615(tau_ms)
    decay = exp_u3232(-divide(ONE, tau)) & 0xFFFFFFFF
    init = ((2**32 - 1 - decay) * tau) >> 15
    return decay, init & 0xFFFFFFFF


def stored_weights(weights: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(excitatory, inhibitory) weights (pre, post) as the 16-bit integers in the synaptic rows; shifts: (2, post).

    Raises InputError where a weight exceeds what its receptor's shift leaves room for.
    """
    parts = []
    for part, shift in zip((np.maximum(weights, 0), np.maximum(-weights, 0)), shifts, strict=True):
        integers = np.rint(part * 2.0 ** (15 - shift))
        if integers.max(initial=0) > RING:
            raise InputError(f"a weight of {part.max():g} nA does not fit 16 bits at the ring-buffer shift of its neuron: use a larger shift.")
        parts.append(integers)
    return parts[0], parts[1]


def _compact(weights: np.ndarray) -> np.ndarray | None:
    """None for no synapse at all, the diagonal for one-to-one synapses, else the matrix."""
    if not weights.any():
        return None
    if weights.shape[0] == weights.shape[1] and np.count_nonzero(weights) == np.count_nonzero(weights.diagonal()):
        return weights.diagonal().copy()
    return weights


class Emulator:
    """Runs a `Board` on batches of input spikes; keeps no state between runs."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self._constants = {population.name: Constants.of(population) for population in board.populations}
        shifts = {population.name: population.shifts for population in board.populations}
        # float64 holds these integers exactly, and its products run on BLAS.
        stored = [stored_weights(projection.weights, shifts[projection.target]) for projection in board.projections]
        self._weights = [tuple(_compact(part) for part in parts) for parts in stored]

    def run(self, spikes: np.ndarray, watch: Callable[[int, str, State], None] | None = None) -> Run:
        """spikes: (samples, steps, inputs), 0 or 1. Raises InputError for another shape or values.

        watch(step, population, state): called when a population has received its input of a step and not yet used it.
        """
        if spikes.ndim != 3 or spikes.shape[2] != self.board.inputs:
            raise InputError(f"input spikes have shape {spikes.shape}, the board takes (samples, steps, {self.board.inputs}).")
        samples, steps, _ = spikes.shape
        total = steps + self.board.steps_after
        trains = {"input": np.zeros((samples, total, self.board.inputs), np.uint8)}
        trains["input"][:, :steps] = spikes
        trains[ALWAYS] = np.zeros((samples, total, 1), np.uint8)
        trains[ALWAYS][:, :steps] = 1
        states = {}
        for population in self.board.populations:
            trains[population.name] = np.zeros((samples, total, population.size), np.uint8)
            states[population.name] = State(population, self._constants[population.name], samples)
        for step in range(total):
            for population in self.board.populations:
                rings = self._arrivals(population.name, trains, step, samples, population.size)
                state = states[population.name]
                state.receive(rings)
                if watch:
                    watch(step, population.name, state)
                trains[population.name][:, step] = state.update()
        return Run(trains, {name: state.saturated for name, state in states.items()})

    def _arrivals(self, name: str, trains: Mapping[str, np.ndarray], step: int, samples: int, size: int) -> list[np.ndarray]:
        """The sums of the weights that arrive at this step, per receptor, before saturation."""
        sums = [np.zeros((samples, size)), np.zeros((samples, size))]
        for projection, weights in zip(self.board.projections, self._weights, strict=True):
            if projection.target != name or step < projection.delay:
                continue
            sent = trains[projection.source][:, step - projection.delay]
            active = np.flatnonzero(sent.any(0))
            arrived = sent[:, active].astype(np.float64)
            for receptor, part in enumerate(weights):
                if part is None or not len(active):
                    continue
                if part.ndim == 1:
                    sums[receptor] += sent * part
                else:
                    sums[receptor] += arrived @ part[active]
        return sums


class State:
    """The currents, membrane and refractory counters of one population, (samples, size) each."""

    def __init__(self, population: Population, constants: Constants, samples: int) -> None:
        shape = (samples, population.size)
        self.shifts, self.constants = population.shifts, constants
        self.currents = [np.zeros(shape, np.int64), np.zeros(shape, np.int64)]
        self.membrane = np.full(shape, constants.v_rest, np.int64)
        self.counter = np.zeros(shape, np.int64)
        self.saturated = 0

    def receive(self, sums: Sequence[np.ndarray]) -> None:
        """Adds what arrives in this step, by receptor, to the currents."""
        for receptor, arrived in enumerate(sums):
            ring = np.minimum(arrived, RING).astype(np.int64)
            self.saturated += int((arrived > RING).sum())
            added = decay_product(ring << self.shifts[receptor], self.constants.inits[receptor])
            self.currents[receptor] = wrap(self.currents[receptor] + added)

    def update(self) -> np.ndarray:
        """Moves the neurons on by one step; returns who spikes."""
        c = self.constants
        alpha = wrap(product(wrap(self.currents[0] - self.currents[1]), c.r_membrane) + c.v_rest)
        updated = wrap(alpha - product(wrap(alpha - self.membrane), c.exp_tc))
        waiting = self.counter > 0
        self.membrane = np.where(waiting, self.membrane, updated)
        self.counter -= waiting
        spikes = self.membrane >= c.v_thresh
        self.membrane = np.where(spikes, c.v_reset, self.membrane)
        self.counter = np.where(spikes, c.refractory, self.counter)
        for receptor in (0, 1):
            self.currents[receptor] = decay_product(self.currents[receptor], c.decays[receptor])
        return spikes.astype(np.uint8)
