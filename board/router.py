"""A chip's multicast router: up to 1,024 entries of key, mask and route; the first whose key equals (packet key & mask) decides.

A route has a bit a link (0 to 5: east, north-east, north, west, south-west, south) and a bit a core (6 to 23). A packet that matches nothing goes
straight on, out of the link opposite to the one it came by; one that a core of this chip sent is then lost.

Registers: control 0x00, status 0x04, dumped packets 0x18 to 0x28, diagnostic filters 0x200 and counters 0x300, routes 0x4000, keys 0x8000,
masks 0xc000, point-to-point table 0x10000.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from .faults import UnknownRegister
from .memory import SharedMemory

LINKS, ENTRIES = 6, 1024
STEP = ((1, 0), (1, 1), (0, 1), (-1, 0), (-1, -1), (0, -1))  # where each link leads
UNUSED_KEY, UNUSED_MASK, UNUSED_ROUTE = 0xFFFFFFFF, 0x00000000, 0xFF000000
TAKEN = 0x8000  # marks a block of entries that an application holds


@dataclass(frozen=True)
class Entry:
    key: int
    mask: int
    route: int


class Router:
    STATE = ("entries", "fixed_route", "_registers")

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.fixed_route = 0
        self.hops: dict[tuple[int, int], int] = {}  # by chip, the link that leads there; 7 is this chip itself
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
        if 0x10000 <= offset < 0x18000:
            return self._point_to_point((offset - 0x10000) * 2)
        return self._registers.get(self._known(offset, None), 0)

    def _point_to_point(self, first: int) -> int:
        """Eight entries of three bits from chip `first` (256 x + y) on: 7 this chip, 6 none, else the link towards it."""
        places = [(chip >> 8, chip & 255) for chip in range(first, first + 8)]
        return sum(self.hops.get(place, 6) << 3 * index for index, place in enumerate(places))

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


class Table:
    """The monitor's account of the router's entries, in shared memory: the host's allocations and the binaries' (`rtr_alloc`) share one free list.

    16 bytes an entry: next block, next free block (or 0x8000 and the application where it is taken), then route, key and mask. Entry 0 is never
    given out. `head` is where the index of the first free block lies.
    """

    def __init__(self, router: Router, memory: SharedMemory, copy: int, head: int) -> None:
        self.router, self._memory, self._copy, self._head = router, memory, copy, head
        self.reset()

    def reset(self) -> None:
        """Frees every entry."""
        for index in range(ENTRIES):
            self._set(index, None)
        self._put(1, ENTRIES, 0)
        self._set_first(1)

    def allocate(self, count: int, application: int) -> int:
        """The first of `count` free entries in a row, 0 where there are not as many."""
        before, block = 0, self._first()
        while block and count:
            following, free = self._links(block)
            if block + count <= following:
                if block + count < following:
                    self._put(block + count, following, free)
                    following, free = block + count, block + count
                self._chain(before, free)
                self._put(block, following, TAKEN + application)
                return block
            before, block = block, free
        return 0

    def load(self, data: bytes, count: int, first: int) -> None:
        """Puts `count` entries in place, from 16 bytes each: index, route, key, mask."""
        for number in range(count):
            _, route, key, mask = struct.unpack_from("<4I", data, 16 * number)
            self._set(first + number, Entry(key, mask, route & 0x00FFFFFF))

    def free_application(self, application: int) -> None:
        block, taken = 1, []
        while block < ENTRIES:
            following, mark = self._links(block)
            if mark == TAKEN + application:
                taken.append(block)
            block = following
        for block in taken:
            self.free(block)

    def free(self, block: int) -> None:
        """Gives a block back and merges it with its free neighbours."""
        following, _ = self._links(block)
        self.clear(range(block, following))
        before, after = 0, self._first()
        while after and after < block:
            before, after = after, self._links(after)[1]
        if following == after:
            following, after = self._links(after)
        self._put(block, following, after)
        if before and self._links(before)[0] == block:
            self._put(before, following, after)
        else:
            self._chain(before, block)

    def clear(self, indices: Iterable[int]) -> None:
        """Empties entries; whose they are stays as it was."""
        for index in indices:
            self._set(index, None)

    def largest(self) -> int:
        """How many entries in a row are free."""
        most, block = 0, self._first()
        while block:
            following, free = self._links(block)
            most, block = max(most, following - block), free
        return most

    def _set(self, index: int, entry: Entry | None) -> None:
        self.router.set_entry(index, entry)
        kept = entry or Entry(UNUSED_KEY, UNUSED_MASK, UNUSED_ROUTE)
        self._memory.write(self._copy + 16 * index + 4, struct.pack("<III", kept.route, kept.key, kept.mask))

    def _links(self, index: int) -> tuple[int, int]:
        following, free = struct.unpack("<HH", self._memory.read(self._copy + 16 * index, 4))
        return following, free

    def _put(self, index: int, following: int, free: int) -> None:
        self._memory.write(self._copy + 16 * index, struct.pack("<HH", following, free))

    def _chain(self, before: int, block: int) -> None:
        """Makes `block` the free block behind `before`, 0 being the head."""
        if before:
            self._put(before, self._links(before)[0], block)
        else:
            self._set_first(block)

    def _first(self) -> int:
        return int.from_bytes(self._memory.read(self._head, 2), "little")

    def _set_first(self, block: int) -> None:
        self._memory.write(self._head, block.to_bytes(2, "little"))
