"""A core's DMA controller: system address 0x04, address in the core's memory 0x08, description 0x0c (starts it), control 0x10, status 0x14,
global control 0x18, time-out 0x24, statistics control 0x28 and counters 0x40 to 0x5c.

A description holds the length in bytes (bits 16 to 0) and the direction (bit 19: 1 writes to the system). A transfer is done at once; each
raises "done" until it is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable

from .faults import UnknownRegister
from .interrupts import DMA_DONE

TO_SYSTEM, LENGTH = 1 << 19, 0x1FFFF
ACKNOWLEDGE_DONE, ABORT = 0x08, 0x02
ENABLE_DONE, DONE = 1 << 10, 1 << 10


class DmaController:
    """processor: the core's physical number, which its status tells; copy(source, destination, length) moves bytes by the core's addresses."""

    STATE = ("system", "local", "description", "enabled", "done", "timeout", "statistics")

    def __init__(self, processor: int, copy: Callable[[int, int, int], None]) -> None:
        self._processor, self._copy = processor, copy
        self.system = self.local = self.description = self.enabled = self.done = self.timeout = self.statistics = 0

    def lines(self) -> int:
        return int(self.done > 0 and bool(self.enabled & ENABLE_DONE)) << DMA_DONE

    def read(self, offset: int) -> int:
        if offset == 0x14:
            return self._processor << 24 | (DONE if self.done else 0)
        plain = {0x04: self.system, 0x08: self.local, 0x0C: self.description, 0x10: 0, 0x18: self.enabled, 0x24: self.timeout, 0x28: self.statistics}
        if offset in plain:
            return plain[offset]
        if 0x40 <= offset < 0x60:
            return 0
        raise UnknownRegister("DMA controller", offset)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x04:
            self.system = value
        elif offset == 0x08:
            self.local = value
        elif offset == 0x0C:
            self.description = value
            source, destination = (self.local, self.system) if value & TO_SYSTEM else (self.system, self.local)
            self._copy(source, destination, value & LENGTH)
            self.done += 1
        elif offset == 0x10:
            if value & ABORT:
                self.done = 0
            elif value & ACKNOWLEDGE_DONE:
                self.done = max(self.done - 1, 0)
        elif offset == 0x18:
            self.enabled = value
        elif offset == 0x24:
            self.timeout = value
        elif offset == 0x28:
            self.statistics = value
        else:
            raise UnknownRegister("DMA controller", offset, value)
