"""The ladder of mappings for spiking checkpoints: python benchmarks/spinnaker.py [--write] CHECKPOINT ...

Every rung runs the same 1,000 held-out event samples through the emulated board; agreement is with the source network. --write puts table and plot
into docs/.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tables import DOCS, machine, table, write_section

import edgeattn
from edgeattn.models.fingerspelling import letters
from edgeattn.plots import ladder
from edgeattn.spiking import AGREEMENT

HEADER = ("checkpoint", "mapping", "same class", "all spike counts equal")


def main() -> None:
    """Compiles each checkpoint and prints one row a mapping, then the time of one sample on this machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    shares: dict[str, list[float]] = {}
    names: list[str] = []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "b.edge"
        for checkpoint in arguments.checkpoints:
            candidates = edgeattn.compile(checkpoint, "spinnaker", output=bundle).to_json()["candidates"]
            network = Path(checkpoint).stem.removesuffix("_model")
            names, shares[network] = [candidate["name"] for candidate in candidates], [candidate["agreement"] for candidate in candidates]
            for candidate in candidates:
                rows.append((network, candidate["name"], f"{candidate['agreement']:.1%}", f"{candidate['identical']:.1%}"))
        times = _times(bundle)
    last = Path(arguments.checkpoints[-1]).stem.removesuffix("_model")
    one = f"One sample of {last} takes the emulator {times[len(times) // 2]:.1f} ms (median of {len(times)}, one thread)."
    text = f"{table(HEADER, rows)}\n\n{one} {machine()}."
    print(text)
    if arguments.write:
        write_section("spinnaker.md", "ladder", text)
        (DOCS / "ladder.svg").write_bytes(ladder(names, shares, AGREEMENT))


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
