"""The engine of spinnaker bundles: mapping.json and weights.safetensors through the emulator, so that they run and verify anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import BundleError, InputError
from .bundle import Bundle
from .emulator import Board, Emulator, Population, Projection

MAPPING, WEIGHTS, TRAINS = "mapping.json", "weights.safetensors", "trains.safetensors"
NUMBERS = ("tau_m", "cm", "tau_syn_e", "tau_syn_i", "v_rest", "v_reset", "v_thresh", "tau_refrac", "per_core")


def pack_board(board: Board) -> dict[str, bytes]:
    """mapping.json (populations, projections, readout) and weights.safetensors.

    Tensors: shifts.NAME (2, size); of projection i either weights.i (pre, post) in nA, or, where that is shorter, synapses.i (2, n) with each
    synapse's pre and post neuron and values.i (n,).
    """
    populations = [{"name": p.name, "size": p.size, **{key: getattr(p, key) for key in NUMBERS}} for p in board.populations]
    projections = [{"source": p.source, "target": p.target, "delay": p.delay, "shape": p.weights.shape} for p in board.projections]
    body = {key: getattr(board, key) for key in ("inputs", "readout", "steps_after", "input_parts", "time_scale")}
    body |= {"timestep_ms": 1.0, "populations": populations, "projections": projections}
    tensors = {f"shifts.{p.name}": np.ascontiguousarray(p.shifts, np.int64) for p in board.populations}
    for index, projection in enumerate(board.projections):
        tensors |= _pack_weights(index, np.ascontiguousarray(projection.weights, np.float32))
    return {MAPPING: (json.dumps(body, indent=2, sort_keys=True) + "\n").encode(), WEIGHTS: bytes(save(tensors))}


def _pack_weights(index: int, weights: np.ndarray) -> dict[str, np.ndarray]:
    pre, post = np.nonzero(weights)
    if 3 * len(pre) >= weights.size:
        return {f"weights.{index}": weights}
    return {f"synapses.{index}": np.stack([pre, post]).astype(np.int32), f"values.{index}": weights[pre, post]}


def _unpack_weights(index: int, shape: Sequence[int], tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    if f"weights.{index}" in tensors:
        return tensors[f"weights.{index}"]
    weights = np.zeros(shape, np.float32)
    pre, post = tensors[f"synapses.{index}"]
    weights[pre, post] = tensors[f"values.{index}"]
    return weights


def pack_trains(readout: np.ndarray) -> bytes:
    """trains.safetensors: the emulated readout's spikes on the golden inputs, `readout` (samples, steps + steps_after, classes) uint8."""
    return bytes(save({"readout": np.ascontiguousarray(readout, np.uint8)}))


def unpack_board(mapping: bytes, weights: bytes) -> Board:
    """Inverse of `pack_board`; raises BundleError naming what is missing."""
    try:
        body, tensors = json.loads(mapping), load(weights)
        populations = tuple(Population(**entry, shifts=tensors[f"shifts.{entry['name']}"]) for entry in body["populations"])
        projections = tuple(
            Projection(entry["source"], entry["target"], _unpack_weights(index, entry["shape"], tensors), entry["delay"])
            for index, entry in enumerate(body["projections"])
        )
        return Board(
            body["inputs"], populations, projections, body["readout"], body["steps_after"], body["input_parts"], body["time_scale"]
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
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
