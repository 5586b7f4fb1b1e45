"""Plots that go into evidence and docs, as SVG that is the same whenever its numbers are."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from .errors import MissingError

INK, SAME, PASSED, LIMIT = "#222222", "#b8c4d0", "#2a6f97", "#c0392b"


def ladder(rungs: Sequence[str], shares: Mapping[str, Sequence[float]], limit: float) -> bytes:
    """Bars of agreement by mapping, one group of bars a network. shares: by network, one in [0, 1] a rung; limit: the gate's, drawn as a line.

    Raises MissingError where matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingError("plots are drawn by matplotlib: pip install 'edgeattn[compile]'.") from None

    with matplotlib.rc_context(
        {"svg.hashsalt": "edgeattn", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.5, 0.9 + 0.34 * len(rungs) * max(1.0, 0.75 * len(shares))), layout="constrained")
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
        text = io.BytesIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
