"""The spiking network of "Neuromorphic visual attention for Sign-language recognition on SpiNNaker" (arXiv 2605.06005).

    m_t = beta m_(t-1) + W s_t - theta z_(t-1),   z_t = [m_t > theta]

s_t: input spikes (batch, ...), z_t: output spikes, m_t: membranes; reset by subtraction one step later. 48 x 48 binary event frames →
convolution (4 channels, kernel 5, stride 6) 256 LIF → linear 512 LIF → linear 24 LIF; the class is the neuron that spikes most in the window.
Keys are those of the paper's checkpoints, so they compile as they are. Trained here on procedural fingerspelling (`fingerspelling.py`), with a fast
sigmoid in place of the step's derivative (Zenke and Ganguli, "SuperSpike", 2018): dz/dm = 1 / (1 + 2 |m - theta|)^2.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..errors import MissingError
from ..runtime.manifest import TensorSpec
from .fingerspelling import letters
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import weights_file
from .training import Progress, fit, outputs

SIDE, STEPS, LETTERS = 48, 35, 24


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
        batch, steps = events.shape[:2]
        spikes = events.to(torch.float32).unsqueeze(2)
        for synapses, neurons in self.layers():
            currents = synapses(spikes.flatten(0, 1)).reshape(batch, steps, -1)
            membrane, trains = torch.zeros_like(currents[:, 0]), []
            for step in range(steps):
                train, membrane = neurons(currents[:, step], membrane)
                trains.append(train)
            spikes = torch.stack(trains, 1)
        return spikes.sum(1)


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


def shaken(events: torch.Tensor) -> torch.Tensor:
    """Training inputs moved by up to two pixels, with a tenth of their events lost."""
    moved = torch.roll(events, tuple(int(shift) for shift in torch.randint(-2, 3, (2,))), (2, 3))
    return moved * (torch.rand(moved.shape, device=moved.device) > 0.1)


def train(seed: int = 0, epochs: int = 12, progress: Progress | None = None, network: SignNetwork | None = None) -> tuple[nn.Module, float]:
    """Trains on 16,000 fingerspelling samples; returns the network and its accuracy on 1,200 others."""
    torch.manual_seed(seed)
    module = network if network is not None else SignNetwork()
    with torch.no_grad():  # the default scale would leave every neuron silent
        for (synapses, _), gain in zip(module.layers(), (6.0, 2.0, 2.0), strict=True):
            synapses.weight.mul_(gain)
    data, validation, held_out = letters(16000, 10 * seed + 1), letters(600, 10 * seed + 2), letters(1200, 10 * seed + 3)

    def loss(counts: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(0.5 * counts, labels)

    fit(module, data, validation, loss, epochs, seed=seed, rate=4e-3, decay=0.0, augment=shaken, progress=progress)
    return module, ACCURACY.compute([outputs(module, held_out)], held_out.truth)


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
    train=train,
    weights=weights_file("sign_language"),
    targets=("spinnaker",),
)
