"""The zoo as the command line shows it, and its training."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from .registry import find, systems
from .training import Progress, plain_state


def describe_models() -> dict[str, Any]:
    """{"models": [...]} with source, data, claim, parameters, targets and the hash of the shipped weights."""
    found = []
    for name, reference in systems().items():
        weights = reference.weights
        shipped = weights.read_bytes() if weights is not None and weights.is_file() else None
        found.append(
            {
                "name": name,
                "task": reference.task,
                "source": reference.source,
                "data": reference.data,
                "claim": reference.claim,
                "targets": list(reference.targets),
                "metric": None if reference.metric is None else reference.metric.name,
                "parameters": sum(parameter.numel() for parameter in reference.build().parameters()),
                "weights_bytes": None if shipped is None else len(shipped),
                "weights_sha256": None if shipped is None else hashlib.sha256(shipped).hexdigest(),
            }
        )
    return {"models": found}


def train_system(name: str, output: str | None, seed: int, epochs: int | None, progress: Progress | None = None) -> dict[str, Any]:
    """Trains a system, writes its weights whole or not at all, and returns its metric and the seconds it took."""
    reference = find(name)
    if reference.train is None:
        raise InputError(f"{name} has no training of its own.")
    start = time.perf_counter()
    options = {} if epochs is None else {"epochs": epochs}
    module, value = reference.train(seed=seed, progress=progress, **options)
    path = Path(output or f"{name}.pt")
    partial = path.with_name(path.name + ".partial")
    try:
        torch.save(plain_state(module), partial)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"weights {path} cannot be written: {error.strerror or error}.") from None
    finally:
        partial.unlink(missing_ok=True)
    metric = reference.metric.name if reference.metric else "metric"
    return {"model": name, "weights": str(path), "metric": metric, "value": value, "seed": seed, "seconds": round(time.perf_counter() - start, 1)}
