"""The spiking network of "Neuromorphic visual attention for Sign-language recognition on SpiNNaker" (arXiv 2605.06005).

    m_t = beta m_(t-1) + W s_t - theta z_(t-1),   z_t = [m_t > theta]

s_t: input spikes (batch, ...), z_t: output spikes, m_t: membranes; reset by subtraction one step later. 48 x 48 binary event frames →
convolution (4 channels, kernel 5, stride 6) 256 LIF → linear 512 LIF → linear 24 LIF; the class is the neuron that spikes most in the window.
Keys are those of the paper's checkpoints, so they compile as they are. Events here: handwritten digits that move before an event camera.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from ..errors import MissingError
from ..runtime.manifest import TensorSpec
from .reference import Reference, Samples

SIDE, STEPS, LETTERS = 48, 35, 24


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
        return (membrane > self.threshold).to(x.dtype), membrane


class SignNetwork(nn.Module):
    """events: (batch, steps, 48, 48) uint8 → spike counts (batch, 24)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 5, 6, bias=False)
        self.lif1, self.lif_fc1, self.lif_out = Leaky(), Leaky(), Leaky()
        self.fc1 = nn.Linear(256, 512, bias=False)
        self.readout = nn.Linear(512, LETTERS, bias=False)

    input_shape = (1, SIDE, SIDE)

    def layers(self) -> list[tuple[nn.Module, Leaky]]:
        """Synapses and neurons in the order of the signal."""
        return [(self.conv1, self.lif1), (self.fc1, self.lif_fc1), (self.readout, self.lif_out)]

    def forward(self, events: torch.Tensor) -> torch.Tensor:
        batch = events.shape[0]
        membranes = [torch.zeros(batch, size) for size in (256, 512, LETTERS)]
        counts = torch.zeros(batch, LETTERS)
        for step in range(events.shape[1]):
            spikes = events[:, step, None].to(torch.float32)
            for index, (synapses, neurons) in enumerate(self.layers()):
                spikes, membranes[index] = neurons(synapses(spikes).flatten(1), membranes[index])
            counts = counts + spikes
        return counts


@cache
def _digits() -> np.ndarray:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingError("the digits come with scikit-learn: pip install 'edgeattn[compile]'.") from None
    return load_digits().images / 16.0


def moving_digits(count: int, seed: int, steps: int = STEPS) -> np.ndarray:
    """Event frames (count, steps, 48, 48) uint8 of digits that shake before an event camera.

    A pixel fires where the log intensity changed by more than 0.2 since it fired last; 0.1 % of pixels fire by noise in every step.
    """
    random = np.random.default_rng(seed)
    frames = np.zeros((count, steps, SIDE, SIDE), np.uint8)
    images = _digits()[random.integers(0, len(_digits()), count)]
    for index, image in enumerate(images):
        canvas = np.zeros((SIDE + 24, SIDE + 24))
        canvas[16:56, 16:56] = np.kron(image, np.ones((5, 5)))
        path = 12 + np.cumsum(random.normal(0, 1.2, (steps + 1, 2)), 0).clip(-12, 12)
        last = None
        for step, (row, column) in enumerate(path.astype(int)):
            seen = np.log(0.1 + canvas[row : row + SIDE, column : column + SIDE])
            if last is None:
                last = seen.copy()
                continue
            fired = np.abs(seen - last) > 0.2
            last[fired] = seen[fired]
            frames[index, step - 1] = fired | (random.random((SIDE, SIDE)) < 0.001)
    return frames


REFERENCE = Reference(
    name="sign_language",
    build=SignNetwork,
    inputs=(
        TensorSpec(name="events", shape=("batch", "steps", SIDE, SIDE), dtype="uint8", unit="spikes", preprocessing="1 ms event frames, 0 or 1"),
    ),
    outputs=("counts",),
    source="arXiv 2605.06005; repository Neuro-inspired-Perception-and-Cognition/Sign-language-Recognition",
    claim="loses 9.2 points from simulation to board; here the board's arithmetic must lose less than one",
    calibration=lambda: Samples({"events": moving_digits(100, seed=1)}),
    evaluation=lambda: Samples({"events": moving_digits(1000, seed=2)}),
    targets=("spinnaker",),
)
