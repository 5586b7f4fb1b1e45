"""The `spinnaker` target: spiking networks on the first-generation SpiNNaker, checked by an emulator of the board's arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...devices import Device
from ...runtime.emulator import Board
from ...runtime.manifest import Check, IntegerLayers
from ...runtime.spiking import MAPPING, pack_board
from ..target import Artifact, Finding
from .budget import check_budget
from .chain import chain_of
from .lower import lower_chain, lower_to_membrane, measure

SCRIPT = Path(__file__).with_name("run_on_board.py")


class SpinnakerTarget:
    """NIR chains of Linear, Conv2d and LIF as IF_curr_exp populations."""

    name = "spinnaker"
    form: Literal["onnx", "nir"] = "nir"

    def check(self, graph: Any, device: Device) -> list[Finding]:
        """Raises InputError that names the node which has no mapping; a chain has no findings."""
        chain_of(graph)
        return []

    def variants(self, graph: Any, device: Device, events: np.ndarray) -> dict[str, Board]:
        """Mappings by name, from the usual one to ours; `events` (samples, steps, inputs) show the ranges that scales are chosen from."""
        layers = chain_of(graph)
        ranges = measure(layers, events)
        boards = {
            "membrane, hard reset, window not extended": lower_to_membrane(layers, ranges, extended=False),
            "membrane, hard reset": lower_to_membrane(layers, ranges),
            "state in the synapse": lower_chain(layers, ranges, grouped=False),
            "state in the synapse, scales by neuron": lower_chain(layers, ranges),
        }
        for board in boards.values():
            check_budget(board, device)
        return boards

    def package(self, graph: Any, board: Board, device: Device) -> Artifact:
        """network.nir, the mapping with its weights, and the script that runs it on a board."""
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
