"""A chip's multicast router: up to 1,024 entries of key, mask and route; the first whose key equals (packet key & mask) decides.

A route has a bit a link (0 to 5: east, north-east, north, west, south-west, south) and a bit a core (6 to 23). A packet that matches nothing goes
straight on, out of the link opposite to the one it came by; one that a core of this chip sent is then lost.

Registers: control 0x00, status 0x04, dumped packets 0x18 to 0x28, diagnostic filters 0x200 and counters 0x300, routes 0x4000, keys 0x8000,
masks 0xc000, point-to-point table 0x10000.
"""

from __future__ import annotations

from dataclasses import dataclass

from .faults import UnknownRegister

LINKS, ENTRIES = 6, 1024
STEP = ((1, 0), (1, 1), (0, 1), (-1, 0), (-1, -1), (0, -1))  # where each link leads
UNUSED_KEY, UNUSED_MASK, UNUSED_ROUTE = 0xFFFFFFFF, 0x00000000, 0xFF000000
WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    key: int
    mask: int
    route: int


class Router:
    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.fixed_route = 0
        self._registers: dict[int, int] = {}
        self._cache: dict[int, int | None] = {}

    def set_entry(self, index: int, entry: Entry | None) -> None:
        """Entry None frees the place."""
        self._cache.clear()
        if entry is None:
            self.entries.pop(index, None)
        else:
            self.entries[index] = entry

    def route(self, key: int) -> int | None:
        """The route of a key, None where no entry matches."""
        if key not in self._cache:
            matching = (self.entries[index] for index in sorted(self.entries))
            self._cache[key] = next((entry.route for entry in matching if key & entry.mask == entry.key), None)
        return self._cache[key]

    def read(self, offset: int) -> int:
        if offset == 0x84:
            return self.fixed_route
        tables = {0x4000: ("route", UNUSED_ROUTE), 0x8000: ("key", UNUSED_KEY), 0xC000: ("mask", UNUSED_MASK)}
        for base, (field, unused) in tables.items():
            if base <= offset < base + 4 * ENTRIES:
                return getattr(self.entries.get((offset - base) >> 2), field, unused)
        return self._registers.get(self._known(offset, None), 0)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x84:
            self.fixed_route = value
            return
        for base, field in ((0x4000, "route"), (0x8000, "key"), (0xC000, "mask")):
            if base <= offset < base + 4 * ENTRIES:
                index = (offset - base) >> 2
                old = self.entries.get(index, Entry(UNUSED_KEY, UNUSED_MASK, UNUSED_ROUTE))
                self.set_entry(index, Entry(**{**vars(old), field: value}))
                return
        self._registers[self._known(offset, value)] = value

    def _known(self, offset: int, value: int | None) -> int:
        if offset < 0x90 or 0x200 <= offset < 0x240 or 0x300 <= offset < 0x340 or offset in (0xF00, 0xF04) or 0x10000 <= offset < 0x18000:
            return offset
        raise UnknownRegister("router", offset, value)
