"""Autoregressive decoding by two bundles: an encoder that runs once, and a step that runs once a choice on what the encoder left.

    cache = encoder(inputs);    scores_t = step(cache, last_t, visited_t);    last_(t+1) ~ scores_t;    visited grows by last // options

The step's inputs are `last` (rows,) int64, `visited` (rows, nodes) bool, and any of the encoder's inputs and outputs by their names: the cache,
computed once a problem and repeated once a width. Its output is log-probabilities (rows, nodes * options), a choice being node * options + option.
Decoding begins at choice 0 and visits every node once; what was visited is also masked here, so a rounded network cannot visit twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from .session import Session

Strategy = Literal["greedy", "sample", "beam"]
Cost = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Decoded:
    """choices: (nodes,) int64, the first being 0; value: its cost, or minus its log-probability where no cost was given; seconds: all it took.

    improvements: (seconds since the call, value) whenever a better sequence was found; rounds: complete widths that were decoded.
    """

    choices: np.ndarray
    value: float
    seconds: float
    improvements: tuple[tuple[float, float], ...]
    rounds: int


class Decoder:
    """One problem, encoded: decodes it greedily, by drawing, or by beam search. `run` is the step's session."""

    def __init__(self, encoder: Session, step: Session, inputs: dict[str, np.ndarray]) -> None:
        check_contract(encoder, step)
        known = {**inputs, **encoder.run(**inputs)}
        self.step, self.cache = step, {name: known[name] for name in step.names - {"last", "visited"}}
        for name, array in self.cache.items():
            if len(array) != 1:
                raise InputError(f"decode takes one problem at a time: {name} holds {len(array)}.")
        shape = next(spec.shape for spec in step.manifest.inputs if spec.name == "visited")
        spec = next((spec for spec in step.manifest.inputs if spec.name in self.cache and len(spec.shape) > 1 and spec.shape[1] == shape[1]), None)
        self.nodes = self.cache[spec.name].shape[1] if spec is not None else int(shape[1])
        self._repeated = 0, self.cache

    def decode(self, strategy: Strategy, width: int, until: float | None, random: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(choices (rows, nodes), log-probability (rows,)) of greedy decoding, then of each round that is complete by `until` (perf_counter).

        Rounds of drawing are `width` wide; beams grow 2, 4, 8 ... up to it. Without `until`: one round of drawing, or the widest beam.
        """
        yield self._sequences(1, None, None)  # type: ignore[misc]
        if strategy == "greedy":
            return
        widths = (width for _ in count()) if strategy == "sample" else _doubling(width, until is None)
        for wide in widths:
            found = self._sequences(wide, until, random if strategy == "sample" else None)
            if found is None:
                return
            yield found
            if until is None:
                return

    def _sequences(self, width: int, until: float | None, random: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray] | None:
        """A beam of `width` (1: greedy), or with `random` that many draws; None if the time ran out first."""
        rows = np.arange(width)
        choices, likelihood = np.zeros((width, self.nodes), np.int64), np.zeros(width)
        if random is None:
            likelihood[1:] = -np.inf  # all rows are the same sequence until the first choice
        visited = np.zeros((width, self.nodes), bool)
        visited[:, 0] = True
        cache = self._cache(width)
        for place in range(1, self.nodes):
            if until is not None and time.perf_counter() >= until:
                return None
            scores = self._scores({**cache, "last": choices[:, place - 1].copy(), "visited": visited}, checked=place > 1)
            options = scores.shape[1] // self.nodes
            scores = np.where(np.repeat(visited, options, 1), -np.inf, scores)
            if random is None:
                total = (likelihood[:, None] + scores).ravel()
                best = np.argpartition(total, -width)[-width:] if width < total.size else np.arange(total.size)
                parents, taken = np.divmod(best, scores.shape[1])
                choices, visited, likelihood = choices[parents], visited[parents], total[best]
            else:
                taken = (scores + random.gumbel(size=scores.shape)).argmax(1)
                likelihood = likelihood + scores[rows, taken]
            choices[:, place] = taken
            visited[rows, taken // options] = True
        return choices, likelihood

    def _cache(self, width: int) -> dict[str, np.ndarray]:
        if self._repeated[0] != width:
            self._repeated = width, {name: np.repeat(array, width, 0) for name, array in self.cache.items()}
        return self._repeated[1]

    def _scores(self, inputs: dict[str, np.ndarray], checked: bool) -> np.ndarray:
        """The step's scores; the cache is checked with the first choice and does not change after it."""
        outputs = self.step.engine.run(inputs) if checked else list(self.step.run(**inputs).values())
        return np.asarray(outputs[0], np.float64)


def decode(
    encoder: Session, step: Session, inputs: dict[str, np.ndarray], strategy: Strategy,
    width: int, deadline: float | None, cost: Cost | None, seed: int,
) -> Decoded:  # fmt: skip
    """The best sequence found: greedy first, whatever the deadline (seconds), then what `strategy` finds until then."""
    start = time.perf_counter()
    if strategy not in ("greedy", "sample", "beam"):
        raise InputError(f"strategy {strategy!r} is not one of greedy, sample, beam.")
    if width < 1 or (deadline is not None and deadline <= 0):
        raise InputError("decode needs a width of at least 1 and a deadline above 0 seconds.")
    until = None if deadline is None else start + deadline
    best, value, improvements, rounds = np.zeros(0, np.int64), np.inf, [], 0
    for choices, likelihood in Decoder(encoder, step, inputs).decode(strategy, width, until, np.random.default_rng(seed)):
        possible = np.isfinite(likelihood)
        choices, likelihood = choices[possible], likelihood[possible]
        values = -likelihood if cost is None else np.asarray(cost(choices))
        rounds += 1
        row = int(values.argmin())
        if values[row] < value:
            best, value = choices[row], float(values[row])
            improvements.append((time.perf_counter() - start, value))
    return Decoded(best, value, time.perf_counter() - start, tuple(improvements), rounds)


def check_contract(encoder: Session, step: Session) -> None:
    """Raises InputError where the step cannot be fed by the encoder."""
    specs = {spec.name: spec for spec in step.manifest.inputs}
    for name, rank, dtype in (("last", 1, "int64"), ("visited", 2, "bool")):
        if name not in specs or len(specs[name].shape) != rank or specs[name].dtype != dtype:
            raise InputError(f"bundle {step.bundle.path} is no decoding step: it takes no {name} of {rank} axes and dtype {dtype}.")
    given = encoder.names | {spec.name for spec in encoder.manifest.outputs}
    missing = sorted(set(specs) - given - {"last", "visited"})
    if missing:
        raise InputError(f"the step {step.bundle.path} takes {', '.join(missing)}, which {encoder.bundle.path} neither takes nor gives.")


def _doubling(widest: int, at_once: bool) -> Iterator[int]:
    width = widest if at_once else 2
    while width < widest:
        yield width
        width *= 2
    yield widest
