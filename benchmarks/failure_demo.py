"""A robot driven by action chunks from a bundle: python benchmarks/failure_demo.py [EPISODES [SEEDS]], into docs/control.md.

Three tables: success by precision, success and lateness by deadline in a loop that does not wait, and what failures in training are worth.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import numpy as np
from tables import machine, table, write_section
from torch import nn

import edgeattn
from edgeattn.models import failure_demo
from edgeattn.models.data.reaching import roll, starts
from edgeattn.models.failure_demo import FAILURE, SUCCESS, demonstrated, drive, policy, train
from edgeattn.models.registry import find
from edgeattn.models.training import metric_of
from edgeattn.runtime.chunks import ChunkedControl, NoAction

DEADLINES = (0.0001, 0.0003, 0.001, 0.003)  # seconds
TRAININGS = ("failures told", "no failures", "failures not told")
LATER = (0.0, 0.003)  # seconds by which a slower device would answer later


def session(folder: Path, precision: str) -> edgeattn.Session:
    made = edgeattn.compile(find("failure_demo").weights, model="failure_demo", precision=precision, output=folder / f"{precision}.edge")
    return edgeattn.load(made.bundle)


def together(run: edgeattn.Session, mode: np.ndarray = SUCCESS) -> Callable[[np.ndarray, int], np.ndarray]:
    """All robots in one batch, as `drive` takes it."""
    return lambda now, _: run.run(observation=now, mode=np.tile(mode, (len(now), 1)))["actions"]


def one_by_one(run: edgeattn.Session, episodes: int, deadline: float, later: float) -> tuple[float, float]:
    """Percent of episodes that succeed, and of steps whose inference was late, each robot in a loop of its own; without an action it stands."""
    mode, late, successes = SUCCESS[None], 0, 0

    def infer(x: np.ndarray) -> np.ndarray:
        if later:
            time.sleep(later)
        return run.run(observation=x, mode=mode)["actions"][0]

    steps = 0
    for episode, start in enumerate(starts(episodes, 900)):
        with ChunkedControl(infer, deadline) as control:

            def act(now: np.ndarray, step: int, control: ChunkedControl = control) -> np.ndarray:
                try:
                    return control.act(step, now)[None]
                except NoAction:
                    return np.zeros((1, 2))

            seen, _, succeeded = roll(start[None], act, noise=0.1, seed=episode)
            late, steps, successes = late + control.late, steps + seen.shape[1], successes + int(succeeded[0])
    return 100 * successes / episodes, 100 * late / steps


def trainings(seeds: int, episodes: int) -> list[list[str]]:
    """Error and success of policies by seed of data and weights; seed 0 is what ships."""
    rows = [["0", *_figures([find("failure_demo").module(), failure_demo.rival("successes"), failure_demo.rival("untold")], episodes)]]
    for seed in range(1, seeds):
        data = (demonstrated(seed=seed), demonstrated(failures=0, seed=seed), demonstrated(told=False, seed=seed))
        rows.append([str(seed), *_figures([train(seed, data=part)[0] for part in data], episodes)])
    return rows


def _figures(modules: list[nn.Module], episodes: int) -> list[str]:
    return [cell for module in modules for cell in (f"{metric_of(find('failure_demo'), module):.4f}", f"{drive(policy(module), episodes):.1f}")]


def main(episodes: int, seeds: int) -> None:
    module = find("failure_demo").module()
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: session(Path(folder), name) for name in ("fp32", "int8")}
        precisions = [["PyTorch", f"{drive(policy(module), episodes):.1f}", f"{drive(policy(module, FAILURE), episodes):.1f}"]]
        precisions += [[name, *(f"{drive(together(run, mode), episodes):.1f}" for mode in (SUCCESS, FAILURE))] for name, run in runs.items()]
        waits = [
            [name, f"{1000 * later:g}", f"{1000 * deadline:g}", *(f"{value:.1f}" for value in one_by_one(run, episodes, deadline, later))]
            for name, run in runs.items()
            for later in LATER
            for deadline in DEADLINES
        ]
    tables = [
        table(["policy", "success, %", "in the mode of failure, %"], precisions),
        table(["bundle", "answers later by, ms", "deadline, ms", "success, %", "late steps, %"], waits),
        table(["seed", *(f"{name}, {what}" for name in TRAININGS for what in ("error", "success, %"))], trainings(seeds, episodes)),
    ]
    write_section("control.md", "loops", "\n\n".join([*tables, f"{episodes} episodes, one thread. {machine()}; load {os.getloadavg()[0]:.1f}."]))


if __name__ == "__main__":
    main(*(int(given) if given else usual for given, usual in zip_longest(sys.argv[1:3], (200, 2))))
