"""What this machine has worked out for itself and would otherwise work out again at every start: outside bundles, and only ever a short cut.

An entry is `KIND-NAME` in one folder: sha256 of key and content, then the content. NAME comes from the key, which holds all that the content
depends on, so an entry of another engine or CPU is never met; one that was cut short or changed does not match and counts as absent.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .machine import cpu_model, isa_flags

VARIABLE = "EDGEATTN_CACHE"  # the folder; empty: nothing is kept
LARGEST = 1024**3  # bytes of all entries: beyond, the oldest go
HEAD = hashlib.sha256().digest_size


def folder() -> Path | None:
    """Where entries are kept; None where the user wants none kept or has no home."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "edgeattn", "runtime") if os.path.isabs(base) else None


def key_of(parts: Iterable[str]) -> str:
    """A key of `parts` and of this CPU."""
    return "\n".join([*parts, cpu_model(), " ".join(isa_flags())])


def fetch(kind: str, key: str) -> bytes | None:
    """The content kept under `key`; None where there is none, or not one that this user wrote whole."""
    path = _path(kind, key)
    try:
        if path is None or not _is_own(path):
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return data[HEAD:] if data[:HEAD] == _head(key, data[HEAD:]) else None


def keep(kind: str, key: str, data: bytes) -> None:
    """Keeps `data` under `key`, whole or not at all; where that cannot be, nothing is kept and nothing is said."""
    path = _path(kind, key)
    if path is None or len(data) > LARGEST or not _made(path.parent):
        return
    partial = _beside(path)
    try:
        partial.write_bytes(_head(key, data) + data)
        partial.chmod(0o600)
        partial.replace(path)
        _make_room(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()


@contextmanager
def making(kind: str, key: str) -> Iterator[Path | None]:
    """A path to write what shall be kept under `key`, for who can only write files; None where nothing is kept."""
    path = _path(kind, key)
    if path is None or not _made(path.parent):
        yield None
        return
    partial = _beside(path)
    try:
        yield partial
        with suppress(OSError):
            keep(kind, key, partial.read_bytes())
    finally:
        with suppress(OSError):
            partial.unlink()


def _path(kind: str, key: str) -> Path | None:
    place = folder()
    return None if place is None else place / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _made(place: Path) -> bool:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return True


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial-{os.urandom(4).hex()}")


def _is_own(path: Path) -> bool:
    """Nobody else could have written it."""
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _head(key: str, data: bytes) -> bytes:
    digest = hashlib.sha256(key.encode() + b"\0")
    digest.update(data)
    return digest.digest()


def _make_room(newest: Path) -> None:
    entries = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in newest.parent.iterdir() if path.is_file() and path != newest)
    total = newest.stat().st_size + sum(size for _, size, _ in entries)
    for _, size, path in entries:
        if total <= LARGEST:
            return
        path.unlink(missing_ok=True)
        total -= size
