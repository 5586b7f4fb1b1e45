"""The ladder of mappings for spiking checkpoints: python benchmarks/spinnaker.py [--plot ladder.svg] CHECKPOINT ...

Every rung runs the same 1,000 held-out event samples through the emulated board; agreement is with the source network.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import edgeattn
from edgeattn.models.fingerspelling import letters
from edgeattn.plots import ladder
from edgeattn.runtime.machine import machine
from edgeattn.spiking import AGREEMENT


def main() -> None:
    """Compiles each checkpoint and prints one row a mapping, then the time of one sample on this machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--plot", type=Path, help="where the ladder is drawn, as SVG")
    arguments = parser.parse_args()
    shares: dict[str, list[float]] = {}
    names: list[str] = []
    print("| checkpoint | mapping | same class | all spike counts equal |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "b.edge"
        for checkpoint in arguments.checkpoints:
            candidates = edgeattn.compile(checkpoint, "spinnaker", output=bundle).to_json()["candidates"]
            network = Path(checkpoint).stem.removesuffix("_model")
            names, shares[network] = [candidate["name"] for candidate in candidates], [candidate["agreement"] for candidate in candidates]
            for candidate in candidates:
                print(f"| {network} | {candidate['name']} | {candidate['agreement']:.1%} | {candidate['identical']:.1%} |")
        times = _times(bundle)
    if arguments.plot:
        arguments.plot.write_bytes(ladder(names, shares, AGREEMENT))
    print(f"\nOne 35-step sample in the emulator, median of {len(times)}: {times[len(times) // 2]:.1f} ms on one thread of {machine()['cpu']}.")


def _times(bundle: Path) -> list[float]:
    """Milliseconds of single samples, sorted."""
    session, times = edgeattn.load(bundle), []
    for sample in letters(20, seed=5).inputs["events"]:
        start = time.perf_counter()
        session.run(events=sample)
        times.append(1000 * (time.perf_counter() - start))
    return sorted(times)


if __name__ == "__main__":
    main()
