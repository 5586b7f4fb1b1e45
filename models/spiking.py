"""Spiking layers and networks wired by name, for every spiking system of the zoo.

    m_t = beta m_(t-1) + i_t - theta z_(t-1),   z_t = [m_t > theta]

i_t: input currents, m_t: membranes, z_t: output spikes (batch, neurons); reset by subtraction one step later (Eshraghian et al., "Training
spiking neural networks using lessons from deep learning", 2023). Trained with a fast sigmoid in place of the step's derivative (Zenke and
Ganguli, "SuperSpike", 2018): dz/dm = 1 / (1 + 2 |m - theta|)^2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


class Spike(torch.autograd.Function):
    """The step function, with a fast sigmoid's slope as its gradient."""

    @staticmethod
    def forward(ctx: Any, above: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(above)
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (above,) = ctx.saved_tensors
        return gradient / (1 + 2 * above.abs()) ** 2


class Leaky(nn.Module):
    """A leaky integrate-and-fire layer with snnTorch's state names; beta, threshold: scalars."""

    def __init__(self, beta: float = 0.92, threshold: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.tensor(threshold))
        self.register_buffer("graded_spikes_factor", torch.tensor(1.0))
        self.register_buffer("reset_mechanism_val", torch.tensor(0))
        self.register_buffer("beta", torch.tensor(beta))

    def forward(self, x: torch.Tensor, membrane: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x, membrane: (batch, neurons) → spikes, membrane."""
        reset = (membrane > self.threshold).to(x.dtype)
        membrane = self.beta * membrane + x - reset * self.threshold
        return Spike.apply(membrane - self.threshold), membrane

    def over_time(self, currents: torch.Tensor) -> torch.Tensor:
        """currents: (batch, steps, neurons) → spikes of the same shape."""
        membrane, trains = torch.zeros_like(currents[:, 0]), []
        for step in range(currents.shape[1]):
            train, membrane = self(currents[:, step], membrane)
            trains.append(train)
        return torch.stack(trains, 1)


class Coincidence(nn.Module):
    """Fires where two spikes arrive in the same step: a neuron without memory, threshold 1.5. The product of binary signals."""

    threshold = 1.5

    def over_time(self, currents: torch.Tensor) -> torch.Tensor:
        """currents: (batch, steps, neurons), sums of spikes → spikes."""
        return Spike.apply(currents - self.threshold)


def settle(network: nn.Module, bits: int = 10) -> None:
    """Moves weights to multiples of 2^-bits and leaks to exp(-n / 2^15), n whole: numbers that a SpiNNaker board has, if thresholds are 1 and the
    weights that arrive at a neuron in one step add up to less than 2^(15 - bits). Its 16 bits then hold every synapse exactly, where rounding moves
    spikes across the threshold in networks that are often near it, such as those whose input stands still.
    """
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.round(weight * 2**bits) / 2**bits)
        for neurons in network.modules():
            if isinstance(neurons, Leaky) and 0 < neurons.beta < 1:
                neurons.beta.fill_(math.exp(round(2**15 * math.log(float(neurons.beta))) / 2**15))


@dataclass(frozen=True)
class Wire:
    """Neurons fed by each of `inputs`: (source, synapses), where None stands for one to one."""

    neurons: Any
    inputs: Sequence[tuple[str, nn.Module | None]]


def spikes_per_sample(trains: Mapping[str, torch.Tensor]) -> float:
    """Of all neurons together, the input left out; trains: as of `SpikingNetwork.trains`."""
    return float(sum(train.sum() for name, train in trains.items() if name != "input") / len(trains["input"]))


class SpikingNetwork(nn.Module):
    """events: (batch, steps, h, w) uint8 → spike counts (batch, classes) of the last population.

    input_shape: (channels, h, w) of one step; `wiring` names every population in the order of the signal.
    """

    input_shape: tuple[int, ...]

    def wiring(self) -> dict[str, Wire]:
        """Populations by name; sources are earlier names, or "input"."""
        raise NotImplementedError

    def trains(self, events: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every population's spikes, (batch, steps, neurons)."""
        batch, steps = events.shape[:2]
        shapes = {"input": self.input_shape}
        found = {"input": events.to(torch.float32).flatten(2)}
        for name, wire in self.wiring().items():
            currents: torch.Tensor | int = 0
            for source, synapses in wire.inputs:
                signal = found[source].flatten(0, 1)
                if isinstance(synapses, nn.Conv2d):
                    signal = synapses(signal.unflatten(1, shapes[source]))
                elif synapses is not None:
                    signal = synapses(signal)
                shapes[name] = tuple(signal.shape[1:]) if synapses is not None else shapes[source]
                currents = currents + signal.reshape(batch, steps, -1)
            found[name] = wire.neurons.over_time(currents)
        return found

    def forward(self, events: torch.Tensor) -> torch.Tensor:
        found = self.trains(events)
        return found[next(reversed(found))].sum(1)
