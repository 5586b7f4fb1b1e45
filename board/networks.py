"""Random networks for the oracle: parameters, weights, shifts and spikes that reach saturation, refractory times and both ends of s16.15."""

from __future__ import annotations

import numpy as np

from ..runtime.emulator import Board, Population, Projection, stored_weights


def random_board(seed: int, populations: int = 12, size: int = 24, inputs: int = 40) -> Board:
    """Populations of IF_curr_exp with parameters drawn apart, all driven by one input and the first two by each other; delays of 1 to 4 steps."""
    random = np.random.default_rng(seed)
    layers, projections = [], []
    for index in range(populations):
        shift = int(random.integers(0, 7))
        shifts = np.full((2, size), [[shift], [int(random.integers(0, 7))]])
        tau_m = float(random.choice([0.05, *random.uniform(0.3, 60, 3)]))
        tau_e, tau_i = random.uniform(0.05, 40, 2)
        rest, reset = random.uniform(-70, 5, 2)
        layers.append(
            Population(
                f"layer{index}",
                size,
                tau_m,
                float(random.uniform(0.05, 3)),
                float(tau_e),
                float(tau_i),
                float(rest),
                float(reset),
                float(rest + random.uniform(0.5, 30)),
                float(random.choice([0.0, 0.1, 1.0, 2.5])),
                shifts,
            )
        )
        projections.append(_projection(random, "input", inputs, layers[-1]))
    projections += [_projection(random, layers[0].name, size, layers[1]), _projection(random, layers[1].name, size, layers[0])]
    return Board(inputs, tuple(layers), tuple(projections), layers[0].name, 4)


def _projection(random: np.random.Generator, source: str, before: int, target: Population) -> Projection:
    """Weights from one unit to nearly the whole range of a ring buffer, both signs, half of them absent."""
    largest = 2.0 ** (target.shifts[:, 0] + 1) * random.choice([0.02, 0.2, 0.9])
    weights = random.uniform(-largest[1], largest[0], (before, target.size)) * (random.random((before, target.size)) < 0.5)
    excitatory, inhibitory = stored_weights(weights, target.shifts)
    units = 2.0 ** (target.shifts - 15.0)
    return Projection(source, target.name, (excitatory * units[0] - inhibitory * units[1]).astype(np.float32), int(random.integers(1, 5)))


def random_spikes(seed: int, steps: int, inputs: int) -> np.ndarray:
    """(steps, inputs) of 0 and 1: calm and busy stretches."""
    random = np.random.default_rng(seed)
    rate = np.repeat(random.choice([0.0, 0.02, 0.1, 0.4], -(-steps // 20)), 20)[:steps]
    return (random.random((steps, inputs)) < rate[:, None]).astype(np.uint8)
