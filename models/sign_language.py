"""The spiking network of "Neuromorphic visual attention for Sign-language recognition on SpiNNaker" (arXiv 2605.06005).

    m_t = beta m_(t-1) + W s_t - theta z_(t-1),   z_t = [m_t > theta]

s_t: input spikes (batch, ...), z_t: output spikes, m_t: membranes; reset by subtraction one step later. 48 x 48 binary event frames →
convolution (4 channels, kernel 5, stride 6) 256 LIF → linear 512 LIF → linear 24 LIF; the class is the neuron that spikes most in the window.
Keys are those of the paper's checkpoints, so they compile as they are. Trained here on procedural fingerspelling (`fingerspelling.py`),
with the surrogate gradient of `spiking.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..runtime.manifest import TensorSpec
from .fingerspelling import letters
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import weights_file
from .spiking import Leaky, SpikingNetwork, Wire
from .training import Progress, fit_counts, outputs

SIDE, STEPS, LETTERS = 48, 35, 24
EVENTS = TensorSpec(name="events", shape=("batch", "steps", SIDE, SIDE), dtype="uint8", unit="spikes", preprocessing="1 ms event frames, 0 or 1")


class SignNetwork(SpikingNetwork):
    """events: (batch, steps, 48, 48) uint8 → spike counts (batch, 24)."""

    input_shape = (1, SIDE, SIDE)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 5, 6, bias=False)
        self.lif1, self.lif_fc1, self.lif_out = Leaky(), Leaky(), Leaky()
        self.fc1 = nn.Linear(256, 512, bias=False)
        self.readout = nn.Linear(512, LETTERS, bias=False)

    def wiring(self) -> dict[str, Wire]:
        return {
            "lif1": Wire(self.lif1, [("input", self.conv1)]),
            "lif_fc1": Wire(self.lif_fc1, [("lif1", self.fc1)]),
            "lif_out": Wire(self.lif_out, [("lif_fc1", self.readout)]),
        }


def shaken(events: torch.Tensor) -> torch.Tensor:
    """Training inputs moved by up to two pixels, with a tenth of their events lost."""
    moved = torch.roll(events, tuple(int(shift) for shift in torch.randint(-2, 3, (2,))), (2, 3))
    return moved * (torch.rand(moved.shape, device=moved.device) > 0.1)


def train_on_letters(
    module: nn.Module, gains: Mapping[nn.Module, float], epochs: int, seed: int, progress: Progress | None = None
) -> tuple[nn.Module, float]:
    """Trains a network of spike counts on 16,000 fingerspelling samples; returns it and its accuracy on 1,200 others."""
    data, validation, held_out = letters(16000, 10 * seed + 1), letters(600, 10 * seed + 2), letters(1200, 10 * seed + 3)
    fit_counts(module, gains, data, validation, epochs, seed=seed, augment=shaken, progress=progress)
    return module, ACCURACY.compute([outputs(module, held_out)], held_out.truth)


def train(seed: int = 0, epochs: int = 12, progress: Progress | None = None) -> tuple[nn.Module, float]:
    """The network trained on letters, and its accuracy on held-out ones."""
    torch.manual_seed(seed)
    module = SignNetwork()
    return train_on_letters(module, {module.conv1: 6.0, module.fc1: 2.0, module.readout: 2.0}, epochs, seed, progress)


def _unlabelled(samples: Samples) -> Samples:
    """The paper's checkpoints were trained on other data: on ours they are judged by agreement, not by labels."""
    return Samples(samples.inputs)


REFERENCE = Reference(
    name="sign_language",
    build=SignNetwork,
    inputs=(EVENTS,),
    outputs=("counts",),
    source="arXiv 2605.06005; repository Neuro-inspired-Perception-and-Cognition/Sign-language-Recognition",
    data="procedural fingerspelling before an event camera",
    claim="loses 9.2 points from simulation to board; here the board's arithmetic must lose less than one",
    calibration=lambda: _unlabelled(letters(100, seed=1001)),
    evaluation=lambda: _unlabelled(letters(1000, seed=1002)),
    train=train,
    weights=weights_file("sign_language"),
    targets=("spinnaker",),
)
