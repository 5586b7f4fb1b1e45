"""Which precision each layer gets, from Brevitas' numbers and the accuracy gate's verdict."""

from __future__ import annotations

from typing import Any

_PUBLIC = {"Recipe": ".recipe", "Layer": ".recipe", "quantise": ".calibrate", "finetune": ".distil", "sensitivity": ".costs"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name], __name__), name)
    raise AttributeError(f"module 'edgeattn.quantize' has no attribute {name!r}")
