"""What a binary did that the emulated hardware cannot go along with."""

from __future__ import annotations

from ..errors import EdgeattnError


class Fault(EdgeattnError):
    """An access, a register or a value that nothing here models; the message carries core, address and value. Exit code 1."""


def unknown_register(device: str, address: int, value: int | None = None) -> Fault:
    """A Fault for a register that is not modelled; value: what was written, None for a read."""
    done = "read" if value is None else f"written with {value:#010x}"
    return Fault(f"the {device} has no register at {address:#010x} ({done}).")
