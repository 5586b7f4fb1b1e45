"""The zoo as the command line shows it, and its training."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..runtime.memory import keep_freed_memory
from .reference import Reference
from .registry import find, systems
from .training import Progress, plain_state

STATUS = Path(__file__).parent / "status.json"  # written by `make zoo`


def describe_models() -> dict[str, Any]:
    """{"models": [...]} with source, data, claim, parameters, the hash of the shipped weights, and by target what they reached there.

    status: None for a target where these very weights were not measured yet.
    """
    found, measured = [], status()
    for name, reference in systems().items():
        weights, digest = reference.weights, hash_of(reference)
        entry = measured.get(name, {})
        targets = entry.get("targets", {}) if digest is not None and entry.get("weights_sha256") == digest else {}
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
                "weights_bytes": None if digest is None or weights is None else weights.stat().st_size,
                "weights_sha256": digest,
                "status": {target: targets.get(target) for target in reference.targets},
            }
        )
    return {"models": found}


def hash_of(reference: Reference) -> str | None:
    """sha256 of the shipped weights; None where a system ships none."""
    weights = reference.weights
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights is not None and weights.is_file() else None


def status() -> dict[str, Any]:
    """By system: the hash of the weights that were measured, what each target reached, the claim's figures, the machine."""
    known: dict[str, Any] = json.loads(STATUS.read_text()) if STATUS.is_file() else {}
    return known


def train_system(name: str, output: str | None, seed: int, epochs: int | None, progress: Progress | None = None) -> dict[str, Any]:
    """Trains a system, writes its weights whole or not at all, and returns its metric and the seconds it took."""
    reference = find(name)
    if reference.train is None:
        raise InputError(f"{name} has no training of its own.")
    keep_freed_memory()
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
