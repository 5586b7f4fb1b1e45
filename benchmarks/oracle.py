"""The equality table of docs/spinnaker.md: runtime/emulator.py against the IF_curr_exp.aplx of the installed sPyNNaker, value by value.

usage: python benchmarks/oracle.py [--networks N] [--steps N]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import edgeattn
from edgeattn.board.aplx import origins
from edgeattn.board.networks import random_board, random_spikes
from edgeattn.board.oracle import Comparison, compare
from edgeattn.models.fingerspelling import letters
from edgeattn.models.registry import weights_file
from edgeattn.runtime.emulator import Board, Emulator
from edgeattn.runtime.spiking import unpack_board


def compared(board: Board, spikes: np.ndarray, steps: int) -> Comparison:
    with tempfile.TemporaryDirectory() as folder:
        return compare(board, Path(folder), spikes, steps)


def row(name: str, board: Board, comparisons: list[Comparison], spikes: list[np.ndarray]) -> str:
    runs = [Emulator(board).run(train[None]) for train in spikes]
    cells = [name]
    for quantity in comparisons[0].compared:
        total, equal = (sum(getattr(each, kind)[quantity] for each in comparisons) for kind in ("compared", "equal"))
        cells.append(f"{equal:,} of {total:,}")
    fired = sum(int(run.spikes[p.name].sum()) for run in runs for p in board.populations)
    cells += [f"{fired:,}", f"{sum(sum(run.saturated.values()) for run in runs):,}"]
    return "| " + " | ".join(cells) + " |"


def sign_board(folder: Path, name: str) -> tuple[Board, np.ndarray]:
    """The compiled network and letters that its scales were not chosen from."""
    samples, others = letters(60, seed=4), letters(8, seed=5)
    np.savez(folder / "letters.npz", events=samples.inputs["events"], labels=samples.labels)
    bundle = edgeattn.compile(weights_file(name), "spinnaker", calib=folder / "letters.npz", output=folder / f"{name}.edge", force=True).bundle
    board = unpack_board((bundle / "mapping.json").read_bytes(), (bundle / "weights.safetensors").read_bytes())
    return board, np.asarray(others.inputs["events"]).reshape(8, -1, board.inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1200)
    arguments = parser.parse_args()
    print("binaries of " + ", ".join(origins()))
    print("| network | membrane | excitatory current | inhibitory current | spikes | neurons fired | full ring buffers |\n|" + " --- |" * 7)
    for seed in range(100, 100 + arguments.networks):
        board = random_board(seed)
        spikes = random_spikes(seed, arguments.steps - board.steps_after, board.inputs)
        print(row(f"random {seed}", board, [compared(board, spikes, arguments.steps)], [spikes]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("sign_language",):
            board, events = sign_board(Path(folder), name)
            results = [compared(board, train, len(train) + board.steps_after) for train in events]
            print(row(f"{name}, {len(events)} letters", board, results, list(events)), flush=True)


if __name__ == "__main__":
    main()
