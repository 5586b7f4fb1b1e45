"""A core's two timers (ARM SP804): load 0x00, count 0x04, control 0x08, interrupt clear 0x0c, raw 0x10, masked 0x14, background load 0x18;
the second timer is 0x20 further.

Time passes by steps, not by instructions: `tick` is the end of one period of timer 1. Code that polls a count sees it fall by READ_COST
cycles with every read, so that waits end; the count stops at zero until the next tick. No result depends on a wall clock.
"""

from __future__ import annotations

from .faults import UnknownRegister
from .interrupts import TIMER_1, TIMER_2

ENABLE, INTERRUPT, PERIODIC, ONE_SHOT = 0x80, 0x20, 0x40, 0x01
SECOND = 0x20  # where the second timer's registers begin
READ_COST = 50  # cycles: a quarter of a microsecond at 200 MHz


class Timer:
    """place: where its registers begin among those of both timers."""

    STATE = ("load", "count", "control", "background", "raised")

    def __init__(self, place: int = 0) -> None:
        self.place = place
        self.load = self.count = self.control = self.background = 0
        self.raised = False

    def tick(self) -> None:
        """The count reaches zero and starts anew."""
        if self.control & ENABLE:
            self.raised = True
            self.count = self.background or self.load

    def up(self) -> bool:
        return self.raised and bool(self.control & INTERRUPT)

    def read(self, offset: int) -> int:
        if offset == 0x04:
            if self.control & ENABLE:
                self.count = self._passed(READ_COST)
            return self.count
        plain = {0x00: self.load, 0x08: self.control, 0x10: int(self.raised), 0x14: int(self.up()), 0x18: self.background}
        if offset in plain:
            return plain[offset]
        raise UnknownRegister("timer", self.place + offset)

    def _passed(self, cycles: int) -> int:
        if self.control & PERIODIC or self.control & ONE_SHOT:
            return max(self.count - cycles, 0)
        return (self.count - cycles) & 0xFFFFFFFF  # free-running

    def write(self, offset: int, value: int) -> None:
        if offset == 0x00:
            self.load = self.background = self.count = value
        elif offset == 0x08:
            self.control = value
        elif offset == 0x0C:
            self.raised = False
        elif offset == 0x18:
            self.background = value
        else:
            raise UnknownRegister("timer", self.place + offset, value)


class Timers:
    """Both timers as one device."""

    def __init__(self) -> None:
        self.first, self.second = Timer(), Timer(SECOND)

    def lines(self) -> int:
        return self.first.up() << TIMER_1 | self.second.up() << TIMER_2

    def read(self, offset: int) -> int:
        return self.second.read(offset - SECOND) if offset >= SECOND else self.first.read(offset)

    def write(self, offset: int, value: int) -> None:
        if offset >= SECOND:
            self.second.write(offset - SECOND, value)
        else:
            self.first.write(offset, value)
