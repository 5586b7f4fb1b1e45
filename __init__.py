"""edgeattn: a trained attention model onto an edge or neuromorphic device, provably intact.

    import edgeattn
    session = edgeattn.load("ecg_nat.edge")
    y = session.run(x=signal)

Everything is imported when first used, so a robot that only loads bundles never imports the compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "load": ".runtime.session",
    "verify": ".runtime.verify",
    "bench": ".runtime.bench",
    "tune": ".runtime.tune",
    "describe": ".runtime.bundle",
    "Bundle": ".runtime.bundle",
    "Session": ".runtime.session",
    "compile": ".compiler",
    "Reference": ".models.reference",
    "Recipe": ".quantize.recipe",
    "EdgeattnError": ".errors",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name], __name__), name)
    raise AttributeError(f"module 'edgeattn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
