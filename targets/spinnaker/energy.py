"""What an inference costs in spikes, and an estimate of what it costs in joules.

    E = T (chips 0.35 W + cores 0.034 W) + 1 nJ packets

T: seconds of the run; chips: as many as the cores fill; packets: spikes of all sources. The figures are those of sPyNNaker's own power model
(SpiNNMachine 1!7.4.1, version_spin1.py): an idle chip, an active core beyond it, 40 bits at 25 pJ for each spike (Painkras et al., 2013).
It counts every core as busy all the time, and leaves out the board's own 26.84 W.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...runtime.emulator import ALWAYS, Board
from .budget import CORES_PER_CHIP, Budget

CHIP_WATTS, CORE_WATTS, PACKET_JOULES = 0.35, 0.034, 1e-9


@dataclass(frozen=True)
class Activity:
    """Counted in the emulator, a sample: spikes of the input, spikes of neurons, synaptic events, neuron updates; steps of the run."""

    input_spikes: float
    spikes: float
    synaptic_events: float
    updates: int
    steps: int


def activity_of(board: Board, trains: Mapping[str, np.ndarray]) -> Activity:
    """trains: by population, "input" and "always on", (samples, steps + steps_after, size)."""
    samples, steps, _ = trains["input"].shape
    fired = {name: train.sum((0, 1), dtype=np.float64) / samples for name, train in trains.items()}
    events = sum(float(fired[p.source] @ np.count_nonzero(p.weights, axis=1)) for p in board.projections)
    spikes = sum(float(count.sum()) for name, count in fired.items() if name not in ("input", ALWAYS))
    return Activity(float(fired["input"].sum()), spikes, events, steps * sum(p.size for p in board.populations), steps)


def joules(board: Board, budget: Budget, activity: Activity) -> float:
    """The estimate by the formula above, for one sample."""
    seconds = activity.steps * board.time_scale / 1000
    watts = -(-budget.cores // CORES_PER_CHIP) * CHIP_WATTS + budget.cores * CORE_WATTS
    return seconds * watts + PACKET_JOULES * (activity.input_spikes + activity.spikes)


def energy_of(board: Board, budget: Budget, activity: Activity) -> str:
    """One sentence: the estimate, its formula, and what was counted."""
    estimate, a = 1000 * joules(board, budget, activity), activity
    return (
        f"estimate: {estimate:.3g} mJ a sample of {a.steps} steps (chips x 0.35 W + cores x 0.034 W, 1 nJ a spike; SpiNNMachine's power model, "
        f"without the board's own draw); counted in the emulator: {a.input_spikes:,.0f} input spikes, {a.spikes:,.0f} spikes of neurons, "
        f"{a.synaptic_events:,.0f} synaptic events, {a.updates:,} neuron updates"
    )
