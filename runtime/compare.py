"""How far two sets of outputs are apart: the same measures in the compiler's gate and in `verify`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .manifest import Parity


def parity(expected: Sequence[np.ndarray], actual: Sequence[np.ndarray], task: str = "classification") -> Parity:
    """Measures over all outputs together; agreement is the share of equal top-1 on the last axis of the first output.

    A NaN or infinity that the reference does not have gives inf errors and cosine 0, so that no comparison passes by accident.
    """
    flat_expected = np.concatenate([np.asarray(array, np.float64).ravel() for array in expected])
    flat_actual = np.concatenate([np.asarray(array, np.float64).ravel() for array in actual])
    samples = len(expected[0]) if expected[0].ndim else 1
    if flat_expected.shape != flat_actual.shape or not np.isfinite(flat_actual).all():
        return Parity(max_abs_error=np.inf, relative_error=np.inf, cosine=0.0, agreement=0.0 if task == "classification" else None, samples=samples)
    difference = np.abs(flat_actual - flat_expected)
    norms = float(np.linalg.norm(flat_expected)), float(np.linalg.norm(flat_actual))
    cosine = float(flat_expected @ flat_actual) / (norms[0] * norms[1]) if min(norms) > 0 else float(norms[0] == norms[1])
    return Parity(
        max_abs_error=float(difference.max(initial=0.0)),
        relative_error=float(np.linalg.norm(difference)) / max(norms[0], 1e-30),
        cosine=min(cosine, 1.0),
        agreement=agreement(expected[0], actual[0]) if task == "classification" else None,
        samples=samples,
    )


def agreement(expected: np.ndarray, actual: np.ndarray) -> float:
    """Share of positions with the same argmax on the last axis."""
    return float(np.mean(np.argmax(expected, -1) == np.argmax(actual, -1)))
