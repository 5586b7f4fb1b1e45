"""Routes by decoding beside LKH-3 (elkai) and PyVRP: python benchmarks/routeformer.py [PROBLEMS], into docs/routeformer.md.

Needs pip install 'edgeattn[routing]'.
Stops without extent, as those two solve them; gaps are to the best route that any method found, times are one problem on one thread.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import elkai
import numpy as np
import pyvrp
from pyvrp.stop import MaxRuntime
from tables import machine, table, write_section

import edgeattn
from edgeattn.models.data.areas import OPTIONS, fields, length, search
from edgeattn.models.registry import find
from edgeattn.models.routeformer import nearest

SCALE = 1_000_000  # both solvers count in integers
SIZES = (20, 50, 100)
DEADLINES = (0.01, 0.03, 0.1, 0.3)


def bundles(folder: Path) -> tuple[edgeattn.Session, edgeattn.Session]:
    """Encoder and step in int8, for any number of nodes."""
    sessions = []
    for name in ("routeformer", "routeformer_step"):
        open_axes = {spec.name: tuple(range(min(2, len(spec.shape)))) for spec in find(name).inputs}
        made = edgeattn.compile(find(name).weights, model=name, dynamic=open_axes, output=folder / f"{name}.edge")
        sessions.append(edgeattn.load(made.bundle))
    return sessions[0], sessions[1]


def distances(options: np.ndarray) -> np.ndarray:
    """(nodes, nodes) int64, of one map of stops."""
    place = options[0, :, 0, :2].astype(np.float64)
    return np.round(SCALE * np.linalg.norm(place[:, None] - place[None], axis=-1)).astype(np.int64)


def lkh(runs: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda options: OPTIONS * np.array([elkai.DistanceMatrix(distances(options).tolist()).solve_tsp(runs=runs)[:-1]])


def vrp(seconds: float) -> Callable[[np.ndarray], np.ndarray]:
    def solve(options: np.ndarray) -> np.ndarray:
        way = distances(options)
        places = [pyvrp.Location(*place) for place in options[0, :, 0, :2].tolist()]
        clients = [pyvrp.Client(index) for index in range(1, len(places))]
        data = pyvrp.ProblemData(places, clients, [pyvrp.Depot(0)], [pyvrp.VehicleType()], [way], [np.zeros_like(way)])
        visits = pyvrp.solve(data, MaxRuntime(seconds), seed=0, display=False).best.routes()[0].schedule()
        return OPTIONS * np.array([[0, *(1 + visit.idx for visit in visits if visit.is_client())]])

    return solve


def decoder(sessions: tuple[edgeattn.Session, edgeattn.Session], strategy: str, deadline: float | None, width: int = 16) -> Callable:
    def solve(options: np.ndarray) -> np.ndarray:
        def cost(choices: np.ndarray) -> np.ndarray:
            return length(np.repeat(options, len(choices), 0), choices)

        return sessions[0].decode(sessions[1], strategy, width=width, deadline=deadline, cost=cost, options=options).choices[None]

    return solve


def main(problems: int) -> None:
    """Every method at every size, then what a deadline buys."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = bundles(Path(folder))
        methods: dict[str, Callable] = {
            "nearest neighbour": nearest,
            "local search, 4 starts (numpy)": search,
            "routeformer, greedy": decoder(sessions, "greedy", None),
            "routeformer, 16 draws": decoder(sessions, "sample", None),
            "routeformer, beam of 16": decoder(sessions, "beam", None),
            "LKH-3, 1 run": lkh(1),
            "LKH-3, 10 runs": lkh(10),
            "PyVRP, 0.1 s": vrp(0.1),
            "PyVRP, 1 s": vrp(1.0),
        }
        anytime = {f"{kind} {limit}": decoder(sessions, kind, limit, 64) for kind in ("sample", "beam") for limit in DEADLINES}
        results = {size: compare({**methods, **anytime}, size, problems) for size in SIZES}
    columns = [title for size in SIZES for title in (f"{size} stops: gap, %", "ms")]
    rows = [[name, *(cell for size in SIZES for cell in _gap_and_time(*results[size][name]))] for name in methods]
    waits = [title for size in SIZES for title in (f"{size} stops: draws, %", "beams, %")]
    limits = [
        [f"{1000 * limit:.0f}", *(f"{results[size][f'{kind} {limit}'][0]:.2f}" for size in SIZES for kind in ("sample", "beam"))]
        for limit in DEADLINES
    ]
    made = f"{problems} maps a size, one thread, int8 bundles. {machine()}"
    note = f"{made}; elkai {version('elkai')}, PyVRP {version('pyvrp')}; load {os.getloadavg()[0]:.1f}."
    write_section("routeformer.md", "routes", f"{table(['method', *columns], rows)}\n\n{table(['deadline, ms', *waits], limits)}\n\n{note}")


def compare(methods: dict[str, Callable[[np.ndarray], np.ndarray]], size: int, problems: int) -> dict[str, tuple[float, float]]:
    """By method: mean gap in percent to the best of all methods, and median seconds a map."""
    maps = [fields(1, size, 90_000 + 1000 * size + number, extent=0.0) for number in range(problems)]
    lengths, seconds = {}, {}
    for name, solve in methods.items():
        solve(maps[0])  # the first call pays for what is made once
        found, spent = [], []
        for options in maps:
            start = time.perf_counter()
            route = solve(options)
            spent.append(time.perf_counter() - start)
            found.append(length(options, route)[0])
        lengths[name], seconds[name] = np.array(found), float(np.median(spent))
    best = np.min(list(lengths.values()), 0)
    return {name: (100 * float(np.mean(values / best - 1)), seconds[name]) for name, values in lengths.items()}


def _gap_and_time(gap: float, seconds: float) -> tuple[str, str]:
    return f"{gap:.2f}", f"{1000 * seconds:.1f}"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
