"""Plots that go into evidence and docs, as SVG that is the same whenever its numbers are."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .errors import MissingError

INK, SAME, PASSED, LIMIT = "#222222", "#b8c4d0", "#2a6f97", "#c0392b"


def ladder(rungs: Sequence[str], shares: Mapping[str, Sequence[float]], limit: float) -> bytes:
    """Bars of agreement by mapping, one group of bars a network. shares: by network, one in [0, 1] a rung; limit: the gate's, drawn as a line.

    Raises MissingError where matplotlib is not installed.
    """
    with _figure(7.5, 0.9 + 0.34 * len(rungs) * max(1.0, 0.75 * len(shares))) as (figure, text):
        axes = figure.subplots()
        height = 0.8 / len(shares)
        for row, (network, values) in enumerate(shares.items()):
            at = [index + (row - (len(shares) - 1) / 2) * height for index in range(len(rungs))]
            colours = [PASSED if value >= limit else SAME for value in values]
            axes.barh(at, [100 * value for value in values], 0.9 * height, color=colours)
            for place, value, colour in zip(at, values, colours, strict=True):
                axes.text(100 * value + 0.8, place, f"{100 * value:.1f}", va="center", color=INK, fontsize=8)
                if len(shares) > 1:
                    axes.text(1, place, network, va="center", color="white" if colour == PASSED else INK, fontsize=7)
        axes.axvline(100 * limit, color=LIMIT, linewidth=1, linestyle="--", ymax=0.98)
        axes.set_yticks(range(len(rungs)), list(rungs))
        axes.invert_yaxis()
        axes.set_xlim(0, 108)
        axes.set_xticks(range(0, 101, 20))
        axes.set_xlabel(f"same class as the source network, % of samples\n(dashed: the gate, {100 * limit:g} %)")
    return text.getvalue()


@dataclass(frozen=True)
class Point:
    """One candidate: milliseconds, megabytes, and its relative error as a share."""

    label: str
    ms: float
    mb: float
    error: float

    def beats(self, other: Point) -> bool:
        """No worse in anything, better in something."""
        mine, theirs = (self.ms, self.mb, self.error), (other.ms, other.mb, other.error)
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))


def front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front: those that no other beats."""
    return [point for point in points if not any(other.beats(point) for other in points)]


def pareto(points: Sequence[Point]) -> bytes:
    """Latency against size and against error; what is on the front of all three is filled. Raises MissingError without matplotlib."""
    best = front(points)
    with _figure(7.5, 3.4) as (figure, text):
        for axes, label, values in zip(
            figure.subplots(1, 2), ("MB", "relative error, %"), ([p.mb for p in points], [100 * p.error for p in points]), strict=True
        ):
            colours = [PASSED if point in best else "none" for point in points]
            axes.scatter([point.ms for point in points], values, facecolors=colours, edgecolors=PASSED, s=28, zorder=2)
            for point, value in zip(points, values, strict=True):
                axes.annotate(point.label, (point.ms, value), xytext=(4, 4), textcoords="offset points", fontsize=7, color=INK)
            axes.set_xlabel("ms (filled: nothing is better in all three)")
            axes.set_ylabel(label)
            axes.margins(0.18)
    return text.getvalue()


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Any, io.BytesIO]]:
    """A figure and the bytes that hold it as SVG in the end."""
    try:
        import matplotlib
    except ImportError:
        raise MissingError("plots are drawn by matplotlib: pip install 'edgeattn[compile]'.") from None

    plain = {"svg.hashsalt": "edgeattn", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(plain):
        from matplotlib.figure import Figure

        figure, text = Figure(figsize=(width, height), layout="constrained"), io.BytesIO()
        yield figure, text
        figure.savefig(text, format="svg", metadata={"Date": None})
