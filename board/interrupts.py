"""A core's vectored interrupt controller (ARM PL190): which line is up, which is enabled, and whose handler comes first.

Registers (offsets): IRQ status 0x00, FIQ status 0x04, raw 0x08, select 0x0c (1: FIQ), enable 0x10, disable 0x14, soft set 0x18,
soft clear 0x1c, protection 0x20, vector address 0x30, default 0x34, sixteen vectors from 0x100 and their controls from 0x200.
Sixteen slots, slot 0 first; a control holds the line's number and 0x20 where the slot is in use.
"""

from __future__ import annotations

from collections.abc import Callable

from .faults import UnknownRegister

SOFTWARE, TIMER_1, TIMER_2, TX_EMPTY, DMA_DONE, SYSTEM = 1, 4, 5, 11, 12, 18
ROOM_TO_SEND, MULTICAST, FIXED_ROUTE = 23, 24, 27
IN_USE = 0x20


class InterruptController:
    """lines: asks the core's devices which lines are up, a 32-bit mask."""

    STATE = ("select", "enabled", "soft", "default", "vectors", "controls")

    def __init__(self, lines: Callable[[], int]) -> None:
        self._lines = lines
        self.select = self.enabled = self.soft = self.default = 0
        self.vectors, self.controls = [0] * 16, [0] * 16

    def raw(self) -> int:
        return self._lines() | self.soft

    def pending(self) -> int:
        """The enabled lines that are up, a mask."""
        return self.raw() & self.enabled

    def irq(self) -> int:
        """Those of them that ask for an IRQ."""
        return self.pending() & ~self.select

    def fiq(self) -> int:
        """Those that ask for an FIQ."""
        return self.pending() & self.select

    def _vector(self) -> int:
        pending = self.irq()
        for vector, control in zip(self.vectors, self.controls, strict=True):
            if control & IN_USE and pending >> (control & 31) & 1:
                return vector
        return self.default

    def read(self, offset: int) -> int:
        if 0x100 <= offset < 0x140:
            return self.vectors[(offset - 0x100) >> 2]
        if 0x200 <= offset < 0x240:
            return self.controls[(offset - 0x200) >> 2]
        if offset == 0x30:
            return self._vector()
        known = {0x00: self.irq, 0x04: self.fiq, 0x08: self.raw}
        if offset in known:
            return known[offset]()
        # Disable and soft clear are for writing only; code that sets a bit field there reads them first, and nothing must come of it.
        plain = {0x0C: self.select, 0x10: self.enabled, 0x14: 0, 0x18: self.soft, 0x1C: 0, 0x20: 0, 0x34: self.default}
        if offset in plain:
            return plain[offset]
        raise UnknownRegister("interrupt controller", offset)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x30 or offset == 0x20:  # end of interrupt: handlers here always run to their end; protection: everything is privileged
            return
        if offset == 0x18:
            self.soft |= value
        elif offset == 0x1C:
            self.soft &= ~value
        elif offset == 0x10:
            self.enabled |= value
        elif offset == 0x14:
            self.enabled &= ~value
        elif offset == 0x0C:
            self.select = value
        elif offset == 0x34:
            self.default = value
        elif 0x100 <= offset < 0x140:
            self.vectors[(offset - 0x100) >> 2] = value
        elif 0x200 <= offset < 0x240:
            self.controls[(offset - 0x200) >> 2] = value
        else:
            raise UnknownRegister("interrupt controller", offset, value)
