"""Does this bundle, on this machine, still compute what was trained?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..errors import EdgeattnError, InputError, MissingError
from .bundle import Bundle
from .compare import parity
from .golden import golden_of, queries_of
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
    checks = [Check(name="integrity", ok=True, detail=f"{len(bundle.files)} files, sha256 as in the manifest"), _gate(bundle)]
    own, *others = bundle.forms().values()
    measured, found = _form(own, threads)
    checks += found
    for other in others:
        checks += _other_form(other, threads)
    checks += [Check(name="left to the device", ok=True, detail=left) for left in bundle.manifest.left_to_device]
    return Verification(all(check.ok for check in checks), tuple(checks), measured)


def session_here(bundle: Bundle, threads: int | None = None) -> Session:
    """A session of one form of the network. Raises MissingError where this machine lacks its engine or instructions."""
    lacking = _lacking(bundle)
    if lacking:
        raise MissingError(f"this CPU lacks {lacking}")
    return Session(bundle, threads)


def _form(bundle: Bundle, threads: int | None) -> tuple[Parity | None, list[Check]]:
    """The network as the manifest itself describes it: its engine, the instructions it was made for, its golden vectors."""
    try:
        session = Session(bundle, threads)
    except EdgeattnError as error:
        return None, [Check(name="engine", ok=False, detail=str(error))]
    measured, checks = check_golden(session)
    return measured, [Check(name="engine", ok=True, detail=session.engine.version), _instruction_set(bundle), *checks]


def _other_form(bundle: Bundle, threads: int | None) -> list[Check]:
    """A further variant, under its name; one that is not for this machine is no failure, for the bundle runs without it."""
    name = bundle.manifest.variant
    try:
        session = session_here(bundle, threads)
    except MissingError as error:
        return [Check(name=f"{name}: left out", ok=True, detail=str(error))]
    except EdgeattnError as error:
        return [Check(name=f"{name}: engine", ok=False, detail=str(error))]
    return [Check(name=f"{name}: {check.name}", ok=check.ok, detail=check.detail) for check in check_golden(session)[1]]


def _gate(bundle: Bundle) -> Check:
    manifest = bundle.manifest
    detail = f"compiled in {manifest.precision}, parity measured on {manifest.parity.samples} samples; {manifest.provenance.calibration}"
    if not manifest.passed:
        detail = "the bundle missed its accuracy gate when it was compiled and was written with --force"
    return Check(name="accuracy gate", ok=manifest.passed, detail=detail)


def _instruction_set(bundle: Bundle) -> Check:
    """A bundle for VNNI multiplies u8 by s8, which plain AVX2 saturates; the golden vectors would not always show it."""
    lacking = _lacking(bundle)
    if lacking:
        detail = f"compiled for {lacking}, which this CPU lacks: recompile for this device (edgeattn devices lists them)"
        return Check(name="instruction set", ok=False, detail=detail)
    return Check(name="instruction set", ok=True, detail=", ".join(bundle.manifest.isa) or "none required")


def _lacking(bundle: Bundle) -> str:
    return ", ".join(flag for flag in bundle.manifest.isa if flag not in isa_flags())


def check_golden(session: Session) -> tuple[Parity | None, list[Check]]:
    """The golden vectors through a session, against the reference's outputs and those of the compiling machine."""
    manifest, golden = session.manifest, golden_of(session.bundle)
    try:
        answers = [session.run(**query) for query in queries_of(session.bundle, golden)]
    except EdgeattnError as error:
        return None, [Check(name="golden vectors", ok=False, detail=str(error))]
    names = [spec.name for spec in manifest.outputs]
    outputs = {name: np.concatenate([answer[name] for answer in answers]) for name in names}
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
