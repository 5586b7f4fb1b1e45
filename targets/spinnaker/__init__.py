"""The `spinnaker` target: spiking networks on the first-generation SpiNNaker, checked by an emulator of the board's arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from ...devices import Device
from ...export.network import Network
from ...runtime.emulator import Board
from ...runtime.manifest import Check, IntegerLayers
from ...runtime.spiking import MAPPING, pack_board
from ..target import Artifact, Finding
from .budget import check_budget
from .lower import lower_network, lower_to_membrane, measure
from .published import lower_as_published

SYNAPSE, BY_NEURON = "state in the synapse", "state in the synapse, scales by neuron"
SCRIPT = Path(__file__).with_name("run_on_board.py")


class SpinnakerTarget:
    """Feed-forward graphs of spiking neurons and linear synapses as IF_curr_exp populations."""

    name = "spinnaker"
    form: Literal["onnx", "nir"] = "nir"

    def check(self, graph: Network, device: Device) -> list[Finding]:
        """A warning for neurons whose file does not say how they reset."""
        message = (
            "its file does not say how it resets: taken as NIR's equation, to v_reset; snnTorch, Sinabs and Rockpool subtract (--reset subtract)."
        )
        return [Finding("nir-reset", "warning", name, message) for name in graph.assumed]

    def variants(self, graph: Network, device: Device, events: np.ndarray) -> dict[str, Board]:
        """Mappings by name, from the usual one to ours; `events` (samples, steps, inputs) show the ranges that scales are chosen from."""
        ranges = measure(graph, events)
        boards = {
            "as published, scales set by hand": lower_as_published(graph, ranges),
            "membrane, hard reset, window not extended": lower_to_membrane(graph, ranges, extended=False),
            "membrane, hard reset": lower_to_membrane(graph, ranges),
            SYNAPSE: lower_network(graph, ranges, grouped=False),
            BY_NEURON: lower_network(graph, ranges),
        }
        for board in boards.values():
            check_budget(board, device)
        return boards

    def package(self, graph: Network, board: Board, device: Device) -> Artifact:
        """The mapping with its weights, and the script that runs it on a board."""
        budget = check_budget(board, device)
        detail = (
            f"estimate: {budget.cores} cores for {budget.populations} populations, {budget.synapses:,} synapses in {budget.synapse_bytes:,} bytes"
        )
        layers = {population.name: "s16.15" for population in board.populations}
        return Artifact(
            engine="spinnaker-emulator",
            main=MAPPING,
            files={**pack_board(board), "device/run_on_board.py": SCRIPT.read_bytes()},
            layers=layers,
            integer_layers=IntegerLayers(quantised=len(layers), integer_in_engine=len(layers)),
            checks=(Check(name="budget", ok=True, detail=detail),),
            left_to_device=(
                "packets that arrive late or are dropped, and exp() in its last bit: run device/run_on_board.py --board ADDRESS",
                "latency and energy: only a board measures them",
            ),
        )


TARGET = SpinnakerTarget()
