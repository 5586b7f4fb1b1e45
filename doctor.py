"""What is installed, against what was tested."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path
from typing import Any

from .runtime.machine import machine

CONSTRAINTS = Path(__file__).parent / "constraints.txt"


def examine() -> dict[str, Any]:
    """`ok` (the base install is complete), machine, packages by extra, targets, and the pip line for every incomplete extra."""
    tested = _tested()
    rows = [{"extra": extra, "package": name, "installed": _installed(name), "tested": tested.get(name.lower())} for extra, name in _needed()]
    missing = {str(row["extra"]) for row in rows if row["installed"] is None}
    advice = [f"pip install 'edgeattn[{extra}]'" for extra in sorted(missing - {"base"})]
    return {
        "ok": "base" not in missing,
        "machine": machine(),
        "packages": rows,
        "targets": sorted(point.name for point in entry_points(group="edgeattn.targets")),
        "advice": (["pip install edgeattn"] if "base" in missing else []) + advice,
    }


def _needed() -> list[tuple[str, str]]:
    """(extra, package) of our own metadata; extras for developers left out."""
    found = []
    for line in requires("edgeattn") or []:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        kind = extra.group(1) if extra else "base"
        if name and kind not in ("test", "lint", "docs"):
            found.append((kind, name.group()))
    return found


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _tested() -> dict[str, str]:
    """Pinned versions from constraints.txt."""
    lines = CONSTRAINTS.read_text().splitlines() if CONSTRAINTS.is_file() else []
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip().lower(): pinned.strip() for name, pinned in pairs}
