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


@dataclass(frozen=True)
class Step:
    """One rung: the candidate's name and recipe, what quantisation made of it, and the gate's verdict."""

    name: str
    quantised: Quantised
    verdict: Verdict


@dataclass(frozen=True)
class Ladder:
    """All rungs tried, in order; `costs` where layers had to be measured."""

    steps: tuple[Step, ...]
    costs: tuple[LayerCost, ...] = ()

    @property
    def passed(self) -> Step | None:
        """The narrowest candidate that passed: the one with the fewest layers raised."""
        good = [step for step in self.steps if step.verdict.passed]
        return max(good, key=lambda step: len(step.quantised.layers)) if good else None


def climb(
    program: Program,
    recipe: Recipe,
    calibration: Samples,
    judge: Callable[[Quantised], Verdict],
    progress: Callable[[str], None] | None = None,
) -> Ladder:
    """Tries the recipe; then with outliers equalised; then with the most costly layers raised to float, one, two, four ... of them.

    Once a number of raised layers passes, the smallest number that does is found by bisection.
    """
    steps: list[Step] = []

    def attempt(name: str, candidate: Recipe) -> Step:
        if progress is not None:
            progress(f"trying {name}")
        quantised = quantise(program, candidate, calibration)
        steps.append(Step(name, quantised, judge(quantised)))
        return steps[-1]

    best = attempt(recipe.default, recipe)
    if best.verdict.passed:
        return Ladder(tuple(steps))
    if recipe.equalise is None and recipe.default in ("int8", "int8-dynamic"):
        with suppress(EqualisationChanged):
            equalised = attempt(f"{recipe.default}, equalised", msgspec.structs.replace(recipe, equalise=EQUALISE))
            if equalised.verdict.passed:
                return Ladder(tuple(steps))
            if equalised.verdict.parity.relative_error < best.verdict.parity.relative_error:
                best = equalised
    costs = sensitivity(program, best.quantised, calibration, progress)
    _raise_layers(best.quantised.recipe, costs, attempt)
    return Ladder(tuple(steps), tuple(costs))


def _raise_layers(recipe: Recipe, costs: list[LayerCost], attempt: Callable[[str, Recipe], Step]) -> None:
    def with_raised(count: int) -> bool:
        candidate = recipe
        for cost in costs[:count]:
            reason = f"raised: alone it costs {cost.alone:.2%} of the output, without it the error is {cost.without:.2%}"
            candidate = candidate.raised(cost.layer, recipe.floats, reason)
        return attempt(f"{recipe.default}, {count} layer{'s' if count > 1 else ''} in {recipe.floats}", candidate).verdict.passed

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
