"""edgeattn's choice against its peers, in turn in one process: python benchmarks/cpu.py [NAME...] [--write]

Each network is compiled once with `--variants 4`; then every engine runs it in bursts, in random order, one sample at a time: on one thread, where
edgeattn runs what `--precision auto` takes, and with two to use, where it runs what `edgeattn tune` takes. A burst is some milliseconds of calls, so
that each engine finds its own caches; its median is one measurement. Ratios are to the best peer of that network and number of threads, below 1 is
faster. --write puts the table and the plot into docs/.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from networks import SHAPES
from peaks import peaks
from peers import Peers
from raw import Arrays, Run
from report import bootstrap, ratio, taken, write
from torch.utils.flop_counter import FlopCounterMode

import edgeattn
from edgeattn.candidates import Candidate
from edgeattn.compiler import Compilation
from edgeattn.models.registry import systems
from edgeattn.runtime.bursts import in_turn
from edgeattn.runtime.cache import VARIABLE
from edgeattn.runtime.machine import machine

ZOO = ("ecg_nat", "ister", "rpattention")
SECONDS, ROUNDS = 12.0, 60  # of one network on one thread
REST = 0.1  # seconds before each burst of several threads, so that the last engine's sleep: torch's spin longest
VARIANTS = 4


def main(arguments: list[str]) -> None:
    """Prints a line a network, writes all figures to cpu.json."""
    import openvino

    sys.path.insert(0, str(Path(__file__).parent))
    names = [argument for argument in arguments if not argument.startswith("-")] or [*SHAPES, *ZOO]
    versions = {"onnxruntime": ort.__version__, "openvino": openvino.__version__.split("-")[0], "torch": torch.__version__}
    results: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine(), "versions": versions, "peak": peaks(), "networks": {}}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            os.environ[VARIABLE] = str(Path(folder) / "kept")
            results["networks"][name] = found = measure(name, Path(folder))
        for threads, figures in found["threads"].items():
            print(
                f"{name}, {threads} thread(s): {taken(found, threads)}: {ratio(figures, figures['best'])} of {figures['best']}; "
                + ", ".join(f"{label} {value:.3g}" for label, value in figures["ms"].items()),
                flush=True,
            )
        Path("cpu.json").write_text(json.dumps(results, indent=2) + "\n")
    if "--write" in arguments:
        write(results, Path(__file__).parents[1] / "docs")


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Compiles and builds everything, then times it on one thread and on two."""
    torch.set_num_threads(1)
    module, data, arguments = subject(name, folder)
    query = {key: np.ascontiguousarray(array[:1]) for key, array in data.items()}
    start = time.perf_counter()
    compilation = edgeattn.compile(**arguments, variants=VARIANTS, output=folder / "auto.edge")
    seconds = time.perf_counter() - start
    best = chosen(compilation)
    peers = Peers(module, data, folder)
    threads = {}
    for count in (1, 2):
        torch.set_num_threads(count)
        tuning = edgeattn.tune(folder / "auto.edge", threads=count) if count > 1 else None
        session = edgeattn.load(folder / "auto.edge", threads=tuning and tuning.threads)
        runs = {"edgeattn": lambda x, session=session: session.run(**x), **peers.runs(count)}
        threads[str(count)] = compare(runs, query, REST if count > 1 else 0.0)
        threads[str(count)]["took"] = {"variant": session.manifest.variant, "threads": session.threads}
    return {
        **form(best),
        "relative_error": best.verdict.parity.relative_error,
        "candidates": [candidate.to_json() for candidate in compilation.candidates],
        "compile_s": seconds,
        "gflop": flops(module, query) / 1e9,
        "threads": threads,
    }


def subject(name: str, folder: Path) -> tuple[torch.nn.Module, dict[str, np.ndarray], dict[str, Any]]:
    """(module, calibration data, arguments of edgeattn.compile)."""
    if name not in SHAPES:
        reference = systems()[name]
        return reference.module(), dict(reference.calibration().take(slice(0, 64)).inputs), {"checkpoint": reference.weights, "model": name}
    import networks

    module = getattr(networks, name)()
    random = np.random.default_rng(0)
    data = {key: random.normal(size=(32, *shape)).astype(np.float32) for key, shape in SHAPES[name].items()}
    torch.save(module.state_dict(), folder / "w.pt")
    np.savez(folder / "w.npz", **data)
    return module, data, {"checkpoint": folder / "w.pt", "model": f"networks:{name}", "calib": folder / "w.npz", "task": "embedding"}


def chosen(compilation: Compilation) -> Candidate:
    return next(candidate for candidate in compilation.candidates if candidate.chosen)


def form(candidate: Candidate) -> dict[str, str]:
    """What `taken` puts in words."""
    recipe = candidate.recipe
    return {"engine": candidate.target.engine, "precision": candidate.precision, "floats": recipe.floats, "between": recipe.between}


def compare(runs: dict[str, Run], query: Arrays, rest: float) -> dict[str, Any]:
    """Median milliseconds by engine; edgeattn against each other, with a paired bootstrap's 95 % interval. rest: seconds before each burst."""
    columns = in_turn([partial(run, query) for run in runs.values()], ROUNDS, SECONDS if rest == 0 else 2.5 * SECONDS, rest=rest)
    times = dict(zip(runs, columns, strict=True))
    medians = {label: float(np.median(values)) for label, values in times.items()}
    peers = [label for label in runs if label != "edgeattn"]
    against = {peer: dict(zip(("ratio", "interval"), bootstrap(times["edgeattn"], times[peer], np.divide), strict=True)) for peer in peers}
    return {"ms": medians, "best": min(peers, key=lambda peer: medians[peer]), "against": against}


def flops(module: torch.nn.Module, query: Arrays) -> float:
    """Multiplications and additions in products, convolutions and attention; element-wise work, recurrences included, is not counted."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(**{key: torch.from_numpy(array) for key, array in query.items()})
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main(sys.argv[1:])
