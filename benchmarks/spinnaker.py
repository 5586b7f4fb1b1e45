"""The ladder of mappings for spiking checkpoints, as a Markdown table: python benchmarks/spinnaker.py CHECKPOINT ...

Every rung runs the same 1,000 held-out event samples through the emulated board; agreement is with the source network.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import edgeattn
from edgeattn.models.fingerspelling import letters
from edgeattn.runtime.machine import machine


def main(checkpoints: list[str]) -> None:
    """Compiles each checkpoint and prints one row a mapping, then the time of one sample on this machine."""
    print("| checkpoint | mapping | same class | all spike counts equal |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "b.edge"
        for checkpoint in checkpoints:
            for candidate in edgeattn.compile(checkpoint, "spinnaker", output=bundle).to_json()["candidates"]:
                print(f"| {Path(checkpoint).stem} | {candidate['name']} | {candidate['agreement']:.1%} | {candidate['identical']:.1%} |")
        session, events = edgeattn.load(bundle), letters(20, seed=5).inputs["events"]
        times = []
        for sample in events:
            start = time.perf_counter()
            session.run(events=sample[None])
            times.append(1000 * (time.perf_counter() - start))
    print(
        f"\nOne 35-step sample in the emulator, median of {len(times)}: {sorted(times)[len(times) // 2]:.1f} ms on one thread of {machine()['cpu']}."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
