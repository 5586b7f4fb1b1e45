"""Every system of the zoo, found by looking: a module of this package that ends with a `REFERENCE`."""

from __future__ import annotations

import difflib
import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from ..errors import InputError
from .reference import Reference

INFRASTRUCTURE = {"layers", "metrics", "operations", "recurrence", "reference", "registry", "route_learning", "training"}


@cache
def systems() -> dict[str, Reference]:
    """All systems by name, in alphabetical order. Imports torch; loads no data and no weights."""
    package = __name__.rpartition(".")[0]
    names = sorted(info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]) if not info.ispkg)
    modules = (import_module(f"{package}.{name}") for name in names if name not in INFRASTRUCTURE)
    return {module.REFERENCE.name: module.REFERENCE for module in modules if hasattr(module, "REFERENCE")}


def find(name: str) -> Reference:
    """One system; raises InputError with near names for an unknown one."""
    known = systems()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)
        raise InputError(f"no model of the zoo is called {name!r}; did you mean {', '.join(near)}?")
    return known[name]


def weights_file(name: str) -> Path:
    """Where a system's shipped weights lie; its twin's are called NAME_twin."""
    return Path(__file__).parent / "weights" / f"{name}.pt"
