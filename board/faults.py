"""What a binary did that the emulated hardware cannot go along with."""

from __future__ import annotations

from ..errors import EdgeattnError


class Fault(EdgeattnError):
    """An access, a register or a value that nothing here models; the message carries core, address and value. Exit code 1."""


class UnknownRegister(Fault):
    """A device has no register at an offset; value: what was written there, None for a read."""

    def __init__(self, device: str, offset: int, value: int | None = None) -> None:
        self.device, self.offset, self.value = device, offset, value
        super().__init__(self.at(0))

    def at(self, base: int) -> str:
        """The message, with the address as the core gave it."""
        done = "read" if self.value is None else f"written with {self.value:#010x}"
        return f"the {self.device} has no register at {base + self.offset:#010x} ({done})."


def raised(fault: Fault) -> None:
    """What becomes of a core's fault where nobody else takes it."""
    raise fault
