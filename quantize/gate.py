"""The accuracy gate: does a candidate still compute what was trained, on data that did not calibrate it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..models.reference import Metric, Reference, Samples
from ..runtime.compare import parity
from ..runtime.manifest import MetricParity, Parity, Tolerance

AGREEMENT = 0.995  # without labels: share of samples with the reference's top-1
RELATIVE_ERROR = 0.01  # regression: of the reference's outputs, or of its metric
EMBEDDING_ERROR = 0.05  # embeddings are compared by direction: 5 % is a cosine of about 0.999


@dataclass(frozen=True)
class Verdict:
    """passed, the measured parity, and in one sentence why not."""

    passed: bool
    parity: Parity
    reason: str = ""


def default_tolerance(reference: Reference, labelled: bool) -> Tolerance:
    """With labels: half a point of the task metric (or its own tolerance); without: 99.5 % agreement, 1 % error for regression."""
    if labelled and reference.metric is not None:
        return Tolerance(metric_loss=reference.metric.tolerance, relative_error=None)
    if reference.task == "classification":
        return Tolerance(agreement=AGREEMENT)
    return Tolerance(relative_error=EMBEDDING_ERROR if reference.task == "embedding" else RELATIVE_ERROR)


def judge(reference: Reference, held_out: Samples, expected: Sequence[np.ndarray], outputs: Sequence[np.ndarray], tolerance: Tolerance) -> Verdict:
    """Compares a candidate's outputs with the reference's on held-out samples.

    expected, outputs: one array per network output, samples leading. A metric loss allowed for a regression metric is relative.
    """
    measured = parity(expected, outputs, reference.task)
    metric = reference.metric
    if metric is not None and held_out.labels is not None:
        values = [metric.compute(list(arrays), held_out.labels) for arrays in (expected, outputs)]
        compared = MetricParity(name=metric.name, reference=values[0], artifact=values[1], unit=metric.unit)
        measured = Parity(
            max_abs_error=measured.max_abs_error,
            relative_error=measured.relative_error,
            cosine=measured.cosine,
            agreement=measured.agreement,
            metric=compared,
            samples=len(held_out),
        )
    reason = _reason(measured, metric, tolerance)
    return Verdict(not reason, measured, reason)


def metric_loss(parity: Parity, metric: Metric) -> float:
    """How much worse the artifact is, in the metric's unit; for a metric that falls (an error), relative to the reference, in percent."""
    assert parity.metric is not None
    loss = parity.metric.reference - parity.metric.artifact
    if metric.higher_is_better:
        return loss
    return 100.0 * -loss / max(abs(parity.metric.reference), 1e-12)


def _reason(measured: Parity, metric: Metric | None, tolerance: Tolerance) -> str:
    if not np.isfinite([measured.max_abs_error, measured.cosine]).all():
        return "its outputs hold NaN or infinity"
    if tolerance.metric_loss is not None and measured.metric is not None and metric is not None:
        loss = metric_loss(measured, metric)
        if not loss <= tolerance.metric_loss:
            unit = metric.unit if metric.higher_is_better else "%"
            return f"{metric.name} is {loss:.3g} {unit} worse than the reference, {tolerance.metric_loss:g} are allowed"
    if tolerance.agreement is not None and not (measured.agreement or 0.0) >= tolerance.agreement:
        return f"it agrees with the reference on {measured.agreement or 0.0:.2%} of samples, {tolerance.agreement:.2%} are needed"
    if tolerance.relative_error is not None and not measured.relative_error <= tolerance.relative_error:
        return f"its outputs differ by {measured.relative_error:.3%} of the reference's, {tolerance.relative_error:.3%} are allowed"
    return ""
