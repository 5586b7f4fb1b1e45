"""The engine of spinnaker bundles: mapping.json and weights.safetensors through the emulator, so that they run and verify anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import BundleError, InputError
from .bundle import Bundle
from .emulator import Board, Emulator, Population, Projection

MAPPING, WEIGHTS = "mapping.json", "weights.safetensors"
NUMBERS = ("tau_m", "cm", "tau_syn_e", "tau_syn_i", "v_rest", "v_reset", "v_thresh", "tau_refrac")


def pack_board(board: Board) -> dict[str, bytes]:
    """mapping.json (populations, projections, readout) and weights.safetensors, (pre, post) in nA and shifts (2, size)."""
    populations = [{"name": p.name, "size": p.size, **{key: getattr(p, key) for key in NUMBERS}} for p in board.populations]
    projections = [{"source": p.source, "target": p.target, "delay": p.delay} for p in board.projections]
    body = {"inputs": board.inputs, "readout": board.readout, "steps_after": board.steps_after}
    body |= {"timestep_ms": 1.0, "populations": populations, "projections": projections}
    tensors = {f"weights.{index}": np.ascontiguousarray(p.weights, np.float32) for index, p in enumerate(board.projections)}
    tensors |= {f"shifts.{p.name}": np.ascontiguousarray(p.shifts, np.int64) for p in board.populations}
    return {MAPPING: (json.dumps(body, indent=2, sort_keys=True) + "\n").encode(), WEIGHTS: bytes(save(tensors))}


def unpack_board(mapping: bytes, weights: bytes) -> Board:
    """Inverse of `pack_board`; raises BundleError naming what is missing."""
    try:
        body, tensors = json.loads(mapping), load(weights)
        populations = tuple(Population(**entry, shifts=tensors[f"shifts.{entry['name']}"]) for entry in body["populations"])
        projections = tuple(
            Projection(entry["source"], entry["target"], tensors[f"weights.{index}"], entry["delay"])
            for index, entry in enumerate(body["projections"])
        )
        return Board(body["inputs"], populations, projections, body["readout"], body["steps_after"])
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BundleError(f"{MAPPING} or {WEIGHTS} is not a mapped network ({error!r}): recompile.") from None


class SpikingEngine:
    """`events` (batch, steps, ...) of 0 and 1 in, spike `counts` (batch, classes) float32 out."""

    version = "edgeattn's SpiNNaker emulator"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self.board = unpack_board(bundle.read(MAPPING), bundle.read(WEIGHTS))
        self._emulator = Emulator(self.board)
        self._input = bundle.manifest.inputs[0].name

    def run(self, inputs: Mapping[str, Any]) -> list[np.ndarray]:
        """Spikes of each readout neuron over the whole run, (batch, classes)."""
        return [self.trains(inputs)[self.board.readout].sum(1, dtype=np.float32)]

    def trains(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Every population's spikes, (batch, steps + steps_after, neurons)."""
        events = inputs[self._input]
        if events.max(initial=0) > 1:
            raise InputError(f"{self._input} holds {events.max()}: event frames are 0 or 1; count several events of one pixel and step as one.")
        return self._emulator.run(events.reshape(*events.shape[:2], -1)).spikes
