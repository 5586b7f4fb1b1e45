"""Which form of a bundle, on how many threads, is the fastest on this machine: measured, and remembered for `load`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EdgeattnError, InputError, MissingError
from .bundle import Bundle
from .bursts import ASLEEP, in_turn
from .cache import VARIABLE
from .golden import queries_of
from .machine import cpu_model
from .session import Session
from .tuned import Choice, recall, remember
from .verify import check_golden, session_here

SECONDS = 20.0  # of measuring
LOOK = 0.25  # of them for finding what more threads are tried on; all rows come from the rest, where every call is timed in turn with all others
ROUNDS, FEWEST = 60, 3
NEAR = 0.05  # fewer threads are taken if they are slower by no more than this share: other work needs the cores


@dataclass(frozen=True)
class Row:
    """One form on so many threads. ms: median of one sample, None where `note` says why it does not run here."""

    variant: str
    engine: str
    threads: int
    ms: float | None
    note: str = ""


@dataclass(frozen=True)
class Tuning:
    """The choice and what it was chosen from; remembered: it was found earlier, with these engines, and not measured again."""

    variant: str
    threads: int
    remembered: bool
    rows: tuple[Row, ...]
    cpu: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def tune(
    path: str | Path, threads: int | None = None, seconds: float = SECONDS, again: bool = False, progress: Callable[[str], None] = lambda _: None
) -> Tuning:
    """Measures every form that this machine can run and whose golden vectors hold here, in turn with the fastest of each engine on more threads.

    threads: the most to try (None: all that this process may use). again: measure even if these engines were measured before.
    Raises InputError for wrong use, BundleError for a damaged bundle, MissingError where no form runs here.
    """
    if seconds <= 0 or (threads is not None and threads < 1):
        raise InputError("tune needs a positive time (--seconds) and at least one thread (--threads).")
    bundle = Bundle.open(path)
    if bundle.manifest.target != "cpu":
        raise InputError(f"{path} is for {bundle.manifest.device}, which this machine only stands in for: tune is for cpu bundles.")
    progress("checking every variant")
    sessions, rows = _sessions(bundle)
    if not sessions:
        raise MissingError(f"nothing of {path} runs here: {'; '.join(f'{row.variant or row.engine}: {row.note}' for row in rows)}.")
    engines = {form.manifest.engine: "" for form in bundle.forms().values()} | {s.manifest.engine: s.engine.version for s in sessions}
    counts, known = _thread_counts(threads), recall(bundle.manifest)
    if known is not None and known.engines == engines and known.threads in counts and not again:
        return Tuning(known.variant, known.threads, True, (), cpu_model())
    progress("timing every variant on one thread")
    measured = _measure(sessions, seconds if len(counts) == 1 else LOOK * seconds)
    if len(counts) > 1:
        progress("timing them beside the fastest on more threads")
        wider = [Session(session.bundle, count) for session in _fastest(sessions, measured) for count in counts if count > 1]
        measured = _measure([*sessions, *wider], (1 - LOOK) * seconds)
    best = choose(measured)
    choice = Choice(best.variant, best.threads, engines)
    notes = () if remember(bundle.manifest, choice) else (f"it cannot be remembered: let {VARIABLE} name a folder that can be written.",)
    return Tuning(choice.variant, choice.threads, False, (*measured, *rows), cpu_model(), notes)


def choose(rows: Sequence[Row]) -> Row:
    """The fewest threads within 5 % of the fastest row; of those the fastest."""
    fastest = min(row.ms for row in rows if row.ms is not None)
    near = [row for row in rows if row.ms is not None and row.ms <= (1 + NEAR) * fastest]
    return min(near, key=lambda row: (row.threads, row.ms))


def _sessions(bundle: Bundle) -> tuple[list[Session], list[Row]]:
    """The forms that run here and still compute what was trained, on one thread; a row for each of the others."""
    sessions, rows = [], []
    for name, form in bundle.forms().items():
        note = ""
        try:
            session = session_here(form, 1)
            note = "; ".join(check.detail for check in check_golden(session)[1] if not check.ok)
        except MissingError as error:
            note = str(error)
        except EdgeattnError as error:
            note = f"does not run: {error}"
        if note:
            rows.append(Row(name, form.manifest.engine, 1, None, note))
        else:
            sessions.append(session)
    return sessions, rows


def _measure(sessions: Sequence[Session], seconds: float) -> list[Row]:
    calls = [partial(session.run, **queries_of(session.bundle)[0]) for session in sessions]
    rest = ASLEEP if any(session.threads > 1 for session in sessions) else 0.0
    times = in_turn(calls, ROUNDS, seconds, FEWEST, rest)
    return [Row(s.manifest.variant, s.engine.version, s.threads, float(np.median(found))) for s, found in zip(sessions, times, strict=True)]


def _fastest(sessions: Sequence[Session], rows: Sequence[Row]) -> list[Session]:
    """The fastest form of each engine: what more threads are tried on."""
    found: dict[str, tuple[float, Session]] = {}
    for session, row in zip(sessions, rows, strict=True):
        ms, engine = row.ms or 0.0, session.manifest.engine
        if engine not in found or ms < found[engine][0]:
            found[engine] = ms, session
    return [session for _, session in found.values()]


def _thread_counts(most: int | None) -> list[int]:
    """1, 2, 4 ... and the most: the cores that this process may use, or fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = min(cores, most or cores)
    return sorted({limit, *(2**power for power in range(limit.bit_length()) if 2**power <= limit)})
