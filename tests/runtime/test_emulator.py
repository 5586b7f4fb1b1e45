"""The emulator against a second, scalar reading of the board's rules, bit for bit. tests/board holds it against the binary itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeattn.errors import InputError
from edgeattn.runtime.emulator import Board, Emulator, Population, Projection, decay_product, exp_u3232, stored_weights


def wrap32(value: int) -> int:
    """What a 32-bit register keeps."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


class ScalarNeuron:
    """One IF_curr_exp neuron, written from the C files line by line with Python integers as registers."""

    def __init__(self, p: Population):
        def fixed(x):
            return math.floor(x * 32768 + 0.5)

        def kdivk(a, b):
            return int(math.copysign((abs(a) << 15) // abs(b), a * b)) if a else 0

        self.r = kdivk(fixed(p.tau_m), fixed(p.cm))
        self.exp_tc = exp_u3232(-kdivk(32768, fixed(p.tau_m))) >> 17
        self.decay, self.init = [], []
        for tau in (fixed(p.tau_syn_e), fixed(p.tau_syn_i)):
            decay = exp_u3232(-kdivk(32768, tau))
            self.decay.append(decay)
            self.init.append((((0xFFFFFFFF - decay) * tau) >> 15) & 0xFFFFFFFF)
        self.rest, self.reset, self.threshold = fixed(p.v_rest), fixed(p.v_reset), fixed(p.v_thresh)
        ticks = fixed(p.tau_refrac)
        self.refractory = (ticks >> 15) + (1 if ticks & 0x7FFF else 0)
        self.v, self.timer, self.current = self.rest, 0, [0, 0]

    def step(self, rings, shifts) -> bool:
        for side in (0, 1):
            value = wrap32(min(rings[side], 65535) << shifts[side])
            self.current[side] = wrap32(self.current[side] + wrap32((value * self.init[side]) >> 32))
        if self.timer <= 0:
            drive = wrap32(self.current[0] - self.current[1])
            alpha = wrap32(wrap32((drive * self.r) >> 15) + self.rest)
            self.v = wrap32(alpha - wrap32((wrap32(alpha - self.v) * self.exp_tc) >> 15))
        else:
            self.timer -= 1
        fired = self.v >= self.threshold
        if fired:
            self.v, self.timer = self.reset, self.refractory
        for side in (0, 1):
            self.current[side] = wrap32((self.current[side] * self.decay[side]) >> 32)
        return fired


def random_population(random, index):
    tau = float(random.choice([0.05, 1.0, random.uniform(2, 30)]))
    return Population(
        name="p",
        size=1,
        tau_m=float(random.choice([0.05, random.uniform(1, 40)])),
        cm=float(random.uniform(0.2, 2)),
        tau_syn_e=tau,
        tau_syn_i=float(random.uniform(0.5, 20)),
        v_rest=float(random.choice([0.0, -65.0])),
        v_reset=float(random.choice([0.0, -70.0])),
        v_thresh=float(random.uniform(-60, 20)),
        tau_refrac=float(random.choice([0.0, 5.0, random.uniform(0, 4)])),
        shifts=random.integers(0, 6, (2, 1)),
    )


def test_ten_thousand_random_neurons_equal_the_scalar_rules_bit_for_bit():
    random = np.random.default_rng(0)
    fired = saturated = 0
    for index in range(500):
        population = random_population(random, index)
        inputs, samples, steps = 6, 20, 12
        largest = 0.9 * 65535 * 2.0 ** (population.shifts.min() - 15)
        weights = random.uniform(-largest, largest, (inputs, 1)) * random.choice([0.02, 0.3, 1.0])
        board = Board(inputs, (population,), (Projection("input", "p", weights),), "p", 1)
        spikes = (random.random((samples, steps, inputs)) < 0.5).astype(np.uint8)
        run = Emulator(board).run(spikes)
        integers = stored_weights(weights, population.shifts)
        for sample in range(samples):
            neuron = ScalarNeuron(population)
            for step in range(steps + 1):
                sent = spikes[sample, step - 1] if step else np.zeros(inputs)
                rings = [int(sent @ side[:, 0]) for side in integers]
                expected = neuron.step(rings, population.shifts[:, 0].tolist())
                assert run.spikes["p"][sample, step, 0] == expected, f"draw {index}, sample {sample}, step {step}: {population}"
                fired += expected
        saturated += run.saturated["p"]
    assert fired > 1000, "the draws must make neurons fire"
    assert saturated > 100, "the draws must fill ring buffers"


@pytest.mark.parametrize("value", [0, 1, -1, 2**31 - 1, -(2**31), 12345678, -87654321])
@pytest.mark.parametrize("decay", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 3951369912])
def test_the_decay_product_is_a_64_bit_product_cut_off_downwards(value, decay):
    assert int(decay_product(np.array([value]), decay)[0]) == (value * decay) >> 32


def simple(**changes):
    values = {"tau_m": 0.05, "cm": 0.05, "tau_syn_e": 5.0, "tau_syn_i": 5.0, "v_rest": 0.0, "v_reset": 0.0, "v_thresh": 1.0, "tau_refrac": 0.0}
    return Population("p", 1, **{**values, **changes}, shifts=np.full((2, 1), 4))


def test_a_refractory_neuron_waits():
    board = Board(1, (simple(tau_refrac=5.0),), (Projection("input", "p", np.array([[20.0]])),), "p", 1)
    train = Emulator(board).run(np.ones((1, 20, 1), np.uint8)).spikes["p"][0, :, 0]
    assert np.diff(np.flatnonzero(train)).tolist() == [6, 6, 6]


def test_a_delay_moves_the_spikes():
    trains = []
    for delay in (1, 4):
        board = Board(1, (simple(),), (Projection("input", "p", np.array([[2.0]]), delay),), "p", 4)
        spikes = np.zeros((1, 10, 1), np.uint8)
        spikes[0, 2] = 1
        trains.append(np.flatnonzero(Emulator(board).run(spikes).spikes["p"][0, :, 0])[0])
    assert trains == [3, 6]


def test_a_weight_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="does not fit 16 bits"):
        stored_weights(np.array([[100.0]]), np.zeros((2, 1), np.int64))


def test_a_wrong_shape_is_refused():
    board = Board(3, (simple(),), (), "p", 1)
    with pytest.raises(InputError, match=r"the board takes \(samples, steps, 3\)"):
        Emulator(board).run(np.zeros((1, 5, 4), np.uint8))
