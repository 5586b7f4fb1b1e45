"""Spike-driven self-attention (Yao et al., "Spike-driven Transformer", NeurIPS 2023), small enough for the board itself.

    attend(Q, K, V) = g(sum over tokens of Q * K) * V        every signal is 0 or 1, so * is AND and g a spiking neuron

Q, K, V: spikes (tokens, channels). A channel whose query and key coincide on enough tokens opens its gate for the values of all tokens. AND is a
coincidence neuron, the sum a synapse of fixed weight: masks and additions, no softmax and no multiplication, and linear in the number of tokens.
48 x 48 events → 36 tokens of 16 channels (8 x 8 patches) → attention → 256 LIF → 24 LIF. No skip connection around the attention, unlike the
paper's blocks: with one, this small network learns to do without its attention.
"""

from __future__ import annotations

import torch
from torch import nn

from .fingerspelling import letters
from .metrics import ACCURACY
from .reference import Reference
from .registry import weights_file
from .sign_language import EVENTS, LETTERS, SIDE, train_on_letters
from .spiking import Coincidence, Leaky, SpikingNetwork, Wire
from .training import Progress

PATCH, CHANNELS, HIDDEN = 8, 16, 256
TOKENS = (SIDE // PATCH) ** 2
SHARE = 0.5  # of the gate's threshold that one coincidence brings


class SpikeAttention(SpikingNetwork):
    """events: (batch, steps, 48, 48) uint8 → spike counts (batch, 24)."""

    input_shape = (1, SIDE, SIDE)

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, CHANNELS, PATCH, PATCH, bias=False)
        self.query, self.key, self.value = (nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False) for _ in range(3))
        self.lif_embed, self.lif_query, self.lif_key, self.lif_value = Leaky(), Leaky(), Leaky(), Leaky()
        self.lif_gate, self.lif_hidden, self.lif_out = Leaky(), Leaky(), Leaky()
        self.sum, self.spread = nn.Linear(TOKENS * CHANNELS, CHANNELS, bias=False), nn.Linear(CHANNELS, TOKENS * CHANNELS, bias=False)
        members = torch.eye(CHANNELS).repeat_interleave(TOKENS, 1)  # (channels, channels x tokens): which neuron is of which channel
        for synapses, weight in ((self.sum, SHARE * members), (self.spread, members.T)):
            synapses.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        self.attended = nn.Linear(TOKENS * CHANNELS, HIDDEN, bias=False)
        self.readout = nn.Linear(HIDDEN, LETTERS, bias=False)

    def wiring(self) -> dict[str, Wire]:
        return {
            "embed": Wire(self.lif_embed, [("input", self.embed)]),
            "query": Wire(self.lif_query, [("embed", self.query)]),
            "key": Wire(self.lif_key, [("embed", self.key)]),
            "value": Wire(self.lif_value, [("embed", self.value)]),
            "agree": Wire(Coincidence(), [("query", None), ("key", None)]),
            "gate": Wire(self.lif_gate, [("agree", self.sum)]),
            "gated": Wire(Coincidence(), [("gate", self.spread), ("value", None)]),
            "hidden": Wire(self.lif_hidden, [("gated", self.attended)]),
            "out": Wire(self.lif_out, [("hidden", self.readout)]),
        }


def train(seed: int = 0, epochs: int = 10, progress: Progress | None = None) -> tuple[nn.Module, float]:
    """The network trained on letters, and its accuracy on held-out ones."""
    torch.manual_seed(seed)
    module = SpikeAttention()
    gains = {module.embed: 5.0, module.query: 4.0, module.key: 4.0, module.value: 4.0, module.attended: 3.0, module.readout: 2.0}
    return train_on_letters(module, gains, epochs, seed, progress)


REFERENCE = Reference(
    name="spike_attention",
    build=SpikeAttention,
    inputs=(EVENTS,),
    outputs=("counts",),
    source="Spike-driven Transformer (NeurIPS 2023, arXiv 2307.01694), its self-attention on the network of arXiv 2605.06005's size",
    data="procedural fingerspelling before an event camera",
    claim="attention by masks and additions only: no softmax, no multiplication; here on the board itself",
    calibration=lambda: letters(100, seed=1001),
    evaluation=lambda: letters(1000, seed=1002),
    metric=ACCURACY,
    train=train,
    weights=weights_file("spike_attention"),
    targets=("spinnaker",),
)
