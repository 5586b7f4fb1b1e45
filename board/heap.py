"""SARK's heap in shared memory, so that the host's allocations and the binaries' own (`sark_xalloc`) share one free list.

A heap starts with four words: first free block, first block, last block, free bytes. A block starts with two: the next block, and
the next free one, or 0xffff0000 + (application << 8) + tag where it is taken. Blocks lie in the order of their addresses; the last has no size.
"""

from __future__ import annotations

from .memory import SharedMemory

HEADER, BLOCK = 16, 8
TAKEN = 0xFFFF0000


class Heap:
    """The heap at `base`; `Heap.create` makes a new one that ends at `top`. tags: where the table of tagged blocks lies (256 x 256 words)."""

    def __init__(self, memory: SharedMemory, base: int, tags: int) -> None:
        self.memory, self.base, self.tags = memory, base, tags

    @classmethod
    def create(cls, memory: SharedMemory, base: int, top: int, tags: int) -> Heap:
        first, last = base + HEADER, top - BLOCK
        for offset, value in enumerate((first, first, last, last - first - BLOCK)):
            memory.set_word(base + 4 * offset, value)
        for address, following in ((first, last), (last, 0)):
            memory.set_word(address, following)
            memory.set_word(address + 4, 0)
        return cls(memory, base, tags)

    def allocate(self, size: int, application: int, tag: int = 0) -> int:
        """The address of `size` bytes, 0 where there is no room or the tag is taken."""
        word, put = self.memory.word, self.memory.set_word
        entry = (application << 8) + tag
        if size == 0 or (tag and word(self.tags + 4 * entry)):
            return 0
        needed = ((size + 3) & ~3) + BLOCK
        before, free = self.base, word(self.base)
        while free:
            following, end = word(free), free + needed
            if end <= following:
                if end + BLOCK < following:  # split, unless nothing but a header would be left
                    put(end, following)
                    put(end + 4, word(free + 4))
                    put(free, end)
                    put(free + 4, end)
                put(before if before == self.base else before + 4, word(free + 4))
                put(self.base + 12, word(self.base + 12) - needed)
                put(free + 4, TAKEN + entry)
                if tag:
                    put(self.tags + 4 * entry, free + BLOCK)
                return free + BLOCK
            before, free = free, word(free + 4)
        return 0

    def holds(self, address: int) -> bool:
        """Whether a taken block is at an address."""
        block = self.memory.word(self.base + 4)
        while following := self.memory.word(block):
            if block + BLOCK == address:
                return self.memory.word(block + 4) >= TAKEN
            block = following
        return False

    def free(self, address: int) -> None:
        """Gives a block back and merges it with its free neighbours."""
        word, put = self.memory.word, self.memory.set_word
        block = address - BLOCK
        entry = word(block + 4) & 0xFFFF
        if entry & 0xFF:
            put(self.tags + 4 * entry, 0)
        put(self.base + 12, word(self.base + 12) + word(block) - block)
        before, following = 0, word(self.base)
        while following and following < block:
            before, following = following, word(following + 4)
        put(block + 4, following)
        put(before + 4 if before else self.base, block)
        if following and word(block) == following:
            put(block, word(following))
            put(block + 4, word(following + 4))
        if before and word(before) == block:
            put(before, word(block))
            put(before + 4, word(block + 4))

    def free_application(self, application: int) -> int:
        """Gives back every block of an application; how many there were."""
        block, taken = self.memory.word(self.base + 4), []
        while following := self.memory.word(block):
            mark = self.memory.word(block + 4)
            if mark >= TAKEN and (mark >> 8) & 0xFF == application:
                taken.append(block + BLOCK)
            block = following
        for address in taken:
            self.free(address)
        return len(taken)

    def largest(self) -> int:
        """The largest block that can be had."""
        largest, free = 0, self.memory.word(self.base)
        while free:
            following = self.memory.word(free)
            if following:
                largest = max(largest, following - free - BLOCK)
            free = self.memory.word(free + 4)
        return largest
