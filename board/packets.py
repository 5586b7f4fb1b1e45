"""A core's communications controller: transmit control 0x00, data 0x04, key 0x08, receive status 0x0c, data 0x10, key 0x14, source 0x18, test 0x1c.

Writing the key sends; a payload goes along if the data register was written since the last packet, or the control word says so. Reading the
receive key takes the packet. The transmitter is never full, and no packet is dropped: congestion is not modelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .faults import Fault, UnknownRegister
from .interrupts import FIXED_ROUTE, MULTICAST, ROOM_TO_SEND, TX_EMPTY

PAYLOAD, KIND = 0x00020000, 0x00C00000  # of a control word: a payload goes along; multicast, point to point, neighbour or fixed route
ROUTED = ("multicast", "fixed route")
KINDS = {0x00000000: "multicast", 0x00400000: "point to point", 0x00800000: "nearest neighbour", 0x00C00000: "fixed route"}
EMPTY, NOT_FULL, RECEIVED = 0x80000000, 0x10000000, 0x80000000


@dataclass(frozen=True)
class Packet:
    """key: 32 bits; payload: 32 bits or None; kind: one of KINDS."""

    key: int
    payload: int | None = None
    kind: str = "multicast"


class CommunicationsController:
    """send: takes each packet of the core."""

    STATE = ("received", "control", "source", "payload", "_last")

    def __init__(self, send: Callable[[Packet], None]) -> None:
        self._send = send
        self.received: deque[Packet] = deque()
        self.control = self.source = 0
        self.payload: int | None = None
        self._last = Packet(0)

    def lines(self) -> int:
        up = 1 << TX_EMPTY | 1 << ROOM_TO_SEND
        if self.received:
            kind = self.received[0].kind
            up |= 1 << (MULTICAST if kind == "multicast" else FIXED_ROUTE)
        return up

    def read(self, offset: int) -> int:
        if offset == 0x00:
            return self.control | EMPTY | NOT_FULL
        if offset == 0x18:
            return self.source
        packet = self.received[0] if self.received else self._last
        if offset == 0x0C:
            control = next(bits for bits, kind in KINDS.items() if kind == packet.kind)
            return (RECEIVED if self.received else 0) | control | (PAYLOAD if packet.payload is not None else 0)
        if offset == 0x10:
            return packet.payload or 0
        if offset == 0x14:
            if self.received:
                self._last = self.received.popleft()
            return packet.key
        raise UnknownRegister("communications controller", offset)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x00:
            self.control = value & 0x00FF0000
        elif offset == 0x04:
            self.payload = value
        elif offset == 0x08:
            payload = self.payload if self.payload is not None or not self.control & PAYLOAD else 0
            self.payload = None
            packet = Packet(value, payload, KINDS[self.control & KIND])
            if packet.kind not in ROUTED:
                raise Fault(f"it sends a {packet.kind} packet to {value:#010x}; modelled are {' and '.join(ROUTED)} packets.")
            self._send(packet)
        elif offset == 0x18:
            self.source = value
        elif offset != 0x0C:  # the receiver's sticky errors are cleared there; it has none
            raise UnknownRegister("communications controller", offset, value)
