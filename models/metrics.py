"""Task metrics, in numpy: what the gate and the reports judge by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .reference import Metric


def _accuracy(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return 100.0 * float(np.mean(np.argmax(outputs[0], -1) == labels))


def _mean_squared_error(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    return float(np.mean(np.square(outputs[0].astype(np.float64) - labels)))


def _mean_iou(outputs: Sequence[np.ndarray], labels: np.ndarray) -> float:
    scores = outputs[0]
    found, classes = np.argmax(scores, -1), scores.shape[-1]
    hit = np.bincount((labels * classes + found).ravel(), minlength=classes**2).reshape(classes, classes)
    union = hit.sum(0) + hit.sum(1) - hit.diagonal()
    return 100.0 * float(np.mean(hit.diagonal()[union > 0] / union[union > 0]))


ACCURACY = Metric("accuracy", "points", _accuracy, higher_is_better=True, tolerance=0.5)
MEAN_SQUARED_ERROR = Metric("mean squared error", "squared standard deviations", _mean_squared_error, higher_is_better=False, tolerance=1.0)
MEAN_IOU = Metric("mean IoU", "points", _mean_iou, higher_is_better=True, tolerance=0.5)  # over classes, all samples counted together
