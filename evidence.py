"""What a bundle keeps beside the artifact so that a person can see why to trust it; none of it is hashed into the artifact."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Protocol

from .plots import Point, pareto
from .quantize.costs import LayerCost
from .runtime.machine import machine
from .targets.target import Artifact, Finding


class HasJson(Protocol):
    """A candidate of either pipeline."""

    def to_json(self) -> dict[str, Any]:
        """Its entry in `compile --json`."""


def evidence_files(candidates: Sequence[HasJson], costs: Sequence[LayerCost], findings: Sequence[Finding], artifact: Artifact) -> dict[str, bytes]:
    """candidates.json with the machine that timed them, candidates.svg where it timed several; layers.csv where layers were measured.

    And the target's own evidence.
    """
    body: dict[str, Any] = {"machine": machine(), "candidates": [candidate.to_json() for candidate in candidates]}
    body["findings"] = [vars(finding) for finding in findings]
    files = {"candidates.json": _json(body), **_front(body["candidates"]), **artifact.evidence}
    if costs:
        files["layers.csv"] = _layers(costs)
    return files


def _front(candidates: Sequence[dict[str, Any]]) -> dict[str, bytes]:
    points = [
        Point(f"{one['name']}, {one['engine']}", one["latency_ms"], one["bytes"] / 1e6, one["relative_error"])
        for one in candidates
        if one["latency_ms"] is not None
    ]
    return {"candidates.svg": pareto(points)} if len(points) > 1 else {}


def _layers(costs: Sequence[LayerCost]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "relative error when only this layer is rounded", "relative error when all but this layer are rounded"])
    writer.writerows([cost.layer, f"{cost.alone:.6g}", f"{cost.without:.6g}"] for cost in costs)
    return text.getvalue().encode()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
