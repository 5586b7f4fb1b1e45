"""From the narrowest recipe up, until one passes the gate: which candidates to try, in which order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from ..export.trace import Program
from ..models.reference import Samples
from .calibrate import EqualisationChanged, Quantised, quantise
from .costs import LayerCost, sensitivity
from .gate import Verdict
from .recipe import Recipe

EQUALISE = 0.5  # SmoothQuant's alpha: half of an outlier's range moves into the weights


Attempt = Callable[[str, Quantised], Verdict]  # a candidate by its name, and what quantisation made of it


@dataclass(frozen=True)
class Ladder:
    """What the climb came to. passed: some rung passed; costs: of the layers, where they had to be measured."""

    passed: bool
    costs: tuple[LayerCost, ...] = ()


def climb(program: Program, recipe: Recipe, calibration: Samples, attempt: Attempt, progress: Callable[[str], None] | None = None) -> Ladder:
    """Tries the recipe; then with outliers equalised; then with the most costly layers raised to float, one, two, four ... of them.

    Once a number of raised layers passes, the smallest number that does is found by bisection. Of Brevitas' networks only the best is kept.
    """

    def attempted(name: str, candidate: Recipe) -> tuple[Quantised, Verdict]:
        if progress is not None:
            progress(f"trying {name}")
        quantised = quantise(program, candidate, calibration)
        return quantised, attempt(name, quantised)

    best, verdict = attempted(recipe.default, recipe)
    if verdict.passed:
        return Ladder(True)
    if recipe.equalise is None and recipe.default in ("int8", "int8-dynamic"):
        with suppress(EqualisationChanged):
            equalised, second = attempted(f"{recipe.default}, equalised", msgspec.structs.replace(recipe, equalise=EQUALISE))
            if second.passed:
                return Ladder(True)
            if second.parity.relative_error < verdict.parity.relative_error:
                best = equalised
    costs = sensitivity(program, best, calibration, progress)
    passed = _raise_layers(best.recipe, costs, lambda name, candidate: attempted(name, candidate)[1].passed)
    return Ladder(passed, tuple(costs))


def _raise_layers(recipe: Recipe, costs: list[LayerCost], passes: Callable[[str, Recipe], bool]) -> bool:
    """Whether raising layers made it pass."""

    def with_raised(count: int) -> bool:
        candidate = recipe
        for cost in costs[:count]:
            reason = f"raised: alone it costs {cost.alone:.2%} of the output, without it the error is {cost.without:.2%}"
            candidate = candidate.raised(cost.layer, recipe.floats, reason)
        return passes(f"{recipe.default}, {count} layer{'s' if count > 1 else ''} in {recipe.floats}", candidate)

    low, count = 0, 1
    while count < len(costs) and not with_raised(count):
        low, count = count, 2 * count
    high = count
    while count < len(costs) and high - low > 1:
        middle = (low + high) // 2
        if with_raised(middle):
            high = middle
        else:
            low = middle
    return count < len(costs)
