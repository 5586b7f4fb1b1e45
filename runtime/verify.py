"""Does this bundle, on this machine, still compute what was trained?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..errors import EdgeattnError, InputError
from .bundle import Bundle
from .compare import parity
from .golden import FILE, Golden, unpack_golden
from .machine import isa_flags
from .manifest import Check, Parity
from .session import Session

DRIFT = 0.5  # how much of the tolerance this machine's engine may use up against the compiling one's, before it is reported


@dataclass(frozen=True)
class Verification:
    """ok: every check passed; parity: this machine's outputs against the reference, where it came so far."""

    ok: bool
    checks: tuple[Check, ...]
    parity: Parity | None = field(default=None)

    def to_json(self) -> dict[str, Any]:
        """`ok, checks[{name, ok, detail}], parity`."""
        return {"ok": self.ok, "checks": msgspec.to_builtins(self.checks), "parity": msgspec.to_builtins(self.parity)}


def verify(path: str | Path, threads: int | None = None) -> Verification:
    """Checks every file, loads the engine, runs the golden vectors and compares them with the reference's outputs.

    Raises InputError only where `path` is no bundle; what fails inside a bundle is a failed check.
    """
    try:
        bundle = Bundle.open(path)
    except InputError:
        raise
    except EdgeattnError as error:
        return Verification(False, (Check(name="integrity", ok=False, detail=str(error)),))
    manifest = bundle.manifest
    checks = [Check(name="integrity", ok=True, detail=f"{len(bundle.files)} files, sha256 as in the manifest")]
    checks.append(_gate(bundle))
    try:
        session = Session(bundle, threads)
    except EdgeattnError as error:
        return Verification(False, (*checks, Check(name="engine", ok=False, detail=str(error))))
    checks.append(Check(name="engine", ok=True, detail=session.engine.version))
    checks.append(_instruction_set(bundle))
    measured, golden_checks = _golden(session, unpack_golden(bundle.read(FILE)))
    checks += golden_checks
    checks += [Check(name="left to the device", ok=True, detail=left) for left in manifest.left_to_device]
    return Verification(all(check.ok for check in checks), tuple(checks), measured)


def _gate(bundle: Bundle) -> Check:
    manifest = bundle.manifest
    detail = f"compiled in {manifest.precision}, parity measured on {manifest.parity.samples} samples; {manifest.provenance.calibration}"
    if not manifest.passed:
        detail = "the bundle missed its accuracy gate when it was compiled and was written with --force"
    return Check(name="accuracy gate", ok=manifest.passed, detail=detail)


def _instruction_set(bundle: Bundle) -> Check:
    """A bundle for VNNI multiplies u8 by s8, which plain AVX2 saturates; the golden vectors would not always show it."""
    lacking = [flag for flag in bundle.manifest.isa if flag not in isa_flags()]
    if lacking:
        detail = f"compiled for {', '.join(lacking)}, which this CPU lacks: recompile for this device (edgeattn devices lists them)"
        return Check(name="instruction set", ok=False, detail=detail)
    return Check(name="instruction set", ok=True, detail=", ".join(bundle.manifest.isa) or "none required")


def _golden(session: Session, golden: Golden) -> tuple[Parity | None, list[Check]]:
    manifest = session.manifest
    try:
        outputs = session.run(**golden.inputs)
    except EdgeattnError as error:
        return None, [Check(name="golden vectors", ok=False, detail=str(error))]
    names = [spec.name for spec in manifest.outputs]
    task = "classification" if manifest.parity.agreement is not None else "regression"
    measured = parity([golden.reference[name] for name in names], [outputs[name] for name in names], task)
    failures, drifts = [], []
    for name in names:
        allowed = manifest.tolerance.absolute_error.get(name, 0.0)
        difference = _difference(outputs[name], golden.reference[name])
        if not difference.max(initial=0.0) <= allowed:
            sample = int(np.argmax(difference.reshape(len(difference), -1).max(axis=1)))
            failures.append(f"output {name}, sample {sample}: differs by {difference.max():.4g}, {allowed:.4g} are allowed")
        drift = float(_difference(outputs[name], golden.artifact[name]).max(initial=0.0))
        drifts.append(f"{name} {drift:.3g}" + (" (more than half the tolerance: look at the engine's version)" if drift > DRIFT * allowed else ""))
    count = len(next(iter(golden.inputs.values())))
    passed = f"{count} samples, largest difference from the reference {measured.max_abs_error:.4g}"
    return measured, [
        Check(name="golden vectors", ok=not failures, detail="; ".join(failures) or passed),
        Check(name="drift from the compiling machine", ok=True, detail=", ".join(drifts)),
    ]


def _difference(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|actual - expected| per sample; NaN and other shapes count as infinite."""
    if actual.shape != expected.shape:
        return np.full((max(len(expected), 1), 1), np.inf)
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    return np.where(np.isnan(difference), np.inf, difference)
