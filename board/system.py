"""A chip's system controller: chip id 0x00, set and clear interrupt 0x08 and 0x0c, set and clear flags 0x58 and 0x5c, monitor 0x34,
and 32 locks: reading 0x100 + 4 n tests and sets lock n, reading 0x180 + 4 n frees it.

Writes to most registers carry the code 0x5ec in their upper bits.
"""

from __future__ import annotations

from collections.abc import Callable

from .faults import UnknownRegister

CHIP_ID, TAKEN = 0x59111012, 0x80000000
QUIET = {0x04, 0x10, 0x14, 0x18, 0x1C, 0x24, 0x3C, 0x40, 0x44, 0x48, 0x4C, 0x60, 0x68, 0x6C, 0x70}  # clocks, LEDs, sensors: kept, without effect


class SystemController:
    """called: told when a core asks for the monitor processor (the mask of cores that are interrupted)."""

    STATE = ("interrupts", "flags", "locks", "_kept")

    def __init__(self, called: Callable[[int], None]) -> None:
        self._called = called
        self.interrupts = self.flags = 0
        self.locks = [False] * 32
        self._kept: dict[int, int] = {}

    def read(self, offset: int) -> int:
        if 0x100 <= offset < 0x180:
            lock = (offset - 0x100) >> 2
            taken, self.locks[lock] = self.locks[lock], True
            return TAKEN if taken else 0
        if 0x180 <= offset < 0x200:
            lock = (offset - 0x180) >> 2
            taken, self.locks[lock] = self.locks[lock], False
            return TAKEN if taken else 0
        plain = {0x00: CHIP_ID, 0x08: self.interrupts, 0x0C: self.interrupts, 0x34: 0, 0x58: self.flags, 0x5C: self.flags}
        if offset in plain:
            return plain[offset]
        if offset in QUIET:
            return self._kept.get(offset, 0)
        raise UnknownRegister("system controller", offset)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x08:
            self.interrupts |= value & 0x3FFFF
            self._called(value & 0x3FFFF)
        elif offset == 0x0C:
            self.interrupts &= ~(value & 0x3FFFF)
        elif offset == 0x58:
            self.flags |= value
        elif offset == 0x5C:
            self.flags &= ~value
        elif offset in QUIET:
            self._kept[offset] = value
        else:
            raise UnknownRegister("system controller", offset, value)
