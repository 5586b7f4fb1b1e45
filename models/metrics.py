"""Task metrics, in numpy: what the gate and the reports judge by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .reference import Metric


def _fitting(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The labels, which numpy would stretch to any shape that it can. Raises InputError where they are not of this one."""
    if labels.shape != shape:
        raise InputError(f"labels of shape {labels.shape} do not fit the outputs, which need {shape}: give others, or leave them out.")
    return labels


def _accuracy(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return 100.0 * float(np.mean(np.argmax(outputs[0], -1) == _fitting(labels, outputs[0].shape[:-1])))


def _mean_squared_error(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return float(np.mean(np.square(outputs[0].astype(np.float64) - _fitting(labels, outputs[0].shape))))


def _mean_iou(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    scores = outputs[0]
    found, classes = np.argmax(scores, -1), scores.shape[-1]
    hit = np.bincount((labels * classes + found).ravel(), minlength=classes**2).reshape(classes, classes)
    union = hit.sum(0) + hit.sum(1) - hit.diagonal()
    return 100.0 * float(np.mean(hit.diagonal()[union > 0] / union[union > 0]))


ACCURACY = Metric("accuracy", "points", _accuracy, higher_is_better=True, tolerance=0.5)
MEAN_SQUARED_ERROR = Metric("mean squared error", "squared standard deviations", _mean_squared_error, higher_is_better=False, tolerance=1.0)
MEAN_IOU = Metric("mean IoU", "points", _mean_iou, higher_is_better=True, tolerance=0.5)  # over classes, all samples counted together
