"""The spiking twin of gated subspace inference: synapses of rank k, through a population of relays.

    r(t) = LIF([U^T; -U^T] s(t)),   h(t) = LIF([W U, -W U] r(t))       in place of       h(t) = LIF(W s(t))

s: spikes of 256 neurons, W: (512, 256), the synapses of a trained network; U: (256, k), the strongest directions of s summed over time; r: 2 k
relays, one for each direction and sign, since a spike has none. A spike of s then makes 2 k synaptic events and not 512, and the board stores
2 k (256 + 512) synapses and not 256 x 512. The relays' rates round what they carry, so the network is trained on from there. The gate of
`models/gated_subspace.py` takes norms, which a spiking core has not: here a residual is never read.
Task: fingerspelling of `models/sign_language.py`, whose network is the twin, W in full. (Nested brackets take a stack; these neurons have none.)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import nn

from .fingerspelling import letters
from .gated_subspace import strongest_directions
from .metrics import ACCURACY
from .reference import Reference, Samples
from .registry import find, weights_file
from .sign_language import EVENTS, LETTERS, SIDE, SignNetwork, shaken
from .spiking import Leaky, SpikingNetwork, Wire
from .training import Progress, fit_counts, metric_of, tensors

GAIN = 2.0  # of the relays' input: more spikes, finer steps


class RankK(SpikingNetwork):
    """events: (batch, steps, 48, 48) uint8 → spike counts (batch, 24)."""

    input_shape = (1, SIDE, SIDE)

    def __init__(self, rank: int = 24, hidden: int = 512) -> None:
        super().__init__()
        self.rank = rank
        self.conv1 = nn.Conv2d(1, 4, 5, 6, bias=False)
        self.lif1, self.lif_relay, self.lif_fc1, self.lif_out = Leaky(), Leaky(), Leaky(), Leaky()
        self.basis, self.image = nn.Linear(256, 2 * rank, bias=False), nn.Linear(2 * rank, hidden, bias=False)
        self.readout = nn.Linear(hidden, LETTERS, bias=False)

    def wiring(self) -> dict[str, Wire]:
        return {
            "lif1": Wire(self.lif1, [("input", self.conv1)]),
            "relay": Wire(self.lif_relay, [("lif1", self.basis)]),
            "lif_fc1": Wire(self.lif_fc1, [("relay", self.image)]),
            "lif_out": Wire(self.lif_out, [("lif_fc1", self.readout)]),
        }

    def take(self, whole: SignNetwork, samples: Samples) -> RankK:
        """Becomes the rank-k form of a trained network; returns itself."""
        with torch.no_grad():
            spikes = whole.trains(tensors(samples.inputs)["events"])["lif1"].sum(1)
            directions = strongest_directions(spikes, self.rank)
            self.conv1.load_state_dict(whole.conv1.state_dict())
            self.readout.load_state_dict(whole.readout.state_dict())
            self.basis.weight.copy_(GAIN * torch.cat([directions, -directions]))
            seen = whole.fc1.weight @ directions.T / GAIN
            self.image.weight.copy_(torch.cat([seen, -seen], 1))
        return self


def paper() -> RankK:
    """Of a higher rank and a wider layer; the paper's networks are language models."""
    return RankK(rank=64, hidden=2048)


def calibration() -> Samples:
    """100 letters."""
    return letters(100, seed=1001)


@cache
def evaluation() -> Samples:
    """1,000 other letters."""
    return letters(1000, seed=1002)


def train(seed: int = 0, epochs: int = 12, progress: Progress | None = None) -> tuple[nn.Module, float]:
    """Takes the trained network of full rank and trains on with 3,000 letters; returns the network and its accuracy."""
    torch.manual_seed(seed)
    whole = find("sign_language").module()
    assert isinstance(whole, SignNetwork)
    module = RankK().take(whole, letters(200, 10 * seed + 4))
    data, validation = letters(3000, 10 * seed + 5), letters(400, 10 * seed + 6)
    fit_counts(module, {}, data, validation, epochs, seed=seed, rate=4e-3, augment=shaken, progress=progress)
    return module, metric_of(REFERENCE, module)


def synaptic_events(network: SpikingNetwork, samples: Samples, layers: Mapping[str, nn.Linear]) -> float:
    """Synapses read for one sample on average; layers: which synapses the spikes of which population reach."""
    with torch.no_grad():
        trains = network.trains(tensors(samples.inputs)["events"])
    return float(sum(trains[source].sum() * synapses.out_features for source, synapses in layers.items()) / len(samples))


def measure() -> dict[str, float]:
    """Accuracy beside full rank, and synapses stored and read between the two populations."""
    network, whole, held_out = REFERENCE.module(), REFERENCE.trained_twin(), evaluation()
    assert isinstance(network, RankK) and isinstance(whole, SignNetwork)
    untrained = RankK().take(whole, letters(200, 4)).eval()
    part = held_out.take(slice(0, 200))
    read = [
        synaptic_events(whole, part, {"lif1": whole.fc1}),
        synaptic_events(network, part, {"lif1": network.basis, "relay": network.image}),
    ]
    return {
        "accuracy %": metric_of(REFERENCE, network),
        "accuracy %, full rank": metric_of(REFERENCE, whole),
        "accuracy %, rank k before it is trained on": metric_of(REFERENCE, untrained),
        "synapses of full rank over ours": whole.fc1.weight.numel() / (network.basis.weight.numel() + network.image.weight.numel()),
        "synapses read in full rank over ours": read[0] / read[1],
        "synapses read a sample": read[1],
    }


REFERENCE = Reference(
    name="gated_subspace_spiking",
    build=RankK,
    inputs=(EVENTS,),
    outputs=("counts",),
    source="spiking form, derived here, of arXiv 2605.03109",
    data="procedural fingerspelling before an event camera",
    claim="a layer reads 3.0 to 10.5 times fewer weights on the subspace of its inputs at nearly no loss",
    calibration=calibration,
    evaluation=evaluation,
    metric=ACCURACY,
    twin=SignNetwork,
    paper=paper,
    train=train,
    targets=("spinnaker",),
    weights=weights_file("gated_subspace_spiking"),
    measure=measure,
    reached=87.5,
    twin_weights=weights_file("sign_language"),
    twin_of="gated_subspace",
)
