"""Spike-driven self-attention beside the convolutional network, and what its parts are worth: python benchmarks/spike_attention.py [--write]"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import machine, table, write_section
from torch import nn

import edgeattn
from edgeattn.models.fingerspelling import letters
from edgeattn.models.reference import Samples
from edgeattn.models.registry import find
from edgeattn.models.training import outputs
from edgeattn.targets.spinnaker.budget import budget_of
from edgeattn.targets.spinnaker.energy import activity_of, joules

NETWORKS = ("sign_language", "spike_attention")


class _Open(nn.Module):
    """A gate that lets everything through."""

    def over_time(self, currents: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(currents)


class _Foreign(nn.Module):
    """The gates of the sample before this one."""

    def __init__(self, neurons: Any) -> None:
        super().__init__()
        self.neurons = neurons

    def over_time(self, currents: torch.Tensor) -> torch.Tensor:
        return self.neurons.over_time(currents).roll(1, 0)


def board_table(samples: Samples) -> str:
    """Accuracy on both sides, and what one sample costs the board."""
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "letters.npz", **samples.inputs, labels=samples.truth)
        for name in NETWORKS:
            path = Path(folder) / f"{name}.edge"
            compiled = edgeattn.compile(find(name).weights, "spinnaker", calib=Path(folder) / "letters.npz", output=path)
            session = edgeattn.load(path)
            board = session.engine.board
            activity = activity_of(board, session.trains(events=samples.inputs["events"][:200]))
            budget, parity = budget_of(board), compiled.manifest.parity
            for label, value in {
                "simulation, points": f"{parity.metric.reference:.1f}",
                "emulated board, points": f"{parity.metric.artifact:.1f}",
                "same class": f"{parity.agreement:.1%}",
                "spikes of neurons": f"{activity.spikes:,.0f}",
                "synaptic events": f"{activity.synaptic_events:,.0f}",
                "neuron updates": f"{activity.updates:,}",
                "cores": f"{budget.cores}",
                "energy, estimate": f"{1000 * joules(board, budget, activity):.1f} mJ",
            }.items():
                rows.setdefault(label, []).append(value)
    return table(("per sample", *NETWORKS), [(label, *values) for label, values in rows.items()])


def ablations(samples: Samples) -> str:
    """Accuracy of the trained attention network with one part of it replaced, in simulation."""
    rows = []

    def points(label: str, change: Any) -> None:
        module: Any = find("spike_attention").module()
        with torch.no_grad():
            change(module)
        correct = outputs(module, samples).argmax(1) == samples.truth
        rows.append((label, f"{100 * np.mean(correct):.1f}"))

    points("nothing changed", lambda module: None)
    points("every gate open", lambda module: setattr(module, "lif_gate", _Open()))
    points("another sample's gates", lambda module: setattr(module, "lif_gate", _Foreign(module.lif_gate)))
    points("the attended path silenced", lambda module: module.attended.weight.zero_())
    return table(("the trained network with", "points"), rows)


def main() -> None:
    for section, text in {
        "attention on the board": f"{board_table(letters(2000, seed=1003))}\n\n{machine()}.",
        "attention in parts": ablations(letters(1200, seed=3)),
    }.items():
        print(text)
        if "--write" in sys.argv:
            write_section("spinnaker.md", section, text)


if __name__ == "__main__":
    main()
