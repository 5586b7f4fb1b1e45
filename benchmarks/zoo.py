"""`make zoo`: every system of the zoo to its targets on this machine, into models/status.json and docs/zoo.md: python benchmarks/zoo.py [NAME...]

Two at a time are compiled and gated, then latencies are measured one after another. `--train` trains each from scratch instead (seed 1; one system on
all cores, several two at a time) and keeps what it reached; `--page` only writes the page anew.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import machine
from zoo_page import write_page

import edgeattn
from edgeattn.errors import EdgeattnError
from edgeattn.models.listing import STATUS, hash_of, status
from edgeattn.models.metrics import ACCURACY, MEAN_SQUARED_ERROR
from edgeattn.models.reference import Reference
from edgeattn.models.registry import systems
from edgeattn.runtime.bench import bench
from edgeattn.runtime.memory import keep_freed_memory

DEVICES = {"cpu": "cpu", "jetson": "jetson-orin-nano", "spinnaker": "spinnaker"}
SECONDS = 3.0  # of each comparison


def main(words: list[str]) -> None:
    """One line a system; what was measured is kept even where a later system fails."""
    options, names = {word for word in words if word.startswith("--")}, [word for word in words if not word.startswith("--")]
    known = systems()
    chosen = [] if "--page" in options else names or list(known)
    with tempfile.TemporaryDirectory() as folder:
        if "--train" in options:
            _for_all(chosen, _trained, (os.cpu_count() or 1) // min(2, len(chosen) or 1))
        else:
            _for_all(chosen, partial(_measured, folder=Path(folder)), 1)
            for name in chosen:
                _keep(name, _latencies(Path(folder) / name, status()[name]))
    write_page(known, _entries(known))


def _for_all(chosen: list[str], work: Callable[[Reference], dict[str, Any]], threads: int) -> None:
    """Two systems at a time, each on so many threads; one line and one entry each."""
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(max(threads, 1),)) as pool:
        for name, (part, seconds) in zip(chosen, pool.map(partial(_timed, work), chosen), strict=True):
            _keep(name, part)
            print(f"{name}: {_line(part)}; {seconds:.0f} s", flush=True)


def _entries(known: Mapping[str, Reference]) -> dict[str, Any]:
    """What was measured of the systems that there are."""
    return {name: entry for name, entry in status().items() if name in known}


def _keep(name: str, part: dict[str, Any]) -> None:
    """Adds to a system's entry, which is begun anew where its weights changed."""
    known = systems()
    found = _entries(known)
    entry, weights = found.get(name, {}), hash_of(known[name])
    kept = entry if entry.get("weights_sha256") == weights else {}
    found[name] = {**kept, **part, "weights_sha256": weights}
    STATUS.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")


def _timed(work: Callable[[Reference], dict[str, Any]], name: str) -> tuple[dict[str, Any], float]:
    start = time.perf_counter()
    return work(systems()[name]), time.perf_counter() - start


def _measured(reference: Reference, folder: Path) -> dict[str, Any]:
    targets = {target: _compiled(reference, target, folder / reference.name) for target in reference.targets}
    figures = {} if reference.measure is None else {name: float(value) for name, value in reference.measure().items()}
    return {"targets": targets, "figures": figures, "machine": machine()}


def _compiled(reference: Reference, target: str, folder: Path) -> dict[str, Any]:
    """What the gate saw; for the CPU also the float bundle and the twin's of the same precision, to be timed against."""
    folder.mkdir(exist_ok=True)
    bundle = folder / f"{target}.edge"
    try:
        compiled = edgeattn.compile(reference.weights, DEVICES[target], model=reference.name, output=bundle)
    except EdgeattnError as error:
        return {"passed": False, "why": str(error)}
    manifest = compiled.manifest
    metric = manifest.parity.metric
    entry = {
        "passed": manifest.passed,
        "device": manifest.device,
        "precision": manifest.precision,
        "agreement": manifest.parity.agreement,
        "metric": None if metric is None else metric.artifact,
        "bytes": (bundle / manifest.artifact).stat().st_size,
    }
    if target == "cpu":
        edgeattn.compile(reference.weights, "cpu", model=reference.name, precision="fp32", output=folder / "float.edge")
        if reference.twin_weights is not None:
            try:
                _twin(reference, folder)
            except EdgeattnError as error:
                entry["twin_refused"] = str(error)
    return entry


def _twin(reference: Reference, folder: Path) -> None:
    """The twin's bundle, made as ours was; its gate is not ours to hold."""
    assert reference.calibration is not None and reference.twin_weights is not None
    samples = reference.calibration()
    known = samples.labels is not None and reference.metric in (ACCURACY, MEAN_SQUARED_ERROR)  # what a network by its file name is judged by
    labels = {"labels": samples.truth} if known else {}
    np.savez(folder / "twin.npz", **samples.inputs, **labels)
    edgeattn.compile(
        reference.twin_weights,
        "cpu",
        model=f"edgeattn.models.{reference.name}:twin",
        calib=folder / "twin.npz",
        task=reference.task,
        output=folder / "twin.edge",
        force=True,
    )


def _latencies(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """The targets of an entry, that of the CPU with its latency against the bundles beside it."""
    targets = entry["targets"]
    for other in ("float", "twin"):
        if (folder / "cpu.edge").exists() and (folder / f"{other}.edge").exists():
            targets["cpu"][f"against_{other}"] = _ratio(folder / "cpu.edge", folder / f"{other}.edge")
    return {"targets": targets}


def _ratio(bundle: Path, other: Path) -> dict[str, Any]:
    """Median latency over the other's, in turn in one process, with its 95 % interval."""
    comparison = bench(bundle, against=other, seconds=SECONDS).comparison
    assert comparison is not None
    return {"ratio": round(comparison.ratio, 3), "interval": [round(bound, 3) for bound in comparison.interval]}


def _trained(reference: Reference) -> dict[str, Any]:
    assert reference.train is not None
    keep_freed_memory()
    start = time.perf_counter()
    value = reference.train(seed=1)[1]
    seconds = round(time.perf_counter() - start)
    return {"training": {"seed": 1, "metric": float(value), "seconds": seconds, "machine": machine(), "date": date.today().isoformat()}}


def _line(part: dict[str, Any]) -> str:
    if "training" in part:
        return f"trained to {part['training']['metric']:.4g}"
    return ", ".join(f"{target} {entry.get('precision', 'refused: ' + entry.get('why', ''))}" for target, entry in part["targets"].items())


if __name__ == "__main__":
    main(sys.argv[1:])
