"""The `spinnaker` target: spiking networks on the first-generation SpiNNaker, checked by an emulator of the board's arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from ...devices import Device
from ...export.network import Network
from ...runtime.emulator import Board
from ...runtime.manifest import Check, IntegerLayers
from ...runtime.spiking import MAPPING, TRAINS, pack_board, pack_trains
from ..target import Artifact, Finding
from .budget import check_budget
from .energy import activity_of, energy_of
from .load import spread
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
        trains = {"input": events, **{name: measured.fired for name, measured in ranges.items()}}
        boards = {name: spread(board, trains) for name, board in boards.items()}
        for board in boards.values():
            check_budget(board, device)
        return boards

    def package(self, graph: Network, board: Board, device: Device, trains: dict[str, np.ndarray]) -> Artifact:
        """The mapping with its weights, and the script that runs it on a board. trains: emulated spikes of some samples, by population."""
        budget, activity = check_budget(board, device), activity_of(board, trains)
        detail = (
            f"estimate: {budget.cores} cores for {budget.populations} populations, {budget.synapses:,} synapses, {budget.sdram:,} bytes of SDRAM, "
            f"{budget.entries} routing entries"
        )
        slower = () if board.time_scale == 1 else (f"this network is too busy for real time: the script runs it {board.time_scale} times slower",)
        layers = {population.name: "s16.15" for population in board.populations}
        return Artifact(
            engine="spinnaker-emulator",
            main=MAPPING,
            files={**pack_board(board), TRAINS: pack_trains(trains[board.readout]), "device/run_on_board.py": SCRIPT.read_bytes()},
            layers=layers,
            integer_layers=IntegerLayers(quantised=len(layers), integer_in_engine=len(layers)),
            checks=(Check(name="budget", ok=True, detail=detail), Check(name="energy", ok=True, detail=energy_of(board, budget, activity))),
            left_to_device=(
                *slower,
                "packets that arrive late or are dropped: run device/run_on_board.py --board ADDRESS",
                "latency and energy: only a board measures them",
            ),
        )


TARGET = SpinnakerTarget()
