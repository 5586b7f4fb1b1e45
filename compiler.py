"""The whole pipeline, top to bottom: a checkpoint goes in, a bundle that proves itself comes out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .candidates import Candidate, choose, dense_candidates
from .devices import Device, find_device
from .errors import GateFailed, InputError
from .evidence import evidence_files
from .export.checkpoint import read
from .export.compare import check_graph
from .export.data import read_samples
from .export.graph import to_graph
from .export.trace import Program, trace
from .models.reference import Reference, Samples
from .quantize.gate import default_tolerance
from .quantize.recipe import Recipe
from .runtime.bundle import Bundle, write_bundle
from .runtime.golden import pack_golden
from .runtime.manifest import SCHEMA_VERSION, Check, Manifest, Provenance, TensorSpec
from .targets.target import Artifact, Finding, find_target

GOLDEN = 16  # samples kept in the bundle with the reference's outputs


@dataclass(frozen=True)
class Compilation:
    """What a compile did. bundle: where it was written; findings: what the target's check said."""

    bundle: Path
    manifest: Manifest
    candidates: tuple[Candidate, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The object that `edgeattn compile --json` prints."""
        import msgspec

        manifest = self.manifest
        return {
            "bundle": str(self.bundle),
            "target": manifest.target,
            "device": manifest.device,
            "precision": manifest.precision,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "parity": msgspec.to_builtins(manifest.parity),
            "integer_layers": msgspec.to_builtins(manifest.integer_layers),
            "warnings": [*manifest.warnings, *self.notes],
        }
